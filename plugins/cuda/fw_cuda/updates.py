"""Updates of optimizers: one launch for all parameters that lie side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from framework.errors import DTypeError
from fw_cuda.arrays import NULL, Array, alike, computes, double, flag, integer, name_of
from fw_cuda.sources import Kernels, blocks_for

NAMES = (
    "sgd_update", "adam_update", "rprop_update", "scaled_to_norm", "sgd_step", "adam_step", "rprop_step",
)  # fmt: skip


class Updates:
    """Kernels of updates: in place where arrays lie in memory alike, else on copies.

    Args:
        cupy: the module.
        kernels: launches.
    """

    def __init__(self, cupy: Any, kernels: Kernels) -> None:
        self._cupy, self._kernels = cupy, kernels
        self._apply: Any = NULL

    @contextmanager
    def where_holds(self, flag: Array) -> Iterator[None]:
        """Within the block updates are made only if the flag, a bool without axes, holds when they run."""
        before, self._apply = self._apply, flag
        try:
            yield
        finally:
            self._apply = before

    def sgd_update(
        self,
        p: Array,
        g: Array,
        velocity: Array | None,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
    ) -> tuple[Array, Array | None]:
        """One step of SGD."""
        mode = 0 if not momentum else 1 if velocity is None else 2
        if momentum:
            p, g, velocity = self._ready("SGD", p, g, self._cupy.empty_like(p) if velocity is None else velocity)
        else:
            p, g = self._ready("SGD", p, g)
        hyper = double(lr), double(momentum), double(1.0 - dampening), double(weight_decay), flag(nesterov), flag(mode)
        self._launch("fw_sgd", (p, g, velocity if mode else NULL), *hyper, NULL)
        return p, velocity

    def adam_update(
        self,
        p: Array,
        g: Array,
        m: Array,
        v: Array,
        step: int,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled: bool,
    ) -> tuple[Array, Array, Array]:
        """One step of Adam or AdamW."""
        p, g, m, v = self._ready("Adam", p, g, m, v)
        b1, b2 = betas
        rate, root = lr / (1.0 - b1**step), (1.0 - b2**step) ** 0.5
        l2, shrink = (0.0, lr * weight_decay) if decoupled else (weight_decay, 0.0)
        self._launch("fw_adam", (p, g, m, v), *map(double, (rate, b1, b2, root, eps, l2, shrink)), NULL)
        return p, m, v

    def rprop_update(
        self,
        p: Array,
        g: Array,
        previous: Array,
        step_size: Array,
        etas: tuple[float, float],
        step_sizes: tuple[float, float],
    ) -> tuple[Array, Array, Array]:
        """One step of iRprop−."""
        p, g, previous, step_size = self._ready("Rprop", p, g, previous, step_size)
        self._launch("fw_rprop", (p, g, previous, step_size), *map(double, (*etas, *step_sizes)), NULL)
        return p, previous, step_size

    def scaled_to_norm(self, g: Array, squares: Array, ok: Array, limit: float, rounding: float) -> Array:
        """Clipping by a norm whose square is given: one launch, in place where the array has no gaps."""
        cupy = self._cupy
        if not computes(g) or g.dtype != squares.dtype:
            factor = cupy.minimum(limit / (cupy.sqrt(squares) + rounding), squares.dtype.type(1))
            return g * cupy.where(ok, factor, squares.dtype.type(1)).astype(g.dtype)
        g = g if alike(g) else g.copy(order="C")
        if g.size:
            args = g, squares, ok, integer(g.size), double(limit), double(rounding)
            self._kernels.launch("updates", "fw_scaled_to_norm", name_of(g), blocks_for(g.size), *args)
        return g

    # -- within a program: `ok` and the numbers are read when the graph runs ---------------------------

    def sgd_step(
        self,
        p: Array,
        g: Array,
        velocity: Array | None,
        ok: Array,
        numbers: Array,
        at: int,
        decays: bool,
        nesterov: bool,
    ) -> tuple[Array, Array | None]:
        """One step of SGD."""
        mode = 0 if velocity is None else 2
        if mode:
            p, g, velocity = self._ready("SGD", p, g, velocity)
        else:
            p, g = self._ready("SGD", p, g)
        hyper = double(0), double(0), double(0), double(decays), flag(nesterov), flag(mode)
        with self.where_holds(ok):
            self._launch("fw_sgd", (p, g, velocity if mode else NULL), *hyper, self._doubles(numbers, at))
        return p, velocity

    def adam_step(
        self,
        p: Array,
        g: Array,
        m: Array,
        v: Array,
        ok: Array,
        numbers: Array,
        at: int,
        decays: bool,
        decoupled: bool,
    ) -> tuple[Array, Array, Array]:
        """One step of Adam or AdamW."""
        p, g, m, v = self._ready("Adam", p, g, m, v)
        hyper = [*[0.0] * 5, decays and not decoupled, decays and decoupled]
        with self.where_holds(ok):
            self._launch("fw_adam", (p, g, m, v), *map(double, hyper), self._doubles(numbers, at))
        return p, m, v

    def rprop_step(
        self, p: Array, g: Array, previous: Array, step_size: Array, ok: Array, numbers: Array, at: int
    ) -> tuple[Array, Array, Array]:
        """One step of iRprop−."""
        p, g, previous, step_size = self._ready("Rprop", p, g, previous, step_size)
        with self.where_holds(ok):
            arrays = p, g, previous, step_size
            self._launch("fw_rprop", arrays, *map(double, [0.0] * 4), self._doubles(numbers, at))
        return p, previous, step_size

    @staticmethod
    def _doubles(numbers: Array, at: int) -> Array:
        return (numbers if name_of(numbers) == "float64" else numbers.astype("float64"))[at:]

    def _ready(self, name: str, *arrays: Array) -> tuple[Array, ...]:
        """The arrays; copies by rows where they lie in memory in different ways."""
        dtypes = [name_of(a) for a in arrays]
        if len(set(dtypes)) > 1 or not computes(arrays[0]):
            raise DTypeError(f"{name}: parameter, gradient and state are of one floating-point dtype, got {dtypes}")
        return arrays if alike(*arrays) else tuple([a.copy(order="C") for a in arrays])

    def _launch(self, kernel: str, arrays: tuple[Any, ...], *hyper: Any) -> None:
        p = arrays[0]
        if p.size:
            args = *arrays, self._apply, integer(p.size), *hyper
            self._kernels.launch("updates", kernel, name_of(p), blocks_for(p.size), *args)
