"""Checks of functions of real and complex arrays, each row of a table written once for every library.

A row's function takes a namespace and arrays: `lambda xp, x: xp.linalg.inv(x)` runs on ours, NumPy's and JAX's.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import ops, vmap

Array = Any


@dataclass(frozen=True)
class Row:
    """A function of arrays with its inputs."""

    id: str
    fn: Callable[..., Any]
    inputs: tuple[Array, ...]
    order: int = 2
    """The highest derivative that exists at the inputs."""
    jax: bool = True
    """Whether JAX can differentiate it, twice."""
    numpy: bool = True
    """Whether NumPy has it."""

    def ours(self, *inputs: Any) -> Any:
        return self.fn(ops, *inputs)


def sample(label: str, shape: tuple[int, ...], kind: str = "real") -> Array:
    """The same numbers for the same label, with an imaginary part where kind is "complex"."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(label.encode())))
    x = rng.uniform(-1.5, 1.5, shape)
    return x + 1j * rng.uniform(-1.5, 1.5, shape) if kind == "complex" else x


def constant(xp: Any, values: Array, x: Any) -> Any:
    """Real numbers in the precision of `x`, where `x` is."""
    if xp is not ops:
        return xp.asarray(values)
    narrow = x.dtype.itemsize < (16 if x.dtype.kind == "complex" else 8)
    return fw.tensor(values, dtype="float32" if narrow else "float64", device=x.device)


def tensors(arrays: Any, backend: str = "cpu", narrow: bool = False) -> list[Any]:
    result = []
    for x in arrays:
        dtype = None
        if narrow:
            dtype = {"f": "float32", "c": "complex64"}.get(x.dtype.kind)
        result.append(fw.tensor(x, dtype=dtype, backend=backend))
    return result


def as_list(y: Any) -> list[Any]:
    return list(y) if isinstance(y, tuple | list) else [y]


def outputs(fn: Callable[..., Any]) -> Callable[..., list[Any]]:
    """`fn` returning the list of its results."""
    return lambda *xs: as_list(fn(*xs))


def direction(shape: tuple[int, ...], like: Any, k: int = 0) -> Any:
    """A fixed direction, complex beside complex Tensors."""
    return fw.tensor(numpy_direction(shape, like.dtype.kind == "complex", k), dtype=like.dtype, device=like.device)


def numpy_direction(shape: tuple[int, ...], is_complex: bool, k: int = 0) -> Array:
    n = np.arange(np.prod(shape, dtype=int))
    t = np.cos(n * 1.7 + 0.3 + k)
    return (t + 1j * np.sin(n * 1.1 + 0.7 + k) if is_complex else t).reshape(shape)


def directions(xs: Any, k: int = 0) -> list[Any]:
    return [direction(x.shape, x, k + i) for i, x in enumerate(xs)]


# -- Jacobians of the function of real and imaginary parts -----------------------------------------------


def parts(arrays: Any) -> Array:
    """All elements as one real vector: real parts, and imaginary parts of complex arrays."""
    flat = []
    for a in map(np.asarray, arrays):
        flat.append(a.real.ravel())
        if a.dtype.kind == "c":
            flat.append(a.imag.ravel())
    return np.concatenate(flat) if flat else np.zeros(0)


def basis(arrays: list[Array]) -> Iterator[list[Array]]:
    """The directions that `parts` orders."""
    for i, a in enumerate(arrays):
        for unit in (1.0, 1j) if a.dtype.kind == "c" else (1.0,):
            for k in range(a.size):
                vectors = [np.zeros(b.shape, b.dtype) for b in arrays]
                vectors[i].reshape(-1)[k] = unit
                yield vectors


def numbers(xs: Any) -> list[Array]:
    return [np.asarray(x.detach().numpy()) for x in xs]


def numerical(fn: Callable[..., list[Any]], points: list[Array], eps: float) -> Array:
    columns = []
    for v in basis(points):
        plus, minus = (parts(numbers(fn(*tensors([p + s * eps * d for p, d in zip(points, v)])))) for s in (1, -1))
        columns.append((plus - minus) / (2 * eps))
    return np.stack(columns, axis=-1) if columns else np.zeros((0, 0))


