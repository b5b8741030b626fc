"""Callbacks: what happens around the training, one concern each."""

from framework.callbacks.callback import Callback as Callback
from framework.callbacks.early_stopping import EarlyStopping as EarlyStopping
from framework.callbacks.learning_rate_monitor import LearningRateMonitor as LearningRateMonitor
from framework.callbacks.model_checkpoint import ModelCheckpoint as ModelCheckpoint
from framework.callbacks.model_summary import ModelSummary as ModelSummary
from framework.callbacks.progress_bar import TQDMProgressBar as TQDMProgressBar
