"""How functions write their results into arrays that are there already.

A recipe takes the layouts of the arguments and results of one call (`Call`) and gives an `Instruction`, or None
for a call that it does not know. What an instruction computes is bit for bit what the function returns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fw_cpu import elementwise, standard
from fw_cpu.layouts import Layout

Array = Any
Thunk = Callable[[], Any]


class Call(NamedTuple):
    """A call of a function: layouts among the arguments stand for arrays."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    params: dict[str, Any]
    outs: tuple[Layout, ...]


class Instruction(NamedTuple):
    """What is called instead of the function.

    Args:
        make: `make(args, outs, scratch)` gives calls without arguments, which do all the work. They are made again
            when an array is another one, and are as many each time.
        scratch: the layouts of arrays that are needed while the calls run.
        shared: pairs (argument, result) that may be one array, where both have one layout.
        name: what it is called where a plan is written out.
    """

    make: Callable[[Any, Any, Any], list[Thunk]]
    scratch: tuple[Layout, ...] = ()
    shared: tuple[tuple[int, int], ...] = ()
    name: str = ""


Recipe = Callable[[Call], Instruction | None]


def vector(n: int, dtype: Any) -> Layout:
    """The layout of n elements in a row."""
    return Layout((n,), np.dtype(dtype), (np.dtype(dtype).itemsize,))


