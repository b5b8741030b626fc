"""Precision, Recall, F1, ConfusionMatrix, AUROC and MeanSquaredError."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import metrics
from framework.autodiff import Tensor
from framework.backend import registry
from framework.errors import ConfigError, DataError, DTypeError, ShapeError

BACKENDS = ("cpu", "strict")
SCORES = {"Precision": metrics.Precision, "Recall": metrics.Recall, "F1": metrics.F1}


def near(value: Any, expected: Any) -> None:
    np.testing.assert_allclose(value.tolist() if isinstance(value, Tensor) else value, expected, rtol=1e-12, atol=1e-15)


# -- cases that are computed by hand -----------------------------------------------------------------


PREDS, TARGET = [0, 2, 1, 0, 0, 1, 2, 2], [0, 1, 2, 0, 1, 2, 2, 0]
"""Hits 2 0 1, predicted 3 2 3, true 3 2 3 of the classes 0 1 2."""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("num_classes", [None, 3])
def test_scores_by_hand(num_classes: int | None, backend: str) -> None:
    expected = {
        ("Precision", None): [2 / 3, 0.0, 1 / 3],
        ("Precision", "macro"): 1 / 3,
        ("Precision", "auto"): 1 / 3,
        ("Precision", "weighted"): (3 * 2 / 3 + 3 / 3) / 8,
        ("Recall", "micro"): 3 / 8,
        ("Recall", None): [2 / 3, 0.0, 1 / 3],
        ("F1", None): [4 / 6, 0.0, 2 / 6],
        ("F1", "macro"): 1 / 3,
        ("F1", "micro"): 6 / 16,
    }
    for (name, average), value in expected.items():
        metric = SCORES[name](num_classes, average=average)
        for part in (slice(0, 3), slice(3, 4), slice(4, 8)):
            metric.update(fw.tensor(PREDS[part], backend=backend), fw.tensor(TARGET[part], backend=backend))
        near(metric.compute(), value)
        if average is not None:
            assert type(metric.compute()) is float


def test_two_classes() -> None:
    preds, target = np.array([1, 1, 1, 0, 0]), np.array([1, 0, 0, 1, 0])
    for make, value in ((metrics.Precision, 1 / 3), (metrics.Recall, 1 / 2), (metrics.F1, 2 / 5)):
        for average in ("auto", "binary"):
            metric = make(average=average)
            metric.update(preds, target)
            assert metric.compute() == value
        by_score = make(threshold=0.5)
        by_score.update(fw.tensor([0.9, 0.51, 7.0, 0.5, -1.0]), target)
        assert by_score.compute() == value
        as_bools = make()
        as_bools.update(preds.astype(bool), target.astype(bool))
        assert as_bools.compute() == value
    accuracy = metrics.Accuracy(threshold=0.0)
    accuracy.update(fw.tensor([[1.0, -2.0], [3.0, 4.0]]), fw.tensor([[1, 1], [1, 0]]))
    assert accuracy.compute() == 0.5


@pytest.mark.parametrize("backend", BACKENDS)
def test_confusion_matrix_by_hand(backend: str) -> None:
    preds, target = fw.tensor(PREDS, backend=backend), fw.tensor(TARGET, backend=backend)
    counts = [[2, 0, 1], [1, 0, 1], [0, 2, 1]]
    for normalize, expected in (
        (None, counts),
        ("true", [[2 / 3, 0, 1 / 3], [0.5, 0, 0.5], [0, 2 / 3, 1 / 3]]),
        ("pred", [[2 / 3, 0, 1 / 3], [1 / 3, 0, 1 / 3], [0, 1, 1 / 3]]),
        ("all", np.array(counts) / 8),
    ):
        matrix = metrics.ConfusionMatrix(normalize=normalize)
        matrix.update(preds[:5], target[:5])
        matrix.update(preds[5:], target[5:])
        near(matrix.compute(), expected)
        assert matrix.compute().backend == backend
    empty_row = metrics.ConfusionMatrix(4, normalize="true")
    empty_row.update(preds, target)
    assert empty_row.compute().tolist()[3] == [0.0] * 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_auroc_by_hand(backend: str) -> None:
    auroc = metrics.AUROC()
    auroc.update(fw.tensor([0.1, 0.4], backend=backend), fw.tensor([0, 0], backend=backend))
    assert math.isnan(auroc.compute())
    auroc.update(fw.tensor([0.35, 0.8, 0.4], backend=backend), fw.tensor([1, 1, 1], backend=backend))
    assert auroc.compute() == (1 + 2 + 1.5) / 6  # of six pairs: 1 and 2 above, a tie
    assert type(auroc.compute()) is float
    three = metrics.AUROC(average=None)
    scores = [[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.2, 0.3, 0.5], [0.5, 0.3, 0.2]]
    three.update(fw.tensor(scores, backend=backend), fw.tensor([0, 1, 2, 2], backend=backend))
    near(three.compute(), [1.0, 1.0, 0.5 * (1 + 0.5)])
    two = metrics.AUROC()
    two.update(fw.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], backend=backend), fw.tensor([0, 1, 1], backend=backend))
    assert two.compute() == 1.0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_squared_error_by_hand(dtype: str, backend: str) -> None:
    if dtype == "float16" and backend == "strict":
        pytest.skip("the standard has no float16")
    error, root = metrics.MeanSquaredError(), metrics.MeanSquaredError(squared=False)
    for metric in (error, root):
        metric.update(fw.tensor([[300.0, 2.0]], dtype=dtype, backend=backend), fw.tensor([[0, 2]], backend=backend))
        metric.update(fw.tensor([4.0], dtype=dtype, backend=backend), fw.tensor([2.0], dtype=dtype, backend=backend))
    assert error.compute() == (90000 + 0 + 4) / 3
    assert root.compute() == math.sqrt(90004 / 3)


def test_many_batches_keep_their_digits() -> None:
    """A sum of ten thousand float32 batches, of which the first outweighs each other by far."""
    error = metrics.MeanSquaredError()
    error.update(fw.tensor([4096.0]), fw.tensor([0.0]))
    one, zero = fw.tensor([1.0]), fw.tensor([0.0])
    for _ in range(10_000):
        error.update(one, zero)
    assert error.compute() == (4096**2 + 10_000) / 10_001


@pytest.mark.parametrize(
    "make",
    [metrics.Precision, metrics.Recall, metrics.F1, metrics.AUROC, metrics.MeanSquaredError],
)
def test_nothing_yet(make: Callable[[], Any]) -> None:
    metric = make()
    assert math.isnan(metric.compute())
    empty = np.zeros((0, 3), np.float32)
    metric.update(*((empty, empty) if make is metrics.MeanSquaredError else (empty, np.zeros(0, int))))
    assert math.isnan(metric.compute()) or (make in SCORES.values() and metric.compute() == 0.0)
    assert metrics.ConfusionMatrix().compute().shape == (0, 0)
    assert metrics.ConfusionMatrix(3).compute().tolist() == [[0] * 3] * 3


# -- scikit-learn ----------------------------------------------------------------------------------------


@pytest.fixture
def sklearn() -> Iterator[Any]:
    found = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of undefined scores
        yield found


def labels(seed: int, classes: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions that are right half of the time; with some classes that are never there."""
    rng = np.random.default_rng(seed)
    some = rng.choice(classes, size=max(2, classes - seed % 3), replace=False)
    target = rng.choice(some, size=n)
    return np.where(rng.random(n) < 0.5, target, rng.choice(some, size=n)), target


