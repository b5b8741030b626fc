"""Conformance: every primitive's forward against float64 NumPy, and every derivative and batching rule."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from framework.autodiff import PRIMITIVES, Tensor, jvp, ops, tensor, vjp, vmap
from framework.backend import Backend
from framework.backend import dtypes as dt
from framework.testing.differences import gradients, tangents
from framework.testing.kit import TOLERANCE, Kit, close, on_host, over
from framework.testing.samples import TABLE, Draw, Sample, observed, reference, samples

INTERNAL = {
    "alias": "marks the inputs of a transform; never computed",
    "to_device": "joins two backends; see test_tensors_move_and_gradients_come_back",
}
"""Primitives without samples, and why."""

BATCH = 3
ARITHMETIC = ("add", "subtract", "multiply", "divide", "pow", "maximum", "minimum", "less", "equal")
ORDERED = ("maximum", "minimum", "less")

REAL = {dt.complex64: dt.float32, dt.complex128: dt.float64}
COMPLEX = {real: both for both, real in REAL.items()}


def runs_in(b: Backend, sample: Sample, d: dt.DType) -> bool:
    """Whether a sample can be computed in a dtype."""
    if "dtype" in sample.params and dt.dtype(sample.params["dtype"]) not in b.dtypes:
        return False
    if sample.gives == "complex" and COMPLEX.get(d, d) not in b.dtypes:
        return False
    if d.kind == "float" and d.itemsize < 4 and not sample.half:
        return False
    kind = "int" if d.kind == "uint" else d.kind
    return sample.kind in (kind, d.name)


def in_every_dtype(b: Backend) -> list[tuple[str, str]]:
    """Primitives with the dtypes that they have samples for and the backend offers."""
    return [
        (name, d.name)
        for name in PRIMITIVES
        if name in TABLE
        for d in b.dtypes
        if any(runs_in(b, sample, d) for sample in samples(name))
    ]


RULES = [name for name, p in PRIMITIVES.items() if name in TABLE and p.vjp is not None]


class Call:
    """A primitive called on one sample: on the backend and on the host. Outputs are a tuple, always."""

    def __init__(
        self, b: Backend, name: str, number: int, dtype: dt.DType, *, draw: int = 0, device: str | None = None
    ) -> None:
        sample = samples(name)[number]
        self.b, self.device, self.what = b, device, f"{name}, sample {number}, {dtype.name}"
        self.sample, self.dtype = sample, dtype
        self.primitive = PRIMITIVES[name]
        self.params = {k: b.native(v) if k == "dtype" else v for k, v in sample.params.items()}
        self.inputs = [self._on_backend(x) for x in sample.draw(Draw(name, number, draw))]
        self.host = [None if x is None else on_host(b, x._data).copy() for x in self.inputs]
        self.present = tuple(i for i, x in enumerate(self.inputs) if x is not None)
        self.floats = tuple(i for i in self.present if self.inputs[i].dtype.is_differentiable)
        self._reference = reference(name, sample)

    def _on_backend(self, x: Any) -> Any:
        if x is None:
            return None
        kind, d = self.sample.kind, self.dtype
        if kind == "complex":
            follows = {"f": REAL[d], "c": d}.get(x.dtype.kind)
        elif kind == "int":
            follows = d if x.dtype.kind == "i" else None
        else:
            follows = d if x.dtype.kind == "f" and kind != "bool" else None
        return tensor(x, dtype=follows, backend=self.b, device=self.device)

    def outputs(self, *inputs: Any) -> tuple[Tensor, ...]:
        """The primitive's outputs as they are."""
        out = self.primitive.apply(*inputs, **self.params)
        return tuple(out) if self.primitive.outputs > 1 else (out,)

    def apply(self, *inputs: Any) -> tuple[Tensor, ...]:
        """What is unique in the primitive's outputs."""
        return observed(self.primitive.name, ops, self.outputs(*inputs))

    def expected_outputs(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        """The reference's outputs as they are."""
        out = self._reference(*inputs, **self.sample.params)
        return tuple(np.asarray(o) for o in (out if self.primitive.outputs > 1 else (out,)))

    def expected(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        """What is unique in the reference's outputs."""
        return observed(self.primitive.name, np, self.expected_outputs(*inputs))

    def dtype_of(self, expected: np.ndarray) -> dt.DType:
        """The dtype of an output, given that of the reference."""
        if (asked := self.sample.params.get("dtype")) is not None:
            return dt.dtype(asked)
        d = self.dtype
        follows = {"f": REAL.get(d, d), "c": COMPLEX.get(d, d)}.get(expected.dtype.kind)
        return follows if follows is not None and d.is_differentiable else dt.dtype(expected.dtype.name)

    def seeds(self) -> list[np.ndarray]:
        """A gradient for each output."""
        return [
            Draw(self.primitive.name, "seed", k).complex(*out.shape)
            if out.dtype.kind == "c"
            else Draw(self.primitive.name, "seed", k).signed(*out.shape)
            for k, out in enumerate(self.expected(*self.host))
        ]

    def directions(self, which: str, chosen: tuple[int, ...]) -> dict[int, np.ndarray]:
        """A tangent for each of some inputs."""
        found = {}
        for i in chosen:
            draw, x = Draw(self.primitive.name, which, i), np.asarray(self.host[i])
            if self.sample.tangent is not None:
                found[i] = self.sample.tangent(draw)[i]
                continue
            found[i] = draw.complex(*x.shape) if x.dtype.kind == "c" else draw.signed(*x.shape)
        return found

    def beside(self, x: np.ndarray, like: Tensor) -> Tensor:
        """A host array as a Tensor of the dtype and on the device of another."""
        return tensor(x, dtype=like.dtype, backend=self.b, device=self.device)

    def subsets(self) -> Iterator[tuple[int, ...]]:
        """The inputs that can be differentiated one by one, and all together."""
        yield from ((i,) for i in self.floats)
        if len(self.floats) > 1:
            yield self.floats

    def of(self, chosen: tuple[int, ...], outs: tuple[int, ...] | None = None) -> Callable[..., tuple[Tensor, ...]]:
        """Some outputs, or all, of the primitive as functions of some inputs, the others fixed."""

        def fn(*moved: Tensor) -> tuple[Tensor, ...]:
            inputs: list[Any] = list(self.inputs)
            for i, x in zip(chosen, moved):
                inputs[i] = x
            out = self.apply(*inputs)
            return out if outs is None else tuple(out[k] for k in outs)

        return fn


def as_tensor_on(b: Backend, x: Any, d: dt.DType | None = None) -> Tensor:
    """A Tensor of a backend."""
    return tensor(x, dtype=d, backend=b)


def calls(b: Backend, name: str, d: dt.DType, keep: Callable[[Sample], bool] = lambda s: True) -> list[Call]:
    """The samples of a primitive that run in a dtype."""
    return [Call(b, name, i, d) for i, s in enumerate(samples(name)) if runs_in(b, s, d) and keep(s)]


def widest(b: Backend) -> list[tuple[dt.DType, float]]:
    """The real and the complex dtype to check rules in, with the tolerance of a derivative."""
    pairs = ((dt.float64, dt.float32), (dt.complex128, dt.complex64))
    found = [next(((d, t) for d, t in zip(pair, (1e-7, 2e-3)) if d in b.dtypes), None) for pair in pairs]
    return [pair for pair in found if pair is not None]


def with_rules(b: Backend, name: str) -> Iterator[tuple[Call, float]]:
    """The samples of a primitive whose rules are checked, with the tolerance."""
    for d, tolerance in widest(b):
        for call in calls(b, name, d, lambda s: s.rules):
            yield call, tolerance


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
            raw = [None if x is None else np.array(b.to_numpy(x._data)) for x in call.inputs]
            given = call.host if d.is_differentiable else raw
            outs = call.outputs(*call.inputs)
            for out, expected in zip(outs, call.expected_outputs(*given), strict=True):
                assert b.owns(out._data), f"{call.what}: {b.name!r} does not own the result, a {type(out._data)}"
                named = call.dtype_of(expected)
                assert out.dtype == named, f"{call.what}: got dtype {out.dtype.name}, expected {named.name}"
                assert out.shape == expected.shape, f"{call.what}: got shape {out.shape}, expected {expected.shape}"
            for out, expected in zip(call.apply(*call.inputs), call.expected(*given), strict=True):
                close(on_host(b, out._data), expected, TOLERANCE.get(d.name, 0.0), call.what)
            for i in call.present:
                after = on_host(b, call.inputs[i]._data)
                np.testing.assert_array_equal(after, call.host[i], err_msg=f"{call.what} changed its input")

    @pytest.mark.parametrize("name", ARITHMETIC)
    def test_python_scalars_are_weak(self, b: Backend, name: str) -> None:
        """A Python number on either side takes the array's dtype."""
        apply = PRIMITIVES[name].apply
        host = reference(name, samples(name)[0])
        kinds = ("float",) if name in ORDERED else ("float", "complex")
        for d in (d for d in b.dtypes if d.kind in kinds):
            values = np.array([0.5, 1.0, 2.0]) + (0.5j if d.kind == "complex" else 0.0)
            x = as_tensor_on(b, values, d)
            for out, expected in (
                (apply(x, 1.0), host(values, 1.0)),
                (apply(2.0, x), host(2.0, values)),
                (apply(x, 1), host(values, 1.0)),
            ):
                assert out.dtype in (d, dt.bool_)
                close(on_host(b, out._data), expected, TOLERANCE[d.name], f"{name} with a number in {d.name}")

    @pytest.mark.parametrize("name", RULES)
    def test_reverse_rule(self, b: Backend, name: str) -> None:
        """The gradient of each output, and of all together, with respect to each input, and to all together,
        equals central differences."""
        for call, tolerance in with_rules(b, name):
            seeds = call.seeds()
            wanted = {i: gradients(call.expected, call.host, i, seeds) for i in call.floats}
            for chosen in call.subsets():
                for outs in _subsets(len(seeds)):
                    made, pull = vjp(call.of(chosen, outs), *(call.inputs[i] for i in chosen))
                    found = pull(tuple(call.beside(seeds[k], y) for k, y in zip(outs, made)))
                    for i, g in zip(chosen, found):
                        what = f"{call.what}, gradient of input {i} when {chosen} need one, from outputs {outs}"
                        assert g.dtype is call.inputs[i].dtype, what
                        close(on_host(b, g._data), sum(wanted[i][k] for k in outs), tolerance, what)

    @pytest.mark.parametrize("name", RULES)
    def test_forward_rule(self, b: Backend, name: str) -> None:
        """The tangent along each input, and along all together, equals a central difference."""
        for call, tolerance in with_rules(b, name):
            for chosen in call.subsets():
                along = call.directions("tangent", chosen)
                primals = [call.inputs[i] for i in chosen]
                outs, ts = jvp(call.of(chosen), primals, [call.beside(along[i], call.inputs[i]) for i in chosen])
                for out, t, wanted in zip(outs, ts, tangents(call.expected, call.host, along), strict=True):
                    what = f"{call.what}, tangent along {chosen}"
                    assert (t.dtype, t.shape) == (out.dtype, out.shape), what
                    close(on_host(b, t._data), wanted, tolerance, what)

    @pytest.mark.parametrize("name", RULES)
    def test_second_order(self, b: Backend, name: str) -> None:
        """The rules differentiate again: reverse over reverse and forward over reverse agree with differences."""
        if dt.float64 not in b.dtypes:
            pytest.skip("differences of gradients need float64")
        for d in (d for d in (dt.float64, dt.complex128) if d in b.dtypes):
            for call in calls(b, name, d, lambda s: s.rules)[:2]:
                _check_second_order(call)

    @over("name", lambda b: RULES if len(b.devices) > 1 else [])
    def test_other_devices(self, b: Backend, name: str) -> None:
        """Values, gradients and tangents stay on the device of the inputs, where that is not the default one."""
        for device, (d, _) in itertools.product(b.devices[1:], widest(b)):
            for i in [i for i, s in enumerate(samples(name)) if runs_in(b, s, d) and s.rules]:
                call = Call(b, name, i, d, device=device)
                primals = [call.inputs[i] for i in call.floats]
                outs, pull = vjp(call.of(call.floats), *primals)
                _, ts = jvp(call.of(call.floats), primals, primals)
                for made in (*outs, *ts, *pull(outs)):
                    assert made.device == device, f"{call.what}: made on {made.device!r}, from inputs on {device!r}"

    @pytest.mark.parametrize("name", [name for name in PRIMITIVES if name in TABLE])
    def test_batch_rule(self, b: Backend, name: str) -> None:
        """A batch at once equals a loop over its samples, whichever inputs have a batch axis."""
        for d in (*(d for d, _ in widest(b)), dt.int64, dt.bool_):
            for i, sample in enumerate(samples(name)):
                if runs_in(b, sample, d) and sample.batch:
                    _check_batches([Call(b, name, i, d, draw=draw) for draw in range(BATCH)])


def _subsets(count: int) -> Iterator[tuple[int, ...]]:
    """The outputs one by one, and all together."""
    yield from ((k,) for k in range(count))
    if count > 1:
        yield tuple(range(count))


def _check_second_order(call: Call) -> None:
    fn, chosen = call.of(call.floats), call.floats
    primals = [call.inputs[i] for i in chosen]
    directions = call.directions("along", chosen)
    along = [call.beside(directions[i], call.inputs[i]) for i in chosen]
    seed = tuple(call.beside(s, y) for s, y in zip(call.seeds(), fn(*primals)))

    def gradient(*xs: Tensor) -> tuple[Any, ...]:
        return tuple(vjp(fn, *xs)[1](seed))

    eps = 1e-5
    plus = gradient(*(x + eps * v for x, v in zip(primals, along)))
    minus = gradient(*(x - eps * v for x, v in zip(primals, along)))
    wanted = [(p.numpy() - m.numpy()) / (2 * eps) for p, m in zip(plus, minus)]
    _, forward = jvp(gradient, primals, along)
    reverse = vjp(gradient, *primals)[1](tuple(along))  # the Hessian is symmetric
    for mode, found in (("forward", forward), ("reverse", reverse)):
        for i, got, expected in zip(chosen, found, wanted, strict=True):
            close(got.detach().numpy(), expected, 1e-7, f"{call.what}, {mode} over reverse, input {i}")


def _check_batches(loop: list[Call]) -> None:
    first = loop[0]
    b = first.b
    for size in range(1, len(first.present) + 1):
        for batched in itertools.combinations(first.present, size):
            stacked = [as_tensor_on(b, np.stack([b.to_numpy(call.inputs[i]._data) for call in loop])) for i in batched]
            got = vmap(first.of(batched))(*stacked)
            one_by_one = [first.of(batched)(*(call.inputs[i] for i in batched)) for call in loop]
            what = f"{first.what}, batched inputs {batched}"
            for whole, *parts in zip(got, *one_by_one, strict=True):
                expected = np.stack([on_host(b, part._data) for part in parts])
                close(on_host(b, whole._data), expected, 10 * TOLERANCE.get(first.dtype.name, 0.0), what)