def like(layout: Layout, dtype: Any) -> Layout:
    """The layout of an array of another dtype, with the elements in the same order in memory."""
    item = np.dtype(dtype).itemsize
    if layout.is_dense:
        return Layout(layout.shape, np.dtype(dtype), tuple([s // layout.dtype.itemsize * item for s in layout.strides]))
    return Layout(layout.shape, np.dtype(dtype), np.empty(layout.shape, dtype).strides)


def floating(*layouts: Any) -> bool:
    """Whether all are arrays of one floating-point dtype."""
    first = layouts[0]
    return all(isinstance(x, Layout) and x.dtype == first.dtype and x.dtype.kind == "f" for x in layouts)


# -- element by element ------------------------------------------------------------------------------

_KEYWORD_OUT = (np.maximum, np.minimum)  # NumPy is about to refuse a third argument without a name


def _call_ufunc(fn: Any, args: Any, out: Array) -> Thunk:
    return partial(fn, *args, out=out) if fn in _KEYWORD_OUT else partial(fn, *args, out)


def ufunc(call: Call, fn: Any = None) -> Instruction | None:
    """A universal function with one result, among them the product of matrices."""
    fn = fn or call.fn
    if fn.nout != 1 or call.params or any(isinstance(a, tuple | list) and not isinstance(a, Layout) for a in call.args):
        return None
    shared = () if fn.signature else tuple([(i, 0) for i in range(len(call.args))])
    return Instruction(lambda args, outs, _: [_call_ufunc(fn, args, outs[0])], shared=shared, name=fn.__name__)


def _by_numpy(fn: Any) -> Recipe:
    """A kernel that departs from NumPy's function for complex numbers alone."""
    return lambda call: ufunc(call, fn) if call.args[0].dtype.kind != "c" else None


def _cast(args: Any, outs: Any, scratch: Any) -> list[Thunk]:
    return [partial(np.copyto, outs[0], args[0], "unsafe")]


def _astype(call: Call) -> Instruction | None:
    return Instruction(_cast, name="copyto")


_BLOCK = 1 << 16
"""Elements that are compared with zeros at once where an array is large."""


def _relu(call: Call) -> Instruction | None:
    x = call.args[0]
    if not x.is_dense or not x.ndim:
        return None
    zeros = np.zeros(min(x.size, _BLOCK), x.dtype)
    order = sorted(range(x.ndim), key=lambda axis: -x.strides[axis])

    def make(args: Any, outs: Any, scratch: Any) -> list[Thunk]:
        if x.size == zeros.size:
            return [partial(np.maximum, args[0], np.ndarray(x.shape, x.dtype, zeros, 0, x.strides), out=outs[0])]
        given, made = args[0].transpose(order).reshape(-1), outs[0].transpose(order).reshape(-1)
        return [partial(_relu_in_blocks, given, made, zeros)]

    return Instruction(make, shared=((0, 0),), name="maximum")


def _relu_in_blocks(x: Array, out: Array, zeros: Array) -> None:
    for i in range(0, len(x), _BLOCK):
        part = x[i : i + _BLOCK]
        np.maximum(part, zeros[: len(part)], out=out[i : i + _BLOCK])


def _relu_grad(call: Call) -> Instruction | None:
    g, out = call.args
    if not floating(g, out, call.outs[0]) or g.shape != out.shape:
        return None
    zero = np.zeros((), out.dtype)

    def make(args: Any, outs: Any, scratch: Any) -> list[Thunk]:
        mask = scratch[0]
        return [partial(np.greater, args[1], zero, mask), partial(np.multiply, args[0], mask, outs[0])]

    return Instruction(make, (like(out, np.bool_),), ((0, 0), (1, 0)), "greater, multiply")


def sigmoid(call: Call) -> Instruction | None:
    """exp(min(x, 0)) / (exp(−|x|) + 1), in the order in which the framework computes it."""
    (x,) = call.args
    if not floating(x, call.outs[0]) or not x.is_dense or not x.ndim:
        return None

    def make(args: Any, outs: Any, scratch: Any) -> list[Thunk]:
        (x,), (out,), (below,) = args, outs, scratch
        return [
            partial(below.fill, 0),  # NumPy does not vectorise the minimum of an array and a number
            partial(np.minimum, x, below, out=out),
            partial(np.exp, out, out),
            partial(np.abs, x, below),
            partial(np.negative, below, below),
            partial(np.exp, below, below),
            partial(np.add, below, 1, below),
            partial(np.divide, out, below, out),
        ]

    return Instruction(make, (x,), name="exp, exp, divide")


# -- reductions and copies ----------------------------------------------------------------------------


def _reduction(fn: Any) -> Recipe:
    def recipe(call: Call) -> Instruction | None:
        axis, keepdims = call.params.get("axis"), call.params.get("keepdims", False)
        if len(call.args) != 1:
            return None
        return Instruction(
            lambda args, outs, _: [partial(fn.reduce, args[0], axis, None, outs[0], keepdims)],
            name=f"{fn.__name__}.reduce",
        )

    return recipe


def _with_out(call: Call) -> Instruction | None:
    """A function of NumPy that takes `out`."""
    fn, params = call.fn, call.params
    if call.outs[0].dtype.kind not in "fbi" or call.outs[0].dtype.itemsize == 2:  # half precision is summed in single
        return None
    if any(isinstance(a, Layout) and a.dtype.itemsize == 2 for a in call.args):
        return None
    return Instruction(lambda args, outs, _: [partial(fn, *args, **params, out=outs[0])], name=fn.__name__)


def concatenate(call: Call) -> Instruction | None:
    """Arrays joined, given as one list or as so many arguments."""
    arrays = call.args[0] if len(call.args) == 1 and not isinstance(call.args[0], Layout) else call.args
    axis = call.params.get("axis", 0)
    if not all(isinstance(a, Layout) for a in arrays):
        return None

    def make(args: Any, outs: Any, scratch: Any) -> list[Thunk]:
        parts = args[0] if arrays is not call.args else args
        return [partial(np.concatenate, parts, axis, outs[0])]

    return Instruction(make, name="concatenate")


def reshape(call: Call) -> Instruction | None:
    """The elements copied in order, where a view could not be had."""
    x, out = call.args[0], call.outs[0]
    if not isinstance(x, Layout) or not out.is_c or len(call.args) != 1:
        return None
    return Instruction(
        lambda args, outs, _: [partial(np.copyto, outs[0].reshape(args[0].shape), args[0])], name="copyto"
    )


def index_add(call: Call) -> Instruction | None:
    """Zeros with an array added in one part, which slices and numbers name."""
    parts = call.params["parts"]
    if len(call.args) != 1 or call.args[0].dtype != call.outs[0].dtype:
        return None

    view = parts if any(part is ... for part in parts) else (*parts, ...)  # of one element, too

    def make(args: Any, outs: Any, scratch: Any) -> list[Thunk]:
        return [partial(outs[0].fill, 0), partial(np.copyto, outs[0][view], args[0])]

    return Instruction(make, name="fill, copyto")


SIMPLE: dict[Any, Recipe] = {
    elementwise.sum: _reduction(np.add),
    elementwise.min: _reduction(np.minimum),
    elementwise.max: _reduction(np.maximum),
    elementwise.astype: _astype,
    elementwise.relu: _relu,
    elementwise.relu_grad: _relu_grad,
    standard.expm1: _by_numpy(np.expm1),
    standard.tanh: _by_numpy(np.tanh),
    np.concatenate: concatenate,
    **dict.fromkeys((np.mean, np.prod, np.any, np.all, np.clip, np.argmax, np.argmin), _with_out),
}
"""By function."""
