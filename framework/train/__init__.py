"""Training: `Trainer`, `TrainModule`, `DataModule`, checkpoints and exact resume."""

from framework.train.datamodule import DataModule as DataModule
from framework.train.module import TrainModule as TrainModule
from framework.train.trainer import Trainer as Trainer