def updated(metric: Any, preds: np.ndarray, target: np.ndarray, backend: str = "cpu") -> Any:
    for part in np.array_split(np.arange(len(target)), 3):
        metric.update(fw.tensor(preds[part], backend=backend), fw.tensor(target[part], backend=backend))
    return metric


@pytest.mark.reference
@pytest.mark.parametrize("average", ["micro", "macro", "weighted", None])
@pytest.mark.parametrize("seed", range(12))
def test_scores_equal_sklearn(seed: int, average: str | None, sklearn: Any) -> None:
    classes = 2 + seed % 6
    preds, target = labels(seed, classes, 5 + 7 * seed)
    for zero in (0.0, 1.0, math.nan):
        for name, fn in (("Precision", "precision_score"), ("Recall", "recall_score"), ("F1", "f1_score")):
            given = {"labels": np.arange(classes)} if average is None else {}
            expected = getattr(sklearn, fn)(target, preds, average=average, zero_division=zero, **given)
            for num_classes in (classes, *([] if average is None else [None])):
                metric = SCORES[name](num_classes, average=average, zero_division=zero)
                near(updated(metric, preds, target).compute(), expected)


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(6))
def test_two_classes_equal_sklearn(seed: int, sklearn: Any) -> None:
    rng = np.random.default_rng(seed)
    target, scores = rng.integers(0, 2, 30), rng.random(30).astype(np.float32)
    preds = (scores > 0.3).astype(int)
    for name, fn in (("Precision", "precision_score"), ("Recall", "recall_score"), ("F1", "f1_score")):
        near(updated(SCORES[name](), preds, target).compute(), getattr(sklearn, fn)(target, preds))
        near(updated(SCORES[name](threshold=0.3), scores, target).compute(), getattr(sklearn, fn)(target, preds))
    near(updated(metrics.Accuracy(threshold=0.3), scores, target).compute(), sklearn.accuracy_score(target, preds))
    near(updated(metrics.Accuracy(), preds, target).compute(), sklearn.accuracy_score(target, preds))


