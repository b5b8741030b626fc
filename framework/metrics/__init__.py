"""Metrics: `update` a batch at a time, `merge` those of several processes, `compute` at the end, `reset`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framework.metrics.aggregation import MeanMetric as MeanMetric
from framework.metrics.classification import Accuracy as Accuracy
from framework.metrics.metric import Metric as Metric

if TYPE_CHECKING:
    from framework.metrics.counts import F1 as F1
    from framework.metrics.counts import ConfusionMatrix as ConfusionMatrix
    from framework.metrics.counts import Precision as Precision
    from framework.metrics.counts import Recall as Recall
    from framework.metrics.ranking import AUROC as AUROC
    from framework.metrics.regression import MeanSquaredError as MeanSquaredError

_LATER = {
    "AUROC": "ranking", "ConfusionMatrix": "counts", "F1": "counts", "MeanSquaredError": "regression",
    "Precision": "counts", "Recall": "counts",
}  # fmt: skip
"""Names whose modules are imported when they are first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'framework.metrics' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"framework.metrics.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
