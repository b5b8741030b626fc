"""The table with all its rows, which of them exist, and the cases that tests run: some seeds for each row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rows_elementwise  # noqa: F401 - the modules fill the table
import rows_everyday  # noqa: F401
import rows_layers  # noqa: F401
import rows_linalg  # noqa: F401
import rows_products  # noqa: F401
import rows_reductions  # noqa: F401
import rows_shape  # noqa: F401
import rows_windows  # noqa: F401
from generated import ROWS, Case, case_of, resolve
from generated_checks import differentiable
from generated_references import OURS

import framework as fw
import framework.numpy as fnp
from framework.autodiff.namespace import ops

FULL = os.environ.get("FW_TEST_CASES") == "full"


def exists(name: str) -> bool:
    """Whether the function of a row is offered."""
    try:
        resolve(OURS, name.split()[0])
    except AttributeError:
        return False
    return True


NAMES = sorted(name for name in ROWS if exists(name))


def cases(count: int, first: int = 0, keep: Callable[[str], Any] = lambda name: True) -> list[tuple[str, int]]:
    """Names and seeds, `count` seeds for each row that is kept."""
    return [(name, seed) for name in NAMES if keep(name) for seed in range(first, first + count)]


def ids(pairs: list[tuple[str, int]]) -> list[str]:
    """What pytest calls them: the function and the seed."""
    return [f"{name}-{seed}" for name, seed in pairs]


@contextmanager
def made(name: str, seed: int) -> Iterator[Case]:
    """The case; a failure says how to make it again."""
    try:
        yield case_of(ROWS[name], seed)
    except Exception as error:
        error.add_note(f"case_of(ROWS[{name!r}], {seed})")
        raise


# -- what there is -------------------------------------------------------------------------------------------

NOT_DIFFERENTIABLE = frozenset(
    """
    arange empty empty_like eye from_dlpack identity ones ones_like tri zeros zeros_like
    broadcast_shapes can_cast finfo iinfo iscomplexobj isdtype isrealobj isscalar ndim result_type shape size
    bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor
    allclose array_equal equal greater greater_equal isclose isfinite isinf isnan isneginf isposinf less less_equal
    not_equal signbit all any logical_and logical_not logical_or logical_xor
    argmax argmin argsort argwhere count_nonzero flatnonzero nonzero searchsorted
    diag_indices tril_indices triu_indices unravel_index
    linalg.matrix_rank
    fft.fftfreq fft.rfftfreq stop_gradient
    """.split()
)
"""Functions without a derivative: their results are integers, bools or shapes, or don't depend on real inputs."""


def public_functions() -> dict[str, Any]:
    """The functions of `framework.numpy`, `linalg` and `fft` by dotted names."""
    found: dict[str, Any] = {}
    for prefix, module in (("", fnp), ("linalg.", fnp.linalg), ("fft.", fnp.fft)):
        for name in module.__all__:
            fn = getattr(module, name)
            if callable(fn):
                found[prefix + name] = fn
    return found


def primitives_of(case: Case) -> set[str]:
    """The primitives that a case records, and those that its gradient records."""
    xs = [fw.tensor(x, requires_grad=True) for x in case.inputs]
    fn = differentiable(case.function(OURS, fw.tensor))
    ys = fn(*xs)
    grads = fw.vjp(fn, *xs)[1]([ops.ones_like(y.detach()) for y in ys])
    names: set[str] = set()
    stack = [t._node for t in (*ys, *grads) if t._node is not None]
    seen = set()
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            names.add(node.name)
            stack.extend(p for p in node.parents if p is not None)
    return names
