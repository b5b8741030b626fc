"""What is proved of a generated case: values, derivatives of both modes and their derivatives, batching, dtypes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from generated import Array, Case
from generated_references import NUMPY, OURS

import framework as fw
from framework.autodiff import tree

Arrays = list[Array]

STEP = 5e-4
VALUE = 1e-11
"""Two ways to compute one thing in float64: some thousand roundings."""
DIFFERENCE = 1e-7
"""Four-point differences: the truncation is STEP⁴ f⁽⁵⁾/30 with f⁽⁵⁾ up to 1e6 near a pole, the rounding 1e-16/STEP."""
MODES = 1e-10
"""Forward against reverse: the same derivative by other operations."""
REFERENCE = 1e-9
"""Derivatives by another library's formulas."""
SINGLE = 1e-4
"""float32 against float64: a thousand roundings of 1e-7, also in a second derivative."""


def close(what: str, got: Sequence[Any], want: Sequence[Any], tolerance: float, case: Case) -> None:
    """Assert that arrays agree in shape, and in value relative to the largest element or to 1."""
    assert len(got) == len(want), f"{what}: {len(got)} arrays instead of {len(want)}\n{case}"
    for i, (g, w) in enumerate(zip(got, want)):
        g, w = np.asarray(g), np.asarray(w)
        assert g.shape == w.shape, f"{what}, array {i}: shape {g.shape} instead of {w.shape}\n{case}"
        if w.dtype.kind in "biu" or g.dtype.kind in "biu":
            assert np.array_equal(g, w), f"{what}, array {i}: {g} instead of {w}\n{case}"
            continue
        scale = max(1.0, float(np.max(np.abs(w), initial=0.0)))
        error = float(np.max(np.abs(g - w), initial=0.0))
        assert error <= tolerance * scale, f"{what}, array {i}: off by {error:.2e}\n{g}\ninstead of\n{w}\n{case}"


def pairing(xs: Sequence[Any], ys: Sequence[Any]) -> Array:
    """Re Σ x·y: bilinear, as the cotangent of a complex number is the transposed map, not the conjugated one."""
    return np.asarray(sum(float(np.sum(np.asarray(x) * np.asarray(y)).real) for x, y in zip(xs, ys)))


Pair = tuple[Sequence[Any], Sequence[Any]]


def adjoint(what: str, left: Pair, right: Pair, tolerance: float, case: Case) -> None:
    """Assert that two pairings are equal, relative to the sum of the absolute values of their terms or to 1."""
    got, want = pairing(*left), pairing(*right)
    terms = [float(np.sum(np.abs(np.asarray(x) * np.asarray(y)))) for pair in (left, right) for x, y in zip(*pair)]
    error = abs(float(got - want))
    assert error <= tolerance * max(1.0, sum(terms)), f"{what}: pairings {got} and {want}, off by {error:.2e}\n{case}"


def numpy_of(tensors: Sequence[Any]) -> Arrays:
    return [t.numpy() for t in tensors]


def tensors_of(arrays: Sequence[Array]) -> list[Any]:
    return [fw.tensor(x) for x in arrays]


def along(fn: Callable[[Arrays], Arrays], xs: Arrays, ts: Arrays) -> Arrays:
    """The derivative of `fn` at `xs` along `ts`, by four-point central differences."""
    at = {k: fn([x + k * STEP * t for x, t in zip(xs, ts)]) for k in (-2, -1, 1, 2)}
    return [(8 * (b - c) - (a - d)) / (12 * STEP) for a, b, c, d in zip(at[2], at[1], at[-1], at[-2])]


def differentiable(fn: Callable[..., Any]) -> Callable[..., list[Any]]:
    """`fn` with a list of its real and complex results."""

    def outputs(*xs: Any) -> list[Any]:
        return [y for y in tree.flatten(fn(*xs))[0] if np.dtype(str(y.dtype)).kind in "fc"]

    return outputs


