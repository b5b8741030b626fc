"""Metrics: their values, what they refuse, their state, and that updates read nothing."""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import framework as fw
from framework import metrics
from framework.autodiff import Tensor
from framework.backend import registry
from framework.errors import ConfigError, DataError, DTypeError, ShapeError

BACKENDS = ("cpu", "strict")


@pytest.mark.parametrize("backend", BACKENDS)
def test_accuracy_of_scores(backend: str) -> None:
    accuracy = metrics.Accuracy()
    rng = np.random.default_rng(0)
    hits = total = 0
    for n in (7, 1, 12):
        scores, target = rng.normal(size=(n, 4)), rng.integers(0, 4, n)
        accuracy.update(fw.tensor(scores, backend=backend), fw.tensor(target, backend=backend))
        hits += (scores.argmax(1) == target).sum()
        total += n
    assert accuracy.compute() == hits / total
    assert type(accuracy.compute()) is float
    accuracy.reset()
    assert math.isnan(accuracy.compute())


@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.lists(st.integers(1, 3), max_size=2),
    st.integers(1, 5),
    st.integers(0, 999),
)
def test_top_k(n: int, classes: int, rest: list[int], k: int, seed: int) -> None:
    """A hit is a target among the k best; of equal scores the lower class comes first, as in a stable sort."""
    k = min(k, classes)
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (n, classes, *rest)).astype(np.float32)  # many ties
    target = rng.integers(0, classes, (n, *rest))
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    expected = (best == target[:, None]).any(axis=1).mean()
    accuracy = metrics.Accuracy(num_classes=classes, top_k=k)
    accuracy.update(scores, target)
    assert accuracy.compute() == pytest.approx(expected)


@pytest.mark.reference
@pytest.mark.parametrize("top_k", [1, 3])
def test_accuracy_equals_torchmetrics(top_k: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed").Accuracy(
        task="multiclass", num_classes=6, top_k=top_k, average="micro"
    )
    ours = metrics.Accuracy(num_classes=6, top_k=top_k)
    rng = np.random.default_rng(0)
    for shape in ((40, 6), (5, 6)):
        scores, target = rng.normal(size=shape), rng.integers(0, 6, shape[:1])
        ours.update(scores, target)
        theirs.update(torch.tensor(scores), torch.tensor(target))
    assert ours.compute() == pytest.approx(theirs.compute().item(), abs=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_accuracy_of_class_numbers(backend: str) -> None:
    accuracy = metrics.Accuracy()
    accuracy.update(fw.tensor([0, 1, 2], backend=backend), fw.tensor([0, 2, 2], backend=backend))
    accuracy.update(fw.tensor([True, False], backend=backend), fw.tensor([True, True], backend=backend))
    assert accuracy.compute() == 3 / 5
    assert accuracy.total == 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_mean(backend: str) -> None:
    mean = metrics.MeanMetric()
    assert math.isnan(mean.compute())
    mean.update(fw.tensor([1.0, 2.0], backend=backend))
    mean.update(fw.tensor(4.0, backend=backend), weight=2)
    mean.update(5)
    mean.update(np.array([1, 3]), np.array([1.0, 0.5]))
    mean.update(fw.tensor([[1.0], [2.0]], backend=backend), fw.tensor([1, 3], backend=backend))
    assert mean.compute() == pytest.approx((1 + 2 + 8 + 5 + 1 + 1.5 + 1 + 3 + 2 + 6) / (2 + 2 + 1 + 1.5 + 8))
    mean.reset()
    mean.update(3.0, weight=0.0)
    assert math.isnan(mean.compute())


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.1, 10)), min_size=1, max_size=20))
def test_mean_equals_numpy(pairs: list[tuple[float, float]]) -> None:
    values, weights = zip(*pairs)
    mean = metrics.MeanMetric()
    for value, weight in pairs:
        mean.update(fw.tensor(value, dtype="float64"), weight)
    assert mean.compute() == pytest.approx(np.average(values, weights=weights), abs=1e-9)


def test_nothing_is_kept_of_the_graph() -> None:
    x = fw.tensor([[1.0, 2.0]], requires_grad=True)
    loss = (x * 2).sum()
    mean, accuracy = metrics.MeanMetric(), metrics.Accuracy()
    mean.update(loss)
    accuracy.update(x * 2, fw.tensor([1]))
    assert not mean.total.requires_grad
    assert not accuracy.correct.requires_grad
    assert (mean.compute(), accuracy.compute()) == (6.0, 1.0)


@pytest.fixture
def unread() -> Iterator[list[str]]:
    """A backend that notes every value that is read."""
    base = type(registry.get("cpu"))
    reads: list[str] = []

    class Unread(base):  # type: ignore[valid-type,misc]
        name = "unread"
        synchronous = False

        def to_numpy(self, array: Any) -> Any:
            reads.append(str(array))
            return super().to_numpy(array)

    registry.register(Unread)
    yield reads
    registry._local.pop("unread", None)
    registry._instances.pop("unread", None)


