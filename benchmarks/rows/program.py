"""Whole programs, from the start of the process to its exit: `fw train` against the equal Lightning script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import figures
from benchmarks.children import HERE, ChildFailedError, environment, is_installed
from benchmarks.registry import Bar, Result, Settings, row
from benchmarks.rows.gradient import in_words

NO_DATA = "no MNIST: set FW_DATA to a folder that holds mnist/, or download it once by fw train configs/mnist_mlp.yaml"
GOOD = 98.0
EPOCHS_TO_GOOD = 3


@dataclass(slots=True)
class Run:
    """A process that has ended."""

    seconds: float
    peak: float
    """Megabytes resident at most."""
    output: str


def run(command: list[str], folder: Path, threads: int) -> Run:
    """Run a program to its end.

    Raises:
        ChildFailedError: it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment(threads), cwd=folder, stdout=out, stderr=err)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = " / ".join((folder / "err").read_text(errors="replace").strip().splitlines()[-2:])
        raise ChildFailedError(f"{' '.join(command[-8:])} ended with code {process.returncode}: {said}")
    kilo = 1024 if sys.platform == "darwin" else 1  # bytes there, kilobytes elsewhere
    return Run(seconds, used.ru_maxrss / kilo / 1024, (folder / "out").read_text())


def config() -> Path:
    """`configs/mnist_mlp.yaml`, beside this folder in a checkout and in the installed package."""
    return HERE.parent / "configs" / "mnist_mlp.yaml"


def fw_train(settings: Settings, name: str, epochs: int, seed: int) -> tuple[Run, float]:
    """`fw train` of the main job, and its test accuracy in percent."""
    assert settings.data is not None
    folder = settings.scratch / name
    command = [sys.executable, "-P", "-m", "framework", "train", str(config()), "--seed", str(seed)]
    command += ["--trainer.max_epochs", str(epochs), "--data.init_args.root", str(settings.data)]
    found = run(command, folder, settings.most_threads)
    [summary] = (folder / "runs" / "mnist_mlp").glob("*/summary.json")
    return found, 100 * json.loads(summary.read_text())["metrics"]["test_acc"]["last"]


def lightning(settings: Settings, name: str, epochs: int, seed: int) -> tuple[Run, float]:
    """The same with Lightning."""
    script = HERE / "baselines" / "mnist_lightning.py"
    command = [sys.executable, str(script), str(settings.data), str(epochs), str(seed)]
    found = run(command, settings.scratch / name, settings.most_threads)
    return found, 100 * float(found.output.strip().splitlines()[-1])


TRAIN_NOTES = """
    `fw train configs/mnist_mlp.yaml` and `benchmarks/baselines/mnist_lightning.py`: same files, split, network,
    hyper-parameters, schedule, validation in each epoch, checkpoints, and a test at the end. The Lightning script keeps
    uint8 images in memory and normalizes a batch at a time, counts the accuracy by hand and starts no worker processes.
    Each round has another seed.
"""


@row("train", "fw train, ten epochs of MNIST, ÷ the equal Lightning script", minutes=5.0, notes=TRAIN_NOTES)
def train(settings: Settings) -> Iterator[Result]:
    """In turns; ten epochs each, then the test."""
    epochs = 1 if settings.quick else 10
    case = f"{epochs} epoch{'s' if epochs > 1 else ''}, {in_words(settings.most_threads)}"
    what = {
        "process start to exit, fw train ÷ Lightning": Bar(0.25),
        "peak memory, fw train ÷ Lightning": Bar(0.4),
    }
    reason = NO_DATA if settings.data is None else "" if is_installed("lightning") else "lightning is not installed"
    if reason:
        yield from (Result("train", name, case, bar=bar, skipped=reason) for name, bar in what.items())
        return
    ours, theirs = [], []
    for k in range(settings.rounds_or(15)):
        both = [(ours, fw_train, "fw"), (theirs, lightning, "lightning")]
        for runs, program, name in both if k % 2 == 0 else both[::-1]:
            runs.append(program(settings, f"{name}-{k}", epochs, k))
    both_accuracies = {
        "accuracy, fw": round(figures.median([a for _, a in ours]), 2),
        "accuracy, Lightning": round(figures.median([a for _, a in theirs]), 2),
    }
    for (name, bar), key in zip(what.items(), ("seconds", "peak")):
        mine, other = ([getattr(r, key) for r, _ in runs] for runs in (ours, theirs))
        detail = {"fw": round(figures.median(mine), 2), "Lightning": round(figures.median(other), 2)}
        shown = detail | (both_accuracies if key == "seconds" else {})
        yield Result("train", name, case, figures.ratios(mine, other), bar=bar, detail=shown)


ACCURACY_NOTES = """
    `fw train configs/mnist_mlp.yaml` with so few epochs that the one-cycle schedule just gets there; the data are on
    the disk, gzipped. Each round has another seed.
"""


@row("accuracy", "real MNIST to 98.0 % test accuracy, process start to exit", minutes=0.8, notes=ACCURACY_NOTES)
def accuracy(settings: Settings) -> Iterator[Result]:
    """`fw train` with as many epochs as reach it: another seed in each round."""
    case, bar = f"fw train --trainer.max_epochs {EPOCHS_TO_GOOD}, {in_words(settings.most_threads)}", Bar(aim=4.0)
    what = f"MNIST to {GOOD} % test accuracy, process start to exit"
    if settings.data is None:
        yield Result("accuracy", what, case, unit="s", bar=bar, skipped=NO_DATA)
        return
    rounds = settings.rounds_or(15)
    runs = [fw_train(settings, f"accuracy-{k}", EPOCHS_TO_GOOD, k) for k in range(rounds)]
    reached = [a for _, a in runs]
    detail = {
        "lowest accuracy": round(min(reached), 2),
        "median accuracy": round(figures.median(reached), 2),
        f"seeds of {rounds} at {GOOD} %": sum(a >= GOOD for a in reached),
    }
    yield Result("accuracy", what, case, [r.seconds for r, _ in runs], "s", bar, detail)
