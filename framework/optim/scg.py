"""Scaled conjugate gradients."""

from __future__ import annotations

import math
from typing import Any

from framework.optim.lbfgs import check_count
from framework.optim.optimizer import Array, check_range
from framework.optim.whole import Problem, WholeOptimizer

_WORSE = -3.0
"""Stands for the gain of a step to where the loss is not finite: the scale grows fivefold at least."""
_SMALLEST = 1e-15
"""The scale never falls below this."""


class SCG(WholeOptimizer):
    """Scaled conjugate gradients (Møller 1993): no learning rate and no line search; for full batches.

    The curvature along the direction is measured by a second gradient a little further on, and what is
    missing for it to be positive, or to be trusted, is added as in the method of Levenberg and Marquardt.
    An iteration costs two evaluations of the closure; one, after an iteration that failed.

    `step` takes a closure that drops the gradients, computes the loss, calls `backward` and returns the
    loss. There is one parameter group. Afterwards gradients are those of the last evaluation.

    Args:
        params: the parameters, of one dtype on one device.
        sigma: the distance at which the second gradient is taken, as a share of the length of the parameters
            where that is more than 1, so that rounding does not swallow it.
        lambda_init: the scale that is added to the curvature at the start.
        max_iter: the number of iterations in a step.
        tolerance_grad: a step ends where no element of the gradient is larger.
        tolerance_change: a step ends where the parameters or the loss change by less.

    Raises:
        ConfigError: an argument is out of range, or there are several groups.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter(fw.tensor([-1.0, 2.0], dtype="float64"))
        >>> optimizer = fw.optim.SCG([p], max_iter=100)
        >>> def closure():  # Rosenbrock's valley, whose bottom is at (1, 1)
        ...     optimizer.zero_grad()
        ...     loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)
        >>> [round(x, 4) for x in p.tolist()]
        [1.0, 1.0]
    """

    def __init__(
        self,
        params: Any,
        sigma: float = 1e-4,
        lambda_init: float = 1e-6,
        max_iter: int = 20,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
    ) -> None:
        defaults = {
            "sigma": sigma, "lambda_init": lambda_init, "max_iter": max_iter, "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ConfigError where a group's arguments make no sense."""
        for key in ("tolerance_grad", "tolerance_change"):
            check_range("SCG", key, group[key], 0.0)
        check_range("SCG", "sigma", group["sigma"], 1e-12, 1.0)
        check_range("SCG", "lambda_init", group["lambda_init"], _SMALLEST)
        check_count("SCG", "max_iter", group["max_iter"])

    def search(self, problem: Problem, group: dict[str, Any]) -> None:
        """Up to `max_iter` iterations."""
        memory = self.memory
        if not memory:
            memory.update(func_evals=0, n_iter=0, direction=None, scale=float(group["lambda_init"]))
        before = memory["func_evals"]
        try:
            self._iterate(problem, group)
        finally:
            memory["func_evals"] = before + problem.evaluations
            problem.restore()

    def _iterate(self, problem: Problem, group: dict[str, Any]) -> None:
        memory = self.memory
        flat, small = float(group["tolerance_grad"]), float(group["tolerance_change"])
        loss, g = problem.evaluate()
        curvature = None  # along the direction, at the accepted place; None where it is not known yet
        for _ in range(group["max_iter"]):
            if not flat < problem.largest(g) < math.inf or not math.isfinite(loss):
                return
            p = memory["direction"]
            slope = math.nan if p is None else problem.dot(p, g)
            if not slope < 0:  # the first direction, or one that leads nowhere since the loss has changed
                p, curvature = -g, None
                memory["direction"], slope = p, -problem.dot(g, g)
            square = problem.dot(p, p)
            if curvature is None:
                curvature = _curvature(problem, p, g, square, float(group["sigma"]))
            bend = curvature + memory["scale"] * square
            if bend <= 0:  # make it positive, as far from zero as it was
                memory["scale"], bend = -2.0 * curvature / square, -curvature
            alpha = -slope / bend
            x = problem.x + alpha * p
            new_loss, new_g = problem.evaluate(x)
            gain = 2.0 * bend * (loss - new_loss) / (slope * slope)  # 1 where the loss is the parabola assumed
            if not math.isfinite(gain) or not problem.largest(new_g) < math.inf:
                gain = _WORSE
            memory["n_iter"] += 1
            done = alpha * problem.largest(p) <= small
            if gain >= 0.0:
                problem.accept(x)
                done = done or abs(loss - new_loss) < small
                memory["direction"] = self._next(problem, p, g, new_g, slope)
                loss, g, curvature = new_loss, new_g, None
            if gain >= 0.75:
                memory["scale"] = max(0.25 * memory["scale"], _SMALLEST)
            elif gain < 0.25:
                memory["scale"] += bend * (1.0 - gain) / square
            if done:
                return

    def _next(self, problem: Problem, p: Array, g: Array, new_g: Array, slope: float) -> Array:
        """The next direction; every so many iterations as there are weights, the gradient alone."""
        if self.memory["n_iter"] % p.shape[0] == 0:
            return -new_g
        beta = (problem.dot(new_g, new_g) - problem.dot(new_g, g)) / -slope
        return beta * p - new_g


def _curvature(problem: Problem, p: Array, g: Array, square: float, sigma: float) -> float:
    """The second derivative along `p` times its squared length, from the gradient a little further on."""
    distance = sigma * max(1.0, math.sqrt(problem.dot(problem.x, problem.x))) / math.sqrt(square)
    _, further = problem.evaluate(problem.x + distance * p)
    value = problem.dot(p, further - g) / distance
    return value if math.isfinite(value) else square
