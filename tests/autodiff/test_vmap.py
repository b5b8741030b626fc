"""vmap: axes, nested structures, nesting, random numbers, and the errors it raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import Tensor, ops, vmap
from framework.errors import ConfigError, GradientError, ShapeError
from framework.random import Generator


def t(*values: float, **kwargs: Any) -> Tensor:
    return fw.tensor(values if len(values) != 1 else values[0], **{"dtype": "float64", **kwargs})


def table(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


# -- vmap --------------------------------------------------------------------------------------------------


def test_vmap_axes() -> None:
    x, y = np.arange(24.0).reshape(2, 3, 4), np.arange(4.0)
    for in_axes, want in (
        ((0, None), np.stack([a @ y for a in x])),
        ((1, None), np.stack([x[:, i] @ y for i in range(3)])),
        ((-1, 0), np.stack([x[..., i] * y[i] for i in range(4)])),
        ([None, 0], np.stack([x * v for v in y])),
    ):
        got = vmap(lambda a, b: a @ b if b.ndim else a * b, in_axes)(t(0.0) + x, t(0.0) + y)
        np.testing.assert_allclose(got.numpy(), want)
    for out_axes in (0, 1, -1):
        got = vmap(lambda a: a * 2, 1, out_axes)(fw.tensor(x))
        np.testing.assert_allclose(got.numpy(), np.moveaxis(x * 2, 1, out_axes))


def test_vmap_sees_samples() -> None:
    def f(x: Any) -> Any:
        assert (x.shape, x.ndim, x.size, len(x), x.dtype) == ((3,), 1, 3, 3, "float64")
        assert x.detach().shape == (3,)
        assert ops.zeros_like(x).shape == (3,)
        return x.sum() + x.reshape(3, 1).shape[0] + sum(x)

    np.testing.assert_allclose(vmap(f)(fw.tensor(np.ones((5, 3)))).numpy(), np.full(5, 9.0))


def test_vmap_of_trees() -> None:
    got = vmap(lambda d, c: {"out": [d["x"] * c], "c": c}, (0, None))({"x": t(1.0, 2.0)}, t(3.0))
    assert (got["out"][0].tolist(), got["c"].tolist()) == ([3.0, 6.0], [3.0, 3.0])


def test_vmap_nests() -> None:
    x, y = np.arange(3.0), np.arange(4.0)
    outer = vmap(lambda a: vmap(lambda b: a * b + a)(fw.tensor(y)))(fw.tensor(x))
    np.testing.assert_allclose(outer.numpy(), np.outer(x, y) + x[:, None])
    deep = vmap(vmap(lambda a, b: (a * b).sum(), (0, None)), (None, 0))(
        fw.tensor(np.ones((2, 3))), fw.tensor(np.ones((5, 3)))
    )
    assert deep.shape == (5, 2)


def test_vmap_of_no_samples() -> None:
    assert vmap(lambda x: x.sum() * 2)(fw.tensor(np.zeros((0, 3)))).shape == (0,)
    assert vmap(fw.grad(lambda x: (x * x).sum()))(fw.tensor(np.zeros((0, 3)))).shape == (0, 3)


def test_vmap_refusals() -> None:
    for call, message in (
        (lambda: vmap(lambda a, b: a)(t(1.0, 2.0), t(1.0, 2.0, 3.0)), r"one batch size.*\[2, 3\]"),
        (lambda: vmap(lambda a: a, None)(t(1.0, 2.0)), "got none"),
        (lambda: vmap(lambda a: a, (0, 0))(t(1.0, 2.0)), "in_axes of 2 arguments was called with 1"),
        (lambda: vmap(lambda a: a)(t(1.0)), "axis 0 of an array with 0 axes"),
        (lambda: vmap(lambda a: a, 1)(t(1.0, 2.0)), "axis 1 of an array with 1 axes"),
    ):
        with pytest.raises(ShapeError, match=message):
            call()
    for read in (float, bool, lambda x: x.tolist(), lambda x: "abc"[x.long()]):
        with pytest.raises(GradientError, match=r"read inside vmap.*where\(\)"):
            vmap(read)(t(1.0, 2.0))
    with pytest.raises(GradientError, match=r"differs by sample; use where\(\)"):
        vmap(lambda x: x[x > 1].sum())(fw.tensor(np.ones((2, 3))))


def test_vmap_makes_no_loop() -> None:
    """The function runs once, whatever the size of the batch."""
    calls = []
    vmap(lambda x: calls.append(1) or x * 2)(fw.tensor(np.ones(1000)))
    assert len(calls) == 1


# -- axes in nested structures -------------------------------------------------------------------------------


def test_axes_of_nested_arguments() -> None:
    """An entry holds for everything below it, as in JAX."""
    w, b, x, c = table(3, 4, 5), table(5), table(4, 3), table(2)
    got = vmap(
        lambda params, pair: {"y": pair[0] @ params["w"] + params["b"], "c": pair[1] * 2},
        in_axes=({"w": -3, "b": None}, (1, None)),
        out_axes={"y": 1, "c": None},
    )({"w": fw.tensor(w), "b": fw.tensor(b)}, (fw.tensor(x), fw.tensor(c)))
    np.testing.assert_allclose(got["y"].numpy(), np.stack([x[:, i] @ w[i] + b for i in range(3)], 1), rtol=1e-12)
    np.testing.assert_allclose(got["c"].numpy(), c * 2)
    for axes in (({"w": 0, "b": 0},), [{"b": 0, "w": 0}], (0,), 0):
        got = vmap(lambda p: (p["b"] - p["w"]).sum(), axes)({"w": t(1.0, 2.0), "b": t(10.0, 20.0)})
        assert got.tolist() == [9.0, 18.0]


def test_an_entry_follows_the_key_not_the_order() -> None:
    got = vmap(lambda p: p["a"].sum() + p["b"].sum(), ({"a": 0, "b": 1},))(
        {"b": fw.tensor(np.arange(6.0).reshape(3, 2)), "a": t(10.0, 20.0)}
    )
    assert got.tolist() == [10.0 + 6.0, 20.0 + 9.0]


def test_keyword_arguments_are_batched_on_axis_0() -> None:
    def f(x: Any, *, scale: Any, shift: Any) -> Any:
        return x * scale + shift["by"]

    got = vmap(f, in_axes=(1,))(fw.tensor(np.arange(6.0).reshape(3, 2)), scale=t(1.0, 10.0), shift={"by": t(0.5, 0.0)})
    np.testing.assert_allclose(got.numpy(), [[0.5, 2.5, 4.5], [10.0, 30.0, 50.0]])
    assert vmap(lambda *, x: x * 2)(x=t(1.0, 2.0)).tolist() == [2.0, 4.0]
    assert vmap(lambda a, x: a * x, None)(t(3.0), x=t(1.0, 2.0)).tolist() == [3.0, 6.0]


def test_arguments_without_a_batch_are_passed_on_as_they_are() -> None:
    got = vmap(lambda x, mode, n: x * n if mode == "times" else x, (0, None, None))(t(1.0, 2.0), "times", 3)
    assert got.tolist() == [3.0, 6.0]


def test_where_the_batch_goes() -> None:
    x = table(2, 3, 4)
    for axis in range(-4, 4):
        got = vmap(lambda v: ops.stack([v, v * 2]), 1, axis)(fw.tensor(x))
        rows = np.stack([np.stack([x[:, i], x[:, i] * 2]) for i in range(3)])
        np.testing.assert_allclose(got.numpy(), np.moveaxis(rows, 0, axis))
    a, b = vmap(lambda v: (v, [v.sum()]), 2, (-1, [0]))(fw.tensor(x))
    np.testing.assert_allclose(a.numpy(), x)
    np.testing.assert_allclose(b[0].numpy(), x.sum((0, 1)))
    assert vmap(lambda v: t(1.0, 2.0), out_axes=None)(t(1.0, 2.0, 3.0)).tolist() == [1.0, 2.0]
    assert vmap(lambda v: t(1.0, 2.0), out_axes=1)(t(1.0, 2.0, 3.0)).tolist() == [[1.0] * 3, [2.0] * 3]
    assert vmap(lambda v: (v, None), out_axes=(0, None))(t(1.0, 2.0))[1] is None


@pytest.mark.parametrize("axes", list(product((0, 1, -1), (0, 1, -1), (0, 1, -1))))
def test_axes_of_nested_vmaps(axes: Any, backend: str) -> None:
    outer, inner, out = axes
    x = table(2, 3, 4)
    with fw.use_backend(backend):
        got = vmap(vmap(lambda v: v * v.sum(), inner, out), outer, out)(fw.tensor(x))

    def loop(x: Any, axis: int, fn: Any) -> Any:
        return np.moveaxis(np.stack([fn(part) for part in np.moveaxis(x, axis, 0)]), 0, out)

    want = loop(x, outer, lambda part: loop(part, inner, lambda v: v * v.sum()))
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)


def test_three_nested_vmaps_make_every_combination() -> None:
    a, b, c = table(2), table(3, seed=1), table(4, seed=2)
    f = vmap(vmap(vmap(lambda x, y, z: x * y + z, (None, None, 0)), (None, 0, None)), (0, None, None))
    want = a[:, None, None] * b[:, None] + c
    np.testing.assert_allclose(f(fw.tensor(a), fw.tensor(b), fw.tensor(c)).numpy(), want, rtol=1e-12)


def test_vmap_over_index_arrays_and_scatter() -> None:
    x, i = table(5, 4), np.array([[0, 2, 2], [1, 1, 0], [3, 0, 3], [2, 2, 2], [0, 1, 3]])
    got = vmap(lambda v, k: v[k])(fw.tensor(x), fw.tensor(i))
    np.testing.assert_allclose(got.numpy(), np.take_along_axis(x, i, 1))
    got = vmap(fw.grad(lambda v, k: (v[k] ** 2).sum()))(fw.tensor(x), fw.tensor(i))
    np.testing.assert_allclose(got.numpy(), 2 * x * np.stack([np.bincount(k, minlength=4) for k in i]), rtol=1e-12)


def test_wrong_axes_teach() -> None:
    x, y = t(1.0, 2.0), t(1.0, 2.0, 3.0)
    pair = {"w": x, "b": x}
    for call, message in (
        (lambda: vmap(lambda params, y: y)(pair, y), r"\[2, 3\]: params\['w'\] has 2 \(axis 0 of shape \(2,\)\), y has 3"),
        (lambda: vmap(lambda a, *, k: a)(x, k=[y]), r"a has 2 .*, k\[0\] has 3"),
        (lambda: vmap(lambda *a: a[0])(x, y), r"argument 0 has 2 .*, argument 1 has 3"),
        (lambda: vmap(max)(x, y), "argument 0 has 2 .*, argument 1 has 3"),
        (lambda: vmap(lambda a, n: a)(x, 3), r"vmap over n of shape \(\): axis 0 of an array with 0 axes.*in_axes with None"),
        (lambda: vmap(lambda p: p, ({"w": 0},))(pair), r"in_axes\[0\] is a dict with keys \['w'\] for \['b', 'w'\]"),
        (lambda: vmap(lambda p: p, ({"w": 0, "b": 0},))(x), r"in_axes\[0\] is a dict .* for a Tensor"),
        (lambda: vmap(lambda p: p, {"w": 0, "b": 0})(pair), r"one entry per argument.*in_axes=\(\{…\},\)"),
        (lambda: vmap(lambda p: p, ((0, 0),))([x]), r"in_axes\[0\] has 2 parts for 1 parts"),
        (lambda: vmap(lambda p: p, ((0, 0),))(x), r"in_axes\[0\] has 2 parts for a Tensor"),
        (lambda: vmap(lambda p: p, ("0",))(x), r"in_axes\[0\] is an axis, None, or .*got '0'"),
        (lambda: vmap(lambda p: p, "0")(x), "got '0'"),
        (lambda: vmap(lambda p: p, 0.0)(x), r"got 0\.0"),
        (lambda: vmap(lambda p: p, True)(x), "got True"),
        (lambda: vmap(lambda p: p, -2)(x), "axis -2 of an array with 1 axes"),
        (lambda: vmap(lambda: x)(), "got none; in_axes maps no array"),
        (lambda: vmap(lambda p: p, 0, 1)(x), r"axis 1 of a result of shape \(\) for one sample; it must be from -1 to 0"),
        (lambda: vmap(lambda p: p, 0, None)(x), "out_axes is None for a result that differs by sample"),
        (lambda: vmap(lambda p: p, 0, (0, 0))(x), "out_axes has 2 parts for a"),
        (lambda: vmap(lambda p: (p, p), 0, {"a": 0})(x), "out_axes is a dict with keys .* for a tuple"),
    ):  # fmt: skip
        with pytest.raises(ShapeError, match=message):
            call()  # type: ignore[no-untyped-call]


def test_a_wrong_call_leaves_nothing_behind() -> None:
    with pytest.raises(ShapeError):
        vmap(lambda p: p, 0, 1)(t(1.0, 2.0))
    assert fw.random.normal(()).shape == ()
    assert fw.grad(lambda x: x * x)(t(2.0)).item() == 4.0


# -- random numbers ------------------------------------------------------------------------------------------


@pytest.fixture
def seeded() -> Iterator[None]:
    """A known seed, and the process's streams as they were."""
    before = fw.random.state_dict()
    fw.seed_everything(0)
    yield
    fw.random.load_state_dict(before)


