"""Callbacks: what happens around the training, one concern each."""

from framework.callbacks.accumulation_scheduler import GradientAccumulationScheduler as GradientAccumulationScheduler
from framework.callbacks.averaging import EMA as EMA
from framework.callbacks.callback import Callback as Callback
from framework.callbacks.early_stopping import EarlyStopping as EarlyStopping
from framework.callbacks.learning_rate_finder import LearningRateFinder as LearningRateFinder
from framework.callbacks.learning_rate_monitor import LearningRateMonitor as LearningRateMonitor
from framework.callbacks.model_checkpoint import ModelCheckpoint as ModelCheckpoint
from framework.callbacks.model_summary import ModelSummary as ModelSummary
from framework.callbacks.progress_bar import TQDMProgressBar as TQDMProgressBar
from framework.callbacks.throughput_monitor import ThroughputMonitor as ThroughputMonitor
from framework.callbacks.timer import Timer as Timer
from framework.callbacks.weight_averaging import StochasticWeightAveraging as StochasticWeightAveraging