@pytest.mark.reference
@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
@pytest.mark.parametrize("seed", range(6))
def test_confusion_matrix_equals_sklearn(seed: int, normalize: str | None, sklearn: Any) -> None:
    classes = 2 + seed
    preds, target = labels(seed, classes, 40)
    expected = sklearn.confusion_matrix(target, preds, labels=np.arange(classes), normalize=normalize)
    near(updated(metrics.ConfusionMatrix(classes, normalize), preds, target).compute(), expected)
    one_hot = np.eye(classes, dtype=np.float32)[preds]
    near(updated(metrics.ConfusionMatrix(normalize=normalize), one_hot, target).compute(), expected)


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(8))
def test_auroc_equals_sklearn(seed: int, sklearn: Any) -> None:
    rng = np.random.default_rng(seed)
    n = 20 + 15 * seed
    target = rng.integers(0, 2, n)
    ties = rng.integers(0, 6, n).astype(np.float32)
    for scores in (rng.random(n), ties):
        near(updated(metrics.AUROC(), scores, target).compute(), sklearn.roc_auc_score(target, scores))
    classes = 3 + seed % 3
    many = np.concatenate([np.arange(classes), rng.integers(0, classes, n)])
    chances = rng.random((n + classes, classes))
    chances = np.round(chances / chances.sum(1, keepdims=True) * 8) / 8 if seed % 2 else chances
    chances = (chances + 1e-9) / (chances + 1e-9).sum(1, keepdims=True)
    for kind, averages in (("ovr", ("macro", "weighted", "micro", None)), ("ovo", ("macro", "weighted"))):
        for average in averages:
            found = updated(metrics.AUROC(classes, average, kind), chances, many).compute()
            near(found, sklearn.roc_auc_score(many, chances, multi_class=kind, average=average))
    several = rng.integers(0, 2, (n, 4))
    marks = rng.normal(size=(n, 4))
    for average in ("macro", "weighted", "micro", None):
        found = updated(metrics.AUROC(average=average), marks, several).compute()
        near(found, sklearn.roc_auc_score(several, marks, average=average))


