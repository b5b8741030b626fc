"""L-BFGS."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from framework.errors import ConfigError
from framework.optim.optimizer import Array, check_range
from framework.optim.whole import Problem, WholeOptimizer

_CURVATURE = 1e-10
"""A pair of a step and a change of the gradient is kept where their product is larger."""


class LBFGS(WholeOptimizer):
    """A quasi-Newton method for full batches, its curvature from the last steps (Liu & Nocedal 1989).

    `step` takes a closure that drops the gradients, computes the loss, calls `backward` and returns the
    loss, and calls it several times. There is one parameter group.

    Args:
        params: the parameters, of one dtype on one device.
        lr: the length of a step, in units of the Newton step; where a line search begins.
        max_iter: the number of iterations in a step.
        max_eval: the number of evaluations of the closure in a step; 5/4 of `max_iter` where left out.
        tolerance_grad: a step ends where no element of the gradient is larger.
        tolerance_change: a step ends where the parameters or the loss change by less.
        history_size: the number of past iterations that the curvature is taken from.
        line_search_fn: None for steps of length `lr`, or `"strong_wolfe"` (Nocedal & Wright 2006, algorithms
            3.5 and 3.6), which is what makes the method robust.

    Raises:
        ConfigError: an argument is out of range, or there are several groups.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter(fw.tensor([-1.0, 2.0], dtype="float64"))
        >>> optimizer = fw.optim.LBFGS([p], line_search_fn="strong_wolfe")
        >>> def closure():  # Rosenbrock's valley, whose bottom is at (1, 1)
        ...     optimizer.zero_grad()
        ...     loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(3):
        ...     loss = optimizer.step(closure)
        >>> [round(x, 4) for x in p.tolist()]
        [1.0, 1.0]
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        check_count("LBFGS", "max_iter", max_iter)
        defaults = {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ConfigError where a group's arguments make no sense."""
        for key in ("lr", "tolerance_grad", "tolerance_change"):
            check_range("LBFGS", key, group[key], 0.0)
        for key in ("max_iter", "max_eval", "history_size"):
            check_count("LBFGS", key, group[key])
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ConfigError(f"LBFGS: line_search_fn is None or 'strong_wolfe', got {group['line_search_fn']!r}")

    def search(self, problem: Problem, group: dict[str, Any]) -> None:
        """Up to `max_iter` iterations."""
        memory = self.memory
        if not memory:
            memory.update(func_evals=0, n_iter=0, old_dirs=[], old_stps=[], ro=[], H_diag=1.0, d=None, t=0.0,
                          prev_flat_grad=None, prev_loss=0.0)  # fmt: skip
        before = memory["func_evals"]
        try:
            self._iterate(problem, group)
        finally:
            memory["func_evals"] = before + problem.evaluations

    def _iterate(self, problem: Problem, group: dict[str, Any]) -> None:
        memory, lr, small = self.memory, float(group["lr"]), float(group["tolerance_change"])
        flat = float(group["tolerance_grad"])
        loss, g = problem.evaluate()
        if problem.largest(g) <= flat:
            return
        for left in reversed(range(group["max_iter"])):
            d = self._direction(problem, g, group["history_size"])
            memory["n_iter"] += 1
            t = lr if memory["n_iter"] > 1 else min(1.0, 1.0 / float(problem.ns.xp.sum(problem.ns.xp.abs(g)))) * lr
            slope = problem.dot(g, d)
            before = loss
            memory.update(d=d, t=t, prev_flat_grad=g, prev_loss=before)
            if slope > -small:
                return
            if group["line_search_fn"]:
                at = _Ray(problem, d)
                rest = group["max_eval"] - problem.evaluations
                found = _strong_wolfe(at, _Trial(0.0, loss, slope, g), t, problem.largest(d), rest)
                t, loss, _, g = found
                memory["t"] = t
                problem.accept(problem.x + t * d)
            else:
                problem.accept(problem.x + t * d)
                if left:
                    loss, g = problem.evaluate()
            if (
                not left
                or problem.evaluations >= group["max_eval"]
                or problem.largest(g) <= flat
                or problem.largest(t * d) <= small
                or abs(loss - before) < small
            ):
                return

    def _direction(self, problem: Problem, g: Array, history_size: int) -> Array:
        """Where to go: the gradient times an estimate of the inverse Hessian, by two loops over the past."""
        memory = self.memory
        if not memory["n_iter"]:
            return -g
        steps, changes, ro = memory["old_stps"], memory["old_dirs"], memory["ro"]
        y, s = g - memory["prev_flat_grad"], memory["d"] * memory["t"]
        product = problem.dot(y, s)
        if product > _CURVATURE:
            for kept, new in ((steps, s), (changes, y), (ro, 1.0 / product)):
                kept.append(new)
                del kept[:-history_size]
            memory["H_diag"] = product / problem.dot(y, y)
        q = -g
        shares = []
        for s, y, r in zip(reversed(steps), reversed(changes), reversed(ro)):
            share = problem.dot(s, q) * r
            shares.append(share)
            q = q - share * y
        q = q * memory["H_diag"]
        for s, y, r, share in zip(steps, changes, ro, reversed(shares)):
            q = q + (share - problem.dot(y, q) * r) * s
        return q


def check_count(name: str, what: str, value: Any) -> None:
    """Raise ConfigError unless `value` is a positive integer."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name}: {what} must be a positive integer, got {value!r}")


# -- line search ------------------------------------------------------------------------------------


class _Trial(NamedTuple):
    """A point on the ray: how far, the loss, its slope along the ray, its gradient."""

    t: float
    loss: float
    slope: float
    grad: Array


class _Ray:
    """The loss along a direction."""

    def __init__(self, problem: Problem, d: Array) -> None:
        self.problem, self.d = problem, d

    def __call__(self, t: float) -> _Trial:
        loss, g = self.problem.evaluate(self.problem.x + t * self.d)
        return _Trial(t, loss, self.problem.dot(g, self.d), g)


def _strong_wolfe(
    at: Callable[[float], _Trial],
    start: _Trial,
    t: float,
    longest: float,
    most: int,
    c1: float = 1e-4,
    c2: float = 0.9,
    closest: float = 1e-9,
) -> _Trial:
    """A point with enough descent (c1) and a flat enough slope (c2), or the best of `most` + 1 trials.

    `longest` is the largest element of the direction; the search ends where a bracket is narrower than
    `closest` along it.
    """
    before, now = start, at(t)
    bracket = None
    tried = 0
    while tried < most:
        if now.loss > start.loss + c1 * now.t * start.slope or (tried > 1 and now.loss >= before.loss):
            bracket = [before, now]
            break
        if abs(now.slope) <= -c2 * start.slope:
            return now
        if now.slope >= 0:
            bracket = [before, now]
            break
        further = _lowest(before, now, (now.t + 0.01 * (now.t - before.t), 10 * now.t))
        before, now = now, at(further)
        tried += 1
    bracket = [start, now] if bracket is None else bracket
    low = 0 if bracket[0].loss <= bracket[1].loss else 1
    slow = False  # whether the last trial lay close to an end of the bracket
    while tried < most and abs(bracket[1].t - bracket[0].t) * longest >= closest:
        t, slow = _inside(bracket, slow)
        now = at(t)
        tried += 1
        if now.loss > start.loss + c1 * t * start.slope or now.loss >= bracket[low].loss:
            bracket[1 - low] = now
            low = 0 if bracket[0].loss <= bracket[1].loss else 1
            continue
        if abs(now.slope) <= -c2 * start.slope:
            return now
        if now.slope * (bracket[1 - low].t - bracket[low].t) >= 0:
            bracket[1 - low] = bracket[low]
        bracket[low] = now
    return bracket[low]


def _inside(bracket: list[_Trial], slow: bool) -> tuple[float, bool]:
    """The next trial in a bracket, kept off its ends where two in a row come close to one."""
    left, right = sorted((bracket[0].t, bracket[1].t))
    t = _lowest(bracket[0], bracket[1], (left, right))
    margin = 0.1 * (right - left)
    if min(right - t, t - left) >= margin:
        return t, False
    if not slow and left < t < right:
        return t, True
    return (right - margin if abs(t - right) < abs(t - left) else left + margin), False


def _lowest(a: _Trial, b: _Trial, bounds: tuple[float, float]) -> float:
    """Where the cubic through two points with their slopes is lowest, within bounds; else the middle of these."""
    if a.t > b.t:
        a, b = b, a
    low, high = bounds
    if a.t < b.t:
        d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
        square = d1 * d1 - a.slope * b.slope
        if square >= 0:
            d2 = math.sqrt(square)
            divisor = b.slope - a.slope + 2 * d2
            t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / divisor) if divisor else math.nan
            if math.isfinite(t):
                return min(max(t, low), high)
    return (low + high) / 2
