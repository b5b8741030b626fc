"""Clipping of gradients, between backward and the optimizer's step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any, cast

from framework.autodiff import Tensor, no_grad, ops, tensor
from framework.errors import ConfigError, DTypeError, NonFiniteError
from framework.optim.arena import home_of, writable_gradients

ROUNDING = 1e-6
"""Added to the norm that is divided by."""


@no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale the gradients of all parameters together so that their norm is at most `max_norm` (Pascanu et al. 2013).

    The norm is that of all gradients as one vector. A gradient that somebody holds is replaced, never written
    into; nothing is read from a device. A norm that is NaN or infinite makes gradients NaN or 0, as in PyTorch;
    the Trainer looks before it clips.

    Args:
        parameters: those of a model, or one; those without a gradient are left out.
        max_norm: the largest norm allowed.
        norm_type: the p of the norm; `math.inf` for the largest absolute value.
        error_if_nonfinite: raise where the norm is not finite. That reads it from the device.

    Returns:
        The norm before clipping, 0-d; 0 where there is no gradient.

    Raises:
        ConfigError: `max_norm` is negative, or `norm_type` not positive.
        NonFiniteError: the norm is not finite and `error_if_nonfinite`; no gradient was changed.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter([0.0, 0.0])
        >>> p.grad = [3.0, 4.0]
        >>> fw.optim.clip_grad_norm_(p, max_norm=1.0).item()
        5.0
        >>> [round(g, 3) for g in p.grad.tolist()]
        [0.6, 0.8]
    """
    max_norm, p = float(max_norm), float(norm_type)
    if not max_norm >= 0:
        raise ConfigError(f"clip_grad_norm_: max_norm is the largest norm allowed, at least 0; got {max_norm}")
    if not p > 0:
        raise ConfigError(f"clip_grad_norm_: norm_type is the p of a norm, positive or infinite; got {norm_type!r}")
    given = list(parameters) if isinstance(parameters, Iterable) and not isinstance(parameters, Tensor) else parameters
    leaves = _with_gradients("clip_grad_norm_", given)
    if not leaves:
        return tensor(0.0)
    if (recorder := leaves[0]._ns.listener()) is not None:
        clipped = partial(clip_grad_norm_, given, max_norm, p, error_if_nonfinite)
        return cast(Tensor, recorder.barrier("clip_grad_norm_", clipped, (len(leaves), max_norm, p)))
    total = _norm(leaves, p)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise NonFiniteError(
            f"clip_grad_norm_: the norm of {len(leaves)} gradients is {total.item()}; nothing was clipped. Look at the "
            "loss and at the learning rate; error_if_nonfinite=False clips all the same"
        )
    if total._level is None and total.backend.synchronous:  # reading is free, and most often nothing is to be done
        factor = float(max_norm / (total._data + ROUNDING))
        if not factor >= 1.0:
            _scale(leaves, factor)
        return total
    factor = ops.minimum(max_norm / (total + ROUNDING), 1.0)
    for q in leaves:
        home = home_of(q)
        is_alone = home is not None and home.has_gradient_alone(q)
        g = _gradient(q)
        g = g * factor.to(device=g.device, dtype=g.dtype)
        if home is not None and is_alone:
            home.slot()[...] = g._data  # where its neighbours are, too, so that they are updated as one
        else:
            _replace(q, g)
    return total


def _scale(leaves: list[Tensor], factor: float) -> None:
    """Multiply all gradients by a number."""
    flats, others = writable_gradients(leaves) if math.isfinite(factor) else ([], leaves)  # 0 · NaN between them is NaN
    for flat in flats:
        flat._data *= factor
    for q in others:
        _replace(q, _gradient(q) * factor)