class Derivatives:
    """A case with its directions and cotangents, and the functions that are differentiated."""

    def __init__(self, case: Case, cast: Callable[[Array], Array] = np.asarray) -> None:
        self.case = case
        self.xs = [cast(x) for x in case.inputs]
        self.fn = differentiable(case.function(OURS, lambda x: fw.tensor(cast(x))))
        self.ys = numpy_of(self.fn(*tensors_of(self.xs)))
        self.ts = [cast(case.direction(x)) for x in self.xs]
        self.cs = [cast(case.direction(y)) for y in self.ys]
        self.tcs = [cast(case.direction(y)) for y in self.ys]

    def jvp(self) -> Arrays:
        return numpy_of(fw.jvp(self.fn, tensors_of(self.xs), tensors_of(self.ts))[1])

    def vjp(self, cotangents: Arrays) -> Arrays:
        return numpy_of(fw.vjp(self.fn, *tensors_of(self.xs))[1](tensors_of(cotangents)))

    def gradients(self, *args: Any) -> list[Any]:
        """The vjp as a function of the inputs and of the cotangents."""
        n = len(self.xs)
        return list(fw.vjp(self.fn, *args[:n])[1](list(args[n:])))

    def second(self) -> Arrays:
        """The derivative of `gradients`, forward over reverse."""
        return numpy_of(fw.jvp(self.gradients, tensors_of(self.xs + self.cs), tensors_of(self.ts + self.tcs))[1])

    def everything(self) -> dict[str, Arrays]:
        return {"value": self.ys, "jvp": self.jvp(), "vjp": self.vjp(self.cs), "second order": self.second()}


def check_values(case: Case) -> None:
    """All results against NumPy's."""
    got = tree.flatten(case.function(OURS, fw.tensor)(*tensors_of(case.inputs)))[0]
    want = tree.flatten(case.function(NUMPY, np.asarray)(*case.inputs))[0]
    close("value, against NumPy", numpy_of(got), want, VALUE, case)


def check_first_order(case: Case) -> None:
    """Forward and reverse mode against central differences, and against each other."""
    d = Derivatives(case)
    differences = along(lambda xs: numpy_of(d.fn(*tensors_of(xs))), d.xs, d.ts)
    tangents = d.jvp()
    close("jvp, against differences", tangents, differences, DIFFERENCE, case)
    grads = d.vjp(d.cs)
    _same_kind(grads, d.xs, case)
    adjoint("vjp, against differences", (grads, d.ts), (d.cs, differences), DIFFERENCE, case)
    adjoint("vjp, against jvp", (grads, d.ts), (d.cs, tangents), MODES, case)


def check_second_order(case: Case) -> None:
    """The derivative of the vjp (with respect to inputs and cotangents) by every mix of modes, and by differences."""
    d = Derivatives(case)
    points, directions = d.xs + d.cs, d.ts + d.tcs
    differences = along(lambda args: numpy_of(d.gradients(*tensors_of(args))), points, directions)
    forward = d.second()
    close("jvp of vjp, against differences", forward, differences, DIFFERENCE, case)
    us = [case.direction(x) for x in d.xs]
    _, pull = fw.vjp(d.gradients, *tensors_of(points))
    back = numpy_of(pull(tensors_of(us)))
    _same_kind(back, points, case)
    adjoint("vjp of vjp", (back, directions), (us, forward), MODES, case)

    def tangents(*xs: Any) -> Any:
        return fw.jvp(d.fn, xs, tensors_of(d.ts))[1]

    # the derivative with respect to the inputs alone: the vjp is linear in its cotangents
    inputs_only = [a - b for a, b in zip(forward, d.vjp(d.tcs))]
    mixed = numpy_of(fw.vjp(tangents, *tensors_of(d.xs))[1](tensors_of(d.cs)))
    close("vjp of jvp", mixed, inputs_only, MODES, case)
    twice = numpy_of(fw.jvp(tangents, tensors_of(d.xs), tensors_of(d.ts))[1])
    adjoint("jvp of jvp", (d.cs, twice), (mixed, d.ts), MODES, case)


def check_batching(case: Case) -> None:
    """vmap of values and derivatives, and derivatives of vmap, against a loop over the samples."""
    d = Derivatives(case)
    arrays = case.call.arrays
    is_batched = [bool(case.rng.random() < 0.7) for _ in arrays]
    is_batched[case.wanted[0]] = True
    samples = [[x * f if x.dtype.kind in "fc" else x for f in (1.0, 0.97)] if b else [x, x]
               for x, b in zip(arrays, is_batched)]  # fmt: skip
    axes = tuple(0 if b else None for b in is_batched)
    batch = [fw.tensor(np.stack(s) if b else s[0]) for s, b in zip(samples, is_batched)]

    def outputs(*all_inputs: Any) -> list[Any]:
        return differentiable(lambda *xs: case.call.fn(OURS, *xs))(*all_inputs)

    def everything(*all_inputs: Any) -> list[Any]:
        d.fn = lambda *xs: outputs(*[xs[case.wanted.index(i)] if i in case.wanted else x
                                     for i, x in enumerate(all_inputs)])  # fmt: skip
        xs = [all_inputs[i] for i in case.wanted]
        y, dy = fw.jvp(d.fn, xs, tensors_of(d.ts))
        args = xs + tensors_of(d.cs)
        g, dg = fw.jvp(d.gradients, args, tensors_of(d.ts + d.tcs))
        return [*y, *dy, *g, *dg]

    got = numpy_of(fw.vmap(everything, axes)(*batch))
    rows = [numpy_of(everything(*[fw.tensor(s[i]) for s in samples])) for i in range(2)]
    close("vmap", got, [np.stack(r) for r in zip(*rows)], VALUE, case)

    def batched(*xs: Any) -> Any:
        full = [xs[case.wanted.index(i)] if i in case.wanted else x for i, x in enumerate(batch)]
        return fw.vmap(outputs, axes)(*full)

    seeds = [np.stack([c, 0.5 * c]) for c in d.cs]
    pulled = numpy_of(fw.vjp(batched, *[batch[i] for i in case.wanted])[1](tensors_of(seeds)))
    n = len(d.ys)
    for k, (g, i) in enumerate(zip(pulled, case.wanted)):
        first, second = (rows[s][2 * n + k] for s in (0, 1))
        want = np.stack([first, 0.5 * second]) if is_batched[i] else first + 0.5 * second
        close("vjp of vmap", [g], [want], VALUE, case)


