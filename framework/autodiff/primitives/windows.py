"""Windows that move over the last two axes of arrays: where they are, and what surrounds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framework.backend.kernels import beside

Pair = tuple[int, int]


def places(n: int, kernel: int, stride: int, padding: Pair, dilation: int) -> int:
    """The number of places at which a kernel fits into an axis of length `n`; not positive where there is none."""
    return (n + padding[0] + padding[1] - dilation * (kernel - 1) - 1) // stride + 1


def padded(xp: Any, x: Any, around: Sequence[Pair], value: float = 0) -> Any:
    """`x` with so many elements more at the ends of its last two axes; fewer, where a number is negative."""
    for axis, (before, after) in zip((-2, -1), around):
        rest = (slice(None),) * (-1 - axis)
        if before < 0 or after < 0:
            x = x[(..., slice(max(-before, 0), x.shape[axis] + min(after, 0)), *rest)]
        ends = []
        for n in (before, after):
            shape = list(x.shape)
            shape[axis] = max(n, 0)
            ends.append(xp.full(tuple(shape), value, dtype=x.dtype, device=beside(x)) if n > 0 else None)
        if ends[0] is not None or ends[1] is not None:
            x = xp.concat([part for part in (ends[0], x, ends[1]) if part is not None], axis=axis)
    return x


def apart(xp: Any, x: Any, stride: Pair) -> Any:
    """`x` with zeros between the elements of its last two axes, so that they are `stride` apart."""
    for axis, step in ((-2, stride[0]), (-1, stride[1])):
        n = x.shape[axis]
        if step == 1 or n <= 1:
            continue
        a = x.ndim + axis
        x = xp.expand_dims(x, axis=a + 1)
        zeros = xp.zeros((*x.shape[: a + 1], step - 1, *x.shape[a + 2 :]), dtype=x.dtype, device=beside(x))
        x = xp.concat([x, zeros], axis=a + 1)
        x = xp.reshape(x, (*x.shape[:a], n * step, *x.shape[a + 2 :]))
        x = x[(..., slice(0, (n - 1) * step + 1), *(slice(None),) * (-1 - axis))]
    return x


def taps(kernel: Pair, stride: Pair, dilation: Pair, out: Pair) -> list[tuple[slice, slice]]:
    """For each element of a kernel, row by row, the places of a padded image that it meets."""
    rows, columns = (
        [slice(i * d, i * d + (n - 1) * s + 1, s) if n else slice(0, 0) for i in range(k)]
        for k, s, d, n in zip(kernel, stride, dilation, out)
    )
    return [(r, c) for r in rows for c in columns]
