"""Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

from typing import Any

import pytest

import framework as fw
from framework import nn
from framework.errors import ConfigError


def layers(n: int) -> list[nn.Linear]:
    return [nn.Linear(i + 1, i + 2) for i in range(n)]


@pytest.mark.parametrize("kind", [lambda ms: nn.Sequential(*ms), nn.ModuleList], ids=["Sequential", "ModuleList"])
def test_lists(kind: Any) -> None:
    a, b, c, d = layers(4)
    m = kind([a, b])
    assert m.append(c) is m
    assert m.insert(0, d) is m
    assert list(m) == [d, a, b, c]
    assert list(dict(m.named_children())) == ["0", "1", "2", "3"]
    assert len(m) == 4
    assert m[0] is d
    assert m[-1] is c
    assert type(m[1:3]) is type(m)
    assert list(m[1:3]) == [a, b]
    m[1] = d
    assert list(m) == [d, d, b, c]
    del m[0]
    assert list(m) == [d, b, c]
    del m[1:]
    assert list(m) == [d]
    assert list(m.state_dict()) == ["0.weight", "0.bias"]
    m.extend([a, b])
    assert list(m) == [d, a, b]
    for i in (3, -4):
        with pytest.raises(IndexError, match=f"index {i} in a {type(m).__name__} of 3 modules"):
            m[i]
    with pytest.raises(ConfigError, match=r"must be an nn\.Module"):
        m.append(1)


def test_sequential_in_order_and_by_name() -> None:
    fw.seed_everything(0)
    m = nn.Sequential({"up": nn.Linear(2, 3), "act": nn.ReLU()})
    x = fw.tensor([[1.0, -1.0]])
    assert m(x).tolist() == m.act(m.up(x)).tolist()
    assert list(m.state_dict()) == ["up.weight", "up.bias"]
    assert list(dict(m[:1].named_children())) == ["up"]
    assert nn.Sequential()(x) is x
    with pytest.raises(ConfigError, match=r"Sequential: 0 must be an nn\.Module, got type"):
        nn.Sequential(nn.ReLU)


def test_module_list() -> None:
    m = nn.ModuleList(layers(1))
    m += layers(2)[1:]
    assert isinstance(m, nn.ModuleList)
    assert [p.shape for p in m.parameters()] == [(2, 1), (2,), (3, 2), (3,)]
    with pytest.raises(NotImplementedError, match="ModuleList defines no forward"):
        m(1)


def test_module_dict() -> None:
    a, b, c = layers(3)
    m = nn.ModuleDict({"a": a})
    m["b"] = b
    m.update([("c", c)])
    assert list(m) == list(m.keys()) == ["a", "b", "c"]
    assert list(m.values()) == [a, b, c]
    assert dict(m.items()) == {"a": a, "b": b, "c": c}
    assert "b" in m
    assert "training" not in m
    assert len(m) == 3
    assert m.pop("b") is b
    with pytest.raises(KeyError):
        m["b"]
    del m["a"]
    assert list(m.state_dict()) == ["c.weight", "c.bias"]
    m.clear()
    assert len(m) == 0
    with pytest.raises(ConfigError, match="has an attribute 'keys' already"):
        m["keys"] = a
