"""Activation functions as modules."""

from __future__ import annotations

from typing import Any

from framework.autodiff import Tensor, ops
from framework.nn import functional as F
from framework.nn.module import Module


class _Hinted(Module):
    """An activation with torch's `inplace`, which changes nothing here: the input is never written."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        """`inplace`, where set."""
        return "inplace=True" if self.inplace else ""


class ReLU(_Hinted):
    """max(x, 0), element by element.

    Examples:
        >>> import framework as fw
        >>> fw.nn.ReLU()(fw.tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """

    def forward(self, input: Any) -> Tensor:
        """Element by element, in the input's shape."""
        return ops.relu(input)


class SiLU(_Hinted):
    """x·sigmoid(x), element by element (Hendrycks & Gimpel 2016; Elfwing, Uchibe & Doya 2018)."""

    def forward(self, input: Any) -> Tensor:
        """Element by element, in the input's shape."""
        return F.silu(input)


class LeakyReLU(Module):
    """x where positive, else `negative_slope`·x (Maas, Hannun & Ng 2013)."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Element by element, in the input's shape."""
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        """The slope."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class ELU(Module):
    """x where positive, else `alpha`·(eˣ − 1) (Clevert, Unterthiner & Hochreiter 2016)."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Element by element, in the input's shape."""
        return F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        """The scale."""
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class GELU(Module):
    """x·Φ(x), with Φ the normal distribution function (Hendrycks & Gimpel 2016).

    Args:
        approximate: `"none"`, or `"tanh"` for the paper's approximation.
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Any) -> Tensor:
        """Element by element, in the input's shape."""
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        """The approximation."""
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """log(1 + e^(`beta`·x)) / `beta`; x itself where `beta`·x exceeds `threshold`."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Any) -> Tensor:
        """Element by element, in the input's shape."""
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """Its numbers."""
        return f"beta={self.beta}, threshold={self.threshold}"


class Tanh(Module):
    """The hyperbolic tangent, element by element."""

    def forward(self, input: Any) -> Tensor:
        """Element by element, in the input's shape."""
        return ops.tanh(input)


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ), element by element."""

    def forward(self, input: Any) -> Tensor:
        """Element by element, in the input's shape."""
        return ops.sigmoid(input)


class _Along(Module):
    """An activation along one axis."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"


class Softmax(_Along):
    """exp(x) divided by its sum along `dim`; left out, axis 0 of inputs of 0, 1 or 3 axes, else axis 1."""

    def forward(self, input: Any) -> Tensor:
        """Numbers in [0, 1] that sum to one along the axis, in the input's shape."""
        return F.softmax(input, self.dim)


class LogSoftmax(_Along):
    """The logarithm of `Softmax`, without overflow."""

    def forward(self, input: Any) -> Tensor:
        """In the input's shape."""
        return F.log_softmax(input, self.dim)
