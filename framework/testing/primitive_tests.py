"""Conformance: every primitive's forward against float64 NumPy, and every derivative and batching rule."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from framework.autodiff import PRIMITIVES, Tensor, jvp, tensor, vjp, vmap
from framework.backend import Backend
from framework.backend import dtypes as dt
from framework.testing.kit import TOLERANCE, Kit, close, on_host, over
from framework.testing.samples import TABLE, Draw, Sample, reference, samples

INTERNAL = {
    "alias": "marks the inputs of a transform; never computed",
    "to_device": "joins two backends; see test_tensors_move_and_gradients_come_back",
}
"""Primitives without samples, and why."""

BATCH = 3
ARITHMETIC = ("add", "subtract", "multiply", "divide", "pow", "maximum", "minimum", "less", "equal")


def runs_in(sample: Sample, d: dt.DType) -> bool:
    """Whether a sample can be computed in a dtype."""
    kinds = {"float": ("float",), "int": ("int", "uint"), "bool": ("bool",)}
    return d.kind in kinds.get(sample.kind, ()) or sample.kind == d.name


def in_every_dtype(b: Backend) -> list[tuple[str, str]]:
    """Primitives with the dtypes that they have samples for and the backend offers."""
    return [
        (name, d.name)
        for name in PRIMITIVES
        if name in TABLE
        for d in b.dtypes
        if any(runs_in(sample, d) for sample in samples(name))
    ]


RULES = [name for name, p in PRIMITIVES.items() if name in TABLE and p.vjp is not None]


class Call:
    """A primitive called on one sample: on the backend and on the host."""

    def __init__(
        self, b: Backend, name: str, number: int, dtype: dt.DType, *, draw: int = 0, device: str | None = None
    ) -> None:
        sample = samples(name)[number]
        self.b, self.device, self.what = b, device, f"{name}, sample {number}"
        self.sample, self.dtype = sample, dtype
        self.primitive = PRIMITIVES[name]
        self.params = {k: b.native(v) if k == "dtype" else v for k, v in sample.params.items()}
        self.inputs = [self._on_backend(x) for x in sample.draw(Draw(name, number, draw))]
        self.host = [on_host(b, x._data) for x in self.inputs]
        self.floats = [i for i, x in enumerate(self.inputs) if x.dtype.kind == "float"]
        self._reference = reference(name, sample)

    def _on_backend(self, x: np.ndarray) -> Tensor:
        follows = {"f": "float", "i": "int"}.get(x.dtype.kind)
        cast = follows == self.sample.kind or (follows == "float" and self.sample.kind == self.dtype.name)
        return tensor(x, dtype=self.dtype if cast else None, backend=self.b, device=self.device)

    def apply(self, *inputs: Any) -> Tensor:
        """The primitive."""
        out: Tensor = self.primitive.apply(*inputs, **self.params)
        return out

    def expected(self, *inputs: Any) -> np.ndarray:
        """The reference."""
        return np.asarray(self._reference(*inputs, **self.sample.params))

    def subsets(self) -> Iterator[tuple[int, ...]]:
        """The floating-point inputs one by one, and all together."""
        yield from ((i,) for i in self.floats)
        if len(self.floats) > 1:
            yield tuple(self.floats)

    def of(self, chosen: tuple[int, ...]) -> Callable[..., Tensor]:
        """The primitive as a function of some inputs, the others fixed."""

        def fn(*moved: Tensor) -> Tensor:
            inputs: list[Any] = list(self.inputs)
            for i, x in zip(chosen, moved):
                inputs[i] = x
            return self.apply(*inputs)

        return fn


def as_tensor_on(b: Backend, x: Any, d: dt.DType | None = None) -> Tensor:
    """A Tensor of a backend."""
    return tensor(x, dtype=d, backend=b)


def calls(b: Backend, name: str, d: dt.DType, keep: Callable[[Sample], bool] = lambda s: True) -> list[Call]:
    """The samples of a primitive that run in a dtype."""
    return [Call(b, name, i, d) for i, s in enumerate(samples(name)) if runs_in(s, d) and keep(s)]


def widest(b: Backend) -> tuple[dt.DType, float]:
    """The floating-point dtype to check rules in, and the tolerance of a derivative in it."""
    return (dt.float64, 1e-7) if dt.float64 in b.dtypes else (dt.float32, 2e-3)


class PrimitiveTests(Kit):
    """Primitives: values, gradients, tangents, batches."""

    def test_every_primitive_has_samples(self) -> None:
        """A primitive that is added without samples is not tested."""
        assert set(PRIMITIVES) == set(TABLE) | set(INTERNAL), "framework/testing/samples.py is to be brought up to date"

    @over("name, dtype", in_every_dtype)
    def test_forward(self, b: Backend, name: str, dtype: str) -> None:
        """Values, dtype and shape are those of float64 NumPy; inputs are left alone."""
        d = dt.dtype(dtype)
        for call in calls(b, name, d):
            out = call.apply(*call.inputs)
            assert b.owns(out._data), f"{call.what}: {b.name!r} does not own the result, a {type(out._data)}"
            raw = [b.to_numpy(x._data) for x in call.inputs]
            expected = call.expected(*(call.host if d.kind == "float" else raw))
            named = call.sample.params.get("dtype") or (d.name if expected.dtype == np.float64 else expected.dtype.name)
            assert out.dtype == named, f"{call.what}: got dtype {out.dtype.name}, expected {named}"
            close(on_host(b, out._data), expected, TOLERANCE.get(d.name, 0.0), call.what)
            for x, before in zip(call.inputs, call.host):
                np.testing.assert_array_equal(on_host(b, x._data), before, err_msg=f"{call.what} changed its input")

    @pytest.mark.parametrize("name", ARITHMETIC)
    def test_python_scalars_are_weak(self, b: Backend, name: str) -> None:
        """A Python number on either side takes the array's dtype."""
        apply = PRIMITIVES[name].apply
        for d in (d for d in b.dtypes if d.kind == "float"):
            x = as_tensor_on(b, np.array([0.5, 1.0, 2.0]), d)
            for out, expected in (
                (apply(x, 1.0), reference(name, samples(name)[0])(np.array([0.5, 1.0, 2.0]), 1.0)),
                (apply(2.0, x), reference(name, samples(name)[0])(2.0, np.array([0.5, 1.0, 2.0]))),
                (apply(x, 1), reference(name, samples(name)[0])(np.array([0.5, 1.0, 2.0]), 1.0)),
            ):
                assert out.dtype in (d, dt.bool_)
                close(on_host(b, out._data), expected, TOLERANCE[d.name], f"{name} with a number in {d.name}")

    @pytest.mark.parametrize("name", RULES)
    def test_reverse_rule(self, b: Backend, name: str) -> None:
        """The gradient with respect to each input, and to all together, equals central differences."""
        d, tolerance = widest(b)
        for call in calls(b, name, d, lambda s: s.rules):
            seed = Draw(name, "seed").signed(*call.expected(*call.host).shape)
            wanted = {i: _gradient(call, i, seed) for i in call.floats}
            for chosen in call.subsets():
                _, pull = vjp(call.of(chosen), *(call.inputs[i] for i in chosen))
                for i, g in zip(chosen, pull(as_tensor_on(b, seed, d))):
                    what = f"{call.what}, gradient of input {i} when {chosen} need one"
                    assert g.dtype is d, what
                    close(on_host(b, g._data), wanted[i], tolerance, what)

    @pytest.mark.parametrize("name", RULES)
    def test_forward_rule(self, b: Backend, name: str) -> None:
        """The tangent along each input, and along all together, equals a central difference."""
        d, tolerance = widest(b)
        for call in calls(b, name, d, lambda s: s.rules):
            for chosen in call.subsets():
                directions = {i: Draw(name, "tangent", i).signed(*call.host[i].shape) for i in chosen}
                primals = [call.inputs[i] for i in chosen]
                out, t = jvp(call.of(chosen), primals, [as_tensor_on(b, v, d) for v in directions.values()])
                what = f"{call.what}, tangent along {chosen}"
                assert (t.dtype, t.shape) == (d, out.shape), what
                close(on_host(b, t._data), _tangent(call, directions), tolerance, what)

    @pytest.mark.parametrize("name", RULES)
    def test_second_order(self, b: Backend, name: str) -> None:
        """The rules differentiate again: reverse over reverse and forward over reverse agree with differences."""
        if dt.float64 not in b.dtypes:
            pytest.skip("differences of gradients need float64")
        for call in calls(b, name, dt.float64, lambda s: s.rules)[:2]:
            chosen = tuple(call.floats)
            seed = as_tensor_on(b, Draw(name, "seed").signed(*call.expected(*call.host).shape))
            primals = [call.inputs[i] for i in chosen]
            along = [as_tensor_on(b, Draw(name, "along", i).signed(*call.host[i].shape)) for i in chosen]

            fn = call.of(chosen)

            def gradient(*xs: Tensor, fn: Any = fn, seed: Tensor = seed) -> tuple[Any, ...]:
                return tuple(vjp(fn, *xs)[1](seed))

            eps = 1e-5
            plus = gradient(*(x + eps * v for x, v in zip(primals, along)))
            minus = gradient(*(x - eps * v for x, v in zip(primals, along)))
            wanted = [(p.numpy() - m.numpy()) / (2 * eps) for p, m in zip(plus, minus)]
            _, forward = jvp(gradient, primals, along)
            for k, (got, expected) in enumerate(zip(forward, wanted)):
                close(got.detach().numpy(), expected, 1e-7, f"{call.what}, forward over reverse, input {chosen[k]}")
            reverse = vjp(gradient, *primals)[1](tuple(along))  # the Hessian is symmetric
            for k, (got, expected) in enumerate(zip(reverse, wanted)):
                close(got.detach().numpy(), expected, 1e-7, f"{call.what}, reverse over reverse, input {chosen[k]}")

    @over("name", lambda b: RULES if len(b.devices) > 1 else [])
    def test_other_devices(self, b: Backend, name: str) -> None:
        """Values, gradients and tangents stay on the device of the inputs, where that is not the default one."""
        d, _ = widest(b)
        for device in b.devices[1:]:
            for i in [i for i, s in enumerate(samples(name)) if runs_in(s, d) and s.rules]:
                call = Call(b, name, i, d, device=device)
                chosen = tuple(call.floats)
                primals = [call.inputs[i] for i in chosen]
                out, pull = vjp(call.of(chosen), *primals)
                _, tangent = jvp(call.of(chosen), primals, primals)
                for made in (out, tangent, *pull(out)):
                    assert made.device == device, f"{call.what}: made on {made.device!r}, from inputs on {device!r}"

    @pytest.mark.parametrize("name", [name for name in PRIMITIVES if name in TABLE])
    def test_batch_rule(self, b: Backend, name: str) -> None:
        """A batch at once equals a loop over its samples, whichever inputs have a batch axis."""
        for d in (widest(b)[0], dt.int64, dt.bool_):
            for i, sample in enumerate(samples(name)):
                if runs_in(sample, d) and sample.batch:
                    _check_batches([Call(b, name, i, d, draw=draw) for draw in range(BATCH)])


