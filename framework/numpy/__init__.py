"""NumPy's functions, differentiable, on any backend.

Functions take Tensors, arrays of any backend and Python numbers, and return Tensors.

Examples:
    >>> import framework.numpy as np
    >>> np.sum(np.asarray([1.0, 2.0])).item()
    3.0
"""

if __name__ == "numpy":
    raise ImportError("framework/numpy was imported under the name 'numpy': remove framework/ from sys.path")

import math as _math
from typing import Any as _Any

from framework.autodiff import ops as _ops
from framework.backend.dtypes import bfloat16 as bfloat16
from framework.backend.dtypes import bool_ as bool  # noqa: F401
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

e = _math.e
inf = _math.inf
nan = _math.nan
pi = _math.pi
newaxis = None

_FUNCTIONS = tuple(
    """
    abs acos acosh add all any arange argmax argmin array asarray asin asinh astype atan atan2 atanh
    bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor broadcast_to
    ceil clip concat cos cosh cumulative_sum divide equal erf exp expand_dims expm1 eye flip floor
    floor_divide full full_like getitem greater greater_equal hypot isfinite isinf isnan less less_equal
    linear linspace log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor logsumexp
    matmul matrix_transpose max maximum mean min minimum moveaxis multiply nan_to_num negative nonzero
    not_equal ones ones_like permute_dims positive pow prod ravel reciprocal relu remainder reshape round
    scatter_add sigmoid sign signbit sin sinh softmax log_softmax sqrt square squeeze stack std subtract sum
    swapaxes take take_along_axis tan tanh to_device tril triu trunc var where zeros zeros_like
    """.split()  # noqa: SIM905 - a table, not code
)

_ALIASES = {"absolute": "abs", "concatenate": "concat", "power": "pow", "mod": "remainder",
            "cumsum": "cumulative_sum", "transpose": "permute_dims", "true_divide": "divide", "arctan": "atan",
            "arcsin": "asin", "arccos": "acos", "arctan2": "atan2", "arcsinh": "asinh", "arccosh": "acosh",
            "arctanh": "atanh", "left_shift": "bitwise_left_shift", "right_shift": "bitwise_right_shift",
            "invert": "bitwise_invert", "amax": "max", "amin": "min"}  # fmt: skip


def __getattr__(name: str) -> _Any:
    raise AttributeError(f"framework.numpy has no {name!r}; it offers the Array API's names and NumPy's everyday ones")


globals().update({name: getattr(_ops, name) for name in _FUNCTIONS})
globals().update({alias: getattr(_ops, name) for alias, name in _ALIASES.items()})

__all__ = [*_FUNCTIONS, *_ALIASES, "e", "inf", "nan", "newaxis", "pi"]
