"""Functions that move elements: against NumPy, as transposes, in batches, on every backend; what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from moves import ZERO_SIZE, an_axis, as_list, check, examples, same, values

import framework as fw
from framework.autodiff import ops, vmap
from framework.errors import AxisError, DTypeError, GradientError, ShapeError

# -- repeated elements -----------------------------------------------------------------------------------------


@examples(20)
@given(ZERO_SIZE, st.data())
def test_repeat(shape: tuple[int, ...], data: Any) -> None:
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1)) if shape else None
    n = int(np.prod(shape)) if axis is None else shape[axis]
    counts = data.draw(
        st.integers(0, 3) | hnp.arrays(st.sampled_from(["int64", "uint8", "int16"]), (n,), elements=st.integers(0, 3))
    )
    numpys = lambda x: np.repeat(x, np.asarray(counts, np.int64), axis=axis)  # noqa: E731
    check(lambda x: ops.repeat(x, counts, axis=axis), numpys, shape)
    check(lambda x: ops.repeat(x, [2], axis=axis), lambda x: np.repeat(x, [2], axis=axis), shape)


@examples(20)
@given(ZERO_SIZE, st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=4))
def test_tile(shape: tuple[int, ...], counts: Any) -> None:
    check(*same("tile", counts), shape)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric", "wrap"])
@examples(4, full=80)
@given(hnp.array_shapes(min_dims=0, max_dims=3, max_side=3), st.data())
def test_pad(mode: str, shape: tuple[int, ...], data: Any) -> None:
    """Also by more than the length of an axis."""
    width = st.integers(0, 5)
    pairs = st.tuples(width, width)
    widths = data.draw(width | pairs | st.tuples(pairs) | st.tuples(*[pairs] * len(shape)))
    if not shape and not isinstance(widths, int):
        widths = 1
    check(*same("pad", widths, mode=mode), shape)


@pytest.mark.parametrize("value", [0, 2.5, (1.0, 2.0), ((1.0, 2.0), (3.0, 4.0)), [[7.0]]])
def test_pad_by_values(value: Any) -> None:
    for shape in ((2, 3), (0, 2)):
        a = values(shape)
        want = np.pad(a, ((1, 2), (0, 1)), constant_values=value)
        x = fw.tensor(a)
        np.testing.assert_array_equal(ops.pad(x, ((1, 2), (0, 1)), constant_values=value).numpy(), want)
        fw.gradcheck(lambda x, v=value: ops.pad(x, ((1, 2), (0, 1)), constant_values=v) ** 2, x)


def test_pad_by_a_tensor() -> None:
    fw.gradcheck(lambda x, c: ops.pad(x, 1, constant_values=c) ** 2, [fw.tensor(values((2,))), fw.tensor(values(()))])
    got = vmap(lambda c: ops.pad(fw.tensor([1.0]), (1, 0), constant_values=c))(fw.tensor([5.0, 6.0]))
    assert got.tolist() == [[5.0, 1.0], [6.0, 1.0]]
    assert ops.pad(fw.tensor([1, 2]), 1, constant_values=7).tolist() == [7, 1, 2, 7]
    assert ops.pad(fw.tensor([True]), 1).tolist() == [False, True, False]


# -- other places ------------------------------------------------------------------------------------------------


@examples(20)
@given(ZERO_SIZE, st.data())
def test_roll(shape: tuple[int, ...], data: Any) -> None:
    shifts = st.integers(-7, 7)
    axis: Any = None
    shift = data.draw(shifts)
    if shape:
        axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1) | st.just("several"))
        if axis == "several":
            axis = tuple(data.draw(st.lists(st.integers(-len(shape), len(shape) - 1), min_size=1, max_size=3)))
            shift = data.draw(shifts | st.tuples(*[shifts] * len(axis)))
    check(*same("roll", shift, axis=axis), shape)


@examples(20)
@given(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=3), st.data())
def test_axes_in_other_places(shape: tuple[int, ...], data: Any) -> None:
    n = len(shape)
    count = data.draw(st.integers(0, n))
    source, to = (tuple(data.draw(st.permutations(range(n)))[:count]) for _ in range(2))
    source = tuple(a - n if data.draw(st.booleans()) else a for a in source)
    check(*same("moveaxis", source, to), shape)
    check(*same("moveaxis", source[0] if source else 0, to[0] if to else -1), shape)
    order = tuple(data.draw(st.permutations(range(n))))
    check(lambda x: ops.permute_dims(x, order), lambda x: np.transpose(x, order), shape)
    a, b = an_axis(data, shape), an_axis(data, shape)
    check(*same("swapaxes", a, b), shape)
    axes = tuple(data.draw(st.sets(st.integers(0, n - 1))))
    check(*same("flip", axis=axes), shape)
    check(*same("flip", axis=a), shape)


@examples(20)
@given(hnp.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=3), st.data())
def test_turns(shape: tuple[int, ...], data: Any) -> None:
    axes = tuple(data.draw(st.permutations(range(len(shape))))[:2])
    axes = tuple(a - len(shape) if data.draw(st.booleans()) else a for a in axes)
    check(*same("rot90", data.draw(st.integers(-5, 5)), axes), shape)
    check(*same("fliplr"), shape)
    check(*same("flipud"), shape)


@examples(25)
@given(ZERO_SIZE, st.data())
def test_axes_of_length_one(shape: tuple[int, ...], data: Any) -> None:
    count = data.draw(st.integers(0, 2))
    n = len(shape) + count
    new = tuple(data.draw(st.permutations(range(n)))[:count])
    new = tuple(a - n if data.draw(st.booleans()) else a for a in new)
    check(*same("expand_dims", axis=new), shape)
    wide = np.expand_dims(np.zeros(shape), new).shape
    check(*same("squeeze", axis=new), wide)
    check(*same("squeeze", axis=None), wide)
    if count == 1:
        check(*same("expand_dims", axis=new[0]), shape)
        check(*same("squeeze", axis=new[0]), wide)
    for name in ("atleast_1d", "atleast_2d", "atleast_3d", "ravel"):
        check(*same(name), shape)


@examples(20)
@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, min_side=0, max_side=3))
def test_broadcasting(shapes: Any) -> None:
    assert ops.broadcast_shapes(*shapes.input_shapes) == shapes.result_shape
    arrays = [values(s, i) for i, s in enumerate(shapes.input_shapes)]
    got = ops.broadcast_arrays(*map(fw.tensor, arrays))
    assert isinstance(got, list)
    for g, w in zip(got, np.broadcast_arrays(*arrays)):
        np.testing.assert_array_equal(g.numpy(), w)
    first = shapes.input_shapes[0]
    check(lambda x: ops.broadcast_arrays(x, *arrays[1:])[0], lambda x: np.broadcast_arrays(x, *arrays[1:])[0], first)


# -- choice ------------------------------------------------------------------------------------------------------------


def test_select() -> None:
    a = values((3, 4))
    x = fw.tensor(a)
    got = ops.select([x > 1, x > 0], [x * 2, x[0]], -7.0)
    np.testing.assert_array_equal(got.numpy(), np.select([a > 1, a > 0], [a * 2, np.broadcast_to(a[0], (3, 4))], -7.0))
    fw.gradcheck(lambda x: ops.select([x > 1, x > 0], [x * 2, x[0] * x[0]], 3), x)
    assert ops.select([[True, False], [True, True]], [[1, 2], [3, 4]]).tolist() == [1, 4]
    for conditions, choices in (([], []), ([x > 0], [])):
        with pytest.raises(ShapeError, match="one for each is needed"):
            ops.select(conditions, choices)


# -- refusals ------------------------------------------------------------------------------------------------------------


X = fw.tensor(np.zeros((2, 3)))
REFUSED: tuple[tuple[Callable[[], Any], type[Exception], str], ...] = (
    (lambda: ops.repeat(X, -1), ShapeError, "repeat -1 times"),
    (lambda: ops.repeat(X, [1, -1], axis=0), ShapeError, "not negative"),
    (lambda: ops.repeat(X, [1, 2, 3], axis=0), ShapeError, r"repeats of shape \(3,\) for an axis of length 2"),
    (lambda: ops.repeat(X, [1.0, 2.0], axis=0), DTypeError, "repeats are integers, got float32"),
    (lambda: ops.repeat(X, 1.5), DTypeError, "repeats are integers"),
    (lambda: vmap(lambda n: ops.repeat(X, n, axis=0))(fw.tensor([[1, 2]])), GradientError, "would differ by sample"),
    (lambda: ops.tile(X, (2, -1)), ShapeError, "not negative"),
    (lambda: ops.pad(X, -1), ShapeError, "not negative, cut with a slice"),
    (lambda: ops.pad(X, ((1, 2), (1, 2), (1, 2))), ShapeError, "for 2 axes: a number, a pair"),
    (lambda: ops.pad(X, (1, 2, 3)), ShapeError, "for 2 axes: a number, a pair"),
    (lambda: ops.pad(X, 1, mode="reflec"), ValueError, "Did you mean 'reflect'"),
    (lambda: ops.pad(X, 1, mode=max), ValueError, "pad has no mode"),
    (lambda: ops.pad(X, 1.5), TypeError, "cannot be interpreted as an integer"),
    (lambda: ops.pad(X[:0], 1, mode="edge"), ShapeError, r"axis 0 of \(0, 3\) has none"),
    (lambda: ops.roll(X, (1, 2), axis=(0, 1, 0)), ShapeError, "one shift for each axis"),
    (lambda: ops.roll(X, 1, axis=2), AxisError, "axis 2 of an array with 2 axes"),
    (lambda: ops.moveaxis(X, (0, 1), (0,)), ShapeError, "as many destinations as sources"),
    (lambda: ops.moveaxis(X, (0, -2), (0, 1)), ShapeError, "the same axis twice"),
    (lambda: ops.permute_dims(X, (0, 0)), ShapeError, "each axis once"),
    (lambda: ops.expand_dims(X, axis=(0, 0)), ShapeError, "the same axis twice"),
    (lambda: ops.expand_dims(X, axis=3), IndexError, "axis 3 of an array with 3 axes"),
    (lambda: ops.squeeze(X, axis=0), ValueError, "cannot squeeze axis 0 of length 2"),
    (lambda: ops.broadcast_shapes((2,), (3,)), ShapeError, r"shapes \(2,\), \(3,\) do not broadcast"),
    (lambda: ops.broadcast_arrays(X, [1.0, 2.0]), ShapeError, "do not broadcast"),
    (lambda: ops.rot90(X, axes=(0, -2)), ShapeError, "the same axis twice"),
    (lambda: ops.rot90(X[0]), ShapeError, "at least 2 axes"),
    (lambda: ops.fliplr(X[0]), ShapeError, "at least 2 axes"),
    (lambda: ops.flipud(X[0, 0]), ShapeError, "at least 1 axes"),
    (lambda: ops.split(X, 2, axis=1), ShapeError, "array_split allows unequal"),
    (lambda: ops.split(X, 0), ShapeError, "no 0 equal parts"),
    (lambda: ops.array_split(X, 0), ShapeError, "at least 1"),
    (lambda: ops.dsplit(X, 1), ShapeError, "dsplit needs at least 3 axes"),
    (lambda: ops.unstack(X[0, 0]), AxisError, "0 axes"),
    (lambda: ops.concat([]), ShapeError, "at least one array"),
    (lambda: ops.vstack([X, X[:, :2]]), ShapeError, "the other axes must be equal"),
)


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# -- another library -------------------------------------------------------------------------------------------------------


CALLS: dict[str, tuple[Any, ...]] = {
    "repeat": (np.array([2, 0, 1]),),
    "tile": ((2, 1, 2),),
    "roll": ((1, -2), (0, 1)),
    "rot90": (3,),
    "unstack": (),
    "array_split": (2,),
    "moveaxis": ((0, 1), (1, 0)),
    "atleast_3d": (),
    "diag": (1,),
    **{f"pad {mode}": (((2, 1), (0, 3)),) for mode in ("constant", "edge", "reflect", "symmetric", "wrap")},
}


@pytest.mark.reference
@pytest.mark.parametrize("call", CALLS)
def test_as_in_jax(call: str, jax: Any) -> None:
    name, _, mode = call.partition(" ")
    kwargs = {"mode": mode} if mode else {"axis": 0} if name == "repeat" else {}
    a, t = values((3, 4)), values((3, 4), 1)

    def everything(lib: Any, xp: Any, x: Any, t: Any) -> list[Any]:
        def fn(x: Any) -> Any:
            return [y**3 for y in as_list(getattr(xp, name)(x, *CALLS[call], **kwargs))]

        y, pull = lib.vjp(fn, x)
        dy = lib.jvp(fn, (x,), (t,))[1]
        second = lib.jvp(lambda x: lib.vjp(fn, x)[1](dy)[0], (x,), (t,))[1]
        return [*y, *dy, pull(dy)[0], second]

    got = everything(fw, ops, fw.tensor(a), fw.tensor(t))
    want = everything(jax, jax.numpy, jax.numpy.asarray(a), jax.numpy.asarray(t))
    assert len(got) == len(want)
    for g, w in zip(got, want):
        np.testing.assert_allclose(g.numpy(), np.asarray(w), rtol=1e-12, atol=1e-13)
