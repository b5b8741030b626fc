"""Figures on a GPU: `python -m benchmarks.gpu`; without one it says what is missing, and exits with 2.

Contenders take turns in one process: each round measures all of them once, in another order. Printed are medians and
quartiles over the rounds, as a table for docs/gpu.md with the command, commit, device and versions above it.
`--rehearse` runs what can be run without a GPU, with tiny sizes, to see that the program is whole; its figures mean
nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import framework as fw
from benchmarks import machine
from benchmarks.gpu_turns import Clock, Contender, Place, Row, lines, measured
from framework.backend import registry
from framework.errors import BackendError

SIZES = (784, 300, 100, 10)
BATCH, IMAGES = 128, 60_000
DTYPES = ("float32", "float16")


# -- the MNIST MLP -----------------------------------------------------------------------------------


def batch() -> tuple[Any, Any]:
    """A batch of the MLP's, on the host."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((BATCH, SIZES[0])).astype(np.float32), rng.integers(0, 10, BATCH)


def mlp_steps(place: Place) -> Iterator[Contender]:
    """Forward, backward and update with momentum on one batch that is there."""
    yield our_step(place)
    torch = _torch()
    if torch is None:
        return
    yield Contender("PyTorch eager", torch_step(torch, place, by_graph=False))
    if place.has_gpu:
        yield Contender("PyTorch CUDA graph", torch_step(torch, place, by_graph=True))


def our_step(place: Place) -> Contender:
    """A compiled step of ours."""
    backend = registry.get(place.backend)
    layers: list[Any] = []
    for a, b in pairwise(SIZES):
        layers += [fw.nn.Linear(a, b), fw.nn.ReLU()]
    model = fw.nn.Sequential(*layers[:-1]).to(device=place.backend)
    optimizer = fw.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, y = (fw.tensor(a, backend=backend) for a in batch())

    @fw.compile
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = fw.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def run(n: int) -> None:
        for _ in range(n):
            step(x, y)
        backend.synchronize()

    return Contender("ours, compiled", run)


def torch_model(torch: Any, device: str) -> Any:
    """The same network in PyTorch."""
    layers: list[Any] = []
    for a, b in pairwise(SIZES):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1]).to(device)


def torch_step(torch: Any, place: Place, by_graph: bool) -> Callable[[int], None]:
    """A step in PyTorch, eager or as one CUDA graph with the update in it."""
    model = torch_model(torch, place.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, y = (torch.as_tensor(a, device=place.device) for a in batch())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    run = step
    if by_graph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            step()
        run = graph.replay

    def many(n: int) -> None:
        for _ in range(n):
            run()
        if place.has_gpu:
            torch.cuda.synchronize()

    return many


# -- an epoch by the Trainers ------------------------------------------------------------------------


def epochs(place: Place) -> Iterator[Contender]:
    """Whole epochs of 60,000 uint8 images at batch 128 by both Trainers; a step is an epoch."""
    rng = np.random.default_rng(0)
    n = IMAGES // place.scale
    images, labels = rng.integers(0, 256, (n, 784)).astype(np.uint8), rng.integers(0, 10, n)
    yield Contender("ours, Trainer(compile=True)", our_epochs(place, images, labels))
    torch = _torch()
    try:
        import lightning
    except ImportError:
        return
    if torch is not None:
        yield Contender("Lightning", lightning_epochs(torch, lightning, place, images, labels))


def our_epochs(place: Place, images: Any, labels: Any) -> Callable[[int], float]:
    """A fit of so many epochs, after one that does not count."""

    class Timed(fw.callbacks.Callback):
        def __init__(self, clock: Clock) -> None:
            self.clock = clock

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.clock.end_epoch()

    class MLP(fw.TrainModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = fw.nn.ModuleList([fw.nn.Linear(a, b) for a, b in pairwise(SIZES)])

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            for layer in list(self.layers)[:-1]:
                x = fw.nn.functional.relu(layer(x))
            return fw.nn.functional.cross_entropy(self.layers[-1](x), y)

        def configure_optimizers(self) -> Any:
            return fw.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)

    data = fw.data.ArrayDataset(images, labels, transform=fw.data.transforms.Normalize(0.1307, 0.3081))
    loader = fw.data.DataLoader(data, BATCH, shuffle=True)

    def run(n: int) -> float:
        clock = Clock(registry.get(place.backend).synchronize)
        fw.Trainer(
            backend=place.backend, max_epochs=n + 1, compile=True, callbacks=[Timed(clock)], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        ).fit(MLP(), loader)  # fmt: skip
        return clock.seconds()

    return run


def lightning_epochs(torch: Any, lightning: Any, place: Place, images: Any, labels: Any) -> Callable[[int], float]:
    """The same by Lightning."""

    class Timed(lightning.Callback):  # type: ignore[misc]
        def __init__(self, clock: Clock) -> None:
            self.clock = clock

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.clock.end_epoch()

    class MLP(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = torch_model(torch, "cpu")

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            return torch.nn.functional.cross_entropy(self.net((x * (1 / 255) - 0.1307) / 0.3081), y)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)

    data = torch.utils.data.TensorDataset(torch.as_tensor(images), torch.as_tensor(labels))
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True)

    def run(n: int) -> float:
        clock = Clock(torch.cuda.synchronize if place.has_gpu else lambda: None)
        lightning.Trainer(
            accelerator="gpu" if place.has_gpu else "cpu", devices=1, max_epochs=n + 1, logger=False,
            callbacks=[Timed(clock)],
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        ).fit(MLP(), loader)  # fmt: skip
        return clock.seconds()

    return run