def check_single_precision(case: Case) -> None:
    """float32 inputs give float32 results and derivatives, close to those of float64."""

    rng_state = case.rng.bit_generator.state
    got = Derivatives(case, _narrowed).everything()
    for name, arrays in got.items():
        wide = [y.dtype.name for y in arrays if y.dtype not in (np.float32, np.complex64)]
        assert not wide, f"{name} of float32 is {wide}\n{case}"
    case.rng.bit_generator.state = rng_state
    with fw.use_backend("cpu"):
        want = Derivatives(case, lambda x: _widened(_narrowed(x))).everything()
    for name in got:
        close(f"{name} in float32", got[name], want[name], SINGLE, case)


def check_mixed_precision(case: Case) -> None:
    """A float32 input beside float64 ones has gradients in float32, and the others theirs in float64."""
    d = Derivatives(case)
    d.xs[0] = _narrowed(d.xs[0])
    rounded = [_widened(d.xs[0]), *d.xs[1:]]
    got = d.everything()
    for name in ("vjp", "second order"):
        _same_kind(got[name][: len(d.xs)], d.xs, case)
    d.xs = rounded
    want = d.everything()
    for name in ("jvp", "vjp", "second order"):
        close(f"{name} in mixed precision", got[name], want[name], SINGLE, case)


def check_backend(case: Case, backend: str) -> None:
    """Another backend gives what the CPU backend gives."""
    rng_state = case.rng.bit_generator.state
    want = Derivatives(case).everything()
    case.rng.bit_generator.state = rng_state
    with fw.use_backend(backend):
        got = Derivatives(case).everything()
    for name in got:
        close(f"{name} on {backend}", got[name], want[name], VALUE, case)


def _narrowed(x: Array) -> Array:
    return x.astype({"f": np.float32, "c": np.complex64}.get(x.dtype.kind, x.dtype))


def _widened(x: Array) -> Array:
    return x.astype({"f": np.float64, "c": np.complex128}.get(x.dtype.kind, x.dtype))


def _same_kind(grads: Arrays, xs: Arrays, case: Case) -> None:
    """A gradient has its input's shape and dtype."""
    for g, x in zip(grads, xs):
        assert (g.shape, g.dtype) == (x.shape, x.dtype), (
            f"a gradient is {g.dtype}{g.shape} of {x.dtype}{x.shape}\n{case}"
        )


def check_against_jax(case: Case, jax: Any, jit: Any, namespace: Any) -> None:
    """Values and derivatives against JAX's, compiled as one: operation by operation takes ten times as long."""
    d = Derivatives(case)
    fn = case.function(namespace, np.asarray)

    def outputs(*xs: Any) -> list[Any]:
        return [y for y in jax.tree_util.tree_leaves(fn(*xs)) if y.dtype.kind in "fc"]

    def gradients(*args: Any) -> Any:
        n = len(d.xs)
        return jax.vjp(outputs, *args[:n])[1](list(args[n:]))

    @jit
    def everything(xs: Any, ts: Any, cs: Any, tcs: Any) -> dict[str, Any]:
        y, dy = jax.jvp(outputs, xs, ts)
        g, dg = jax.jvp(gradients, [*xs, *cs], [*ts, *tcs])
        return {"value": y, "jvp": dy, "vjp": g, "second order": dg}

    want = everything(d.xs, d.ts, d.cs, d.tcs)
    got = d.everything()
    for name in want:
        close(f"{name}, against JAX", got[name], want[name], REFERENCE, case)
