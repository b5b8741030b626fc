"""Precision: what numbers are kept in, what products round to, and the scale of the loss that half precision needs.

| name | parameters and batches | operands of products | loss |
|---|---|---|---|
| `32-true`, `64-true` | float32, float64 | as they are | as it is |
| `bf16-mixed` | float32 | rounded to bfloat16 | as it is |
| `16-mixed` | float32 | rounded to float16 | scaled for the backward pass |

Under "mixed" all arrays stay float32, and so do the sums in products; see `framework.autodiff.rounding`. Float16 has no
numbers between 0 and 6e-8: so the loss is multiplied by a scale before the backward pass, and gradients are divided by
it after. Where a gradient overflows, though the loss is finite, the update is skipped and the scale halved; after many
good updates it is doubled (Micikevicius et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from framework.autodiff import Tensor
from framework.autodiff.namespace import namespace_of
from framework.backend import Backend
from framework.errors import ConfigError, NonFiniteError, did_you_mean
from framework.optim import Optimizer
from framework.train.gradients import scale_gradients, sum_of_squares
from framework.train.guard import ADVICE, DeviceGuard


@dataclass(frozen=True, slots=True)
class Precision:
    """What a name of a precision means.

    Attributes:
        name: the name.
        dtype: of parameters and floating-point batches.
        products: the dtype that operands of products are rounded to; None for none.
        scales: whether the loss is scaled.
    """

    name: str
    dtype: str
    products: str | None = None
    scales: bool = False


PRECISIONS: dict[str, Precision] = {
    p.name: p
    for p in (
        Precision("32-true", "float32"),
        Precision("64-true", "float64"),
        Precision("bf16-mixed", "float32", "bfloat16"),
        Precision("16-mixed", "float32", "float16", True),
    )
}

_SHORT = {"32": "32-true", "64": "64-true"}


def named(precision: str | int) -> Precision:
    """The precision with this name; 32 and 64 are the "true" ones.

    Raises:
        ConfigError: there is none.
    """
    name = str(precision)
    try:
        return PRECISIONS[_SHORT.get(name, name)]
    except KeyError:
        raise ConfigError(
            f"precision={precision!r} is not available; choose one of {', '.join(PRECISIONS)}."
            f"{did_you_mean(name, PRECISIONS)}"
        ) from None


def check_backend(precision: Precision, backend: Backend) -> None:
    """Raise ConfigError where a backend does not have the dtypes of a precision."""
    offered = [d.name for d in backend.dtypes]
    for d in (precision.dtype, precision.products):
        if d is not None and d not in offered:
            others = [p.name for p in PRECISIONS.values() if {p.dtype, p.products or p.dtype} <= set(offered)]
            raise ConfigError(
                f"precision={precision.name!r} needs {d}, which {backend.name!r} does not offer here; "
                f"on it choose one of {', '.join(others)}"
            )


FIRST, LARGEST, SMALLEST = 2.0**16, 2.0**24, 1.0
"""The scale that training begins with, the one that it does not grow beyond, and the last that is tried."""

INTERVAL = 2000
"""Good updates in a row after which the scale is doubled."""


class LossScaler:
    """The scale of the loss: on the device, so that nobody waits for it. Scales are powers of two, and exact.

    Args:
        backend: where it is kept.
        device: the device string.
        first: the scale to begin with.
        interval: good updates in a row after which it is doubled.

    Examples:
        >>> from framework.backend import get
        >>> scaler = LossScaler(get("cpu"), "cpu", first=8.0, interval=2)
        >>> xp = get("cpu").xp
        >>> for step, is_finite in enumerate([False, True, True, True]):
        ...     scaler.note(xp.asarray(is_finite), step)
        ...     print(scaler.current().item())
        4.0
        4.0
        8.0
        8.0
    """

    def __init__(self, backend: Backend, device: str, first: float = FIRST, interval: int = INTERVAL) -> None:
        self._ns = namespace_of(backend)
        self._backend = backend
        self._device = device
        self._interval = interval
        self._noted: Any = None
        """On the device: whether the gradients of the update that was asked about last were finite."""
        self._step = -1
        self._put(first, 0)

    def _put(self, scale: float, good: int) -> None:
        device = self._device if ":" in self._device else None
        asarray, dtypes = self._backend.asarray, {d.name: d for d in self._backend.dtypes}
        self._scale = asarray(scale, dtype=dtypes["float32"], device=device)
        self._good = asarray(good, dtype=dtypes["int32"], device=device)

    def current(self) -> Tensor:
        """The scale, 0-d, with all updates that were noted."""
        if self._noted is not None:
            ns, xp, ok = self._ns, self._ns.xp, self._noted
            self._noted = None
            good = xp.where(ok, self._good + 1, self._good * 0)
            grows = ns.logical_and(good >= self._interval, self._scale < LARGEST)
            self._scale = xp.where(ok, xp.where(grows, self._scale * 2.0, self._scale), self._scale * 0.5)
            self._good = xp.where(good >= self._interval, good * 0, good)
        return Tensor(self._scale, None, self._ns)

    def start(self, loss: Tensor, share: Tensor | None, scale: Tensor | None = None) -> Tensor:
        """The gradient that a backward begins with: `share` (or one), scaled."""
        scale = self.current() if scale is None else scale
        return loss.detach() * 0 + scale if share is None else share * scale

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide the gradients of all parameters by the scale."""
        scale_gradients(optimizer, 1.0 / self.current())

    def note(self, is_finite: Any, step: int) -> None:
        """Take down whether the gradients of an update, divided, are finite; of one asked about again, both times."""
        if self._noted is not None and step == self._step:
            is_finite = self._ns.logical_and(self._noted, is_finite)
        self._noted, self._step = is_finite, step

    def state_dict(self) -> dict[str, Any]:
        """The scale, and the good updates in a row."""
        scale = self.current().item()
        return {"scale": scale, "good": int(self._backend.to_numpy(self._good))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with a saved scale."""
        self._noted = None
        self._put(float(state["scale"]), int(state["good"]))


class ScalingGuard:
    """Skips an update whose gradients are not finite while the loss is; a loss that is not finite stops the training.

    Args:
        backend: the backend.
        scaler: is told of it.
    """

    def __init__(self, backend: Backend, scaler: LossScaler) -> None:
        self._ns = namespace_of(backend)
        self._scaler = scaler
        self._of_losses = None if backend.synchronous else DeviceGuard(backend)

    def check(self, loss: Tensor | None, optimizer: Optimizer, step: int) -> None:
        """Let the update be skipped if a gradient is not finite.

        Raises:
            NonFiniteError: the loss is NaN or infinite, where reading it costs nothing; else `read` says so.
        """
        ns = self._ns
        if loss is not None and self._of_losses is not None:
            self._of_losses.latch(ns.reshape(loss._data, ()), None, optimizer, step)
        elif loss is not None and not math.isfinite(loss.item()):
            raise NonFiniteError(f"step {step}: the loss is {loss.item()}. {ADVICE}")
        total = sum_of_squares(ns, optimizer)
        if total is None:
            return
        is_finite = ns.isfinite(total)
        self._scaler.note(is_finite, step)
        before = optimizer.apply_if
        optimizer.apply_if = is_finite if before is None else ns.logical_and(before, is_finite)

    def read(self) -> None:
        """Look at what the device knows of losses, and at the scale.

        Raises:
            NonFiniteError: a loss was not finite, or gradients are not at any scale.
        """
        if self._of_losses is not None:
            self._of_losses.read()
        scale = self._scaler.current().item()
        if scale < SMALLEST:
            raise NonFiniteError(
                "the gradients of many updates in a row were not finite, though the loss was, down to a loss scale of "
                f"{scale:g}: a smaller one does not help. None of them was applied. Look for what has an infinite "
                "derivative, or train with precision='bf16-mixed' or '32-true'"
            )


def check_updates(precision: Precision, automatic: bool, whole: str, detects_anomalies: bool) -> None:
    """Raise ConfigError where a scaled loss does not go with how updates are made.

    Args:
        precision: the precision.
        automatic: whether the Trainer makes the updates.
        whole: the name of an optimizer that evaluates the loss itself; empty for another.
        detects_anomalies: whether the first number that is not finite is looked for.
    """
    if not precision.scales:
        return
    if not automatic:
        reason = "automatic_optimization = False, so that the module calls backward itself"
    elif whole:
        reason = f"{whole} evaluates the loss itself"
    elif detects_anomalies:
        reason = "detect_anomaly=True would stop at the first gradient that is too large, which is skipped here"
    else:
        return
    raise ConfigError(
        f"precision={precision.name!r} scales the loss for the backward pass, but {reason}. "
        "Use precision='bf16-mixed' or '32-true'"
    )
