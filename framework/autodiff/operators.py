"""Operators and named methods of `Tensor`, each one call of the function it names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framework.autodiff.namespace import ops
from framework.backend import dtypes as dt
from framework.backend.dtypes import DType

T = Any  # a Tensor: the class is built on this one


class Operators:
    """What makes `a + b` and `a.sum()` mean `ops.add(a, b)` and `ops.sum(a)`."""

    __slots__ = ()

    # -- arithmetic -----------------------------------------------------------------------------

    def __add__(self, other: Any) -> T:
        return ops.add(self, other)

    def __radd__(self, other: Any) -> T:
        return ops.add(other, self)

    def __sub__(self, other: Any) -> T:
        return ops.subtract(self, other)

    def __rsub__(self, other: Any) -> T:
        return ops.subtract(other, self)

    def __mul__(self, other: Any) -> T:
        return ops.multiply(self, other)

    def __rmul__(self, other: Any) -> T:
        return ops.multiply(other, self)

    def __truediv__(self, other: Any) -> T:
        return ops.divide(self, other)

    def __rtruediv__(self, other: Any) -> T:
        return ops.divide(other, self)

    def __floordiv__(self, other: Any) -> T:
        return ops.floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> T:
        return ops.floor_divide(other, self)

    def __mod__(self, other: Any) -> T:
        return ops.remainder(self, other)

    def __rmod__(self, other: Any) -> T:
        return ops.remainder(other, self)

    def __divmod__(self, other: Any) -> tuple[T, T]:
        return ops.floor_divide(self, other), ops.remainder(self, other)

    def __rdivmod__(self, other: Any) -> tuple[T, T]:
        return ops.floor_divide(other, self), ops.remainder(other, self)

    def __pow__(self, other: Any) -> T:
        return ops.pow(self, other)

    def __rpow__(self, other: Any) -> T:
        return ops.pow(other, self)

    def __matmul__(self, other: Any) -> T:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> T:
        return ops.matmul(other, self)

    def __neg__(self) -> T:
        return ops.negative(self)

    def __pos__(self) -> T:
        return ops.positive(self)

    def __abs__(self) -> T:
        return ops.abs(self)

    def __invert__(self) -> T:
        return ops.bitwise_invert(self)

    def __lshift__(self, other: Any) -> T:
        return ops.bitwise_left_shift(self, other)

    def __rlshift__(self, other: Any) -> T:
        return ops.bitwise_left_shift(other, self)

    def __rshift__(self, other: Any) -> T:
        return ops.bitwise_right_shift(self, other)

    def __rrshift__(self, other: Any) -> T:
        return ops.bitwise_right_shift(other, self)

    def __and__(self, other: Any) -> T:
        return ops.bitwise_and(self, other)

    def __rand__(self, other: Any) -> T:
        return ops.bitwise_and(other, self)

    def __or__(self, other: Any) -> T:
        return ops.bitwise_or(self, other)

    def __ror__(self, other: Any) -> T:
        return ops.bitwise_or(other, self)

    def __xor__(self, other: Any) -> T:
        return ops.bitwise_xor(self, other)

    def __rxor__(self, other: Any) -> T:
        return ops.bitwise_xor(other, self)

    # -- comparison -----------------------------------------------------------------------------

    def __lt__(self, other: Any) -> T:
        return ops.less(self, other)

    def __le__(self, other: Any) -> T:
        return ops.less_equal(self, other)

    def __gt__(self, other: Any) -> T:
        return ops.greater(self, other)

    def __ge__(self, other: Any) -> T:
        return ops.greater_equal(self, other)

    def __eq__(self, other: Any) -> T:
        if other is None or isinstance(other, str):  # equal to no Tensor
            return NotImplemented
        return ops.equal(self, other)

    def __ne__(self, other: Any) -> T:
        if other is None or isinstance(other, str):
            return NotImplemented
        return ops.not_equal(self, other)

    def __hash__(self) -> int:
        return id(self)

    # -- in place: the Tensor is rebound to a new array -------------------------------------------

    def __iadd__(self, other: Any) -> T:
        return ops.rebind(self, ops.add(self, other))

    def __isub__(self, other: Any) -> T:
        return ops.rebind(self, ops.subtract(self, other))

    def __imul__(self, other: Any) -> T:
        return ops.rebind(self, ops.multiply(self, other))

    def __itruediv__(self, other: Any) -> T:
        return ops.rebind(self, ops.divide(self, other))

    def __ifloordiv__(self, other: Any) -> T:
        return ops.rebind(self, ops.floor_divide(self, other))

    def __imod__(self, other: Any) -> T:
        return ops.rebind(self, ops.remainder(self, other))

    def __ipow__(self, other: Any) -> T:
        return ops.rebind(self, ops.pow(self, other))

    def __imatmul__(self, other: Any) -> T:
        return ops.rebind(self, ops.matmul(self, other))

    def __iand__(self, other: Any) -> T:
        return ops.rebind(self, ops.bitwise_and(self, other))

    def __ior__(self, other: Any) -> T:
        return ops.rebind(self, ops.bitwise_or(self, other))

    def __ixor__(self, other: Any) -> T:
        return ops.rebind(self, ops.bitwise_xor(self, other))

    def __ilshift__(self, other: Any) -> T:
        return ops.rebind(self, ops.bitwise_left_shift(self, other))

    def __irshift__(self, other: Any) -> T:
        return ops.rebind(self, ops.bitwise_right_shift(self, other))

    def __getitem__(self, key: Any) -> T:
        return ops.getitem(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        ops.write(self, ops.setitem(self, key, value))

    # -- shape ----------------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> T:
        """The same elements in another shape; -1 stands for what remains."""
        return ops.reshape(self, _sequence(shape))

    def view(self, *shape: Any) -> T:
        """As `reshape`; never writes through."""
        return ops.reshape(self, _sequence(shape))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> T:
        """Axes `start_dim` to `end_dim` as one."""
        return ops.flatten(self, start_dim, end_dim)

    def ravel(self) -> T:
        """All elements along one axis."""
        return ops.ravel(self)

    def squeeze(self, dim: int | Sequence[int] | None = None) -> T:
        """Without axes of length one: all of them, or those named."""
        return ops.squeeze(self, axis=dim)

    def unsqueeze(self, dim: int) -> T:
        """With a new axis of length one at `dim`."""
        return ops.expand_dims(self, axis=dim)

    def permute(self, *dims: Any) -> T:
        """The axes in another order."""
        return ops.permute_dims(self, _sequence(dims))

    def transpose(self, *dims: Any) -> T:
        """Two axes swapped (`t.transpose(0, 1)`), all reversed (no argument), or a full order."""
        dims = _sequence(dims)
        if len(dims) == 2:
            return ops.swapaxes(self, *dims)
        return ops.permute_dims(self, dims or None)

    def expand(self, *shape: Any) -> T:
        """Broadcast to `shape`; -1 keeps an axis."""
        return ops.expand(self, _sequence(shape))

    def swapaxes(self, axis1: int, axis2: int) -> T:
        """Two axes swapped."""
        return ops.swapaxes(self, axis1, axis2)

    def take(self, indices: Any, axis: int | None = None) -> T:
        """Elements, or slices, at integer `indices` along `axis`."""
        return ops.take(self, indices, axis=axis)

    def argsort(self, axis: int = -1) -> T:
        """The indices that sort along `axis`."""
        return ops.argsort(self, axis=axis)

    def dot(self, other: Any) -> T:
        """The product of vectors or matrices."""
        return ops.dot(self, other)

    # -- reductions -----------------------------------------------------------------------------

    def sum(self, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> T:
        """Sum over `axis` (all axes by default)."""
        return ops.sum(self, axis=axis, keepdims=keepdims, dtype=dtype)

    def mean(self, axis: Any = None, keepdims: bool = False) -> T:
        """Mean over `axis`."""
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> T:
        """Variance over `axis`, divided by n − correction."""
        return ops.var(self, axis=axis, correction=correction, keepdims=keepdims)

    def std(self, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> T:
        """Standard deviation over `axis`."""
        return ops.std(self, axis=axis, correction=correction, keepdims=keepdims)

    def prod(self, axis: Any = None, keepdims: bool = False) -> T:
        """Product over `axis`."""
        return ops.prod(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> T:
        """Maximum over `axis`."""
        return ops.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> T:
        """Minimum over `axis`."""
        return ops.min(self, axis=axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> T:
        """Index of the first maximum along `axis`."""
        return ops.argmax(self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> T:
        """Index of the first minimum along `axis`."""
        return ops.argmin(self, axis=axis, keepdims=keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> T:
        """Whether any element is true."""
        return ops.any(self, axis=axis, keepdims=keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> T:
        """Whether all elements are true."""
        return ops.all(self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: int | None = None) -> T:
        """Cumulative sum along `axis`."""
        return ops.cumulative_sum(self, axis=axis)

    def cumprod(self, axis: int | None = None) -> T:
        """Cumulative product along `axis`."""
        return ops.cumulative_prod(self, axis=axis)

    # -- elements -------------------------------------------------------------------------------

    def abs(self) -> T:
        """Absolute value."""
        return ops.abs(self)

    def exp(self) -> T:
        """Exponential."""
        return ops.exp(self)

    def log(self) -> T:
        """Natural logarithm."""
        return ops.log(self)

    def sqrt(self) -> T:
        """Square root."""
        return ops.sqrt(self)

    def conj(self) -> T:
        """Complex conjugate; the same where it is real."""
        return ops.conj(self)

    def round(self: T, decimals: int = 0) -> T:
        """The nearest numbers with so many decimal places; of two, the even one."""
        if decimals == 0 or (decimals > 0 and not self.dtype.is_differentiable):
            return ops.round(self)
        scale = 10.0**decimals
        return ops.astype(ops.round(self * scale) / scale, self.dtype)

    def clip(self, min: Any = None, max: Any = None) -> T:
        """Limited to `[min, max]`."""
        return ops.clip(self, min, max)

    # -- dtype ----------------------------------------------------------------------------------

    def astype(self, dtype: DType | str) -> T:
        """Cast to `dtype`."""
        return ops.astype(self, dtype)

    def float(self) -> T:
        """Cast to float32."""
        return ops.astype(self, dt.float32)

    def double(self) -> T:
        """Cast to float64."""
        return ops.astype(self, dt.float64)

    def long(self) -> T:
        """Cast to int64."""
        return ops.astype(self, dt.int64)

    def bool(self) -> T:
        """Cast to bool."""
        return ops.astype(self, dt.bool_)


def _sequence(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """`f(1, 2)` and `f((1, 2))` alike."""
    if len(args) == 1 and isinstance(args[0], tuple | list):
        return tuple(args[0])
    return args
