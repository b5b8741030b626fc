"""Loggers: where the numbers of a run go."""

from framework.loggers.csv import CSVLogger as CSVLogger
from framework.loggers.guard import SafeLogger as SafeLogger
from framework.loggers.logger import Logger as Logger
from framework.loggers.tensorboard import TensorBoardLogger as TensorBoardLogger
from framework.loggers.wandb import WandbLogger as WandbLogger
