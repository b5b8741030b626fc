"""Module: registration, traversal, modes, moves, hooks, text."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn
from framework.autodiff import ops
from framework.errors import ConfigError, DTypeError


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.scale = nn.Parameter([2.0])
        self.register_buffer("mean", fw.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("count", fw.tensor(7), persistent=False)
        self.register_buffer("nothing", None)
        self.last = nn.Sequential(nn.ReLU(), nn.Linear(4, 2, bias=False))
        self.note = "plain"

    def forward(self, x: Any) -> Any:
        return self.last(self.first(x - self.mean)) * self.scale


NAMES = ["scale", "first.weight", "first.bias", "last.1.weight"]


def test_what_is_found() -> None:
    m = Block()
    assert [name for name, _ in m.named_parameters()] == NAMES
    assert list(m.parameters()) == [m.scale, m.first.weight, m.first.bias, m.last[1].weight]
    assert [name for name, _ in m.named_parameters(recurse=False)] == ["scale"]
    assert [name for name, _ in m.named_parameters(prefix="net")] == [f"net.{name}" for name in NAMES]
    assert [name for name, _ in m.named_buffers()] == ["mean", "count"]
    assert list(m.buffers()) == [m.mean, m.count]
    assert [name for name, _ in m.named_modules()] == ["", "first", "last", "last.0", "last.1"]
    assert [name for name, _ in m.named_children()] == ["first", "last"]
    assert list(m.children()) == [m.first, m.last]
    assert list(m.modules())[1] is m.first
    assert list(m.state_dict()) == ["scale", "mean", "first.weight", "first.bias", "last.1.weight"]


@pytest.mark.reference
def test_the_same_is_found_as_in_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def build(base: Any, library: Any, tensor: Any) -> Any:
        class Net(base):
            def __init__(self) -> None:
                super().__init__()
                self.a = library.Linear(2, 2)
                self.register_buffer("b", tensor([1.0]))
                self.c = library.Parameter(tensor([1.0]))
                self.d = library.ModuleDict({"x": self.a, "y": library.ModuleList([library.Linear(1, 1)])})
                self.c = library.Parameter(tensor([2.0]))
                self.register_parameter("e", None)
                self.f = self.c
                self.e = library.Parameter(tensor([3.0]))

        return Net()

    ours, theirs = build(nn.Module, nn, fw.tensor), build(torch.nn.Module, torch.nn, torch.tensor)
    for name in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        assert [n for n, _ in getattr(ours, name)()] == [n for n, _ in getattr(theirs, name)()], name
    every = {"remove_duplicate": False}
    assert [n for n, _ in ours.named_parameters(**every)] == [n for n, _ in theirs.named_parameters(**every)]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert list(ours.state_dict(prefix="p.")) == list(theirs.state_dict(prefix="p."))
    assert repr(ours) == repr(theirs)


def test_tied_parameters() -> None:
    m = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    m[1].weight = m[0].weight
    assert [name for name, _ in m.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert len(list(m.named_parameters(remove_duplicate=False))) == 4
    assert list(m.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    m(fw.tensor([[1.0, 2.0]])).sum().backward()
    once = m[0].weight.grad.tolist()
    for twin in (copy.deepcopy(m), pickle.loads(pickle.dumps(m)), m.to("float64")):
        assert twin[0].weight is twin[1].weight
    assert m[0].weight.grad.dtype == "float64"
    assert m[0].weight.grad.tolist() == once
    assert len(list(nn.Sequential(m, m).modules())) == 4


def test_super_init_forgotten() -> None:
    class Net(nn.Module):
        def __init__(self, how: str) -> None:
            if how == "parameter":
                self.p = nn.Parameter([1.0])
            elif how == "module":
                self.m = nn.ReLU()
            self.plain = 1

        def forward(self, x: Any) -> Any:
            return x

    text = re.escape("Net.__init__ must call super().__init__() before it sets parameters or modules")
    for how in ("parameter", "module"):
        with pytest.raises(AttributeError, match=text):
            Net(how)
    net = Net("nothing")
    for use in (lambda: net(1.0), lambda: net.register_buffer("b", None), lambda: net.register_forward_hook(print)):
        with pytest.raises(AttributeError, match=text):
            use()


def test_attributes() -> None:
    m = Block()
    with pytest.raises(AttributeError, match=r"'Block' object has no attribute 'frist'\. Did you mean 'first'\?"):
        _ = m.frist
    assert not hasattr(m, "__unknown__")
    with pytest.raises(ConfigError, match=r"Block.scale is a Parameter and cannot become a Tensor.*scale.assign"):
        m.scale = fw.tensor([1.0])
    with pytest.raises(ConfigError, match=r"Block\.mean is a buffer and must be a Tensor or None, got float"):
        m.mean = 1.0
    with pytest.raises(ConfigError, match=r"Block\.first is a module and cannot become a Tensor"):
        m.first = m.first(fw.tensor([1.0, 2.0, 3.0]))
    m.mean = m.mean + 1
    assert [name for name, _ in m.named_buffers()] == ["mean", "count"]
    m.count = nn.Parameter([1.0])  # no longer a buffer
    assert [name for name, _ in m.named_parameters()] == ["scale", "count", *NAMES[1:]]
    assert [name for name, _ in m.named_buffers()] == ["mean"]
    m.scale = m.count = None
    assert "scale" not in m.state_dict()
    del m.first, m.mean
    m.mean = fw.tensor(1.0)  # a plain Tensor now
    assert list(m.state_dict()) == ["last.1.weight"]
    for bad in ("", "a.b", 1):
        with pytest.raises(ConfigError, match="without a dot"):
            m.register_buffer(bad, None)
    with pytest.raises(ConfigError, match="Block has an attribute 'forward' already"):
        m.register_module("forward", nn.ReLU())
    with pytest.raises(ConfigError, match=r"parameter 'p' must be an nn\.Parameter or None, got Tensor"):
        m.register_parameter("p", fw.tensor(1.0))
    with pytest.raises(ConfigError, match=r"module 'p' must be an nn\.Module or None, got int"):
        m.add_module("p", 1)
    with pytest.raises(ConfigError, match="buffer 'p' must be a Tensor or None, got Parameter"):
        m.register_buffer("p", nn.Parameter([1.0]))
    with pytest.raises(NotImplementedError, match=r"Module defines no forward"):
        nn.Module()(1)


def test_modes() -> None:
    m = Block()
    assert m.eval() is m
    assert not any(module.training for module in m.modules())
    m.last.train()
    assert (m.training, m.last.training, m.last[0].training, m.first.training) == (False, True, True, False)
    assert m.requires_grad_(False) is m
    assert not any(p.requires_grad for p in m.parameters())
    m.requires_grad_()
    assert all(p.requires_grad for p in m.parameters())
    seen: list[nn.Module] = []
    assert m.apply(seen.append) is m
    assert seen == [m.first, m.last[0], m.last[1], m.last, m]


def test_zero_grad() -> None:
    m = Block()
    m.zero_grad()
    m(fw.tensor([[1.0, 5.0, 3.0]])).sum().backward()
    held = m.first.bias.grad
    m.zero_grad(set_to_none=False)
    assert m.first.bias.grad.tolist() == [0.0] * 4
    assert m.first.bias.grad is held
    m.zero_grad()
    assert all(p.grad is None for p in m.parameters())


def test_forward_hooks() -> None:
    m = nn.Linear(2, 2)
    x = fw.tensor([[1.0, 2.0]])
    plain = m(x).tolist()
    calls: list[Any] = []
    first = m.register_forward_hook(lambda module, args, out: calls.append((module, args, out)))
    with m.register_forward_hook(lambda module, args, out: out * 2):
        assert m(x).tolist() == (np.array(plain, np.float32) * 2).tolist()
    assert m(x).tolist() == plain
    assert calls[0][0] is m
    assert calls[0][1] == (x,)
    assert calls[0][2].tolist() == plain
    first.remove()
    first.remove()
    m(x)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "move",
    [
        lambda m: m.to("strict"),
        lambda m: m.to(device="strict"),
        lambda m: m.to(backend="strict"),
        lambda m: m.to(backend=fw.backend.get("strict")),
        lambda m: m.to("strict", "float64"),
        lambda m: m.to(dtype="float64", device="strict"),
        lambda m: m.to(fw.float64),
        lambda m: m.double(),
    ],
)
def test_moves_keep_identity(move: Any) -> None:
    fw.seed_everything(0)
    m = Block()
    x = np.array([[1.0, 5.0, 3.0]], np.float32)
    m(fw.tensor(x)).sum().backward()
    before = [(p, p.tolist(), p.grad.tolist()) for p in m.parameters()]
    expected = m(fw.tensor(x)).tolist()
    assert move(m) is m
    target, dtype = m.scale.backend.name, m.scale.dtype.name
    assert (target, dtype) != ("cpu", "float32")
    for (p, value, grad), q in zip(before, m.parameters(), strict=True):
        assert p is q
        assert type(p) is nn.Parameter
        assert (p.tolist(), p.grad.tolist()) == (value, grad)
        assert p.backend == p.grad.backend == target
        assert p.dtype == p.grad.dtype == dtype
    assert (m.mean.backend, m.mean.dtype, m.count.dtype) == (target, dtype, "int64")
    y = m(fw.tensor(x, backend=target, dtype=dtype))
    np.testing.assert_allclose(y.tolist(), expected, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_allclose(m.scale.grad.tolist(), 2 * np.array(before[0][2]), rtol=1e-6)


def test_moves_refused() -> None:
    with pytest.raises(DTypeError, match="floating-point dtypes, got int64"):
        nn.Linear(1, 1).to("int64")
    with pytest.raises(fw.errors.BackendError, match="nowhere"):
        nn.Linear(1, 1).to("nowhere")


def test_a_move_that_changes_nothing_keeps_the_arrays() -> None:
    m = nn.Linear(2, 2)
    array = m.weight.data
    assert m.to("cpu", "float32").weight.data is array


def test_hooks_of_gradients_survive_a_move() -> None:
    m = nn.Linear(1, 1)
    m.weight.register_hook(lambda g: g * 3)
    m.double()
    m(fw.tensor([[2.0]], dtype="float64")).backward()
    assert m.weight.grad.tolist() == [[6.0]]


def test_devices_and_dtypes_at_construction() -> None:
    m = nn.Linear(2, 3, device="strict", dtype="float64")
    assert (m.weight.backend, m.bias.dtype) == ("strict", "float64")
    fw.set_default_dtype("float64")
    try:
        assert nn.Linear(1, 1).weight.dtype == "float64"
    finally:
        fw.set_default_dtype("float32")


def test_text() -> None:
    assert repr(Block()) == (
        "Block(\n"
        "  (first): Linear(in_features=3, out_features=4, bias=True)\n"
        "  (last): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Linear(in_features=4, out_features=2, bias=False)\n"
        "  )\n"
        ")"
    )


def test_parameter() -> None:
    source = np.array([1.0, 2.0])
    p = nn.Parameter(source)
    source[0] = 9.0
    assert p.tolist() == [1.0, 2.0]  # a copy
    assert (p.dtype, p.requires_grad, p.is_leaf) == ("float64", True, True)
    assert repr(p).startswith("Parameter containing:\ntensor([1., 2.]")
    frozen = nn.Parameter([1, 2], requires_grad=False)
    assert (frozen.dtype, frozen.requires_grad) == ("int64", False)
    with pytest.raises(DTypeError, match="floating-point dtype, got int64"):
        nn.Parameter([1, 2])
    assert type(p * 2) is fw.Tensor
    p.grad = [1.0, 1.0]
    twin = copy.deepcopy(p)
    assert type(twin) is nn.Parameter
    assert twin.grad.tolist() == [1.0, 1.0]
    q = pickle.loads(pickle.dumps(p))
    assert (type(q), q.requires_grad, q.tolist()) == (nn.Parameter, True, p.tolist())
    assert nn.Parameter(fw.tensor([1.0], backend="strict")).backend == "strict"


def test_input_errors_name_the_layer() -> None:
    with pytest.raises(fw.errors.ShapeError) as error:
        nn.Linear(784, 300)(np.zeros((128, 28, 28), np.float32))
    assert str(error.value) == (
        "Linear(784, 300): got input of shape (128, 28, 28); last axis must be 784. Flatten first: x.reshape(128, -1)"
    )
    for size in (-1, 2.0, True):
        with pytest.raises(ConfigError, match="Linear: out_features is a number of features"):
            nn.Linear(1, size)
    with pytest.raises(ConfigError, match=r"in \[0, 1\]; got -0.1"):
        nn.Dropout(-0.1)
    with pytest.raises(ConfigError, match="MSELoss: reduction must be one of none, mean, sum; got 'avg'"):
        nn.MSELoss(reduction="avg")


def test_training_mode_reaches_dropout() -> None:
    fw.seed_everything(0)
    m = nn.Sequential(nn.Dropout(0.5))
    x = ops.ones((1000,))
    assert set(m(x).tolist()) == {0.0, 2.0}
    assert m.eval()(x).tolist() == x.tolist()