DRAWS: dict[str, Callable[..., Tensor]] = {
    "normal": lambda shape, **kw: fw.random.normal(shape, mean=3.0, std=2.0, **kw),
    "uniform": lambda shape, **kw: fw.random.uniform(shape, low=-1.0, high=5.0, **kw),
    "integers": lambda shape, **kw: fw.random.integers(0, 10**6, shape, **kw),
    "bernoulli": lambda shape, **kw: fw.random.bernoulli(0.5, (*shape, 50), **kw),
    "permutation": lambda shape, **kw: fw.random.permutation(50, **kw),
    "choice": lambda shape, **kw: fw.random.choice(10**6, shape, **kw),
    "choice without replacement": lambda shape, **kw: fw.random.choice(1000, shape, replace=False, **kw),
    "randn_like": lambda shape, **kw: fw.random.randn_like(ops.zeros(shape), **kw),
    "rand_like": lambda shape, **kw: fw.random.rand_like(ops.zeros(shape), **kw),
}
EACH = pytest.mark.parametrize("name", DRAWS)


@EACH
def test_random_numbers_inside_vmap_must_be_chosen(name: str, seeded: None) -> None:
    before = fw.random.state_dict()
    for randomness in ({}, {"randomness": "error"}):
        with pytest.raises(GradientError, match=r"randomness='different'\) to draw for each sample, or"):
            vmap(lambda x: x + DRAWS[name]((2,)).sum(), **randomness)(t(1.0, 2.0))
    assert fw.random.state_dict()["seed"] == before["seed"]
    assert all(g["counter"] == 0 for g in fw.random.state_dict()["generators"].values())


