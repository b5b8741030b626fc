"""Nothing in a float32 step is float64: a backend whose arrays watch every array made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from registry_table import REGISTRY, entries

import framework as fw
from framework import metrics, nn, optim
from framework.autodiff import Tensor
from framework.backend import registry
from framework.optim import lr_scheduler

FOUND: list[str] = []


class Watched(np.ndarray):
    """A NumPy array that notes whenever a float64 array is made out of one like it."""

    def __array_finalize__(self, obj: Any) -> None:
        if self.dtype == np.float64 and isinstance(obj, Watched):
            FOUND.append(f"{obj.dtype} {obj.shape} became {self.dtype} {self.shape}")


@pytest.fixture
def watched() -> Iterator[str]:
    """The CPU backend on watching arrays."""
    cpu = type(registry.get("cpu"))

    class WatchedBackend(cpu):  # type: ignore[valid-type,misc]
        name = "watched"

        def asarray(self, obj: Any, *, dtype: Any = None, device: str | None = None, copy: bool | None = None) -> Any:
            plain = obj.view(np.ndarray) if isinstance(obj, np.ndarray) else obj
            return super().asarray(plain, dtype=dtype, device=None, copy=copy).view(Watched)

        def to_numpy(self, array: Any) -> Any:
            return np.asarray(array)

        def buffer(self, size: int, native: Any, device: str) -> Any:
            return super().buffer(size, native, device).view(Watched)

        def segment(self, buffer: Any, start: int, like: Any) -> Any:
            return super().segment(buffer, start, like).view(Watched)

        def copy(self, array: Any) -> Any:
            return super().copy(array).view(Watched)

    registry.register(WatchedBackend)
    FOUND.clear()
    with fw.use_backend("watched"):
        yield "watched"
    registry._local.pop("watched", None)
    registry._instances.pop("watched", None)


def test_the_watch_sees_what_it_must(watched: str) -> None:
    x = fw.tensor([1.0, 2.0])
    assert isinstance(x.data, Watched)
    assert not FOUND
    (x * fw.tensor(np.ones(2))).sum()
    assert FOUND


def images(n: int = 8) -> tuple[Tensor, Tensor]:
    return fw.random.normal((n, 2, 3)), fw.random.integers(4, shape=(n,))


ONE = np.float64(1.0)  # hyper-parameters are often NumPy's numbers


def model() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(6, 5), nn.BatchNorm1d(5, 1e-4 * ONE, 0.2 * ONE), nn.BatchNorm1d(5, momentum=None),
        nn.ReLU(), nn.LayerNorm(5, 1e-4 * ONE), nn.Linear(5, 5), nn.GELU(), nn.Dropout(0.2), nn.Linear(5, 5),
        nn.Tanh(), nn.Linear(5, 5), nn.SiLU(), nn.ELU(), nn.LeakyReLU(), nn.Softplus(), nn.Sigmoid(), nn.Linear(5, 4),
    )  # fmt: skip


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1 * ONE),
    "momentum": lambda p: optim.SGD(p, 0.1 * ONE, 0.9 * ONE, dampening=0.1 * ONE, weight_decay=0.1 * ONE),
    "nesterov": lambda p: optim.SGD(p, 0.1 * ONE, 0.9 * ONE, weight_decay=0.1 * ONE, nesterov=True, maximize=True),
    "adam": lambda p: optim.Adam(p, 0.1 * ONE, (0.9 * ONE, 0.99 * ONE), 1e-8 * ONE, 0.1 * ONE),
    "adamw": lambda p: optim.AdamW(p, np.array(0.1), np.array([0.9, 0.99]), weight_decay=0.1 * ONE),
    "rprop": lambda p: optim.Rprop(p, 0.1 * ONE, np.array([0.5, 1.2]), (1e-6 * ONE, 50 * ONE)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_steps(watched: str, name: str) -> None:
    net = model()
    optimizer = OPTIMIZERS[name](net.parameters())
    schedule = (
        optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5 * ONE)
        if name == "rprop"
        else optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1 * ONE, total_steps=9, pct_start=0.3 * ONE)
    )
    accuracy, mean = metrics.Accuracy(top_k=2), metrics.MeanMetric()
    for _ in range(4):
        x, y = images()
        optimizer.zero_grad()
        logits = net(x)
        loss = nn.functional.cross_entropy(logits, y)
        loss.backward()
        norm = optim.clip_grad_norm_(net.parameters(), 0.5 * ONE, norm_type=2.0 * ONE)
        optim.clip_grad_norm_(net.parameters(), 0.1 * ONE, norm_type=3.0 * ONE)
        optim.clip_grad_value_(net.parameters(), 0.01 * ONE)
        optimizer.step()
        schedule.step()
        assert FOUND == []
        accuracy.update(logits, y)
        mean.update(loss, weight=8 * ONE)
        mean.update(0.5 * ONE)
        FOUND.clear()  # a metric's totals are wide on purpose: sums over many batches keep their digits
    assert isinstance(next(net.parameters()).data, Watched)
    assert isinstance(next(net.parameters()).grad.data, Watched)
    assert norm.dtype == "float32"
    assert {b.dtype.name for b in net.buffers()} == {"float32", "int64"}
    assert np.isfinite([mean.compute(), accuracy.compute()]).all()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    assert FOUND == []
    for state in optimizer.state.values():
        assert all(a.dtype == np.float32 for a in state.values() if hasattr(a, "dtype"))


@pytest.mark.parametrize("kwargs", [{}, {"padding_idx": 1}, {"max_norm": 0.5 * ONE}, {"scale_grad_by_freq": True}])
def test_embedding(watched: str, kwargs: dict[str, Any]) -> None:
    layer = nn.Embedding(7, 3, **kwargs)
    out = layer(fw.random.integers(7, shape=(4, 5)))
    (out * out).sum().backward()
    assert out.dtype == layer.weight.dtype == layer.weight.grad.dtype == "float32"
    assert FOUND == []


def test_evaluation(watched: str) -> None:
    net = model().eval()
    with fw.no_grad():
        assert net(images()[0]).dtype == "float32"
    assert FOUND == []


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": lambda x, y: nn.CrossEntropyLoss(np.ones(4), label_smoothing=0.1 * ONE)(x, y[:, 0]),
    "soft": lambda x, y: nn.CrossEntropyLoss(np.ones(4), label_smoothing=0.1 * ONE)(
        x, fw.tensor(np.full((3, 4), 0.25, np.float32))
    ),
    "ignored": lambda x, y: nn.functional.cross_entropy(x, y[:, 0] * 0 - 100),
    "nll": lambda x, y: nn.NLLLoss(np.ones(4), ignore_index=2)(nn.LogSoftmax(1)(x), y[:, 0]),
    "mse": lambda x, y: nn.MSELoss()(x, y.float()),
    "l1": lambda x, y: nn.L1Loss(reduction="none")(x, y.float()).sum(),
    "huber": lambda x, y: nn.HuberLoss(delta=0.5 * ONE)(x, y.float()),
    "smooth": lambda x, y: nn.SmoothL1Loss(beta=0.5 * ONE)(x, y.float()),
    "logits": lambda x, y: nn.BCEWithLogitsLoss(np.ones(4), pos_weight=np.ones(4))(x, (y > 1).float()),
    "bce": lambda x, y: nn.BCELoss(np.ones(4))(nn.Sigmoid()(x), (y > 1).float()),
    "kl": lambda x, y: nn.KLDivLoss(reduction="batchmean")(nn.LogSoftmax(1)(x), nn.Softmax(1)(y.float())),
    "kl_log": lambda x, y: nn.KLDivLoss(reduction="sum", log_target=True)(x, y.float()),
}


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_module_and_optimizer(watched: str, name: str) -> None:
    """Two training steps of each row of the registry, and an evaluation."""
    for entry in entries(name, 12):
        module, optimizer = entry.trained()
        step = entry.step(module, optimizer)
        for seed in range(2):
            given = entry.inputs(watched, seed)
            assert step(*given).dtype == "float32"
        assert {p.grad.dtype.name for p in module.parameters()} <= {"float32"}
        kept = [*module.parameters(), *([] if name.endswith("Loss") else module.buffers())]  # a weight keeps its dtype
        assert {t.dtype.name for t in kept} <= {"float32", "int64"}
        if optimizer is not None:
            optimizer.load_state_dict(optimizer.state_dict())
            step(*given)
        x = next((x for x in given if x.dtype == "float32"), None)
        if x is not None:  # the gradient of an input
            x.requires_grad = True
            out = entry.row.run(module, *given)
            (out * out).sum().backward()
            assert x.grad.dtype == "float32"
        with fw.no_grad():
            assert entry.row.run(module.eval(), *given).dtype == "float32"
        assert FOUND == []


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 1, ONE / 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [1, 2], ONE / 2),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, ONE / 2),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 3, ONE / 100),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, eta_min=ONE / 100),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, ONE / 2),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, ONE, total_steps=5),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=ONE / 2, patience=0),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: ONE / (1 + step)),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, ONE / 2), lr_scheduler.ExponentialLR(o, ONE / 2)], [2]
    ),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, ONE / 2, 2),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 3, 2 * ONE),
}


def test_every_schedule_is_here() -> None:
    base = lr_scheduler.LRScheduler
    offered = {name: getattr(lr_scheduler, name) for name in dir(lr_scheduler)}
    assert set(SCHEDULES) == {n for n, v in offered.items() if isinstance(v, type) and issubclass(v, base)} - {
        base.__name__
    }


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule(watched: str, name: str) -> None:
    for make in (lambda p: optim.SGD(p, 0.1, momentum=0.9), lambda p: optim.AdamW(p, 0.1)):
        net = nn.Linear(3, 2)
        optimizer = make(net.parameters())
        schedule = SCHEDULES[name](optimizer)
        for _ in range(4):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(fw.random.normal((5, 3))), fw.random.normal((5, 2)))
            loss.backward()
            optimizer.step()
            schedule.step(*[loss] * (name == "ReduceLROnPlateau"))
        assert net.weight.dtype == "float32"
        assert FOUND == []


@pytest.mark.parametrize("name", LOSSES)
def test_losses(watched: str, name: str) -> None:
    x = fw.tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), requires_grad=True)
    loss = LOSSES[name](x, fw.tensor(np.arange(12).reshape(3, 4) % 4))
    loss.backward()
    assert loss.dtype == x.grad.dtype == "float32"
    assert isinstance(x.grad.data, Watched)
    assert FOUND == []
