"""Updates of optimizers, and what is asked of gradients before: reference implementations; see `kernels`."""

from __future__ import annotations

from typing import Any

Array = Any

# -- updates of optimizers: they return what they wrote --------------------------------------------


def sum_of_squares(xp: Any, x: Array) -> Array:
    """The sum of x², 0-d."""
    return xp.sum(x * x)


def squares_of_parts(xp: Any, whole: Array, before: Array | None, bounds: tuple[tuple[int, int], ...]) -> Array:
    """The sum of x² of parts of a vector, 0-d: of each by itself, as `sum_of_squares`, then one after the other.

    `bounds` has the first element of each part, and the one after its last; there is one part at least. The sum goes on
    from `before`, which is 0-d and of the same dtype, where that is not None.
    """
    total = before
    for start, stop in bounds:
        found = sum_of_squares(xp, whole[start:stop])
        total = found if total is None else total + found
    return total


def scaled_to_norm(xp: Any, g: Array, squares: Array, ok: Array, limit: float, rounding: float) -> Array:
    """`g` times limit / (√squares + rounding), but not more than 1, where `ok` holds, else `g`.

    `squares` and `ok` are 0-d; the factor is computed in the dtype of `squares`.
    """
    factor = limit / (xp.sqrt(squares) + rounding)
    one = xp.ones_like(factor)
    return g * xp.astype(xp.where(ok, xp.minimum(factor, one), one), g.dtype)


def latch(xp: Any, squares: Array, loss: Array | None, before: Array | None, good: Array) -> tuple[Array, Array]:
    """Whether `squares` and `loss` are finite and `before` holds, and `good` plus one where that is so; all 0-d.

    `loss` and `before` may be None.
    """
    ok = xp.isfinite(squares)
    if loss is not None:
        ok = xp.logical_and(ok, xp.isfinite(loss))
    if before is not None:
        ok = xp.logical_and(ok, before)
    return ok, good + xp.astype(ok, good.dtype)


def sgd_update(
    xp: Any,
    p: Array,
    g: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> tuple[Array, Array | None]:
    """One step of SGD on one array, as torch.optim.SGD: the new parameter and the new velocity.

    `velocity` is None on the first step with momentum: then the velocity becomes the gradient.
    """
    if weight_decay:
        g = g + weight_decay * p
    if momentum:
        velocity = g if velocity is None else momentum * velocity + (1.0 - dampening) * g
        g = g + momentum * velocity if nesterov else velocity
    return p - lr * g, velocity


def adam_update(
    xp: Any,
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
    """One step of Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) where `decoupled`."""
    if weight_decay:
        if decoupled:
            p = p - (lr * weight_decay) * p
        else:
            g = g + weight_decay * p
    b1, b2 = betas
    m = b1 * m + (1.0 - b1) * g
    v = b2 * v + (1.0 - b2) * (g * g)
    denominator = xp.sqrt(v) / (1.0 - b2**step) ** 0.5 + eps
    return p - (lr / (1.0 - b1**step)) * (m / denominator), m, v


def rprop_update(
    xp: Any,
    p: Array,
    g: Array,
    previous: Array,
    step_size: Array,
    etas: tuple[float, float],
    step_sizes: tuple[float, float],
) -> tuple[Array, Array, Array]:
    """One step of iRprop− (Igel & Hüsken 2000): the parameter, the gradient to remember, the step sizes."""
    sign = xp.sign(g * previous)
    zero = xp.zeros_like(step_size)
    factor = xp.where(sign > zero, zero + etas[1], xp.where(sign < zero, zero + etas[0], zero + 1.0))
    step_size = xp.clip(step_size * factor, step_sizes[0], step_sizes[1])
    g = xp.where(sign < zero, zero, g)
    return p - xp.sign(g) * step_size, g, step_size


# -- the same within a program: rates that change are values on the device, and `ok` says whether it is done ---


def _numbers(xp: Any, numbers: Array, at: int, count: int, dtype: Any) -> list[Array]:
    """Elements of a vector, each 0-d and in the dtype of what it is used with."""
    return [xp.astype(numbers[at + i], dtype) for i in range(count)]


def sgd_step(
    xp: Any,
    p: Array,
    g: Array,
    velocity: Array | None,
    ok: Array,
    numbers: Array,
    at: int,
    decays: bool,
    nesterov: bool,
) -> tuple[Array, Array | None]:
    """`sgd_update` where `ok`, a 0-d bool, holds, else what was there.

    The vector `numbers` has, from `at` on: lr, momentum, 1 − dampening, weight_decay. Without momentum `velocity`
    is None; with it, it is there: a first step is none of these.
    """
    lr, momentum, taken, weight_decay = _numbers(xp, numbers, at, 4, p.dtype)
    if decays:
        g = g + weight_decay * p
    if velocity is None:
        return xp.where(ok, p - lr * g, p), None
    after = momentum * velocity + taken * g
    g = g + momentum * after if nesterov else after
    return xp.where(ok, p - lr * g, p), xp.where(ok, after, velocity)


def adam_step(
    xp: Any,
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
    """`adam_update` where `ok`, a 0-d bool, holds, else what was there.

    The vector `numbers` has, from `at` on: lr / (1 − β₁ᵗ), β₁, 1 − β₁, β₂, 1 − β₂, √(1 − β₂ᵗ), eps, and what decays:
    lr · weight_decay where it is `decoupled`, else weight_decay.
    """
    rate, b1, taken1, b2, taken2, root, eps, decay = _numbers(xp, numbers, at, 8, p.dtype)
    q = p
    if decays and decoupled:
        q = p - decay * p
    elif decays:
        g = g + decay * p
    mean = b1 * m + taken1 * g
    square = b2 * v + taken2 * (g * g)
    after = q - rate * (mean / (xp.sqrt(square) / root + eps))
    return xp.where(ok, after, p), xp.where(ok, mean, m), xp.where(ok, square, v)


def rprop_step(
    xp: Any, p: Array, g: Array, previous: Array, step_size: Array, ok: Array, numbers: Array, at: int
) -> tuple[Array, Array, Array]:
    """`rprop_update` where `ok`, a 0-d bool, holds, else what was there.

    The vector `numbers` has, from `at` on: the factors by which steps shrink and grow, the smallest step, the largest.
    """
    shrink, grow, least, most = _numbers(xp, numbers, at, 4, p.dtype)
    sign = xp.sign(g * previous)
    zero = xp.zeros_like(step_size)
    factor = xp.where(sign > zero, zero + grow, xp.where(sign < zero, zero + shrink, zero + 1.0))
    size = xp.minimum(xp.maximum(step_size * factor, zero + least), zero + most)
    kept = xp.where(sign < zero, zero, g)
    after = p - xp.sign(kept) * size
    return xp.where(ok, after, p), xp.where(ok, kept, previous), xp.where(ok, size, step_size)


# -- of backends whose arrays are written ------------------------------------------------------------


def fill_parts(xp: Any, whole: Array, *parts_and_values: Array) -> Array:
    """Write values into parts of `whole`, arrays that share its memory: first all parts, then a value for each.

    A backend may compute a value right where its part is; then nothing is left to do.
    """
    count = len(parts_and_values) // 2
    for part, value in zip(parts_and_values[:count], parts_and_values[count:]):
        part[...] = value
    return whole