@EACH
@pytest.mark.parametrize("explicit", [False, True])
def test_the_same_random_numbers_for_every_sample(name: str, explicit: bool, seeded: None, backend: str) -> None:
    kw = {"generator": Generator(5)} if explicit else {}
    with fw.use_backend(backend):
        got = vmap(lambda x: (x, DRAWS[name]((2, 3), **kw)), randomness="same")(t(1.0, 2.0, 3.0))[1]
        fw.seed_everything(0)
        once = DRAWS[name]((2, 3), **({"generator": Generator(5)} if explicit else {}))
    assert (got.shape, got.dtype, got.backend) == ((3, *once.shape), once.dtype, backend)
    for row in got.tolist():
        assert row == once.tolist()


@EACH
@pytest.mark.parametrize("explicit", [False, True])
def test_random_numbers_of_their_own_for_every_sample(name: str, explicit: bool, seeded: None, backend: str) -> None:
    kw = {"generator": Generator(5)} if explicit else {}
    inside: list[Any] = []

    def f(x: Any) -> Any:
        drawn = DRAWS[name]((2, 3), **kw)
        inside.append(drawn.shape)
        return drawn

    with fw.use_backend(backend):
        got = vmap(f, randomness="different")(t(1.0, 2.0, 3.0, 4.0))
    assert (got.shape, got.backend) == ((4, *inside[0]), backend)
    rows = {tuple(np.ravel(row)) for row in got.numpy()}
    assert len(rows) == 4
    if name == "permutation":
        assert all(sorted(row) == list(range(50)) for row in rows)
    if name == "choice without replacement":
        assert all(len(set(row)) == 6 for row in rows)


