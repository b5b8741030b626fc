"""Modules with arguments, shapes and dtypes drawn by chance, beside PyTorch's: values, gradients, state.

To repeat a case: `case("Conv2d", 17, "float64")`. Full runs take four times as many.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest
from drawn_rows import MAKERS, drawn
from module_table import Row

import framework as fw
from framework import nn

SEEDS = 150 if os.environ.get("FW_TEST_CASES") == "full" else 36
DTYPES = ("float64", "float32")
"""Each seed is run in the first; every third in the second, too."""

KNOWN = (
    "reduction: 'mean' divides the total loss by both",
    "Using padding='same' with even kernel lengths",
    "LSTM with projections is not supported with oneDNN",
    "Support for mismatched key_padding_mask and attn_mask",
)
"""How warnings of PyTorch begin that are no matter of numbers."""


def built(row: Row, library: Any, convert: Any, dtype: Any) -> Any:
    if row.name == "Sequential":
        return library.Sequential(*[part.build(library, convert) for part in row.args]).to(dtype)
    return row.build(library, convert).to(dtype)


def check_close(ours: Any, theirs: Any, dtype: str, what: str) -> None:
    a, b = ours.detach().numpy(), theirs.detach().numpy()
    assert a.shape == b.shape, what
    assert a.dtype == b.dtype, what
    rtol, atol = (1e-9, 1e-10) if dtype == "float64" else (1e-4, 5e-5)
    scale = max(1.0, float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b))))
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol * scale, err_msg=what)


def check_state(ours: Any, theirs: Any, dtype: str, what: str) -> None:
    """Buffers move alike, too; counts are equal."""
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values()):
        check_close(a, b, dtype, f"{what}: {name}")


def case(name: str, seed: int, dtype: str) -> None:
    """One module in training, once more where statistics follow, and in evaluation."""
    import torch

    row = drawn(name, seed)
    what = f"{row.id}, case({name!r}, {seed}, {dtype!r})"
    narrow = getattr(torch, dtype)
    theirs = built(row, torch.nn, lambda a: torch.tensor(a, dtype=narrow), narrow)
    ours = built(row, nn, lambda a: a.astype(dtype), dtype)
    assert repr(ours) == repr(theirs).replace("NonDynamicallyQuantizableLinear", "Linear")
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    inplace = getattr(theirs, "inplace", False)
    for turn in range(3) if list(theirs.buffers()) else (0, 2):
        if turn == 2:
            ours.eval()
            theirs.eval()
        arrays = row.inputs(dtype, seed=3 * seed + turn)
        wanted = [a.dtype.kind == "f" and not (k == 1 and name.endswith("Loss")) for k, a in enumerate(arrays)]
        xs = [fw.tensor(a, requires_grad=w) for a, w in zip(arrays, wanted)]
        zs = [torch.tensor(a, requires_grad=w) for a, w in zip(arrays, wanted)]
        y, z = row.run(ours, *xs), row.run(theirs, *(v.clone() if inplace else v for v in zs))
        check_close(y, z, dtype, what)
        if turn == 1 or not y.requires_grad:
            continue
        for p in (*ours.parameters(), *theirs.parameters()):
            p.grad = None
        weights = np.random.default_rng(seed).normal(size=y.shape).astype(dtype)
        y.backward(fw.tensor(weights))
        z.backward(torch.tensor(weights))
        names = [f"input {k}" for k, w in enumerate(wanted) if w] + [key for key, _ in ours.named_parameters()]
        left = [*(x for x, w in zip(xs, wanted) if w), *ours.parameters()]
        right = [*(v for v, w in zip(zs, wanted) if w), *theirs.parameters()]
        for key, a, b in zip(names, left, right, strict=True):
            assert (a.grad is None) == (b.grad is None), f"{what}: {key}"
            if b.grad is not None:
                check_close(a.grad, b.grad, dtype, f"{what}: gradient of {key}")
        for k, (x, a) in enumerate(zip(xs, arrays)):
            np.testing.assert_array_equal(x.detach().numpy(), a, err_msg=f"{what}: input {k} was written")
    check_state(ours, theirs, dtype, what)
    back = built(row, torch.nn, lambda a: torch.tensor(a, dtype=narrow), narrow)
    back.load_state_dict({key: torch.tensor(value.numpy()) for key, value in ours.state_dict().items()})
    check_state(ours, back, dtype, what)


def seeds(dtype: str) -> range:
    return range(0, SEEDS, 1 if dtype == "float64" else 3)


def test_every_module_is_drawn() -> None:
    exported = {n for n in dir(nn) if isinstance(getattr(nn, n), type) and issubclass(getattr(nn, n), nn.Module)}
    assert set(MAKERS) == exported - {"Module", "ModuleList", "ModuleDict"}
    assert len(MAKERS) * sum(len(seeds(dtype)) for dtype in DTYPES) >= 1500


@pytest.mark.reference
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_drawn_cases_equal_torch(name: str, dtype: str) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    with warnings.catch_warnings():
        for start in KNOWN:
            warnings.filterwarnings("ignore", start)
        for seed in seeds(dtype):
            case(name, seed, dtype)
