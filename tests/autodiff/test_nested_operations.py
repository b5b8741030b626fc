"""Checkpoints, custom rules, Functions and implicit functions inside one another: derivatives of random programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Program, generate
from ways import t

import framework as fw
from framework.autodiff import ops

FULL = os.environ.get("FW_TEST_CASES") == "full"
Part = Callable[..., tuple[Any, ...]]


def by_vjp(part: Part) -> Part:
    f = fw.custom_vjp(part)
    f.defvjp(lambda *a: (part(*a), a), lambda a, g: fw.vjp(part, *a)[1](g))
    return f


def by_jvp(part: Part) -> Part:
    f = fw.custom_jvp(part)
    f.defjvp(lambda primals, tangents: fw.jvp(part, primals, tangents))
    return f


def by_function(part: Part) -> Part:
    class Made(fw.Function):
        @staticmethod
        def forward(ctx: Any, *a: Any) -> Any:
            ctx.save_for_backward(*a)
            return part(*a)

        @staticmethod
        def backward(ctx: Any, *g: Any) -> Any:
            return fw.vjp(part, *ctx.saved_tensors)[1](g)

    return Made.apply


def by_equation(part: Part) -> Part:
    return fw.implicit(part, lambda ys, *a: tuple([y - z for y, z in zip(ys, part(*a))]))


KINDS: dict[str, Callable[[Part], Part]] = {
    "checkpoint": fw.checkpoint, "vjp": by_vjp, "jvp": by_jvp, "Function": by_function, "implicit": by_equation,
}  # fmt: skip


def plan(random: np.random.Generator, low: int, high: int, depth: int = 0) -> Any:
    """The steps from low to high: by themselves, or as parts, each of them one operation of some kind or not."""
    if depth == 3 or high - low < 2:
        return [("steps", low, high)]
    cut = int(random.integers(low + 1, high))
    kinds = random.choice(["plain", "closure", *KINDS], size=2)
    return [(str(k), plan(random, *part, depth + 1)) for k, part in zip(kinds, ((low, cut), (cut, high)))]


def run_plan(program: Program, parts: Any, known: tuple[Any, ...]) -> tuple[Any, ...]:
    """All values, given those of the steps before."""
    for kind, *what in parts:
        if kind == "steps":
            for _, step, operands in program.steps[what[0] : what[1]]:
                known = (*known, step(fw.numpy, *[known[i] for i in operands]))
        elif kind == "plain":
            known = run_plan(program, what[0], known)
        else:

            def part(*given: Any, steps: Any = what[0], outside: Any = known) -> Any:
                return run_plan(program, steps, given or outside)[len(outside) :]

            known = (*known, *(fw.checkpoint(part)() if kind == "closure" else KINDS[kind](part)(*known)))
    return known


@settings(max_examples=300 if FULL else 12, deadline=None, derandomize=not FULL, database=None)
@given(seed=st.integers(0, 10**6))
def test_random_programs_of_nested_operations(seed: int) -> None:
    program = generate(seed, length=8)
    parts = plan(np.random.default_rng(seed), 0, len(program.steps))
    xs = [t(x) for x in program.inputs]
    ts = [t(np.random.default_rng(seed + i).uniform(-1, 1, x.shape)) for i, x in enumerate(xs)]

    def results(fn: Any) -> list[Any]:
        def energy(*args: Any) -> Any:
            return (fn(*args) ** 2).sum()

        def gradients(*args: Any) -> Any:
            return fw.grad(energy, tuple(range(len(args))))(*args)

        two = [ops.stack([x, y]) for x, y in zip(xs, ts)]
        leaves = [x.detach().requires_grad_() for x in xs]
        energy(*leaves).backward()
        return [
            *(ops.zeros_like(x.detach()) if x.grad is None else x.grad for x in leaves),
            *fw.jvp(fn, xs, ts),
            *fw.jvp(gradients, xs, ts)[1],
            *fw.grad(lambda *args: sum((g * g).sum() for g in gradients(*args)), tuple(range(len(xs))))(*xs),
            *fw.vmap(gradients)(*two),
        ]

    got = results(lambda *args: run_plan(program, parts, args)[-1])
    expected = results(lambda *args: program(fw.numpy, *args))
    assert len(got) == len(expected)
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-9, err_msg=f"{program}\n{parts}")