def test_random_numbers_of_their_own_are_one_draw_of_the_whole(seeded: None) -> None:
    got = vmap(lambda x: fw.random.normal((2,)), randomness="different")(t(1.0, 2.0, 3.0))
    fw.seed_everything(0)
    assert got.tolist() == fw.random.normal((3, 2)).tolist()


@pytest.mark.parametrize("outer", ["same", "different"])
@pytest.mark.parametrize("inner", ["same", "different"])
def test_random_numbers_in_nested_vmaps(outer: str, inner: str, seeded: None) -> None:
    x = fw.tensor(np.zeros((2, 3)))
    got = vmap(vmap(lambda v: v + fw.random.normal((4,), dtype="float64"), randomness=inner), randomness=outer)(x)
    assert got.shape == (2, 3, 4)
    rows = got.numpy().reshape(6, 4)
    distinct = len({tuple(row) for row in rows})
    assert distinct == (2 if outer == "different" else 1) * (3 if inner == "different" else 1)
    assert (got[0].tolist() == got[1].tolist()) == (outer == "same")
    assert (got[:, 0].tolist() == got[:, 1].tolist()) == (inner == "same")
    with pytest.raises(GradientError, match="a random number is drawn inside vmap"):
        vmap(vmap(lambda v: v + fw.random.normal(()), randomness="error"), randomness=outer)(x)
    with pytest.raises(GradientError, match="a random number is drawn inside vmap"):
        vmap(vmap(lambda v: v + fw.random.normal(()), randomness=inner))(x)


