"""Rows of the table for complex numbers, and for what else the standard has beside the first primitives.

A complex input is made of two float ones, and a result is brought back to one float array, so that the
central differences see every direction in the plane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from primitive_table import between, binary, case, off_kinks, random, text

from framework.autodiff import ops

Function = Callable[..., Any]


def parts(np: Any, z: Any) -> Any:
    """Both parts of a complex array in one number, neither lost."""
    return np.real(z) + 2 * np.imag(z)


def of_complex(name: str, label: str, fn: Function, ref: Function, shape: tuple[int, ...], low: float = -1.3) -> None:
    """A row for a function of one complex array."""
    x, y = (random(f"{part} of {name} {shape}", shape, low, 1.3) for part in ("real", "imag"))
    case(name, f"complex {label}{text(shape)}", lambda x, y: fn(x + 1j * y), lambda x, y: ref(x + 1j * y), x, y)


def plain(name: str, low: float = -1.3) -> None:
    for shape in ((2, 3), ()):
        of_complex(
            name, "", lambda z: parts(ops, getattr(ops, name)(z)), lambda z: parts(np, getattr(np, name)(z)), shape, low
        )


for _name in (
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "conj", "cos", "cosh", "exp", "expm1", "log", "log10", "log1p",
    "log2", "negative", "positive", "reciprocal", "sin", "sinh", "sqrt", "square", "tan", "tanh",
):  # fmt: skip
    plain(_name)

for _shape in ((2, 3), (), (0, 2)):
    of_complex("real", "", lambda z: ops.real(z * z), lambda z: np.real(z * z), _shape)
    of_complex("imag", "", lambda z: ops.imag(z * z), lambda z: np.imag(z * z), _shape)
    of_complex("abs", "", ops.abs, np.abs, _shape)
    of_complex("complex_sign", "", lambda z: parts(ops, ops.sign(z)), lambda z: parts(np, z / np.abs(z)), _shape)
of_complex("abs", "squared ", lambda z: ops.abs(z) ** 2 * ops.real(z), lambda z: np.abs(z) ** 2 * z.real, (3,))
of_complex("imag", "of a product ", lambda z: ops.imag(ops.conj(z) * z * z), lambda z: np.imag(z.conj() * z * z), (3,))

for _name, _fn in {
    "add": lambda np, z: z + np.real(z),
    "subtract": lambda np, z: np.imag(z) - z,
    "multiply": lambda np, z: z * np.conj(z) * (2 - 1j) * np.real(z),
    "divide": lambda np, z: (1 + z) / (z * z + 3j),
    "where": lambda np, z: np.where(np.real(z) > 0, z * z, np.conj(z)),
    "sum": lambda np, z: np.sum(z * z, axis=0),
    "prod": lambda np, z: np.prod(z, axis=-1),
    "cumulative_sum": lambda np, z: np.cumulative_sum(z * z, axis=0),
    "cumulative_prod": lambda np, z: np.cumulative_prod(z, axis=-1),
    "matmul": lambda np, z: np.matmul(z, np.conj(np.matrix_transpose(z))) + np.matmul(z, np.matrix_transpose(z)),
}.items():
    of_complex(
        _name, "", lambda z, f=_fn: parts(ops, f(ops, z)), lambda z, f=_fn: parts(np, f(np, z)), (2, 3)
    )  # fmt: skip
of_complex(
    "pow", "base and exponent ", lambda z: parts(ops, z ** (1 + z)), lambda z: parts(np, z ** (1 + z)), (2, 3), 0.3
)
of_complex(
    "pow", "number ", lambda z: parts(ops, z**2 + (1 + 2j) ** z), lambda z: parts(np, z**2 + (1 + 2j) ** z), (3,)
)
case(
    "astype",
    "real to complex",
    lambda x: ops.imag(1j * ops.astype(x, "complex128" if x.dtype == "float64" else "complex64")),
    lambda x: x,
    random("to complex", (3,)),
)

# -- beside complex numbers ------------------------------------------------------------------------

binary("copysign", lambda shape: off_kinks(random(f"copysign{shape}", shape)), between(-2, 2, "sign"))
binary("nextafter", between(-2, 2, "x"), between(-2, 2, "y"))
for _axis in (0, -1):
    for _shape in ((2, 3), (5, 1), (2, 0)):
        case(
            "cumulative_prod",
            f"{text(_shape)} axis {_axis}",
            lambda x, a=_axis: ops.cumulative_prod(x, axis=a),
            lambda x, a=_axis: np.cumprod(x, axis=a),
            random("cumprod", _shape),
        )
case("cumulative_prod", "zeros", ops.cumulative_prod, np.cumprod, np.array([1.5, 0.0, -2.0, 0.0, 0.7, 1.1, 3.0]))
case(
    "cumulative_prod",
    "with its start",
    lambda x: ops.cumulative_prod(x, axis=1, include_initial=True),
    lambda x: np.cumulative_prod(x, axis=1, include_initial=True),
    random("cumprod", (2, 4)),
)