def _gradient(call: Call, i: int, seed: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    """Central differences of sum(seed · reference) with respect to input i."""
    x = call.host[i]
    g = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        sides = []
        for sign in (1.0, -1.0):
            moved = x.copy()
            moved[place] += sign * eps
            sides.append(np.sum(seed * call.expected(*call.host[:i], moved, *call.host[i + 1 :])))
        g[place] = (sides[0] - sides[1]) / (2 * eps)
    return g


def _tangent(call: Call, directions: dict[int, np.ndarray], eps: float = 1e-6) -> np.ndarray:
    """The central difference of the reference along directions of some inputs."""
    sides = [
        call.expected(*(x + sign * eps * directions[i] if i in directions else x for i, x in enumerate(call.host)))
        for sign in (1.0, -1.0)
    ]
    return np.asarray((sides[0] - sides[1]) / (2 * eps))


def _check_batches(loop: list[Call]) -> None:
    first = loop[0]
    b = first.b
    places = range(len(first.inputs))
    for size in range(1, len(places) + 1):
        for batched in itertools.combinations(places, size):
            axes = tuple(0 if i in batched else None for i in places)
            stacked = [
                as_tensor_on(b, np.stack([b.to_numpy(call.inputs[i]._data) for call in loop])) if i in batched else x
                for i, x in enumerate(first.inputs)
            ]
            got = vmap(first.apply, in_axes=axes)(*stacked)
            one_by_one = [
                on_host(b, first.apply(*(c.inputs[i] if i in batched else x for i, x in enumerate(first.inputs)))._data)
                for c in loop
            ]
            what = f"{first.what}, batched inputs {batched}"
            close(on_host(b, got._data), np.stack(one_by_one), 10 * TOLERANCE.get(first.dtype.name, 0.0), what)
