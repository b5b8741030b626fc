"""How many evaluations of loss and gradient optimizers need on full-batch problems: XOR, a sine, digits.

    python benchmarks/optimizers.py [--problems xor sine digits] [--seeds 10] [--plot docs/optimizers.svg] [--json FILE]

Each optimizer starts from the same weights for each seed and may evaluate the loss with its gradient a given
number of times; what counts is the best loss so far. SGD and Adam have, of a grid, the learning rate that
solves the problem soonest; the others are given none: Rprop and SCG have their defaults, L-BFGS its line search.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import framework as fw
from benchmarks.svg import FAINT, INK, Canvas, LogScale
from framework import nn, optim

COLOURS = {"SGD": "#57606a", "Adam": "#d4550d", "L-BFGS": "#8250df", "Rprop": "#1a7f37", "iRprop+": "#54d07a",
           "SCG": "#0550ae"}  # fmt: skip
GRIDS = {"SGD": (0.01, 0.03, 0.1, 0.3, 1.0), "Adam": (0.003, 0.01, 0.03, 0.1, 0.3)}
MAKE: dict[str, Callable[..., Any]] = {
    "SGD": lambda params, lr: optim.SGD(params, lr=lr, momentum=0.9),
    "Adam": lambda params, lr: optim.Adam(params, lr=lr),
    "L-BFGS": lambda params: optim.LBFGS(params, line_search_fn="strong_wolfe"),
    "Rprop": lambda params: optim.Rprop(params),
    "iRprop+": lambda params: optim.Rprop(params, variant="irprop+"),
    "SCG": lambda params: optim.SCG(params),
}


@dataclass(frozen=True)
class Problem:
    """A network, its data, its loss, how often it may be evaluated, and the loss that counts as solved."""

    title: str
    layers: tuple[int, ...]
    x: np.ndarray
    y: np.ndarray
    loss: Callable[..., Any]
    evaluations: int
    target: float


def xor() -> Problem:
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return Problem(
        "XOR, 2-4-1", (2, 4, 1), x, np.array([[0.0], [1.0], [1.0], [0.0]]), nn.functional.mse_loss, 1000, 1e-4
    )


def sine() -> Problem:
    x = np.linspace(-1, 1, 100)[:, None]
    return Problem("sine, 1-10-1", (1, 10, 1), x, np.sin(2 * math.pi * x), nn.functional.mse_loss, 2000, 1e-4)


def digits() -> Problem:
    images, labels = fw.data.Digits("train").arrays
    small = images[:, 3:26:3, 3:26:3].reshape(len(images), 64).astype(np.float32) / 255
    return Problem("digits, 64-32-10", (64, 32, 10), small, labels, nn.functional.cross_entropy, 400, 1e-2)


PROBLEMS = {"xor": xor, "sine": sine, "digits": digits}


def network(problem: Problem, seed: int) -> nn.Module:
    fw.seed_everything(seed)
    layers: list[nn.Module] = []
    for before, after in zip(problem.layers, problem.layers[1:]):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).to(dtype=str(problem.x.dtype))


def run(problem: Problem, name: str, seed: int, **arguments: float) -> list[float]:
    """The best loss so far after each evaluation."""
    model = network(problem, seed)
    optimizer = MAKE[name](model.parameters(), **arguments)
    x, y = fw.tensor(problem.x), fw.tensor(problem.y)
    best: list[float] = []

    def closure() -> Any:
        optimizer.zero_grad()
        loss = problem.loss(model(x), y)
        loss.backward()
        value = loss.item()
        value = value if math.isfinite(value) else math.inf
        best.append(min(value, best[-1]) if best else value)
        return loss

    while len(best) < problem.evaluations:
        optimizer.step(closure)
    return best[: problem.evaluations]


def measure(problem: Problem, name: str, seeds: int) -> dict[str, Any]:
    """The runs of one optimizer, with the best of its learning rates where it has a grid."""
    grid = [{"lr": lr} for lr in GRIDS[name]] if name in GRIDS else [{}]
    found = [
        summary(problem, [run(problem, name, seed, **arguments) for seed in range(seeds)], arguments)
        for arguments in grid
    ]
    return min(found, key=lambda result: (result["evaluations"], result["curve"][-1]))


def summary(problem: Problem, curves: list[list[float]], arguments: dict[str, float]) -> dict[str, Any]:
    """The median curve, and how often and how soon the problem was solved."""
    solved = [next((i + 1 for i, v in enumerate(curve) if v <= problem.target), math.inf) for curve in curves]
    return {
        "curve": [statistics.median(values) for values in zip(*curves)],
        "arguments": arguments,
        "solved": sum(math.isfinite(n) for n in solved),
        "evaluations": statistics.median(solved),
    }


def draw(results: dict[str, dict[str, Any]], problems: dict[str, Problem], seeds: int) -> Canvas:
    """A panel for each problem: the median of the best losses over the number of evaluations."""
    wide, high = 300, 290
    canvas = Canvas(40 + wide * len(results), 84 + high, "Loss over evaluations of full-batch problems")
    canvas.text(20, 28, f"Best loss so far over evaluations of loss and gradient (median of {seeds} starts)", size=16)
    x = 20.0
    for name in next(iter(results.values())):
        canvas.dot(x + 5, 50, COLOURS[name])
        canvas.text(x + 14, 54, name)
        x += 44 + 6.6 * len(name)
    for k, (key, by_name) in enumerate(results.items()):
        _panel(canvas, 64 + wide * k, 84, wide - 50, high - 60, problems[key], by_name)
    return canvas


def _panel(
    canvas: Canvas, x: float, y: float, width: float, height: float, problem: Problem, found: dict[str, Any]
) -> None:
    values = [v for result in found.values() for v in result["curve"] if 0 < v < math.inf]
    floor = max(min(values), problem.target * 1e-4)
    across = LogScale(1, problem.evaluations, x, x + width)
    up = LogScale(floor * 0.7, max(values) * 1.3, y + height, y)
    for tick in up.ticks((1,)):
        canvas.line([(x, up(tick)), (x + width, up(tick))], FAINT)
        canvas.text(x - 4, up(tick) + 4, f"{tick:g}".replace("e-0", "e-"), size=10, anchor="end")
    for tick in across.ticks((1,)):
        canvas.text(across(tick), y + height + 14, f"{tick:g}", size=10, anchor="middle")
    canvas.line([(x, up(problem.target)), (x + width, up(problem.target))], INK, dash="3 3")
    canvas.text(x + width / 2, y + height + 32, problem.title, size=12, anchor="middle")
    for name, result in found.items():
        curve = [min(max(v, floor), max(values)) for v in result["curve"]]
        places = sorted({round(1.08**i) for i in range(150)} & set(range(1, len(curve) + 1)))
        canvas.line([(across(n), up(curve[n - 1])) for n in places], COLOURS[name], width=2)


def table(results: dict[str, dict[str, Any]], problems: dict[str, Problem], seeds: int) -> str:
    head = ("problem", "optimizer", f"solved, of {seeds}", "evaluations (median)", "loss in the end (median)")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for key, by_name in results.items():
        for name, result in by_name.items():
            arguments = "".join(f", lr={value:g}" for value in result["arguments"].values())
            needed = result["evaluations"]
            lines.append(
                f"| {problems[key].title}, loss ≤ {problems[key].target:g} | {name}{arguments} | {result['solved']} | "
                f"{'–' if math.isinf(needed) else f'{needed:g}'} | {result['curve'][-1]:.1e} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--optimizers", nargs="+", choices=MAKE, default=list(MAKE))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    problems = {key: PROBLEMS[key]() for key in given.problems}
    results = {
        key: {name: measure(problem, name, given.seeds) for name in given.optimizers}
        for key, problem in problems.items()
    }
    print(table(results, problems, given.seeds))
    if given.plot:
        given.plot.write_text(str(draw(results, problems, given.seeds)), encoding="utf-8")
    if given.json:
        given.json.write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
