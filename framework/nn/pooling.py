"""Pooling layers."""

from __future__ import annotations

from typing import Any

from framework.autodiff import Tensor
from framework.nn import functional as F
from framework.nn.functional.conv import spread
from framework.nn.module import Module


class MaxPool2d(Module):
    """The largest element of each window: (N, C, H, W) or (C, H, W) gives (…, H', W').

    Args:
        kernel_size: rows and columns; one number for both, as for all that follow.
        stride: the kernel's size where left out.
        padding: at most half of the kernel; what is outside is smaller than everything.
        return_indices: also return where they are: numbers in the flattened last two axes.
        ceil_mode: also take a last window that leaves the input.

    Raises:
        ShapeError: the input has not three or four axes, or is smaller than the window.

    Examples:
        >>> import framework as fw
        >>> fw.nn.MaxPool2d(2)(fw.random.normal((2, 3, 28, 28))).shape
        (2, 3, 14, 14)
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        _check(self, kernel_size, stride, padding)
        spread("MaxPool2d", "dilation", dilation, 2, 1)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Any) -> Any:
        """The largest elements, and where they are if `return_indices`."""
        return F.max_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )

    def extra_repr(self) -> str:
        """The windows."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"ceil_mode={self.ceil_mode}"
        )


def _check(module: Module, kernel_size: Any, stride: Any, padding: Any) -> None:
    name = type(module).__name__
    spread(name, "kernel_size", kernel_size, 2, 1)
    if stride is not None:
        spread(name, "stride", stride, 2, 1)
    spread(name, "padding", padding, 2)


class AvgPool2d(Module):
    """The mean of each window: (N, C, H, W) or (C, H, W) gives (…, H', W').

    Args:
        kernel_size: rows and columns; one number for both, as for all that follow.
        stride: the kernel's size where left out.
        padding: zeros, at most half of the kernel.
        ceil_mode: also take a last window that leaves the input.
        count_include_pad: whether zeros of the padding count in the mean.
        divisor_override: divide by this number instead.

    Raises:
        ShapeError: the input has not three or four axes, or is smaller than the window.

    Examples:
        >>> import framework as fw
        >>> fw.nn.AvgPool2d(2)(fw.tensor([[[1.0, 2.0], [4.0, 3.0]]])).tolist()
        [[[2.5]]]
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        _check(self, kernel_size, stride, padding)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Any) -> Tensor:
        """The means."""
        return F.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        """The windows."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Means of windows that part the input into `output_size`: (N, C, H, W) or (C, H, W) gives (…, H', W').

    Args:
        output_size: H' and W', or a number for both; None keeps an axis.

    Raises:
        ShapeError: the input has not three or four axes.

    Examples:
        >>> import framework as fw
        >>> fw.nn.AdaptiveAvgPool2d(1)(fw.random.normal((2, 3, 7, 5))).shape
        (2, 3, 1, 1)
    """

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Any) -> Tensor:
        """The means."""
        return F.adaptive_avg_pool2d(input, self.output_size)

    def extra_repr(self) -> str:
        """The size."""
        return f"output_size={self.output_size}"