@pytest.mark.reference
@pytest.mark.parametrize("shape", [(50,), (20, 3)])
def test_squared_error_equals_sklearn(shape: tuple[int, ...], sklearn: Any) -> None:
    rng = np.random.default_rng(0)
    preds, target = rng.normal(size=shape), rng.normal(size=shape)
    near(updated(metrics.MeanSquaredError(), preds, target).compute(), sklearn.mean_squared_error(target, preds))
    if len(shape) == 1:
        root = updated(metrics.MeanSquaredError(squared=False), preds, target)
        near(root.compute(), sklearn.root_mean_squared_error(target, preds))


# -- batches, processes, checkpoints ------------------------------------------------------------------


MAKE: dict[str, Callable[[], Any]] = {
    "accuracy": metrics.Accuracy,
    "mean": metrics.MeanMetric,
    "precision": lambda: metrics.Precision(average="macro"),
    "recall-4": lambda: metrics.Recall(4, average=None),
    "f1": metrics.F1,
    "matrix": metrics.ConfusionMatrix,
    "matrix-4": lambda: metrics.ConfusionMatrix(4, normalize="all"),
    "auroc": lambda: metrics.AUROC(multi_class="ovo"),
    "auroc-two": metrics.AUROC,
    "error": metrics.MeanSquaredError,
}
all_metrics = pytest.mark.parametrize("kind", MAKE)


def batch(kind: str, step: int, backend: str) -> tuple[Tensor, ...]:
    """A batch, of which the later have more classes."""
    rng = np.random.default_rng(step)
    n = 3 + step
    if kind in ("mean", "error"):
        parts = (rng.normal(size=n).astype(np.float32), rng.random(n).astype(np.float32))
    elif kind == "auroc":
        parts = (rng.random((n, 4)), rng.integers(0, 4, n))
    elif kind == "auroc-two":
        parts = (rng.random(n), rng.integers(0, 2, n))
    else:
        parts = (rng.integers(0, 2 + step // 2, n), rng.integers(0, 2 + step // 2, n))
    return tuple(fw.tensor(part, backend=backend) for part in parts)


def value(metric: Any) -> Any:
    found = metric.compute()
    return found.tolist() if isinstance(found, Tensor) else found


@all_metrics
@pytest.mark.parametrize("backend", BACKENDS)
def test_merged_parts_equal_the_whole(kind: str, backend: str) -> None:
    whole, parts = MAKE[kind](), [MAKE[kind]() for _ in range(3)]
    for step in range(5):
        whole.update(*batch(kind, step, backend))
        parts[step % 2].update(*batch(kind, step, backend))
    empty = parts[2]
    for first, rest in (
        (copy.deepcopy(parts[0]), parts[1:]),
        (copy.deepcopy(parts[1]), [parts[0].state_dict()]),
        (copy.deepcopy(empty), [as_numpy(parts[1].state_dict()), as_numpy(parts[0].state_dict())]),
    ):
        before = [value(metric) for metric in parts[:2]]
        first.merge(*rest)
        near(value(first), value(whole))
        assert [value(metric) for metric in parts[:2]] == before
        if not isinstance(rest[-1], dict):
            assert str(value(empty)) == str(value(MAKE[kind]()))


def as_numpy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: as_numpy(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [as_numpy(item) for item in tree]
    return tree.numpy() if isinstance(tree, Tensor) else tree


@all_metrics
@pytest.mark.parametrize("backend", BACKENDS)
def test_state(kind: str, backend: str) -> None:
    """Saved in the middle, through JSON's kinds and NumPy arrays, and continued; copies go their own way."""
    metric = MAKE[kind]()
    for step in range(3):
        metric.update(*batch(kind, step, backend))
    saved = metric.state_dict()
    frozen = as_numpy(saved)
    json.dumps(frozen, default=lambda array: array.tolist())
    text = str(frozen)
    other = MAKE[kind]()
    other.load_state_dict(frozen)
    twins = [other, copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))]
    before = value(metric)
    metric.update(*batch(kind, 4, backend))
    assert str(as_numpy(saved)) == text
    for twin in twins:
        near(value(twin), before)
        twin.update(*batch(kind, 4, backend))
        near(value(twin), value(metric))
    fresh = MAKE[kind]()
    fresh.load_state_dict(as_numpy(MAKE[kind]().state_dict()))
    assert str(value(fresh)) == str(value(MAKE[kind]()))
    metric.reset()
    assert str(value(metric)) == str(value(MAKE[kind]()))


@all_metrics
def test_inputs_are_kept_apart(kind: str) -> None:
    """Nothing is written into a batch, and a batch that is overwritten later changes nothing."""
    arrays = [t.numpy().copy() for t in batch(kind, 3, "cpu")]
    kept = [a.copy() for a in arrays]
    metric = MAKE[kind]()
    metric.update(*arrays)
    for a, b in zip(arrays, kept):
        assert (a == b).all()
    before = value(metric)
    for a in arrays:
        a[...] = 0
    assert value(metric) == before


def test_nothing_is_kept_of_the_graph() -> None:
    x = fw.tensor([[0.2, 0.8], [0.7, 0.3]], requires_grad=True)
    for metric in (metrics.F1(), metrics.AUROC(), metrics.MeanSquaredError()):
        target = fw.tensor([1, 0]) if not isinstance(metric, metrics.MeanSquaredError) else x * 3
        metric.update(x * 2, target)
        tensors = [t for v in metric.state_dict().values() for t in (v if isinstance(v, list) else [v])]
        assert not any(t.requires_grad for t in tensors if isinstance(t, Tensor))


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


def test_updates_read_nothing_where_the_classes_are_known(unread: list[str]) -> None:
    with fw.use_backend("unread"):
        scores, target = fw.tensor([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]]), fw.tensor([2, 0])
        f1, matrix, auroc = metrics.F1(average="micro"), metrics.ConfusionMatrix(3), metrics.AUROC()
        error, recall = metrics.MeanSquaredError(), metrics.Recall(3)
        for _ in range(3):
            f1.update(scores, target)
            matrix.update(fw.tensor([1, 2]), target)
            recall.update(fw.tensor([7, 0]), target)  # refused when it is read
            auroc.update(scores, target)
            error.update(scores, scores)
        assert unread == []
        assert (f1.compute(), error.compute()) == (0.5, 0.0)
        assert matrix.compute().tolist() == [[0, 0, 3], [0, 0, 0], [0, 3, 0]]
        assert unread != []
        with pytest.raises(DataError, match="Recall: 3 samples had a class number that is none of the 3 classes"):
            recall.compute()