def forward(fn: Callable[..., list[Any]], points: list[Array]) -> Array:
    columns = [parts(numbers(fw.jvp(fn, tensors(points), tensors(v))[1])) for v in basis(points)]
    return np.stack(columns, axis=-1) if columns else np.zeros((0, 0))


def reverse(fn: Callable[..., list[Any]], points: list[Array]) -> Array:
    """Row by row: with the cotangent 1, or −i for an imaginary part; the gradient's conjugate has the parts."""
    y, pull = fw.vjp(fn, *tensors(points))
    rows = [parts([np.conj(g) for g in numbers(pull(tensors([np.conj(c) for c in v])))]) for v in basis(numbers(y))]
    return np.stack(rows) if rows else np.zeros((0, parts(points).size))


def check_jacobians(fn: Callable[..., list[Any]], points: list[Array], eps: float = 1e-6, loose: float = 1.0) -> None:
    f, r, n = forward(fn, points), reverse(fn, points), numerical(fn, points, eps)
    if not f.size or not r.size:
        return
    scale = max(1.0, float(np.max(np.abs(f))))
    assert np.all(np.isfinite(f))
    np.testing.assert_allclose(f, n, rtol=1e-6 * loose, atol=2e-8 * scale * loose, err_msg="forward mode")
    np.testing.assert_allclose(r, f, rtol=1e-9 * loose, atol=1e-10 * scale * loose, err_msg="reverse mode")


# -- what is checked of a row ----------------------------------------------------------------------------


def check_values(row: Row) -> None:
    """Those of NumPy; float32 stays float32."""
    want = [np.asarray(y) for y in as_list(row.fn(np, *row.inputs))]
    for backend in ("cpu", "strict"):
        for narrow in (False, True):
            got = as_list(row.ours(*tensors(row.inputs, backend, narrow)))
            assert len(got) == len(want)
            for g, w in zip(got, want):
                assert isinstance(g, fw.Tensor)
                assert g.shape == w.shape
                kinds = {"f": "float", "c": "complex", "i": "int"}
                assert g.dtype.kind == kinds[w.dtype.kind]
                if g.dtype.kind != "int":
                    assert g.dtype.itemsize * (2 if narrow else 1) == w.dtype.itemsize
                rtol, atol = (5e-4, 1e-4) if narrow else (1e-11, 1e-12)
                np.testing.assert_allclose(g.numpy(), w, rtol=rtol, atol=atol)


def check_derivatives(row: Row) -> None:
    """Both modes against central differences."""
    check_jacobians(outputs(row.ours), list(row.inputs))


def check_second_derivatives(row: Row) -> None:
    """Both modes of the derivative of each mode."""
    fn = outputs(row.ours)
    xs = tensors(row.inputs)
    cotangents = directions(fn(*xs))
    tangents = directions(xs)
    check_jacobians(lambda *a: list(fw.vjp(fn, *a)[1](cotangents)), list(row.inputs), loose=10.0)
    check_jacobians(lambda *a: list(fw.jvp(fn, a, tangents)[1]), list(row.inputs), loose=10.0)


def derivatives(fn: Callable[..., list[Any]], xs: list[Any], order: int) -> list[Any]:
    y = fn(*xs)
    c, t = directions(y), directions(xs)
    result = [*y, *fw.vjp(fn, *xs)[1](c), *fw.jvp(fn, xs, t)[1]]
    if order > 1:
        result += fw.jvp(lambda *a: fw.vjp(fn, *a)[1](c), xs, t)[1]
        result += fw.vjp(lambda *a: fw.jvp(fn, a, t)[1], *xs)[1](c)
    return result


