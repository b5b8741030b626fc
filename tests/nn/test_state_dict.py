"""Loading: everything is checked before anything is set, and parameters stay what they are."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import framework as fw
from framework import nn
from framework.errors import CheckpointError


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_round_trip_keeps_parameters() -> None:
    a, b = model(), model()
    held = list(b.parameters())
    optimizer = fw.optim.SGD(b.parameters(), lr=1.0)
    b[0].weight.requires_grad = False
    assert b.load_state_dict(a.state_dict()) == ([], [])
    assert [p is q for p, q in zip(held, b.parameters(), strict=True)] == [True] * 4
    assert [p.tolist() for p in a.parameters()] == [p.tolist() for p in b.parameters()]
    assert not b[0].weight.requires_grad
    b[2].bias.grad = [1.0, 1.0]
    optimizer.step()
    np.testing.assert_allclose(b[2].bias.tolist(), np.array(a[2].bias.tolist()) - 1, rtol=1e-6)


def test_what_is_saved_and_what_is_loaded_are_copies() -> None:
    m = model()
    saved = m.state_dict()
    before = {name: value.tolist() for name, value in saved.items()}
    arrays = {name: np.array(value.tolist(), np.float32) for name, value in saved.items()}
    m.load_state_dict(arrays)
    optimizer = fw.optim.SGD(m.parameters(), lr=1.0)
    for p in m.parameters():
        p.grad = np.ones(p.shape, np.float32)
    optimizer.step()
    assert {name: value.tolist() for name, value in saved.items()} == before
    assert {name: value.tolist() for name, value in arrays.items()} == before
    assert all(not value.requires_grad and type(value) is fw.Tensor for value in saved.values())


@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_values_take_the_parameters_dtype_and_device(backend: str) -> None:
    m = nn.Linear(2, 2).to(backend)
    m.load_state_dict({"weight": np.eye(2), "bias": fw.tensor([1, 2])})
    assert m.weight.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert (m.weight.dtype, m.weight.backend, m.bias.dtype) == ("float32", backend, "float32")
    wide = np.arange(8.0).reshape(2, 4)[:, ::2]  # not contiguous
    m.load_state_dict({"weight": wide.T, "bias": [0.0, 0.0]} | {"bias": np.zeros(2)})
    assert m.weight.tolist() == wide.T.tolist()


def test_all_differences_in_one_message() -> None:
    m = model()
    state = m.state_dict()
    before = {name: value.tolist() for name, value in state.items()}
    state["0.wieght"] = state.pop("0.weight")
    state["2.bias"] = fw.tensor([1.0, 2.0, 3.0])
    state["extra"] = fw.tensor(1.0)
    with pytest.raises(CheckpointError) as error:
        m.load_state_dict(state)
    assert str(error.value) == (
        "Sequential.load_state_dict: the state dict is not of this model, nothing was loaded.\n"
        "  missing (1):\n"
        "    0.weight (nearest on the other side: 0.wieght)\n"
        "  unexpected (2):\n"
        "    0.wieght (nearest on the other side: 0.weight)\n"
        "    extra\n"
        "  of another shape (1):\n"
        "    2.bias: the model has shape (2,), the state dict (3,)"
    )
    assert {name: value.tolist() for name, value in m.state_dict().items()} == before


def test_not_strict() -> None:
    m = model()
    state = {"0.bias": np.ones(4), "head.bias": np.ones(4)}
    with pytest.raises(CheckpointError, match="To load what fits by name, pass strict=False"):
        m.load_state_dict(state)
    assert m.load_state_dict(state, strict=False) == (["0.weight", "2.weight", "2.bias"], ["head.bias"])
    assert m[0].bias.tolist() == [1.0] * 4
    with pytest.raises(CheckpointError, match="of another shape"):
        m.load_state_dict({"0.bias": np.ones(5)}, strict=False)


def test_long_lists_are_cut() -> None:
    m = nn.Sequential(*(nn.Linear(1, 1) for _ in range(8)))
    with pytest.raises(CheckpointError) as error:
        m.load_state_dict({})
    text = str(error.value)
    assert "missing (16):" in text
    assert "and 6 more" in text
    assert len(text.splitlines()) == 13


def test_buffers_are_loaded_too() -> None:
    class Running(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", fw.tensor([0.0, 0.0]))
            self.register_buffer("count", fw.tensor(0))
            self.register_buffer("cache", fw.tensor(0.0), persistent=False)

    m = Running()
    m.load_state_dict({"mean": np.array([1.0, 2.0], np.float32), "count": np.array(3)})
    assert (m.mean.tolist(), m.count.item(), m.count.dtype) == ([1.0, 2.0], 3, "int64")


def test_copies_share_nothing() -> None:
    m = model()
    twin = copy.deepcopy(m)
    twin[0].weight.assign(np.zeros((4, 3)))
    assert m[0].weight.tolist() != twin[0].weight.tolist()
    assert twin[1] is not m[1]


def test_a_tied_parameter_is_copied_once() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    state = net.state_dict()
    assert list(state) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert state["1.weight"] is state["0.weight"]
    assert state["0.weight"]._data is not net[0].weight._data
    assert state["1.bias"] is not state["0.bias"]
