"""`Parameter`: a Tensor that a module owns and an optimizer moves."""

from __future__ import annotations

from typing import Any

from framework.autodiff import Tensor, tensor


class Parameter(Tensor):
    """A leaf Tensor that a `Module` registers when it is set as an attribute.

    The values are copied, since an optimizer may write them in place.

    Args:
        data: a Tensor, an array or nested lists, of any shape.
        requires_grad: whether gradients are recorded.

    Raises:
        DTypeError: `requires_grad` with a dtype that is not floating point.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter([1.0, 2.0])
        >>> p.requires_grad, p.shape
        (True, (2,))
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        made = tensor(data)
        super().__init__(made._data, None, made._ns)
        if requires_grad:
            self.requires_grad = True

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"
