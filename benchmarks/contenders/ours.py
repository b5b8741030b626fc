"""The framework: gradients, steps, and loops written by hand with its parts."""

from __future__ import annotations

import resource
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import framework as fw
import framework.numpy as fnp
from benchmarks.baselines import arrays, mlp_numpy
from benchmarks.contenders.by_hand import norms
from benchmarks.worker import UnavailableError, Work

Update = Callable[[Any, Any], fw.Tensor]


def compiler() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`fw.compile`.

    Raises:
        UnavailableError: this version has none.
    """
    if not hasattr(fw, "compile"):
        raise UnavailableError("this version has no fw.compile")
    return fw.compile  # type: ignore[no-any-return]


def model(sizes: tuple[int, ...] = mlp_numpy.SIZES) -> fw.nn.Sequential:
    """The MLP with the weights that everybody starts from."""
    layers: list[fw.nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [fw.nn.Linear(n_in, n_out), fw.nn.ReLU()]
    net = fw.nn.Sequential(*layers[:-1])
    for p, value in zip(net.parameters(), mlp_numpy.init(sizes=tuple(sizes))):
        p.assign(value)
    return net


def gradient(threads: int, batch: int, kind: str, sizes: tuple[int, ...] = mlp_numpy.SIZES) -> Work:
    """zero_grad, forward, backward: by `modules`, by `functions`, or the modules `compiled`."""
    net, loss_of = model(sizes), fw.nn.CrossEntropyLoss()
    parameters = list(net.parameters())
    optimizer = fw.optim.SGD(parameters, lr=0.01)
    x, y = map(fw.tensor, arrays.random_batch(batch, sizes[0], sizes[-1]))
    functional = fw.nn.functional

    def modules(x: fw.Tensor, y: fw.Tensor) -> fw.Tensor:
        optimizer.zero_grad()
        loss = loss_of(net(x), y)
        loss.backward()
        return loss

    def functions(x: fw.Tensor, y: fw.Tensor) -> fw.Tensor:
        optimizer.zero_grad()
        h = x
        for w, b in zip(parameters[:-2:2], parameters[1:-2:2]):
            h = functional.relu(functional.linear(h, w, b))
        loss = functional.cross_entropy(functional.linear(h, *parameters[-2:]), y)
        loss.backward()
        return loss

    chosen = compiler()(modules) if kind == "compiled" else {"modules": modules, "functions": functions}[kind]

    def check() -> list[float]:
        for _ in range(4):  # a compiled function is recorded first, then replayed
            loss = chosen(x, y)
        return norms(loss.item(), [p.grad.numpy() for p in parameters if p.grad is not None])

    return Work(lambda: chosen(x, y), check)


def updater(kind: str) -> Update:
    """A function that makes one update with a batch, `eager` or `compiled`."""
    net, loss_of = model(), fw.nn.CrossEntropyLoss()
    optimizer = fw.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def update(x: Any, y: Any) -> fw.Tensor:
        optimizer.zero_grad()
        loss = loss_of(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return compiler()(update) if kind == "compiled" else update


def dataset(samples: int, data: str | None) -> fw.data.ArrayDataset:
    """Images as they are in the files, normalized when a batch is gathered."""
    x, y = arrays.images(samples, data)
    normalize = fw.data.transforms.Normalize(arrays.MEAN, arrays.STD)
    return fw.data.ArrayDataset(x.reshape(samples, -1), y, transform=normalize)


def step(threads: int, batch: int, data: str | None, samples: int, kind: str) -> Work:
    """A training step: gather and normalize uint8 images, gradient, momentum update."""
    read, order, update = dataset(samples, data).reader(), arrays.Order(samples, batch), updater(kind)

    def once() -> fw.Tensor:
        x, y = read(order.next())
        return update(fnp.asarray(x), fnp.asarray(y))

    return Work(once, lambda: [once().item() for _ in range(8)])


def faults(threads: int, batch: int, data: str | None, samples: int, kind: str) -> Work:
    """The minor page faults of a steady step, reported in place of its seconds."""
    work = step(threads, batch, data, samples, kind)
    for _ in range(200):
        work.once()

    def once() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(100):
            work.once()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    return Work(once, warm=False, scale=100, reports_itself=True)


def chain(threads: int, length: int, kind: str) -> Work:
    """The gradient of a chain of so many operations on eight numbers."""
    x = fw.tensor(arrays.random_batch(1, 8)[0][0], requires_grad=True)

    def gradient(x: fw.Tensor) -> fw.Tensor:
        x.grad = None
        y = x
        for _ in range(length):
            y = y * 0.999
        total = y.sum()
        total.backward()
        return total

    chosen = compiler()(gradient) if kind == "compiled" else gradient

    def check() -> list[float]:
        for _ in range(4):
            total = chosen(x)
        return norms(total.item(), [] if x.grad is None else [x.grad.numpy()])

    return Work(lambda: chosen(x), check)
