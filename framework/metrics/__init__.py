"""Metrics: `update` a batch at a time, `compute` at the end, `reset`."""

from framework.metrics.aggregation import MeanMetric as MeanMetric
from framework.metrics.classification import Accuracy as Accuracy
from framework.metrics.metric import Metric as Metric
