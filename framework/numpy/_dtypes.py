"""The standard's functions of dtypes."""

from __future__ import annotations

from typing import Any, Final

from framework.autodiff import Tensor, get_default_dtype
from framework.backend import dtypes as dt
from framework.backend.dtypes import DType
from framework.errors import DTypeError


class finfo:  # noqa: N801 - the standard's name
    """Limits of a floating-point dtype, of its real part where it is complex.

    Examples:
        >>> import framework.numpy as np
        >>> np.finfo(np.float32).eps == 2.0**-23
        True
    """

    __slots__ = ("bits", "dtype", "eps", "max", "min", "smallest_normal")

    def __init__(self, type: Any, /) -> None:
        d = dt.real_of(_dtype_of(type))
        if d.kind != "float":
            raise DTypeError(f"finfo is for floating-point dtypes, got {d.name}; use iinfo")
        digits, exponent = dt.FLOATS[d.name]
        self.dtype: Final = d
        self.bits: Final = 8 * d.itemsize
        self.eps: Final = 2.0 ** (1 - digits)
        self.max: Final = dt.largest(d)
        self.min: Final = -self.max
        self.smallest_normal: Final = 2.0 ** (1 - exponent)

    def __repr__(self) -> str:
        return f"finfo({self.dtype.name}: eps={self.eps}, max={self.max}, smallest_normal={self.smallest_normal})"


class iinfo:  # noqa: N801 - the standard's name
    """Limits of an integer dtype.

    Examples:
        >>> import framework.numpy as np
        >>> np.iinfo(np.int8).min, np.iinfo("uint16").max
        (-128, 65535)
    """

    __slots__ = ("bits", "dtype", "max", "min")

    def __init__(self, type: Any, /) -> None:
        d = _dtype_of(type)
        if d.kind not in ("int", "uint"):
            raise DTypeError(f"iinfo is for integer dtypes, got {d.name}; use finfo")
        self.dtype: Final = d
        self.bits: Final = 8 * d.itemsize
        self.max: Final = 2 ** (self.bits - (d.kind == "int")) - 1
        self.min: Final = -(2 ** (self.bits - 1)) if d.kind == "int" else 0

    def __repr__(self) -> str:
        return f"iinfo({self.dtype.name}: min={self.min}, max={self.max})"


def _dtype_of(x: Any) -> DType:
    """The dtype that `x` is, names or has."""
    if isinstance(x, Tensor):
        return x.dtype
    if not isinstance(x, type) and hasattr(x, "dtype"):  # an array; a NumPy dtype class only describes one
        return dt.dtype(x.dtype)
    return dt.dtype(x)


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is another one, or of a kind: "bool", "signed integer", "unsigned integer", "integral",
    "real floating", "complex floating", "numeric"; of a tuple of these: any.

    Raises:
        DTypeError: no such kind.

    Examples:
        >>> import framework.numpy as np
        >>> np.isdtype(np.int16, "integral"), np.isdtype(np.int16, ("bool", np.float32))
        (True, False)
    """
    d = dt.dtype(dtype)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return any(d in dt.of_kind(k) if isinstance(k, str) and k not in dt.DTYPES else d is dt.dtype(k) for k in kinds)


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether promotion leads there: an operation on `from_` and `to` has the dtype `to`.

    Examples:
        >>> import framework.numpy as np
        >>> np.can_cast(np.int8, np.int16), np.can_cast(np.float64, np.float32)
        (True, False)
    """
    source, target = _dtype_of(from_), dt.dtype(to)
    try:
        return dt.promote(source, target) is target
    except DTypeError:
        return False


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype that an operation on these arrays, dtypes and Python numbers (which are weak) has.

    Raises:
        DTypeError: there is no such dtype, as for `uint64` with a signed integer.

    Examples:
        >>> import framework.numpy as np
        >>> np.result_type(np.int8, np.uint8, 3)
        fw.int16
    """
    scalars = [x for x in arrays_and_dtypes if isinstance(x, bool | int | float | complex)]
    rest = sorted({_dtype_of(x) for x in arrays_and_dtypes if not isinstance(x, bool | int | float | complex)},
                  key=lambda d: (d.kind, d.itemsize))  # fmt: skip
    default = get_default_dtype()
    if rest:
        result = rest[0]
        for d in rest[1:]:
            result = dt.promote(result, d)
    elif scalars:
        result = dt.bool_
    else:
        raise DTypeError("result_type needs at least one array, dtype or number")
    for scalar in scalars:
        result = dt.promote_scalar(result, scalar, default)
    return result