@no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring every element of every gradient into [−`clip_value`, `clip_value`]; NaN stays.

    A gradient that somebody holds is replaced, never written into; nothing is read from a device.

    Args:
        parameters: those of a model, or one; those without a gradient are left out.
        clip_value: the largest absolute value allowed.

    Raises:
        ConfigError: `clip_value` is negative.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter([0.0, 0.0])
        >>> p.grad = [-3.0, 0.5]
        >>> fw.optim.clip_grad_value_(p, 1.0)
        >>> p.grad.tolist()
        [-1.0, 0.5]
    """
    clip_value = float(clip_value)
    if not clip_value >= 0:
        raise ConfigError(f"clip_grad_value_: clip_value is the largest value allowed, at least 0; got {clip_value}")
    given = list(parameters) if isinstance(parameters, Iterable) and not isinstance(parameters, Tensor) else parameters
    leaves = _with_gradients("clip_grad_value_", given)
    if leaves and (recorder := leaves[0]._ns.listener()) is not None:
        recorder.barrier("clip_grad_value_", partial(clip_grad_value_, given, clip_value), (len(leaves), clip_value))
        return
    flats, others = writable_gradients(leaves)
    for flat in flats:
        flat._data[...] = ops.clip(flat, -clip_value, clip_value)._data
    for q in others:
        _replace(q, ops.clip(_gradient(q), -clip_value, clip_value))


def _with_gradients(name: str, parameters: Any) -> list[Tensor]:
    """Those that have a gradient."""
    if not isinstance(parameters, Tensor) and not isinstance(parameters, Iterable):
        raise DTypeError(
            f"{name}: takes a Tensor or several, got {type(parameters).__name__}"
            + ("; pass its .parameters()" if hasattr(parameters, "parameters") else "")
        )
    found = []
    for p in (parameters,) if isinstance(parameters, Tensor) else parameters:
        if not isinstance(p, Tensor):
            raise DTypeError(f"{name}: takes a Tensor or several, got a {type(p).__name__} among them")
        node = p._node
        if node is not None and node.grad is not None:
            found.append(p)
    return found


def _gradient(p: Tensor) -> Tensor:
    """The gradient as it is, which is not looked at by that."""
    node: Any = p._node
    g = node.grad
    return g if isinstance(g, Tensor) else Tensor(g, None, node.ns)


def _replace(p: Tensor, g: Tensor) -> None:
    """Give a leaf another gradient. What it had may be seen by others, which keep it."""
    p._node.grad = g if g._level is not None else g._data  # type: ignore[union-attr]


def _norm(leaves: list[Tensor], p: float) -> Tensor:
    """The p-norm of all gradients as one vector, on the device of the first.

    It is added up gradient by gradient, so that it does not depend on which of them are neighbours in memory.
    """
    ns = leaves[0]._ns
    arrays = _alike(leaves) if p == 2 and ns.backend.synchronous else None
    if arrays is not None:
        total = ns.sum_of_squares(arrays[0])
        for g in arrays[1:]:
            total = ns.add(total, ns.sum_of_squares(g))
        return Tensor(ns.sqrt(total), None, ns)
    together = _in_one_arena(leaves) if p == 2 and not ns.backend.synchronous else None
    if together is not None:
        return Tensor(ns.sqrt(ns.squares_of_parts(together[0], None, together[1])), None, ns)
    gradients = [_gradient(q) for q in leaves]
    device = gradients[0].device
    parts = [_part(_wide_enough(g), p).to(device=device) for g in gradients]
    if p == math.inf:
        return ops.max(ops.stack(parts))
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return ops.sqrt(total) if p == 2 else total ** (1.0 / p)


def _in_one_arena(leaves: list[Tensor]) -> tuple[Any, tuple[tuple[int, int], ...]] | None:
    """The buffer that all gradients are in, and where each of them is, if squares can be summed in their dtype."""
    home = home_of(leaves[0])
    if home is None or leaves[0].dtype.itemsize < 4:
        return None
    arena, bounds = home.arena, []
    for q in leaves:
        home = home_of(q)
        g: Any = q._node.grad  # type: ignore[union-attr]
        array = g._data if isinstance(g, Tensor) and g._level is None else g
        if home is None or home.arena is not arena or array is not home.slot_if_any():
            return None
        bounds.append((home.start, home.stop))
    return arena.gradients, tuple(bounds)


def _alike(leaves: list[Tensor]) -> list[Any] | None:
    """The gradients as raw arrays, if all are of one backend and one dtype that sums of squares are taken in."""
    ns, dtype = leaves[0]._ns, leaves[0].dtype
    if dtype.kind != "float" or dtype.itemsize < 4:
        return None
    native = leaves[0].native_dtype
    arrays = []
    for q in leaves:
        g: Any = q._node.grad  # type: ignore[union-attr]
        if isinstance(g, Tensor):
            if g._level is not None:
                return None
            g = g._data
        if q._ns is not ns or g.dtype != native:
            return None
        arrays.append(g)
    return arrays


def _wide_enough(g: Tensor) -> Tensor:
    """Real numbers of at least 32 bits: the squares of smaller ones overflow soon."""
    if g.dtype.kind == "complex":
        return ops.abs(g)
    return g if g.dtype.itemsize >= 4 else ops.astype(g, "float32")


def _part(g: Tensor, p: float) -> Tensor:
    """What one gradient adds to the norm: the sum of |g|^p, or the largest |g|."""
    if p == 2:
        return ops.sum_of_squares(g) if g._level is not None else Tensor(g._ns.sum_of_squares(g._data), None, g._ns)
    size = ops.abs(g)
    if p == math.inf:
        return ops.max(size) if g.size else ops.sum(size)
    return ops.sum(size if p == 1 else size**p)