def test_updates_read_nothing(unread: list[str]) -> None:
    with fw.use_backend("unread"):
        accuracy, top, mean = metrics.Accuracy(), metrics.Accuracy(top_k=2), metrics.MeanMetric()
        scores, target = fw.tensor([[0.1, 0.7, 0.2]]), fw.tensor([2])
        for _ in range(3):
            accuracy.update(scores, target)
            top.update(scores, target)
            accuracy.update(fw.tensor([1]), fw.tensor([1]))
            mean.update(scores.sum(), weight=3)
            mean.update(scores, scores)
        assert unread == []
        assert (accuracy.compute(), top.compute()) == (0.5, 1.0)
        assert unread != []


@pytest.mark.parametrize("backend", BACKENDS)
def test_state(backend: str) -> None:
    """Saved in the middle, as arrays of the host, and continued; a copy does not follow its original."""
    with fw.use_backend(backend):
        scores, target = fw.tensor([[0.1, 0.9], [0.8, 0.2]]), fw.tensor([1, 1])
        for make, update in (
            (metrics.Accuracy, lambda m: m.update(scores, target)),
            (metrics.MeanMetric, lambda m: m.update(scores, fw.tensor([[1.0, 2.0]]))),
        ):
            metric = make()
            update(metric)
            saved = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in metric.state_dict().items()}
            assert all(type(v) in (int, float) or hasattr(v, "dtype") for v in saved.values())
            other = make()
            other.load_state_dict(saved)
            twins = [other, copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))]
            value = metric.compute()
            metric.update(*((scores, fw.tensor([0, 1])) if make is metrics.Accuracy else (9.0,)))
            for twin in twins:
                assert twin.compute() == value
                twin.update(*((scores, fw.tensor([0, 1])) if make is metrics.Accuracy else (9.0,)))
                assert twin.compute() == metric.compute() != value
            empty = make()
            empty.load_state_dict(make().state_dict())
            assert math.isnan(empty.compute())


X, Y = np.zeros((4, 3), np.float32), np.zeros(4, int)
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: metrics.Accuracy().update(X, Y[:3]),
        ShapeError,
        "scores of shape (4, 3) need a target of shape (4,), got (3,)",
    ),
    (
        lambda: metrics.Accuracy().update(Y, Y[:3]),
        ShapeError,
        "class numbers of shape (4,) need a target of that shape, got (3,)",
    ),
    (lambda: metrics.Accuracy().update(X[:, 0], Y), DTypeError, "class numbers and need an integer dtype, got float32"),
    (lambda: metrics.Accuracy().update(X, X[:, 0]), DTypeError, "integer dtype, got float32"),
    (
        lambda: metrics.Accuracy(num_classes=10).update(X, Y),
        ShapeError,
        "Accuracy(num_classes=10): got scores of 3 classes",
    ),
    (lambda: metrics.Accuracy(top_k=4).update(X, Y), ShapeError, "Accuracy(top_k=4): got scores of only 3 classes"),
    (lambda: metrics.Accuracy(top_k=2).update(Y, Y), ShapeError, "top_k=2 needs scores of shape (N, C)"),
    (lambda: metrics.Accuracy().update(X, Y + 3), DataError, "Accuracy: classes are 0 to 2, got class 3; leave out"),
    (lambda: metrics.Accuracy(top_k=2).update(X, Y - 1), DataError, "Accuracy: classes are 0 to 2, got class -1"),
    (lambda: metrics.Accuracy(top_k=0), ConfigError, "top_k must be a positive integer, got 0"),
    (lambda: metrics.Accuracy(num_classes=2.0), ConfigError, "num_classes must be a positive integer, got 2.0"),
]


def test_methods_of_ones_own_may_have_arguments_by_name() -> None:
    class Sum(metrics.Metric):
        _state = ("total",)

        def reset(self, *, start: float = 0.0) -> None:
            self.total = start

        def update(self, value: float, *, weight: float = 1.0) -> None:
            self.total += weight * value

        def compute(self, *, scale: float = 1.0) -> float:
            return scale * self.total

    metric = Sum()
    metric.reset(start=1.0)
    metric.update(2.0, weight=3.0)
    assert metric.compute(scale=2.0) == 14.0


def test_empty_batches_and_every_dtype_of_classes_are_fine() -> None:
    accuracy = metrics.Accuracy()
    accuracy.update(X[:0], Y[:0])
    assert math.isnan(accuracy.compute())
    for dtype in ("uint8", "int16", "int64", "bool"):
        accuracy.update(X, Y.astype(dtype))
    assert accuracy.compute() == 1.0


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case: int) -> None:
    call, kind, text = ERRORS[case]
    with pytest.raises(kind, match=re.escape(text)):
        call()