def check_strict(row: Row) -> None:
    """The strict backend computes the same derivatives."""
    fn = outputs(row.ours)
    for narrow in (False, True):
        got, want = (derivatives(fn, tensors(row.inputs, b, narrow), row.order) for b in ("strict", "cpu"))
        for g, w in zip(got, want):
            assert g.dtype is w.dtype
            assert g.dtype.itemsize <= (8 if narrow else 16)
            if not narrow:
                np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-8, atol=1e-9)


def check_vmap(row: Row) -> None:
    """Batches give what their samples give: values, derivatives, and derivatives of the batch."""
    fn = outputs(row.ours)
    for batched in product((False, True), repeat=len(row.inputs)):
        if not any(batched):
            continue
        stacks = [np.stack([x, x * 0.98, x * 1.01]) if b else x for x, b in zip(row.inputs, batched)]
        xs = tensors(stacks)
        axes = tuple(0 if b else None for b in batched)

        def one(*a: Any) -> list[Any]:
            return derivatives(fn, list(a), min(row.order, 1))

        def loop(f: Any, *a: Any, batched: Any = batched) -> list[Any]:
            rows = [f(*[x[i] if b else x for x, b in zip(a, batched)]) for i in range(3)]
            return [ops.stack(list(column)) for column in zip(*rows)]

        for g, w in zip(vmap(one, axes)(*xs), loop(one, *xs)):
            np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-9, atol=1e-10)
        mapped = derivatives(vmap(fn, axes), xs, row.order)
        looped = derivatives(lambda *a: loop(fn, *a), xs, row.order)
        for g, w in zip(mapped, looped):
            np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-8, atol=1e-9)


def check_against_jax(row: Row, jax: Any) -> None:
    """Values, both modes, and forward over reverse."""
    jnp = jax.numpy
    xs = [jnp.asarray(x) for x in row.inputs]

    def fn(*a: Any) -> Any:
        return as_list(row.fn(jnp, *a))

    shapes = jax.eval_shape(fn, *xs)
    cs = [jnp.asarray(numpy_direction(s.shape, s.dtype.kind == "c", k)) for k, s in enumerate(shapes)]
    ts = [jnp.asarray(numpy_direction(x.shape, x.dtype.kind == "c", k)) for k, x in enumerate(xs)]

    @jax.jit
    def everything(xs: Any, ts: Any, cs: Any) -> list[Any]:
        y, dy = jax.jvp(fn, tuple(xs), tuple(ts))
        result = [*y, *jax.vjp(fn, *xs)[1](cs), *dy]
        if row.order > 1:
            result += jax.jvp(lambda *a: jax.vjp(fn, *a)[1](cs), tuple(xs), tuple(ts))[1]
        return result

    want = everything(xs, ts, cs)
    got = derivatives(outputs(row.ours), tensors(row.inputs), row.order)
    for g, w in zip(got, want):  # the last of ours, reverse over forward, is left out
        w = np.asarray(w)
        scale = max(1.0, float(np.max(np.abs(w), initial=0.0)))
        np.testing.assert_allclose(g.numpy(), w, rtol=1e-8, atol=1e-9 * scale)


def import_jax() -> Iterator[Any]:
    """JAX with 64-bit floats, for the time of a module's tests."""
    jax = pytest.importorskip("jax", reason="JAX is not installed: pip install -e '.[reference]'")
    jax.config.update("jax_enable_x64", True)
    yield jax
    jax.config.update("jax_enable_x64", False)


IN_SHORT = 2
"""How many rows of a function the long checks take where not everything is run."""
FEW = 6
"""How many the other checks of derivatives take there."""


def by_id(rows: list[Row], long: bool = False, most: int | None = None) -> Any:
    """A test for each row; those between `most` evenly spread ones of a function are slow; in long checks, `IN_SHORT`."""
    most = IN_SHORT if long else most or len(rows)
    assert len({row.id for row in rows}) == len(rows)
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(row.id.split()[0], []).append(row)
    chosen = {family[len(family) * k // most].id for family in families.values() for k in range(most)}
    params = [pytest.param(row, id=row.id, marks=() if row.id in chosen else pytest.mark.slow) for row in rows]
    return pytest.mark.parametrize("row", params)
