"""Convolutions: the twins of `torch.nn.functional`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framework.autodiff import Tensor, as_tensor, ops
from framework.errors import ConfigError, ShapeError

Pairs = tuple[tuple[int, int], ...]


def spread(name: str, what: str, given: Any, axes: int, least: int = 0) -> tuple[int, ...]:
    """One number for all axes, or one each, as a tuple.

    Raises:
        ConfigError: they are no integers from `least` on, or not as many as axes.
    """
    numbers = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,) * axes
    right = all(isinstance(n, int) and not isinstance(n, bool) and n >= least for n in numbers)
    if not right or len(numbers) not in (1, axes):
        ask = "an integer" if axes == 1 else f"an integer, or {axes} of them"
        raise ConfigError(f"{name}: {what} is {ask}, from {least} on; got {given!r}")
    return numbers * axes if len(numbers) < axes else numbers


def paddings(name: str, padding: Any, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Pairs:
    """The padding at the two ends of each axis, of `padding` as a number, several, `"valid"` or `"same"`.

    Raises:
        ConfigError: `"same"` with a stride other than 1, or another word.
    """
    axes = len(kernel)
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * axes
        if padding != "same":
            raise ConfigError(f"{name}: padding is a number for each axis, 'valid' or 'same', got {padding!r}")
        if any(s != 1 for s in stride):
            raise ConfigError(f"{name}: padding='same' needs stride 1, got {tuple(stride)}")
        return tuple([(d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2) for k, d in zip(kernel, dilation)])
    return tuple([(n, n) for n in spread(name, "padding", padding, axes)])


def _arrays(name: str, input: Any, weight: Any, axes: int) -> tuple[Tensor, Tensor, bool]:
    """The input with a batch, the weight, and whether the input had a batch."""
    x = as_tensor(input, weight if isinstance(weight, Tensor) else None)
    w = as_tensor(weight, x)
    letters = ", ".join("LHWD"[0 if axes == 1 else 1 :][:axes])
    if w.ndim != axes + 2:
        raise ShapeError(f"{name}: the weight has {axes + 2} axes, got shape {w.shape}")
    if x.ndim not in (axes + 1, axes + 2):
        raise ShapeError(f"{name}: got input of shape {x.shape}; expected (N, C, {letters}) or (C, {letters})")
    has_batch = x.ndim == axes + 2
    return (x if has_batch else ops.expand_dims(x, axis=0)), w, has_batch


def _check_channels(name: str, x: Tensor, w: Tensor, groups: int, transposed: bool) -> None:
    if not isinstance(groups, int) or groups < 1 or w.shape[0] % groups:
        raise ConfigError(f"{name}: groups is a divisor of the weight's first axis {w.shape[0]}, got {groups!r}")
    channels = w.shape[0] if transposed else w.shape[1] * groups
    if x.shape[1] != channels:
        hint = ""
        if x.shape[-1] == channels:
            hint = " Channels come second: move the last axis there, x.permute(0, 3, 1, 2) of images"
        raise ShapeError(
            f"{name}: got input of shape {x.shape} with {x.shape[1]} channels; a weight of shape {w.shape} with "
            f"groups={groups} takes {channels}.{hint}"
        )


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The sum of products of a kernel with each place: (N, C, H, W) or (C, H, W) gives (N, O, H', W') or (O, H', W').

    Args:
        weight: (O, C / groups, rows, columns).
        bias: (O,), or None.
        padding: zeros around; a number, one for rows and one for columns, `"valid"` (none), or `"same"`.

    Raises:
        ShapeError: the shapes do not fit, or the kernel is larger than the padded input.
        ConfigError: an argument is wrong.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> fw.nn.functional.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))).tolist()
        [[[[4.0, 4.0], [4.0, 4.0]]]]
    """
    x, w, has_batch = _arrays("conv2d", input, weight, 2)
    stride, dilation = spread("conv2d", "stride", stride, 2, 1), spread("conv2d", "dilation", dilation, 2, 1)
    _check_channels("conv2d", x, w, groups, transposed=False)
    around = paddings("conv2d", padding, w.shape[2:], stride, dilation)
    out = ops.conv2d(x, w, bias, stride=stride, padding=around, dilation=dilation, groups=groups)
    return out if has_batch else ops.squeeze(out, axis=0)


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """As `conv2d`, along one axis: (N, C, L) or (C, L) gives (N, O, L') or (O, L'); weight (O, C / groups, length).

    Examples:
        >>> import framework as fw
        >>> fw.nn.functional.conv1d(fw.tensor([[[1.0, 2.0, 4.0]]]), fw.tensor([[[1.0, -1.0]]])).tolist()
        [[[-1.0, -2.0]]]
    """
    x, w, has_batch = _arrays("conv1d", input, weight, 1)
    (stride,), (dilation,) = spread("conv1d", "stride", stride, 1, 1), spread("conv1d", "dilation", dilation, 1, 1)
    _check_channels("conv1d", x, w, groups, transposed=False)
    around = paddings("conv1d", padding, w.shape[2:], (stride,), (dilation,))
    if x.shape[2] + sum(around[0]) < dilation * (w.shape[2] - 1) + 1:
        raise ShapeError(
            f"conv1d: a kernel of length {w.shape[2]} with dilation {dilation} does not fit into input of shape "
            f"{x.shape} with padding {around[0]}; use a shorter kernel or more padding"
        )
    out = ops.conv2d(
        ops.expand_dims(x, axis=2),
        ops.expand_dims(w, axis=2),
        bias,
        stride=(1, stride),
        padding=((0, 0), *around),
        dilation=(1, dilation),
        groups=groups,
    )
    return ops.squeeze(out, axis=2) if has_batch else ops.squeeze(out, axis=(0, 2))


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of `conv2d`, its gradient with respect to the input: (N, C, H, W) gives (N, O, H', W').

    H' = (H − 1)·stride − 2·padding + dilation·(rows − 1) + output_padding + 1.

    Args:
        weight: (C, O / groups, rows, columns).
        padding: of the convolution that this is the transpose of.
        output_padding: which of the sizes that this convolution maps to H is meant.

    Raises:
        ShapeError: the shapes do not fit.
        ConfigError: an argument is wrong.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> fw.nn.functional.conv_transpose2d(np.ones((1, 1, 1, 2)), np.ones((1, 1, 1, 2))).tolist()
        [[[[1.0, 2.0, 1.0]]]]
    """
    name = "conv_transpose2d"
    x, w, has_batch = _arrays(name, input, weight, 2)
    stride, dilation = spread(name, "stride", stride, 2, 1), spread(name, "dilation", dilation, 2, 1)
    around, more = spread(name, "padding", padding, 2), spread(name, "output_padding", output_padding, 2)
    _check_channels(name, x, w, groups, transposed=True)
    if any(m >= max(s, d) for m, s, d in zip(more, stride, dilation)):
        raise ConfigError(
            f"{name}: output_padding is smaller than stride or dilation, got {more} with stride {stride} and "
            f"dilation {dilation}"
        )
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + m + 1
        for n, s, p, d, k, m in zip(x.shape[2:], stride, around, dilation, w.shape[2:], more)
    )
    if min(size) < 1:
        raise ShapeError(f"{name}: input of shape {x.shape} would give an output of size {size}; use less padding")
    # A step or more of output padding: first what `padding` has cut off at the end, then zeros that no kernel reaches.
    is_more = [m >= s for m, s in zip(more, stride)]
    ends = tuple([max(p - m, 0) if far else p for far, m, p in zip(is_more, more, around)])
    spare = tuple([max(m - p - s + 1, 0) if far else 0 for far, m, p, s in zip(is_more, more, around, stride)])
    out: Tensor = ops.conv2d_dx(
        x,
        w,
        size=tuple([n - e for n, e in zip(size, spare)]),
        stride=stride,
        padding=tuple(zip(around, ends)),
        dilation=dilation,
        groups=groups,
    )
    if any(spare):
        out = ops.pad(out, ((0, 0), (0, 0), *[(0, e) for e in spare]))
    if bias is not None:
        channels = out.shape[1]
        if tuple(bias.shape) != (channels,):
            raise ShapeError(
                f"{name}: the result has {channels} channels, so bias has shape ({channels},), got {tuple(bias.shape)}"
            )
        out = out + ops.reshape(as_tensor(bias, x), (channels, 1, 1))
    return out if has_batch else ops.squeeze(out, axis=0)