def test_random_numbers_beside_other_transforms(seeded: None) -> None:
    """Noise is a constant of every derivative, with the samples' axis."""

    def f(x: Any) -> Any:
        return (x * x * fw.random.normal((3,), dtype="float64")).sum()

    x = fw.tensor(table(5, 3))
    got = vmap(fw.grad(f), randomness="different")(x)
    fw.seed_everything(0)
    noise = fw.random.normal((5, 3), dtype="float64").numpy()
    np.testing.assert_allclose(got.numpy(), 2 * x.numpy() * noise, rtol=1e-12)
    fw.seed_everything(0)
    got = fw.jvp(vmap(f, randomness="same"), (x,), (ops.ones_like(x),))[1]
    fw.seed_everything(0)
    once = fw.random.normal((3,), dtype="float64").numpy()
    np.testing.assert_allclose(got.numpy(), (2 * x.numpy() * once).sum(1), rtol=1e-12)
    fw.seed_everything(0)
    got = fw.grad(lambda x: vmap(fw.grad(f), randomness="different")(x).sum())(x)
    np.testing.assert_allclose(got.numpy(), 2 * noise, rtol=1e-12)


@pytest.mark.parametrize("layer", [lambda x: fw.nn.functional.dropout(x, 0.5), lambda x: fw.nn.Dropout(0.5)(x)])
def test_dropout_follows_the_rule(layer: Any, seeded: None) -> None:
    x = fw.tensor(np.ones((4, 64)))
    with pytest.raises(GradientError, match="a random number is drawn inside vmap"):
        vmap(layer)(x)
    same = vmap(layer, randomness="same")(x).numpy()
    different = vmap(layer, randomness="different")(x).numpy()
    assert (same == same[0]).all()
    assert 0 < (same == 0).sum() < same.size
    assert len({tuple(row) for row in different}) == 4
    assert set(different.ravel()) == {0.0, 2.0}
    held = vmap(lambda x, y: layer(y), (0, None), randomness="different")(x, x[0])
    assert len({tuple(row) for row in held.numpy()}) == 4
    np.testing.assert_array_equal(vmap(fw.nn.Dropout(0.5).eval())(x).numpy(), x.numpy())


def test_an_unknown_randomness_teaches() -> None:
    with pytest.raises(ConfigError, match="one of 'error', 'same', 'different', got 'any'"):
        vmap(lambda x: x, randomness="any")  # type: ignore[arg-type]


# -- against JAX ---------------------------------------------------------------------------------------------

JAX_CASES: list[tuple[Any, Any, Any]] = [
    (lambda x, y: x @ y, (0, 0), 0),
    (lambda x, y: x @ y, (1, None), 0),
    (lambda x, y: x * y.sum(), (-1, 0), -1),
    (lambda x, y: x - y, 0, 1),
    (lambda x, y: (x * 2, y), [0, 1], (0, 1)),
    (lambda x, y: (x * 2, [y * x]), (None, -1), -1),
    (lambda x, y: (x * 2, [y * x]), (0, 0), (1, [0])),
    (lambda x, y: {"p": y["b"] * x, "q": y["a"]}, (0, {"a": None, "b": 1}), {"p": 1, "q": None}),
    (lambda x, y: {"p": (y["b"] * x, y["a"] @ x), "q": y["a"]}, (None, {"a": 1, "b": 0}), {"p": (-1, 0), "q": -2}),
    (lambda x, y: {"p": y["b"], "q": y["a"]}, 1, 1),
]


@pytest.fixture(scope="module")
def jax() -> Any:
    return pytest.importorskip("jax", reason="JAX is not installed: pip install -e '.[reference]'")


@pytest.mark.reference
@pytest.mark.parametrize("case", range(len(JAX_CASES)))
def test_axes_are_those_of_jax(case: int, jax: Any) -> None:
    f, in_axes, out_axes = JAX_CASES[case]
    x, y, z = (table(3, 3, seed=case + k).astype("float32") for k in range(3))
    args = (x, {"a": y, "b": z} if case > 6 else y)
    want, structure = jax.tree.flatten(jax.vmap(f, in_axes, out_axes)(*args))
    got, ours = jax.tree.flatten(vmap(f, in_axes, out_axes)(*jax.tree.map(fw.tensor, args)))
    assert structure == ours
    for g, w in zip(got, want):
        np.testing.assert_allclose(g.numpy(), np.asarray(w), rtol=1e-5, atol=1e-6)
