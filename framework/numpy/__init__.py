"""NumPy's functions, differentiable, on any backend: the Array API standard, and everyday names beside it.

Functions take Tensors, arrays of any backend and Python numbers, and return Tensors.

Examples:
    >>> import framework.numpy as np
    >>> np.sum(np.asarray([1.0, 2.0])).item()
    3.0
"""

if __name__ == "numpy":
    raise ImportError("framework/numpy was imported under the name 'numpy': remove framework/ from sys.path")

import math as _math
from importlib import import_module as _import_module
from typing import Any as _Any

from framework.autodiff import Tensor as ndarray  # noqa: F401, N813 - the type of arrays, under NumPy's name
from framework.autodiff import ops as _ops
from framework.autodiff.namespace import LATER as _LATER
from framework.backend.dtypes import bfloat16 as bfloat16
from framework.backend.dtypes import bool_ as bool  # noqa: F401
from framework.backend.dtypes import bool_ as bool_
from framework.backend.dtypes import complex64 as complex64
from framework.backend.dtypes import complex128 as complex128
from framework.backend.dtypes import float16 as float16
from framework.backend.dtypes import float32 as float32
from framework.backend.dtypes import float64 as float64
from framework.backend.dtypes import int8 as int8
from framework.backend.dtypes import int16 as int16
from framework.backend.dtypes import int32 as int32
from framework.backend.dtypes import int64 as int64
from framework.backend.dtypes import uint8 as uint8
from framework.backend.dtypes import uint16 as uint16
from framework.backend.dtypes import uint32 as uint32
from framework.backend.dtypes import uint64 as uint64
from framework.numpy._dtypes import can_cast as can_cast
from framework.numpy._dtypes import finfo as finfo
from framework.numpy._dtypes import iinfo as iinfo
from framework.numpy._dtypes import isdtype as isdtype
from framework.numpy._dtypes import result_type as result_type
from framework.numpy._info import VERSION as __array_api_version__  # noqa: F401, N811
from framework.numpy._info import array_namespace_info as __array_namespace_info__  # noqa: F401

e = _math.e
inf = _math.inf
nan = _math.nan
pi = _math.pi
newaxis = None

_STANDARD = """
arange asarray empty empty_like eye from_dlpack full full_like linspace meshgrid ones ones_like tril triu
zeros zeros_like
astype
abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_invert bitwise_or
bitwise_right_shift bitwise_xor ceil clip conj copysign cos cosh divide equal exp expm1 floor floor_divide greater
greater_equal hypot imag isfinite isinf isnan less less_equal log log1p log2 log10 logaddexp logical_and logical_not
logical_or logical_xor maximum minimum multiply negative nextafter not_equal positive pow real reciprocal remainder
round sign signbit sin sinh square sqrt subtract tan tanh trunc
take take_along_axis
matmul matrix_transpose tensordot vecdot
broadcast_arrays broadcast_to concat expand_dims flip moveaxis permute_dims repeat reshape roll squeeze stack tile
unstack
argmax argmin count_nonzero nonzero searchsorted where
unique_all unique_counts unique_inverse unique_values
argsort sort
cumulative_prod cumulative_sum max mean min prod std sum var
all any diff
"""
"""The standard's functions, in the order of its sections."""

_EVERYDAY = """
angle argwhere array array_split atleast_1d atleast_2d atleast_3d broadcast_shapes column_stack diag dot dsplit dstack
einsum erf flatnonzero fliplr flipud getitem hsplit hstack inner kron linear log_softmax logsumexp nan_to_num outer pad
ravel relu rot90 scatter_add select sigmoid softmax split stop_gradient swapaxes to_device vsplit vstack
"""
"""Names of NumPy and of deep learning beside the standard's."""

_ALIASES = {
    "absolute": "abs", "amax": "max", "amin": "min", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin",
    "arcsinh": "asinh", "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh", "concatenate": "concat",
    "conjugate": "conj", "cumprod": "cumulative_prod", "cumsum": "cumulative_sum", "invert": "bitwise_invert",
    "left_shift": "bitwise_left_shift", "mod": "remainder", "power": "pow", "right_shift": "bitwise_right_shift",
    "rint": "round", "around": "round", "fix": "trunc", "fabs": "abs",
    "transpose": "permute_dims", "true_divide": "divide",
}  # fmt: skip


_OFFERED = tuple((_STANDARD + _EVERYDAY).split())
_NUMBERS = ("can_cast", "e", "finfo", "iinfo", "inf", "isdtype", "nan", "newaxis", "pi", "result_type")


_WIDER = ("round",)
"""What the everyday modules have with more arguments than the standard."""


def __getattr__(name: str) -> _Any:
    """Names that are not asked for in every program: their modules are imported here."""
    if name in ("fft", "linalg"):
        return _import_module(f"framework.numpy.{name}")
    if name == "__all__":
        return [*dict.fromkeys((*_OFFERED, *_everyday_names(), *_ALIASES, *_NUMBERS))]
    if name in _ALIASES:
        target = _ALIASES[name]
        value = globals()[target] if target in globals() else __getattr__(target)
    elif name in _OFFERED and name not in _WIDER:
        value = getattr(_ops, name)
    else:
        value = _everyday_value(name)
    globals()[name] = value
    return value


def _everyday_value(name: str) -> _Any:
    if not name.startswith("__"):
        for room in _rooms():
            if name in room.__all__:
                return getattr(room, name)
    raise AttributeError(f"framework.numpy has no {name!r}; it offers the Array API's names and NumPy's everyday ones")


def _rooms() -> tuple[_Any, ...]:
    return _import_module("framework.numpy._everyday"), _import_module("framework.numpy._data")


def _everyday_names() -> list[str]:
    return [name for room in _rooms() for name in room.__all__]


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__"), "fft", "linalg"})


globals().update({name: getattr(_ops, name) for name in _OFFERED if name not in (*_LATER, *_WIDER)})
globals().update({alias: globals()[name] for alias, name in _ALIASES.items() if name in globals()})
