"""Pooling over windows of the last two axes: the largest element of each, or the sum.

The derivative of the largest element goes to the place where it is, the first one row by row where there are several.
`max_pool2d_take` reads an array at these places and `max_pool2d_put` adds to it there, each the transpose of the
other; so are `window_sum` and `window_spread`. Axes in front are arbitrary, which makes batching a matter of ranks.

Parameters: `kernel`, `stride` and `dilation` (rows, columns), `padding` ((above, below), (left, right)).
"""

from __future__ import annotations

from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import linear_map
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.primitives.windows import Pair, apart, padded, places, taps
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.backend.kernels import beside
from framework.errors import ConfigError, ShapeError

_NONE = ((0, 0), (0, 0))


def _size(x: Any, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> Pair:
    """Rows and columns of the result."""
    h, w = (places(*args) for args in zip(x.shape[-2:], kernel, stride, padding, dilation))
    return h, w


def _parts(xp: Any, x: Any, value: float, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> list[Any]:
    """For each element of the window, what it meets at all places; `value` outside."""
    size = _size(x, kernel, stride, padding, dilation)
    x = padded(xp, x, padding, value)
    return [x[..., rows, columns] for rows, columns in taps(kernel, stride, dilation, size)]


def _sum_of_parts(
    xp: Any, parts: list[Any], size: Pair, kernel: Pair, stride: Pair, padding: Any, dilation: Pair
) -> Any:
    """The reverse of `_parts`: an array of `size` in which each element is the sum of what met it."""
    total = None
    for t, part in enumerate(parts):
        part = apart(xp, part, stride)
        around = []
        for n, length, k, d, (before, _) in zip(size, part.shape[-2:], divmod(t, kernel[1]), dilation, padding):
            low = k * d - before
            around.append((low, n - low - length))
        part = padded(xp, part, around)
        total = part if total is None else total + part
    return total


# -- the largest element -----------------------------------------------------------------------------------


def _lowest(ns: Any, x: Any) -> float:
    """What is smaller than everything: for the padding."""
    d = ns.backend.dtype_of(x)
    return -float("inf") if d.is_differentiable else int(ns.xp.iinfo(x.dtype).min)


def _max_forward(ns: Any, x: Any, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> Any:
    parts = _parts(ns.xp, x, _lowest(ns, x), kernel, stride, padding, dilation)
    out = parts[0]
    for part in parts[1:]:
        out = ns.xp.maximum(out, part)
    return out


def _hits(ns: Any, x: Any, windows: tuple[Any, ...]) -> list[Any]:
    """For each element of the window, whether it is the one that is chosen; the last one takes what is NaN."""
    xp = ns.xp
    found = []
    free = None
    parts = _parts(xp, x, _lowest(ns, x), *windows)
    out = parts[0]
    for part in parts[1:]:
        out = xp.maximum(out, part)
    for part in parts[:-1]:
        hit = part == out
        if free is not None:
            hit = xp.logical_and(hit, free)
        miss = xp.logical_not(hit)
        free = miss if free is None else xp.logical_and(free, miss)
        found.append(hit)
    found.append(xp.ones(out.shape, dtype=xp.bool, device=beside(out)) if free is None else free)
    return found


def _put_forward(ns: Any, g: Any, x: Any, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> Any:
    xp, windows = ns.xp, (kernel, stride, padding, dilation)
    zero = xp.zeros_like(g)
    parts = [xp.where(hit, g, zero) for hit in _hits(ns, x, windows)]
    return _sum_of_parts(xp, parts, tuple(x.shape[-2:]), *windows)


def _take_forward(ns: Any, t: Any, x: Any, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> Any:
    xp, windows = ns.xp, (kernel, stride, padding, dilation)
    total = None
    for hit, part in zip(_hits(ns, x, windows), _parts(xp, t, 0, *windows)):
        total = part if total is None else xp.where(hit, part, total)
    return total


def _max_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, **windows: Any) -> Any:
    return (ns.max_pool2d_put(g, x, **windows),)


def _max_jvp(ns: Any, tangents: Any, out: Any, x: Any, **windows: Any) -> Any:
    return ns.max_pool2d_take(tangents[0], x, **windows)


def _of_first(name: str) -> tuple[Any, Any]:
    """The rules of what is linear in its first input and constant in the others; `name` is its transpose."""
    own = {"max_pool2d_put": "max_pool2d_take", "max_pool2d_take": "max_pool2d_put"}[name]

    def vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, t: Any, x: Any, **windows: Any) -> Any:
        return (None if needs[0] is None else getattr(ns, name)(g, x, **windows), None)

    def jvp(ns: Any, tangents: Any, out: Any, t: Any, x: Any, **windows: Any) -> Any:
        return None if tangents[0] is None else getattr(ns, own)(tangents[0], x, **windows)

    return vjp, jvp


def _all_with_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    full = [x if b else ops.broadcast_to(x, (n, *x.shape)) for x, b in zip(inputs, is_batched)]
    return fn(*full, **params)


_max_pool2d = primitive("max_pool2d", arity=1, forward=_max_forward, vjp=_max_vjp, jvp=_max_jvp, keep=((0,),))
for _name, _forward, _transposed in (
    ("max_pool2d_put", _put_forward, "max_pool2d_take"),
    ("max_pool2d_take", _take_forward, "max_pool2d_put"),
):
    _vjp, _jvp = _of_first(_transposed)
    setattr(
        ops,
        _name,
        primitive(
            _name,
            arity=2,
            forward=_forward,
            vjp=_vjp,
            jvp=_jvp,
            batch=_all_with_batch,
            keep=((), (0,)),
        ),
    )


# -- the sum -----------------------------------------------------------------------------------------------


def _window_sum_forward(ns: Any, x: Any, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> Any:
    parts = _parts(ns.xp, x, 0, kernel, stride, padding, dilation)
    out = parts[0]
    for part in parts[1:]:
        out = out + part
    return out


def _window_sum_transpose(ns: Any, g: Any, shape: Any, **windows: Any) -> Any:
    return ns.window_spread(g, size=tuple(shape[-2:]), **windows)


def _window_spread_forward(
    ns: Any, g: Any, *, size: Pair, kernel: Pair, stride: Pair, padding: Any, dilation: Pair
) -> Any:
    parts = [g] * (kernel[0] * kernel[1])
    return _sum_of_parts(ns.xp, parts, size, kernel, stride, padding, dilation)


def _window_spread_transpose(ns: Any, g: Any, shape: Any, *, size: Pair, **windows: Any) -> Any:
    return ns.window_sum(g, **windows)


_window_sum = linear_map("window_sum", _window_sum_transpose, forward=_window_sum_forward)
_window_spread = linear_map("window_spread", _window_spread_transpose, forward=_window_spread_forward)


# -- the functions -----------------------------------------------------------------------------------------


def _pairs(*given: Any) -> tuple[Pair, ...]:
    """As tuples of two."""
    return tuple([(first, second) for first, second in given])


def _windows(name: str, x: Tensor, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> dict[str, Any]:
    """The parameters as they are stored, where windows fit into `x`."""
    if x.ndim < 2:
        raise ShapeError(f"{name}: windows move over the last two axes, got an array of shape {x.shape}")
    (kernel, stride, dilation), padding = _pairs(kernel, stride, dilation), _pairs(*padding)
    if min(*kernel, *stride, *dilation) < 1 or min(n for side in padding for n in side) < 0:
        raise ConfigError(
            f"{name}: kernel, stride and dilation are at least 1 and padding is not negative, got kernel {kernel}, "
            f"stride {stride}, dilation {dilation}, padding {padding}"
        )
    windows = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    if min(_size(x, kernel, stride, padding, dilation)) < 1:
        raise ShapeError(
            f"{name}: a window of shape {kernel} with dilation {dilation} does not fit into an array of shape "
            f"{x.shape} with padding {padding}; use a smaller window or more padding"
        )
    return windows


@public
def max_pool2d(
    x: Any,
    /,
    *,
    kernel: Pair,
    stride: Pair,
    padding: tuple[Pair, Pair] = _NONE,
    dilation: Pair = (1, 1),
) -> Tensor:
    """The largest element of each window: (..., H, W) gives (..., H', W'); padding is smaller than everything.

    Raises:
        ShapeError: the window does not fit.
        ConfigError: a number that is too small.
    """
    x = as_tensor(x)
    out: Tensor = _max_pool2d(x, **_windows("max_pool2d", x, kernel, stride, padding, dilation))
    return out


@public
def max_pool2d_places(x: Any, /, **windows: Any) -> Tensor:
    """Where the largest elements are that `max_pool2d` gives: their numbers in the flattened last two axes."""
    x = as_tensor(x)
    h, w = x.shape[-2:]
    numbers = ops.reshape(ops.arange(h * w, dtype=dt.int64, device=x.device), (h, w))
    found: Tensor = ops.max_pool2d_take(ops.broadcast_to(numbers, x.shape), x, **windows)
    return found


@public
def window_sum(
    x: Any,
    /,
    *,
    kernel: Pair,
    stride: Pair,
    padding: tuple[Pair, Pair] = _NONE,
    dilation: Pair = (1, 1),
) -> Tensor:
    """The sum of each window: (..., H, W) gives (..., H', W').

    Raises:
        ShapeError: the window does not fit.
        ConfigError: a number that is too small.
    """
    x = as_tensor(x)
    return _window_sum(x, **_windows("window_sum", x, kernel, stride, padding, dilation))


@public
def window_spread(g: Any, /, *, size: Pair, **windows: Any) -> Tensor:
    """The transpose of `window_sum` of arrays whose last two axes have `size`."""
    return _window_spread(as_tensor(g), size=tuple(size), **windows)
