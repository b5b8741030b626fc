"""PyTorch, eagerly: the gradient, the step, and loops as people write them without Lightning."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from benchmarks.baselines import arrays, mlp_numpy
from benchmarks.contenders.by_hand import norms
from benchmarks.worker import Work


def model(threads: int, sizes: tuple[int, ...] = mlp_numpy.SIZES) -> torch.nn.Sequential:
    """The MLP with the weights that everybody starts from."""
    torch.set_num_threads(threads)
    layers: list[torch.nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for p, value in zip(net.parameters(), mlp_numpy.init(sizes=tuple(sizes))):
            p.copy_(torch.from_numpy(value))
    return net


def gradient(threads: int, batch: int, sizes: tuple[int, ...] = mlp_numpy.SIZES) -> Work:
    """zero_grad, forward, backward."""
    net, loss_of = model(threads, sizes), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    x, y = map(torch.from_numpy, arrays.random_batch(batch, sizes[0], sizes[-1]))

    def once() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(net(x), y)
        loss.backward()
        return loss

    return Work(once, lambda: norms(once().item(), [p.grad.numpy() for p in net.parameters()]))


def trainer(threads: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A function that makes one update with a batch."""
    net, loss_of = model(threads), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def update(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return update


def tensors(samples: int, data: str | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalized images and labels."""
    x, y = arrays.images(samples, data)
    return torch.from_numpy(arrays.normalized(x)), torch.from_numpy(np.array(y))


def step(threads: int, batch: int, data: str | None, samples: int) -> Work:
    """A training step: index, gradient, momentum update."""
    x, y = tensors(samples, data)
    update, order = trainer(threads), arrays.Order(samples, batch)

    def once() -> torch.Tensor:
        index = torch.from_numpy(order.next())
        return update(x[index], y[index])

    return Work(once, lambda: [once().item() for _ in range(8)])


def epoch_with_loader(threads: int, batch: int, data: str | None, samples: int) -> Work:
    """An epoch with a DataLoader over a TensorDataset."""
    update = trainer(threads)
    dataset = torch.utils.data.TensorDataset(*tensors(samples, data))
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch, shuffle=True, drop_last=True)

    def once() -> Any:
        for x, y in loader:
            update(x, y)

    return Work(once, warm=False, scale=len(loader))


def epoch_with_slices(threads: int, batch: int, data: str | None, samples: int) -> Work:
    """An epoch by index: no DataLoader."""
    update = trainer(threads)
    x, y = tensors(samples, data)
    steps = samples // batch

    def once() -> Any:
        order = torch.randperm(samples)
        for i in range(steps):
            index = order[i * batch : (i + 1) * batch]
            update(x[index], y[index])

    return Work(once, warm=False, scale=steps)
