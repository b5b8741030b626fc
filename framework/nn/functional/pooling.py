"""Pooling: the twins of `torch.nn.functional`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framework.autodiff import Tensor, as_tensor, ops
from framework.errors import ConfigError, ShapeError
from framework.nn.functional.arguments import as_real
from framework.nn.functional.conv import spread


def _images(name: str, input: Any) -> Tensor:
    x = as_tensor(input)
    if x.ndim not in (3, 4):
        raise ShapeError(f"{name}: got input of shape {x.shape}; expected (N, C, H, W) or (C, H, W)")
    if not x.dtype.is_differentiable:
        x = ops.astype(x, ops.get_default_dtype())
    return x


def _windows(
    name: str, x: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> dict[str, Any]:
    """The parameters of windows over the last two axes; in `ceil_mode` the last one may leave the input."""
    kernel = spread(name, "kernel_size", kernel_size, 2, 1)
    stride = kernel if stride is None or stride == [] else spread(name, "stride", stride, 2, 1)
    around, dilation = spread(name, "padding", padding, 2), spread(name, "dilation", dilation, 2, 1)
    if any(2 * p > d * (k - 1) + 1 for p, k, d in zip(around, kernel, dilation)):
        raise ConfigError(f"{name}: padding is at most half of the kernel, got {around} with kernel_size {kernel}")
    pairs = []
    for n, k, s, p, d in zip(x.shape[-2:], kernel, stride, around, dilation):
        extra = 0
        if ceil_mode:
            out = -(-(n + 2 * p - d * (k - 1) - 1) // s) + 1
            if (out - 1) * s >= n + p:  # a window that would begin behind everything
                out -= 1
            extra = max((out - 1) * s + d * (k - 1) + 1 - n - 2 * p, 0)
        if n + 2 * p + extra < d * (k - 1) + 1:
            raise ShapeError(
                f"{name}: got input of shape {x.shape}; a window of shape {kernel} with dilation {dilation} and "
                f"padding {around} does not fit into its last two axes. Use a smaller window, or more padding"
            )
        pairs.append((p, p + extra))
    return {"kernel": kernel, "stride": stride, "padding": tuple(pairs), "dilation": dilation}


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window: (N, C, H, W) or (C, H, W) gives (…, H', W').

    Args:
        stride: the kernel's size where left out.
        padding: at most half of the kernel; what is outside is smaller than everything.
        ceil_mode: also take a last window that leaves the input.
        return_indices: also return where they are: numbers in the flattened last two axes.

    Raises:
        ShapeError: the input has not three or four axes, or is smaller than the window.

    Examples:
        >>> import framework as fw
        >>> fw.nn.functional.max_pool2d(fw.tensor([[[1.0, 2.0], [4.0, 3.0]]]), 2).tolist()
        [[[4.0]]]
    """
    x = as_real("max_pool2d", _images("max_pool2d", input))
    windows = _windows("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    out = ops.max_pool2d(x, **windows)
    return (out, ops.max_pool2d_places(x, **windows)) if return_indices else out


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window: (N, C, H, W) or (C, H, W) gives (…, H', W').

    Args:
        stride: the kernel's size where left out.
        padding: zeros, at most half of the kernel.
        ceil_mode: also take a last window that leaves the input.
        count_include_pad: whether zeros of the padding count in the mean.
        divisor_override: divide by this number instead.

    Raises:
        ShapeError: the input has not three or four axes, or is smaller than the window.

    Examples:
        >>> import framework as fw
        >>> fw.nn.functional.avg_pool2d(fw.tensor([[[1.0, 2.0], [4.0, 3.0]]]), 2).tolist()
        [[[2.5]]]
    """
    x = _images("avg_pool2d", input)
    windows = _windows("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode)
    total = ops.window_sum(x, **windows)
    if divisor_override is not None:
        if not divisor_override:
            raise ConfigError("avg_pool2d: divisor_override is not zero")
        return total * (1.0 / divisor_override)
    rows, columns = (
        _counts(n, out, k, s, p, count_include_pad, ceil_mode)
        for n, out, k, s, (p, _) in zip(
            x.shape[-2:], total.shape[-2:], windows["kernel"], windows["stride"], windows["padding"]
        )
    )
    if len({*rows}) == len({*columns}) == 1:
        return total * (1.0 / (rows[0] * columns[0]))
    factors = [[1.0 / (r * c) for c in columns] for r in rows]
    return total * ops.asarray(factors, dtype=x.dtype, device=x.device)


def _counts(n: int, out: int, kernel: int, stride: int, padding: int, with_padding: bool, ceil: bool) -> list[int]:
    """How many elements of an axis of length `n` count in each window."""
    counts = []
    for i in range(out):
        start = i * stride - padding
        end = min(start + kernel, n + padding)
        counts.append(end - start if with_padding else max(min(end, n) - max(start, 0), 1))
    return counts


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Tensor:
    """Means of windows that part the input into `output_size`: (N, C, H, W) or (C, H, W) gives (…, H', W').

    Window i of an axis of length n goes from ⌊i·n / n'⌋ to ⌈(i + 1)·n / n'⌉.

    Args:
        output_size: H' and W', or a number for both; None keeps an axis.

    Raises:
        ShapeError: the input has not three or four axes, or no elements to take means of.

    Examples:
        >>> import framework as fw
        >>> fw.nn.functional.adaptive_avg_pool2d(fw.tensor([[[1.0, 2.0, 6.0]]]), (1, 2)).tolist()
        [[[1.5, 4.0]]]
    """
    x = _images("adaptive_avg_pool2d", input)
    wanted = tuple(output_size) if isinstance(output_size, Sequence) else (output_size, output_size)
    if len(wanted) != 2 or not all(n is None or (isinstance(n, int) and n >= 0) for n in wanted):
        raise ConfigError(
            f"adaptive_avg_pool2d: output_size is a number or two, each from 0 on or None, got {output_size!r}"
        )
    if 0 in x.shape[-2:]:
        raise ShapeError(f"adaptive_avg_pool2d: got input of shape {x.shape}; there is nothing to take means of")
    for axis, (n, out) in enumerate(zip(x.shape[-2:], wanted), -2):
        if out is None or out == n:
            continue
        if out == 1:
            x = ops.mean(x, axis=axis, keepdims=True)
            continue
        weights = ops.asarray(_averages(n, out), dtype=x.dtype, device=x.device)
        weights = ops.reshape(weights, (out, n))
        x = ops.matmul(weights, x) if axis == -2 else ops.matmul(x, ops.matrix_transpose(weights))
    return x


def _averages(n: int, out: int) -> list[list[float]]:
    """A matrix (out, n) that takes the means."""
    rows = []
    for i in range(out):
        start, end = i * n // out, -(-(i + 1) * n // out)
        rows.append([1.0 / (end - start) if start <= j < end else 0.0 for j in range(n)])
    return rows
