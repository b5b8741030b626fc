"""Stories of training that move, freeze, tie and copy parameters; each runs with any library of torch's names."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

import framework as fw

ROWS, IN, HIDDEN, OUT = 6, 5, 4, 3
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "momentum": ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
    "adamw": ("AdamW", {"lr": 0.02, "weight_decay": 0.1}),
}


class Library:
    """`fw` on one backend, its optimizers as they are or made to update each parameter by itself."""

    def __init__(self, backend: str = "cpu", separate: bool = False, dtype: str = "float64") -> None:
        self.nn, self.backend, self.dtype, self.separate = fw.nn, backend, dtype, separate
        self.clip = SimpleNamespace(norm=fw.optim.clip_grad_norm_, value=fw.optim.clip_grad_value_)

    def optimizer(self, kind: str, params: Any) -> Any:
        name, kwargs = OPTIMIZERS[kind]
        cls = getattr(fw.optim, name)
        if self.separate:
            cls = type(name, (cls,), {"elementwise": False})
        return cls(params, **kwargs)

    def tensor(self, array: np.ndarray) -> Any:
        return fw.tensor(array, dtype=self.dtype, backend=self.backend)

    def parameter(self, values: Any) -> Any:
        return fw.nn.Parameter(values.detach())

    def ready(self, module: Any) -> Any:
        module.to(backend=self.backend, dtype=self.dtype)
        for i, p in enumerate(module.parameters()):
            p.assign(start_of(i, p.shape))
        return module

    def numpy(self, p: Any) -> np.ndarray:
        return np.array(p.tolist())


class Torch:
    """PyTorch under the same names."""

    def __init__(self, torch: Any) -> None:
        self.torch, self.nn = torch, torch.nn
        self.clip = SimpleNamespace(norm=torch.nn.utils.clip_grad_norm_, value=torch.nn.utils.clip_grad_value_)

    def optimizer(self, kind: str, params: Any) -> Any:
        name, kwargs = OPTIMIZERS[kind]
        return getattr(self.torch.optim, name)(params, **kwargs)

    def tensor(self, array: np.ndarray) -> Any:
        return self.torch.tensor(array, dtype=self.torch.float64)

    def parameter(self, values: Any) -> Any:
        return self.torch.nn.Parameter(values.detach().clone())

    def ready(self, module: Any) -> Any:
        module.double()
        for i, p in enumerate(module.parameters()):
            p.data.copy_(self.torch.tensor(start_of(i, tuple(p.shape))))
        return module

    def numpy(self, p: Any) -> np.ndarray:
        return p.detach().numpy().copy()


def start_of(i: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(100 + i).normal(size=shape) * 0.5


def batch(lib: Any, step: int, columns: int = IN) -> Any:
    return lib.tensor(np.random.default_rng(step).normal(size=(ROWS, columns)))


def forked(lib: Any) -> Any:
    """A trunk, and two branches of which one may be left out."""

    class Forked(lib.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.trunk = lib.nn.Linear(IN, HIDDEN)
            self.side = lib.nn.Linear(IN, HIDDEN)
            self.head = lib.nn.Linear(HIDDEN, OUT)
            self.bend = lib.nn.Tanh()

        def forward(self, x: Any, with_side: bool = True) -> Any:
            h = self.trunk(x)
            if with_side:
                h = h + self.side(x)
            return self.head(self.bend(h))

    return lib.ready(Forked())


def train(lib: Any, net: Any, optimizer: Any, step: int, **kwargs: Any) -> None:
    optimizer.zero_grad()
    backward(lib, net, step, **kwargs)
    optimizer.step()


def backward(lib: Any, net: Any, step: int, **kwargs: Any) -> None:
    y = net(batch(lib, step), **kwargs)
    (y * y).mean().backward()


def params_of(*modules: Any) -> list[Any]:
    return [p for m in modules for p in m.parameters()]


def unused_branch(lib: Any, kind: str) -> list[Any]:
    """One branch is left out every other step: without a gradient its weights stay, and their counts of steps."""
    net = forked(lib)
    optimizer = lib.optimizer(kind, net.parameters())
    for step in range(14):
        train(lib, net, optimizer, step, with_side=step % 2 == 0)
    return params_of(net)


def late_branch(lib: Any, kind: str) -> list[Any]:
    """A branch that gets its first gradient, and so its state, later than its neighbours."""
    net = forked(lib)
    optimizer = lib.optimizer(kind, net.parameters())
    for step in range(10):
        train(lib, net, optimizer, step, with_side=step > 4)
    return params_of(net)


def gan(lib: Any, kind: str) -> list[Any]:
    """Two optimizers; each network's gradients also come from the other one's loss."""
    nn = lib.nn
    make = lib.ready(nn.Sequential(nn.Linear(IN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, OUT)))
    judge = lib.ready(nn.Sequential(nn.Linear(OUT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1)))
    of_make, of_judge = lib.optimizer(kind, make.parameters()), lib.optimizer("momentum", judge.parameters())
    for step in range(12):
        fake, real = make(batch(lib, step)), batch(lib, 1000 + step, OUT)
        of_judge.zero_grad()
        (((judge(real) - 1.0) ** 2).mean() + (judge(fake.detach()) ** 2).mean()).backward()
        of_judge.step()
        of_make.zero_grad()
        ((judge(fake) - 1.0) ** 2).mean().backward()
        of_make.step()
    return params_of(make, judge)


def frozen(lib: Any, kind: str) -> list[Any]:
    """Frozen and trained again, twice, beside others that go on."""
    net = forked(lib)
    optimizer = lib.optimizer(kind, net.parameters())
    for step in range(16):
        if step in (3, 6, 9, 12):
            optimizer.zero_grad()
            (net.trunk if step < 8 else net.side).requires_grad_(step in (6, 12))
        train(lib, net, optimizer, step)
    return params_of(net)


def frozen_at_first(lib: Any, kind: str) -> list[Any]:
    """A part that is frozen from the start joins later."""
    net = forked(lib)
    net.trunk.requires_grad_(False)
    optimizer = lib.optimizer(kind, net.parameters())
    for step in range(10):
        if step == 5:
            net.trunk.requires_grad_(True)
        train(lib, net, optimizer, step)
    return params_of(net)


def tied(lib: Any, kind: str) -> list[Any]:
    """One weight under two names, then two weights, then one again."""
    net = forked(lib)
    net.side.weight = net.trunk.weight
    optimizer = lib.optimizer(kind, net.parameters())
    for step in range(15):
        if step == 5:
            net.side.weight = lib.parameter(net.trunk.weight)
            optimizer.add_param_group({"params": [net.side.weight], "lr": 0.01})
        if step == 10:
            net.side.weight = net.trunk.weight
        train(lib, net, optimizer, step)
    return params_of(net)


def dropped_gradients(lib: Any, kind: str) -> list[Any]:
    """Gradients set to None, and set by hand, between backward and step."""
    net = forked(lib)
    optimizer = lib.optimizer(kind, net.parameters())
    for step in range(12):
        optimizer.zero_grad()
        backward(lib, net, step)
        if step % 3 == 1:
            net.side.weight.grad = None
        if step % 4 == 2:
            net.head.bias.grad = net.head.bias.grad * 0.5
            net.trunk.bias.grad = lib.tensor(np.full(HIDDEN, 0.1))
        optimizer.step()
    return params_of(net)


def accumulated(lib: Any, kind: str) -> list[Any]:
    """The gradients of several backward passes make one step."""
    net = forked(lib)
    optimizer = lib.optimizer(kind, net.parameters())
    for step in range(12):
        backward(lib, net, step, with_side=step % 2 == 0)
        if step % 3 == 2:
            optimizer.step()
            optimizer.zero_grad(set_to_none=step % 2 == 0)
    return params_of(net)


def clipped(lib: Any, kind: str) -> list[Any]:
    net = forked(lib)
    optimizer = lib.optimizer(kind, net.parameters())
    for step in range(12):
        optimizer.zero_grad()
        backward(lib, net, step, with_side=step % 5 != 3)
        if step % 3:
            lib.clip.norm(net.parameters(), 0.5 if step % 2 else 100.0)
        else:
            lib.clip.value(net.parameters(), 0.05)
        optimizer.step()
    return params_of(net)


def reloaded(lib: Any, kind: str) -> list[Any]:
    """Back to what was saved, in the middle of a run."""
    net = forked(lib)
    optimizer = lib.optimizer(kind, net.parameters())
    saved: Any = None
    for step in range(12):
        if step == 4:
            saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
        if step == 8:
            net.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])
        train(lib, net, optimizer, step)
    return params_of(net)


def copied(lib: Any, kind: str) -> list[Any]:
    """Model and optimizer are copied together; the copies go another way than the originals."""
    net = forked(lib)
    optimizer = lib.optimizer(kind, net.parameters())
    for step in range(4):
        train(lib, net, optimizer, step)
    twin, of_twin = copy.deepcopy((net, optimizer))
    for step in range(4, 8):
        train(lib, twin, of_twin, step + 100, with_side=step % 2 == 0)
        train(lib, net, optimizer, step)
    return params_of(net, twin)


def two_optimizers(lib: Any, kind: str) -> list[Any]:
    """Two optimizers of the same weights, each with a state of its own."""
    net = forked(lib)
    first = lib.optimizer(kind, net.parameters())
    second = lib.optimizer("momentum", [*net.head.parameters(), *net.trunk.parameters()])
    for step in range(12):
        net.zero_grad()
        backward(lib, net, step, with_side=step % 4 != 1)
        if step % 3 != 1:
            first.step()
        if step % 2:
            second.step()
    return params_of(net)


def groups(lib: Any, kind: str) -> list[Any]:
    """Groups with arguments of their own, one of them added later, and a schedule."""
    net = forked(lib)
    optimizer = lib.optimizer(
        kind, [{"params": [net.trunk.weight, net.head.bias]}, {"params": net.head.weight, "lr": 0.01}]
    )
    for step in range(12):
        if step == 4:
            optimizer.add_param_group({"params": [*net.side.parameters(), net.trunk.bias], "weight_decay": 0.3})
        for group in optimizer.param_groups:
            group["lr"] *= 0.95
        train(lib, net, optimizer, step)
    return params_of(net)


STORIES: dict[str, Callable[[Any, str], list[Any]]] = {
    fn.__name__: fn
    for fn in (
        unused_branch, late_branch, gan, frozen, frozen_at_first, tied, dropped_gradients, accumulated, clipped,
        reloaded, copied, two_optimizers, groups,
    )
}  # fmt: skip
