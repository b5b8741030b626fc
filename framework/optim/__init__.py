"""Optimizers, schedules of their learning rates in `lr_scheduler`, and clipping of gradients."""

from framework.optim import lr_scheduler as lr_scheduler
from framework.optim.adam import Adam as Adam
from framework.optim.adam import AdamW as AdamW
from framework.optim.clip import clip_grad_norm_ as clip_grad_norm_
from framework.optim.clip import clip_grad_value_ as clip_grad_value_
from framework.optim.optimizer import Optimizer as Optimizer
from framework.optim.rprop import Rprop as Rprop
from framework.optim.sgd import SGD as SGD
