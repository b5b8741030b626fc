"""Convolutional layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from framework.autodiff import Tensor, as_tensor, get_default_dtype, ops
from framework.errors import ConfigError, ShapeError, did_you_mean
from framework.nn import functional as F
from framework.nn import init
from framework.nn.functional.conv import paddings, spread
from framework.nn.module import Module
from framework.nn.parameter import Parameter

_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""Padding modes by torch's names, and NumPy's."""


class _Conv(Module):
    """What the convolutions have in common."""

    shares_work = True

    axes: ClassVar[int] = 2
    transposed: ClassVar[bool] = False

    bias: Parameter | None

    def _prepare(
        self,
        channels: tuple[int, int],
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        kind: dict[str, Any],
    ) -> None:
        """Check the arguments and draw the parameters."""
        name = type(self).__name__
        for what, n in zip(("in_channels", "out_channels"), channels):
            if not isinstance(n, int) or isinstance(n, bool) or n < 1:
                raise ConfigError(f"{name}: {what} is a number of channels, got {n!r}")
        if not isinstance(groups, int) or groups < 1 or channels[0] % groups or channels[1] % groups:
            raise ConfigError(
                f"{name}: groups divides in_channels and out_channels, got groups={groups!r} for {channels[0]} and "
                f"{channels[1]}"
            )
        if padding_mode not in _MODES:
            raise ConfigError(
                f"{name}: padding_mode is one of {', '.join(_MODES)}; got {padding_mode!r}."
                f"{did_you_mean(padding_mode, _MODES)}"
            )
        self.in_channels, self.out_channels = channels
        self.kernel_size = spread(name, "kernel_size", kernel_size, self.axes, 1)
        self.stride = spread(name, "stride", stride, self.axes, 1)
        self.dilation = spread(name, "dilation", dilation, self.axes, 1)
        if not isinstance(padding, str):
            padding = spread(name, "padding", padding, self.axes)
        self.padding = padding
        self._around = paddings(name, padding, self.kernel_size, self.stride, self.dilation)
        self.groups = groups
        self.padding_mode = padding_mode
        first, second = channels[::-1] if not self.transposed else channels
        shape = (first, second // groups, *self.kernel_size)
        kind = {"dtype": kind["dtype"] or get_default_dtype(), "device": kind["device"]}
        self.weight = Parameter(ops.zeros(shape, **kind))
        self.bias = Parameter(ops.zeros((channels[1],), **kind)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def _checked(self, input: Any) -> Tensor:
        """The input as a Tensor with the right axes and channels."""
        x = as_tensor(input, self.weight)
        if x.ndim not in (self.axes + 1, self.axes + 2) or x.shape[-1 - self.axes] != self.in_channels:
            raise self._shape_error(x.shape)
        return x

    def _shape_error(self, given: tuple[int, ...]) -> ShapeError:
        letters = "L" if self.axes == 1 else "H, W"
        hint = ""
        if len(given) == self.axes + 1 and self.in_channels == 1:
            hint = f" Give them a channel: x.reshape({', '.join(map(str, (given[0], 1, *given[1:])))})"
        elif len(given) == self.axes + 2 and given[-1] == self.in_channels:
            order = (0, self.axes + 1, *range(1, self.axes + 1))
            hint = f" Channels come second: x.permute({', '.join(map(str, order))})"
        return ShapeError(
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}): got input of shape {given}; expected "
            f"(N, {self.in_channels}, {letters}) or ({self.in_channels}, {letters}).{hint}"
        )

    def extra_repr(self) -> str:
        """The sizes, and the arguments that are not their defaults."""
        parts = [f"{self.in_channels}, {self.out_channels}", f"kernel_size={self.kernel_size}", f"stride={self.stride}"]
        if self.padding != (0,) * self.axes:
            parts.append(
                f"padding={self.padding!r}" if not isinstance(self.padding, str) else f"padding={self.padding}"
            )
        if self.dilation != (1,) * self.axes:
            parts.append(f"dilation={self.dilation}")
        more = getattr(self, "output_padding", (0,) * self.axes)
        if more != (0,) * self.axes:
            parts.append(f"output_padding={more}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class _Forward(_Conv):
    """A convolution, not a transposed one."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        kind = {"device": device, "dtype": dtype}
        channels = (in_channels, out_channels)
        self._prepare(channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, kind)

    def forward(self, input: Any) -> Tensor:
        """The sums of products of the kernels with each place of the input."""
        x = self._checked(input)
        padding = self.padding
        if self.padding_mode != "zeros":
            self._check_continuation(x)
            widths = (*((0, 0),) * (x.ndim - self.axes), *self._around)
            x, padding = ops.pad(x, widths, mode=_MODES[self.padding_mode]), 0
        fn = F.conv1d if self.axes == 1 else F.conv2d
        return fn(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _check_continuation(self, x: Tensor) -> None:
        """Raise ShapeError where the padding asks for more than the input has."""
        spare = {"reflect": 1, "circular": 0}.get(self.padding_mode)
        if spare is not None and any(max(p) > n - spare for p, n in zip(self._around, x.shape[-self.axes :])):
            raise ShapeError(
                f"{type(self).__name__}({self.in_channels}, {self.out_channels}): padding_mode={self.padding_mode!r} "
                f"continues an axis by {'less than' if spare else 'at most'} its length, got input of shape {x.shape} "
                f"and padding {self.padding!r}"
            )


class Conv1d(_Forward):
    """A convolution along one axis: (N, in_channels, L) or (in_channels, L) gives (N, out_channels, L').

    Weight (out_channels, in_channels / groups, kernel_size) and bias (out_channels,) start uniform in
    ±1/√(in_channels / groups · kernel_size). The kernel is not flipped.

    Args:
        padding: zeros at both ends; a number, `"valid"` (none), or `"same"`: L' = L.
        groups: channels are parted into so many groups, each with kernels of its own.
        padding_mode: what stands for the zeros: `"reflect"`, `"replicate"` or `"circular"` continue the input.

    Raises:
        ShapeError: another number of axes or channels, or the kernel does not fit.

    Examples:
        >>> import framework as fw
        >>> fw.nn.Conv1d(4, 8, 3, padding=1)(fw.random.normal((2, 4, 10))).shape
        (2, 8, 10)
    """

    axes = 1


class Conv2d(_Forward):
    """A convolution of images: (N, in_channels, H, W) or (in_channels, H, W) gives (N, out_channels, H', W').

    Weight (out_channels, in_channels / groups, rows, columns) and bias (out_channels,) start uniform in
    ±1/√(in_channels / groups · rows · columns). The kernel is not flipped (LeCun et al. 1989).

    Args:
        kernel_size: rows and columns; one number for both, as for all that follow.
        padding: zeros around; a number for each axis, `"valid"` (none), or `"same"`: H' = H, W' = W.
        groups: channels are parted into so many groups, each with kernels of its own.
        padding_mode: what stands for the zeros: `"reflect"`, `"replicate"` or `"circular"` continue the input.

    Raises:
        ShapeError: another number of axes or channels, or the kernel does not fit.

    Examples:
        >>> import framework as fw
        >>> fw.nn.Conv2d(1, 32, 3)(fw.random.normal((2, 1, 28, 28))).shape
        (2, 32, 26, 26)
    """


class ConvTranspose2d(_Conv):
    """The transpose of `Conv2d`: (N, in_channels, H, W) or (in_channels, H, W) gives (N, out_channels, H', W').

    H' = (H − 1)·stride − 2·padding + dilation·(rows − 1) + output_padding + 1. Weight (in_channels,
    out_channels / groups, rows, columns) and bias (out_channels,) start uniform in
    ±1/√(out_channels / groups · rows · columns).

    Args:
        padding: that of the convolution that this is the transpose of.
        output_padding: which of the sizes that this convolution maps to H is meant.

    Raises:
        ShapeError: another number of axes or channels.

    Examples:
        >>> import framework as fw
        >>> fw.nn.ConvTranspose2d(8, 4, 2, stride=2)(fw.random.normal((1, 8, 5, 5))).shape
        (1, 4, 10, 10)
    """

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if padding_mode != "zeros" or isinstance(padding, str):
            raise ConfigError(
                "ConvTranspose2d: what is padded are zeros, as many as numbers say; got "
                f"padding={padding!r}, padding_mode={padding_mode!r}"
            )
        kind = {"device": device, "dtype": dtype}
        channels = (in_channels, out_channels)
        self.output_padding = spread("ConvTranspose2d", "output_padding", output_padding, 2)
        self._prepare(channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, kind)

    def forward(self, input: Any, output_size: Sequence[int] | None = None) -> Tensor:
        """Each element of the input times the kernels, added up where it stands.

        Args:
            output_size: H' and W', instead of `output_padding`.
        """
        x = self._checked(input)
        more = self.output_padding if output_size is None else self._missing(x, output_size)
        return F.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation
        )

    def _missing(self, x: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output padding that gives `output_size`."""
        wanted = tuple(output_size)[-2:]
        least = tuple(
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(x.shape[-2:], self.stride, self.padding, self.dilation, self.kernel_size)
        )
        more = tuple(w - n for w, n in zip(wanted, least))
        if len(wanted) != 2 or any(not 0 <= m < max(s, 1) for m, s in zip(more, self.stride)):
            most = tuple(n + s - 1 for n, s in zip(least, self.stride))
            raise ShapeError(
                f"ConvTranspose2d: from input of shape {x.shape} output_size is between {least} and {most}, "
                f"got {tuple(output_size)}"
            )
        return more
