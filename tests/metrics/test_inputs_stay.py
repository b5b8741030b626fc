"""No metric writes what it is updated with, nor what it merges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import metrics

RNG = np.random.default_rng(0)
SCORES = RNG.random((6, 3)).astype(np.float32)
SCORES /= SCORES.sum(axis=1, keepdims=True)
CLASSES = np.array([0, 1, 2, 2, 1, 0])
CASES: dict[str, tuple[Any, tuple[np.ndarray, ...]]] = {
    "Accuracy": (lambda: metrics.Accuracy(top_k=2), (SCORES, CLASSES)),
    "Precision": (lambda: metrics.Precision(3), (SCORES, CLASSES)),
    "Recall": (lambda: metrics.Recall(3), (SCORES, CLASSES)),
    "F1": (lambda: metrics.F1(3), (SCORES, CLASSES)),
    "ConfusionMatrix": (lambda: metrics.ConfusionMatrix(3), (SCORES, CLASSES)),
    "AUROC": (lambda: metrics.AUROC(3), (SCORES, CLASSES)),
    "MeanSquaredError": (metrics.MeanSquaredError, (SCORES, SCORES[::-1].copy())),
    "MeanMetric": (metrics.MeanMetric, (SCORES, SCORES[::-1].copy())),
}


def test_every_metric_is_here() -> None:
    offered = {n for n in dir(metrics) if isinstance(getattr(metrics, n), type)}
    assert set(CASES) == {n for n in offered if issubclass(getattr(metrics, n), metrics.Metric)} - {"Metric"}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_nothing_given_is_written(name: str, kind: str) -> None:
    make, arrays = CASES[name]
    held = [a.copy() for a in arrays]
    given = [fw.tensor(a) for a in held] if kind == "tensors" else held
    metric, other = make(), make()
    for _ in range(2):
        metric.update(*given)
    other.update(*given)
    before = np.asarray(other.compute()).copy()
    metric.merge(other)
    metric.update(*given)
    metric.compute()
    metric.reset()
    np.testing.assert_array_equal(np.asarray(other.compute()), before)
    for x, a in zip(given, arrays):
        np.testing.assert_array_equal(x.numpy() if kind == "tensors" else x, a)