# -- single operations -------------------------------------------------------------------------------


def products(place: Place) -> Iterator[Contender]:
    """A product of two square matrices of bfloat16 (float32 in a rehearsal)."""
    backend = registry.get(place.backend)
    n = 8192 // place.scale
    x = fw.numpy.ones((n, n)).to(device=place.backend)
    x = x.to(dtype="bfloat16") if place.has_gpu else x
    yield Contender("ours", lambda k: _repeat(k, lambda: x @ x, backend.synchronize))
    if place.has_gpu:
        import cupy

        raw = x._data
        yield Contender("CuPy", lambda k: _repeat(k, lambda: cupy.matmul(raw, raw), backend.synchronize))


def layers(kind: str, dtype: str) -> Callable[[Place], Iterator[Contender]]:
    """A convolution of 3 × 3, or attention, forward and backward, against PyTorch's."""

    def contenders(place: Place) -> Iterator[Contender]:
        backend = registry.get(place.backend)
        s = place.scale
        shapes = [(64 // s or 1, 64 // s or 1, 56, 56), (64 // s or 1, 64 // s or 1, 3, 3)]
        if kind == "attention":
            shapes = [(16 // s or 1, 16 // s or 1, 1024 // s or 4, 64)] * 3
        rng = np.random.default_rng(0)
        host = [rng.standard_normal(shape).astype(dtype if place.has_gpu else np.float32) for shape in shapes]
        given = [fw.tensor(a, backend=backend, requires_grad=True) for a in host]

        def ours() -> None:
            F = fw.nn.functional
            for t in given:
                t.grad = None
            out = F.conv2d(*given, padding=1) if kind == "convolution" else F.scaled_dot_product_attention(*given)
            out.sum().backward()

        yield Contender("ours", lambda k: _repeat(k, ours, backend.synchronize))
        torch = _torch()
        if torch is None:
            return
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32 on both sides
        theirs = [torch.as_tensor(a, device=place.device).requires_grad_() for a in host]

        def torch_step() -> None:
            F = torch.nn.functional
            for t in theirs:
                t.grad = None
            out = F.conv2d(*theirs, padding=1) if kind == "convolution" else F.scaled_dot_product_attention(*theirs)
            out.sum().backward()

        wait = torch.cuda.synchronize if place.has_gpu else lambda: None
        yield Contender("PyTorch", lambda k: _repeat(k, torch_step, wait))

    return contenders


def _repeat(n: int, step: Callable[[], Any], wait: Callable[[], Any]) -> None:
    for _ in range(n):
        step()
    wait()


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch


ROWS = (
    Row("MNIST MLP, one step at batch 128", 200, mlp_steps),
    Row("MNIST MLP, one epoch of 60,000 images", 3, epochs),
    Row("product of 8192 × 8192 in bfloat16", 5, products),
    *[
        Row(f"convolution 3 × 3, (64, 64, 56, 56), forward and backward, {d}", 5, layers("convolution", d))
        for d in DTYPES
    ],
    *[Row(f"attention, (16, 16, 1024, 64), forward and backward, {d}", 5, layers("attention", d)) for d in DTYPES],
)


# -- taking turns ------------------------------------------------------------------------------------


def heading(place: Place, rounds: int) -> Iterator[str]:
    """Command, commit, device, versions."""
    told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    yield f"- command: `python -m benchmarks.gpu {' '.join(sys.argv[1:])}`".rstrip() + f", {rounds} rounds"
    yield f"- commit: {told.stdout.strip() or 'none'}"
    if place.has_gpu:
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(0)
        yield f"- device: {properties['name'].decode()}, driver for CUDA {cupy.cuda.runtime.driverGetVersion()}"
        yield f"- CuPy {cupy.__version__}, CUDA {cupy.cuda.runtime.runtimeGetVersion()}"
    yield f"- versions: {', '.join(f'{name} {version}' for name, version in machine.versions().items())}"


def place_of(rehearse: bool) -> Place | str:
    """Where to measure, or what is missing."""
    if rehearse:
        return Place("cpu", "cpu", 64, has_gpu=False)
    try:
        registry.get("cuda")
    except BackendError as error:
        return str(error)
    return Place("cuda", "cuda", 1, has_gpu=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print a table; 2 where there is no GPU."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description="Measure on a GPU.")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each row")
    parser.add_argument("--rehearse", action="store_true", help="without a GPU, with tiny sizes; means nothing")
    told = parser.parse_args(arguments)
    if told.rounds < 1:
        parser.error(f"--rounds {told.rounds}: expected 1 or more")
    place = place_of(told.rehearse)
    if isinstance(place, str):
        print(f"no figures: {place}", file=sys.stderr)
        return 2
    if told.rehearse:
        print("A rehearsal without a GPU: these figures mean nothing.\n")
    print(*heading(place, told.rounds), "", sep="\n")
    print("| what | who | median, µs | quartiles, µs | times ours |\n|---|---|---|---|---|")
    for row in ROWS:
        print(*lines(row, measured(row, place, told.rounds)), sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