# -- what is refused ----------------------------------------------------------------------------------------


X, Y = np.zeros((4, 3), np.float32), np.zeros(4, int)
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: metrics.F1(average="macros"), ConfigError, "or None, got 'macros'. Did you mean 'macro'?"),
    (lambda: metrics.F1(num_classes=0), ConfigError, "F1: num_classes must be a positive integer, got 0"),
    (lambda: metrics.F1(threshold="half"), ConfigError, "F1: threshold is a number or None, got 'half'"),
    (lambda: metrics.Accuracy(threshold=math.nan), ConfigError, "Accuracy: threshold is a number or None, got nan"),
    (lambda: metrics.F1(3, average="binary"), ConfigError, "the score of class 1 of two; got num_classes=3"),
    (lambda: metrics.Recall().update(X, Y[:3]), ShapeError, "Recall: scores of shape (4, 3) need a target of shape (4,)"),
    (lambda: metrics.Recall(2).update(X, Y), ShapeError, "Recall(num_classes=2): got scores of 3 classes, shape (4, 3)"),
    (lambda: metrics.F1().update(Y, Y[:3]), ShapeError, "F1: class numbers of shape (4,) need a target of that shape"),
    (lambda: metrics.F1().update(X[:, 0], Y), DTypeError, "say what is class 1: F1(threshold=0.5)"),
    (lambda: metrics.F1().update(Y, X[:, 0]), DTypeError, "F1: target must be class numbers of an integer dtype, got fl"),
    (lambda: metrics.F1(3).update(Y + 3, Y), DataError, "F1: classes are 0 to 2, got class 3"),
    (lambda: metrics.Precision().update(Y, Y - 1), DataError, "Precision: classes are 0 to 0, got class -1"),
    (lambda: metrics.ConfusionMatrix().update(X, Y + 7), DataError, "ConfusionMatrix: classes are 0 to 2, got class 7"),
    (lambda: metrics.ConfusionMatrix(normalize="row"), ConfigError, "None, 'true', 'pred' or 'all', got 'row'"),
    (lambda: three_classes().compute(), DataError, "average='binary' is the score of class 1 of two; there are 3 classes"),
    (lambda: metrics.AUROC(average="mean"), ConfigError, "AUROC: average is one of 'macro', 'weighted', 'micro', 'none'"),
    (lambda: metrics.AUROC(multi_class="all"), ConfigError, "multi_class is 'ovr' or 'ovo', got 'all'"),
    (lambda: metrics.AUROC(average=None, multi_class="ovo"), ConfigError, "the averages 'macro' and 'weighted', got 'none'"),
    (lambda: metrics.AUROC().update(Y, Y), DTypeError, "AUROC: scores must be floating point, got int64; classes have"),
    (lambda: metrics.AUROC().update(X[:, :2], X[:, :3]), DTypeError, "AUROC: target must be class numbers"),
    (lambda: metrics.AUROC().update(X[:3, 0], Y), ShapeError, "need a target of that shape, got (3,) and (4,)"),
    (lambda: metrics.AUROC().update(X[None], Y[None]), ShapeError, "AUROC: scores are (N), (N, C) or (N, L), got (1, 4, 3)"),
    (lambda: metrics.AUROC(4).update(X, Y), ShapeError, "AUROC(num_classes=4): got scores of 3 classes"),
    (lambda: twice(metrics.AUROC(), (X, Y), (X[:, 0], Y)), ShapeError, "got an array of shape (4,) after others of shape (4, 3)"),
    (lambda: computed(metrics.AUROC(), X * math.nan, Y), DataError, "AUROC: a score is NaN; look at the model's outputs"),
    (lambda: computed(metrics.AUROC(), X, Y + 3), DataError, "AUROC: targets are 0 to 2, got 3 to 3"),
    (lambda: metrics.MeanSquaredError(squared=1), ConfigError, "squared is True or False, got 1"),
    (
        lambda: metrics.MeanSquaredError().update(X[:, :1], X[:, 0]),
        ShapeError,
        "predictions of shape (4, 1) need a target of that shape, got (4,). Where one has an axis of length 1 more",
    ),
    (lambda: metrics.MeanSquaredError().update(X + 1j, X + 1j), DTypeError, "takes real numbers, got complex64"),
    (lambda: metrics.F1().merge(metrics.Recall()), ConfigError, "F1.merge: takes others of its kind or their states, got Recall"),
    (lambda: metrics.F1().merge({"counts": None}), ConfigError, "F1.merge: the state has no bad"),
]  # fmt: skip


def three_classes() -> Any:
    metric = metrics.F1(average="binary")
    metric.update(Y + 2, Y)
    return metric


def twice(metric: Any, first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    metric.update(*first)
    metric.update(*second)


def computed(metric: Any, *batch: Any) -> None:
    metric.update(*batch)
    metric.compute()


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case: int) -> None:
    call, kind, text = ERRORS[case]
    with pytest.raises(kind, match=re.escape(text)):
        call()


def test_a_refused_batch_is_not_counted() -> None:
    f1 = metrics.F1(3, average="micro")
    f1.update(Y, Y)
    with pytest.raises(DataError):
        f1.update(Y + 5, Y)
    assert f1.compute() == 1.0
