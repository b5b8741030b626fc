"""The table of names: for each of `framework.numpy`, calls that NumPy understands, too, and their inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import framework.numpy as fnp


def x(*shape: int, low: float = -2.0, high: float = 2.0) -> Any:
    return np.random.default_rng(sum(shape) + len(shape)).uniform(low, high, shape)


def near(a: Any) -> Any:
    """Inside (−0.9, 0.9), away from 0."""
    return np.sin(a) * 0.4 + 0.45


# -- every function: one call for both namespaces, and its inputs ----------------------------------------------

Call = Callable[..., Any]
TABLE: dict[str, list[tuple[Call, tuple[Any, ...]]]] = {}


def row(name: str, call: Call, *inputs: Any) -> None:
    TABLE.setdefault(name, []).append((call, inputs))


for _name in ("abs", "absolute", "asinh", "arcsinh", "atan", "arctan", "cos", "cosh", "exp", "expm1", "negative", "positive",
              "sin", "sinh", "square", "tan", "tanh", "ceil", "floor", "round", "sign", "trunc", "signbit", "isfinite", "isinf",
              "isnan"):  # fmt: skip
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(2, 3))
for _name in (
    "acos",
    "arccos",
    "asin",
    "arcsin",
    "atanh",
    "arctanh",
    "log",
    "log10",
    "log1p",
    "log2",
    "sqrt",
    "reciprocal",
):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), near(x(2, 3)))
for _name in ("acosh", "arccosh"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(2, 3, low=1.2))
for _name in (
    "add",
    "subtract",
    "multiply",
    "divide",
    "true_divide",
    "maximum",
    "minimum",
    "atan2",
    "arctan2",
    "hypot",
    "logaddexp",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "floor_divide",
    "remainder",
    "mod",
):
    row(_name, lambda np, a, b, n=_name: getattr(np, n)(a, b), x(2, 3), x(3, low=0.5))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, 1.7), x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(1.7, a), x(2, 3, low=0.5))
for _name in ("pow", "power"):
    row(_name, lambda np, a, b, n=_name: getattr(np, n)(a, b), x(2, 3, low=0.5), x(3))
for _name in ("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"):
    row(_name, lambda np, a, b, n=_name: getattr(np, n)(a > 0, b > 0), x(2, 3), x(3))
for _name in ("bitwise_left_shift", "left_shift", "bitwise_right_shift", "right_shift"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, 2), np.array([1, 5, -3]))
row("logical_not", lambda np, a: np.logical_not(a > 0), x(2, 3))
for _name in ("bitwise_invert", "invert"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), np.array([1, 5, -3]))

for _name in ("sum", "mean", "max", "amax", "min", "amin", "prod", "var", "std", "any", "all", "argmax", "argmin"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, 1), x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, axis=-2, keepdims=True), x(2, 3))
for _name in ("var", "std"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, axis=0, correction=1), x(3, 2))
for _name in ("sum", "prod"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, dtype="float64"), np.array([1, 2, 3], np.int8))
for _name in ("cumulative_sum", "cumsum"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, axis=1), x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(4))

row("broadcast_to", lambda np, a: np.broadcast_to(a, (2, 3)), x(3))
row("reshape", lambda np, a: np.reshape(a, (3, -1)), x(2, 3))
row("reshape", lambda np, a: np.reshape(a, 6), x(2, 3))
row("ravel", lambda np, a: np.ravel(a), x(2, 3))
row("ravel", lambda np, a: np.ravel(a), x(0, 3))
row("squeeze", lambda np, a: np.squeeze(a), x(1, 3, 1))
row("squeeze", lambda np, a: np.squeeze(a, axis=(0, -1)), x(1, 3, 1))
row("expand_dims", lambda np, a: np.expand_dims(a, axis=-1), x(2, 3))
row("expand_dims", lambda np, a: np.expand_dims(a, 1), x(2, 3))
row("permute_dims", lambda np, a: np.permute_dims(a, (2, 0, 1)), x(2, 3, 1))
row("transpose", lambda np, a: np.transpose(a), x(2, 3, 1))
row("transpose", lambda np, a: np.transpose(a, (1, 0, 2)), x(2, 3, 1))
row("matrix_transpose", lambda np, a: np.matrix_transpose(a), x(2, 3, 1))
row("swapaxes", lambda np, a: np.swapaxes(a, 0, -1), x(2, 3, 1))
row("moveaxis", lambda np, a: np.moveaxis(a, 0, -1), x(2, 3, 1))
row("moveaxis", lambda np, a: np.moveaxis(a, -1, 0), x(2, 3, 1))
row("flip", lambda np, a: np.flip(a), x(2, 3))
row("flip", lambda np, a: np.flip(a, axis=(0,)), x(2, 3))
for _name in ("concat", "concatenate"):
    row(_name, lambda np, a, b, n=_name: getattr(np, n)([a, b]), x(2, 3), x(1, 3))
    row(_name, lambda np, a, b, n=_name: getattr(np, n)((a, b), 1), x(2, 3), x(2, 1))
    row(_name, lambda np, a, b, n=_name: getattr(np, n)((a, b), axis=None), x(2, 3), x(2))
row("stack", lambda np, a, b: np.stack([a, b]), x(2, 3), x(2, 3))
row("stack", lambda np, a, b: np.stack((a, b), axis=-1), x(2), x(2))
row("tril", lambda np, a: np.tril(a), x(2, 3, 3))
row("tril", lambda np, a: np.tril(a, k=-1), x(3, 2))
row("triu", lambda np, a: np.triu(a), x(3, 3))
row("triu", lambda np, a: np.triu(a, k=1), x(2, 2, 3))
row("take", lambda np, a: np.take(a, np.asarray([2, 0, 2]), axis=1), x(2, 3))
row("take", lambda np, a: np.take(a, np.asarray([[2, 0], [5, 5]])), x(2, 3))
row("take_along_axis", lambda np, a: np.take_along_axis(a, np.asarray([[2, 0], [1, 1]]), axis=1), x(2, 3))
row("take_along_axis", lambda np, a: np.take_along_axis(a, np.argmax(a, axis=0, keepdims=True), axis=0), x(3, 2))
row("where", lambda np, a, b: np.where(a > 0, a, b), x(2, 3), x(3))
row("where", lambda np, a: np.where(a > 0, a, 0.0), x(2, 3))
row("clip", lambda np, a: np.clip(a, -1, 1), x(2, 3))
row("clip", lambda np, a, low, high: np.clip(a, low, high), x(2, 3), np.full(3, -0.4), np.full((2, 1), 0.9))
row("nonzero", lambda np, a: np.stack(np.nonzero(a > 0)), x(2, 3))
row("nan_to_num", lambda np, a: np.nan_to_num(a), np.array([1.0, np.nan, -2.0]))
row("nan_to_num", lambda np, a: np.nan_to_num(a), np.array([1, 2]))
row("matmul", lambda np, a, b: np.matmul(a, b), x(2, 3), x(3, 2))
row("matmul", lambda np, a, b: np.matmul(a, b), x(2, 2, 3), x(3))
row("array", lambda np, a: np.array(a), x(2, 3))
row("asarray", lambda np, a: np.asarray(a, dtype="float64"), x(2, 3))
row("zeros_like", lambda np, a: np.zeros_like(a), x(2, 3))
row("ones_like", lambda np, a: np.ones_like(a, dtype="int64"), x(2, 3))
row("full_like", lambda np, a: np.full_like(a, 2.5), x(2, 3))
row("zeros", lambda np: np.zeros((2, 3), dtype="int32"))
row("ones", lambda np: np.ones(4, dtype="float64"))
row("full", lambda np: np.full((2, 0), 3, dtype="float64"))
row("full", lambda np: np.full(2, True))
row("full", lambda np: np.full((), 7))
row("arange", lambda np: np.arange(5))
row("arange", lambda np: np.arange(2, 9, 3))
row("arange", lambda np: np.arange(5, 0, -2))
row("arange", lambda np: np.arange(0.0, 1.0, 0.25, dtype="float64"))
row("arange", lambda np: np.arange(3, 3))
row("linspace", lambda np: np.linspace(-1, 2, 7, dtype="float64"))
row("linspace", lambda np: np.linspace(0, 1, 4, endpoint=False, dtype="float64"))
row("eye", lambda np: np.eye(3, dtype="float64"))
row("eye", lambda np: np.eye(2, 4, k=1, dtype="float64"))

# -- complex numbers, and what a real array makes of them -----------------------------------------------------

for _name in ("real", "imag", "conj", "conjugate", "angle"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a * 1.0), x(2, 3))
    row(_name, lambda np, a, n=_name: np.real(getattr(np, n)(a * (2 + 1j))), x(2, 3))

# -- more element by element ----------------------------------------------------------------------------------

for _name in ("copysign", "fmax", "fmin", "heaviside", "logaddexp2", "nextafter"):
    row(_name, lambda np, a, b, n=_name: getattr(np, n)(a, b), x(2, 3), x(3, low=0.5))
for _name in (
    "cbrt",
    "exp2",
    "fabs",
    "fix",
    "rint",
    "around",
    "sinc",
    "deg2rad",
    "radians",
    "rad2deg",
    "degrees",
    "isposinf",
    "isneginf",
):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(2, 3))
for _name in ("round", "around"):
    for _places in (0, 2, -1):
        row(_name, lambda np, a, n=_name, d=_places: getattr(np, n)(a, d), 10 * x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, decimals=-1), np.array([14, 15, 25, -37]))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, 2), np.array([14, 15]))
row("heaviside", lambda np, a: np.heaviside(a, 0.5), np.array([0.0, -1.0, 3.0, np.nan]))
row("isclose", lambda np, a: np.isclose(a, a + np.round(a) * 1e-4), x(2, 3))
row("isclose", lambda np, a: np.isclose(a, a, equal_nan=True), np.array([1.0, np.nan, -2.0]))

# -- more over axes -------------------------------------------------------------------------------------------

for _name in ("cumulative_prod", "cumprod"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, axis=1), x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(4))
for _name in ("cumulative_sum", "cumulative_prod"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, axis=0, include_initial=True), x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, axis=0, dtype="float64"), np.array([[1, 2], [3, 4]], np.int8))
row("diff", lambda np, a: np.diff(a), x(2, 4))
row("diff", lambda np, a: np.diff(a, n=2, axis=0), x(4, 2))
row("diff", lambda np, a, b, c: np.diff(a, prepend=b, append=c), x(2, 3), x(2, 1), x(2, 2))
row("diff", lambda np, a: np.diff(a > 0), x(5))
row("count_nonzero", lambda np, a: np.count_nonzero(a > 0, axis=1), x(2, 3))
row("count_nonzero", lambda np, a: np.count_nonzero(np.round(a), axis=0, keepdims=True), x(2, 3))
row("average", lambda np, a: np.average(a, axis=0), x(2, 3))
row("average", lambda np, a, w: np.average(a, weights=w), x(2, 3), x(2, 3, low=0.5))
row("average", lambda np, a, w: np.average(a, axis=1, weights=w), x(2, 3), x(3, low=0.5))
for _name in ("ptp", "median"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, axis=1, keepdims=True), x(2, 4))
for _name in ("nanmax", "nanmean", "nanmin", "nansum"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, axis=0), np.array([[1.0, np.nan, -2.0], [0.5, 3.0, np.nan]]))
row("trapezoid", lambda np, a: np.trapezoid(a, dx=0.5, axis=0), x(3, 2))
row("trapezoid", lambda np, a, b: np.trapezoid(a, b), x(2, 3), np.array([0.0, 0.5, 2.0]))

row("cov", lambda np, a: np.cov(a), x(2, 4))
row("cov", lambda np, a: np.cov(a, rowvar=False, ddof=0), x(4, 3))
row("cov", lambda np, a: np.cov(a), x(5))
for _name, _unit in (("quantile", 1), ("percentile", 100)):
    row(_name, lambda np, a, n=_name, q=0.3 * _unit: getattr(np, n)(a, q), x(2, 3))
    row(_name, lambda np, a, n=_name, q=_unit: getattr(np, n)(a, q, axis=0, keepdims=True), x(4, 2))
    row(_name, lambda np, a, n=_name, q=0.0: getattr(np, n)(a, q, axis=-1), x(4, 1))
    row(_name, lambda np, a, n=_name, q=(0.5 * _unit, 0.9 * _unit): getattr(np, n)(a, q, axis=1), x(2, 5))
    row(_name, lambda np, a, n=_name, q=(0.5 * _unit, 0.9 * _unit): getattr(np, n)(a, q, keepdims=True), x(2, 5))
    row(
        _name, lambda np, a, n=_name, q=0.5 * _unit: getattr(np, n)(a, q, axis=1), np.array([[1.0, np.nan], [2.0, 3.0]])
    )
row("polyval", lambda np, a, b: np.polyval(a, b), x(4), x(2, 3))
row("polyval", lambda np, a: np.polyval([2.0, 0.0, 1], a), x(3))
_places = np.array([-1.0, 0.25, 1.5])
for _extra in ({}, {"left": -5.0, "right": 7.0}):
    row("interp", lambda np, a, e=_extra: np.interp(a, _places, np.asarray([2.0, -1.0, 3.0]), **e), x(2, 4))
row("interp", lambda np, a, b: np.interp(np.asarray([-2.0, 0.0, 0.3, 4.0], dtype="float64"), np.sort(a), b), x(5), x(5))
row("interp", lambda np, a: np.interp(a, np.asarray([0.5]), np.asarray([2.0])), x(4))

# -- more that move elements ------------------------------------------------------------------------------------

for _name in ("atleast_1d", "atleast_2d", "atleast_3d"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(3))
for _name in ("vstack", "hstack", "dstack", "column_stack"):
    row(_name, lambda np, a, b, n=_name: getattr(np, n)([a, b]), x(2, 3), x(2, 3))
for _name in ("fliplr", "flipud"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(2, 3))
for _name, _axis in (("split", 1), ("array_split", 1), ("hsplit", 1), ("vsplit", 0), ("dsplit", 2)):
    row(_name, lambda np, a, n=_name: np.concatenate(getattr(np, n)(a, 2)[::-1], axis=1), x(2, 2, 2))
row("broadcast_arrays", lambda np, a, b: np.stack(np.broadcast_arrays(a, b)), x(2, 1), x(3))
row("unstack", lambda np, a: np.unstack(a, axis=1)[2], x(2, 3))
row("repeat", lambda np, a: np.repeat(a, 2, axis=1), x(2, 3))
row("tile", lambda np, a: np.tile(a, (2, 1)), x(2, 3))
row("roll", lambda np, a: np.roll(a, 1, axis=0), x(2, 3))
row("rot90", lambda np, a: np.rot90(a), x(2, 3))
row("pad", lambda np, a: np.pad(a, ((1, 0), (0, 2))), x(2, 3))
row("diag", lambda np, a: np.diag(a), x(3))
row("diag", lambda np, a: np.diag(a, 1), x(3, 3))
row("select", lambda np, a: np.select([a > 1, a < 0], [a, -a], 0.5), x(2, 3))
row("sort", lambda np, a: np.sort(a, axis=0), x(3, 2))
row("argsort", lambda np, a: np.argsort(a, axis=-1), x(2, 3))
row("searchsorted", lambda np, a: np.searchsorted(np.asarray([-1.0, 0.0, 1.0]), a), x(4))
row("unique_values", lambda np, a: np.unique_values(np.concat([a, a])), x(6))
row("unique_counts", lambda np, a: np.unique_counts(np.concat([a, a])).counts, x(6))
row("unique_inverse", lambda np, a: np.unique_inverse(np.round(a)).inverse_indices, x(2, 3))
row("unique_all", lambda np, a: np.unique_all(np.concat([a, a])).indices, x(6))
row("unique", lambda np, a: np.unique(np.concat([a, a])), x(6))
for _i in (1, 2, 3):
    row("unique", lambda np, a, i=_i: np.unique(np.concat([a, a]), *(k == i for k in (1, 2, 3)))[1], x(6))
row("tril_indices", lambda np, a: np.asarray(a)[np.tril_indices(3)], x(3, 3))
row("tril_indices", lambda np: np.stack(np.tril_indices(3, -1, 2)))
row("triu_indices", lambda np, a: np.asarray(a)[np.triu_indices(2, 1, 4)], x(2, 4))
row("triu_indices", lambda np: np.stack(np.triu_indices(3)))
row("diag_indices", lambda np, a: np.asarray(a)[np.diag_indices(3)], x(3, 3))
row("diag_indices", lambda np: np.stack(np.diag_indices(2, 3)))
row("unravel_index", lambda np, a: np.stack(np.unravel_index(a, (3, 2, 4))), np.array([[0, 5], [23, 9]]))
row("unravel_index", lambda np, a: np.stack(np.unravel_index(a, 6)), np.array([0, 5]))
row("argwhere", lambda np, a: np.argwhere(a > 0), x(2, 3))
row("flatnonzero", lambda np, a: np.flatnonzero(a > 0), x(2, 3))

# -- more products ------------------------------------------------------------------------------------------------

for _name in ("dot", "inner", "outer"):
    row(_name, lambda np, a, b, n=_name: getattr(np, n)(a, b), x(3), x(3))
row("dot", lambda np, a, b: np.dot(a, b), x(2, 3), x(3, 2))
for _name in ("cross", "vdot", "append"):
    row(_name, lambda np, a, b, n=_name: getattr(np, n)(a, b), x(2, 3), x(2, 3))
row("cross", lambda np, a, b: np.cross(a, b, axis=0), x(3, 2), x(3, 2))
row("vdot", lambda np, a, b: np.real(np.vdot(a * (2 + 1j), b * 1j)), x(2, 3), x(2, 3))
row("append", lambda np, a, b: np.append(a, b, axis=1), x(2, 3), x(2, 1))
row("append", lambda np, a: np.append(a, 2.5), x(3))
for _name in ("diagonal", "trace"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, offset=1), x(3, 3, 2))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, -1, axis1=2, axis2=0), x(2, 3, 3))
row("copy", lambda np, a: np.copy(a), x(2, 3))
row("kron", lambda np, a, b: np.kron(a, b), x(2, 2), x(2, 3))
row("tensordot", lambda np, a, b: np.tensordot(a, b, axes=1), x(2, 3), x(3, 2))
row("vecdot", lambda np, a, b: np.vecdot(a, b), x(2, 3), x(2, 3))
row("einsum", lambda np, a, b: np.einsum("ij,kj->ik", a, b), x(2, 3), x(4, 3))

# -- more that make arrays ------------------------------------------------------------------------------------------

row("empty", lambda np: np.zeros_like(np.empty((2, 3), dtype="float64")))
row("empty_like", lambda np, a: np.zeros_like(np.empty_like(a)), x(2, 3))
row("identity", lambda np: np.identity(3, dtype="float64"))
row("tri", lambda np: np.tri(3, 4, k=1, dtype="float64"))
row("logspace", lambda np: np.logspace(0, 2, 5, dtype="float64"))
row("meshgrid", lambda np, a, b: np.stack(np.meshgrid(a, b)), x(2), x(3))
row("meshgrid", lambda np, a, b: np.stack(np.meshgrid(a, b, indexing="ij")), x(2), x(3))

NOT_ARRAYS = {
    "allclose", "array_equal", "broadcast_shapes", "can_cast", "finfo", "from_dlpack", "iinfo", "iscomplexobj", "isdtype",
    "isrealobj", "isscalar", "ndim", "result_type", "shape", "size", "stop_gradient",
}  # fmt: skip
"""Functions of and to other things, each tested by itself."""


OWN = {  # what NumPy has not, by its definition
    "astype": (lambda a: fnp.astype(a, "float64"), lambda a: a, (x(2, 3),)),
    "erf": (fnp.erf, np.vectorize(math.erf), (x(2, 3),)),
    "getitem": (lambda a: fnp.getitem(a, (0, slice(1, None))), lambda a: a[0, 1:], (x(2, 3),)),
    "linear": (fnp.linear, lambda a, w, b: a @ w.T + b, (x(2, 3), x(4, 3), x(4))),
    "logsumexp": (lambda a: fnp.logsumexp(a, axis=-1), lambda a: np.log(np.exp(a).sum(-1)), (x(2, 3),)),
    "log_softmax": (fnp.log_softmax, lambda a: np.log(np.exp(a) / np.exp(a).sum(-1, keepdims=True)), (x(2, 3),)),
    "relu": (fnp.relu, lambda a: np.maximum(a, 0), (x(2, 3),)),
    "scatter_add": (
        lambda a, v: fnp.scatter_add(a, fnp.asarray([0, 2, 0]), v),
        lambda a, v: a + np.stack([v[0] + v[2], 0 * v[0], v[1]]),
        (x(3, 2), x(3, 2)),
    ),
    "sigmoid": (fnp.sigmoid, lambda a: 1 / (1 + np.exp(-a)), (x(2, 3),)),
    "softmax": (lambda a: fnp.softmax(a, 0), lambda a: np.exp(a) / np.exp(a).sum(0), (x(2, 3),)),
    "to_device": (lambda a: fnp.to_device(a, "cpu"), lambda a: a, (x(2, 3),)),
}
CONSTANTS = {"e", "inf", "nan", "newaxis", "pi"}
