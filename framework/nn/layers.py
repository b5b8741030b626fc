"""Layers: linear maps, shapes, dropout."""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff import Tensor, get_default_dtype, ops
from framework.errors import ConfigError
from framework.nn import functional as F
from framework.nn import init
from framework.nn.functional.arguments import check_probability
from framework.nn.module import Module
from framework.nn.parameter import Parameter


class Linear(Module):
    """`x @ weight.T + bias`: (..., in_features) gives (..., out_features).

    Weight (out_features, in_features) and bias (out_features,) start uniform in ±1/√in_features.

    Raises:
        ShapeError: the last axis of the input is not `in_features`.

    Examples:
        >>> import framework as fw
        >>> fw.nn.Linear(4, 2)(fw.random.normal((3, 4))).shape
        (3, 2)
    """

    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__()
        for name, n in (("in_features", in_features), ("out_features", out_features)):
            if not isinstance(n, int) or isinstance(n, bool) or n < 0:
                raise ConfigError(f"Linear: {name} is a number of features, got {n!r}")
        self.in_features = in_features
        self.out_features = out_features
        dtype = dtype or get_default_dtype()
        self.weight = Parameter(ops.zeros((out_features, in_features), dtype=dtype, device=device))
        self.bias = Parameter(ops.zeros((out_features,), dtype=dtype, device=device)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return ops.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The sizes."""
        bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={bias}"


class Flatten(Module):
    """Axes `start_dim` to `end_dim` as one: (N, C, H, W) gives (N, C·H·W).

    Examples:
        >>> import framework as fw
        >>> fw.nn.Flatten()(fw.random.normal((2, 3, 4))).shape
        (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        for name, axis in (("start_dim", start_dim), ("end_dim", end_dim)):
            if not isinstance(axis, int) or isinstance(axis, bool):
                raise ConfigError(f"Flatten: {name} is the number of an axis, got {axis!r}")
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Any) -> Tensor:
        """The same elements in fewer axes."""
        return ops.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """The axes."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """Returns its input; takes and ignores any arguments, so that it can stand for any layer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        """The input."""
        return input


class Dropout(Module):
    """In training, sets elements to zero with probability `p` and divides the others by 1 − p.

    Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov 2014. After `eval()` it returns its input.

    Args:
        p: the probability, in [0, 1].
        inplace: kept in `repr` only; the input is never written.

    Examples:
        >>> import framework as fw
        >>> fw.nn.Dropout(0.5).eval()(fw.tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        check_probability(p, "Dropout")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Any) -> Any:
        """The input with elements dropped, or the input."""
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}, inplace={self.inplace}"
