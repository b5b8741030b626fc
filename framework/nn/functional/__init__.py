"""The functions that modules are made of: the twins of `torch.nn.functional`."""

from framework.nn.functional.activation import elu as elu
from framework.nn.functional.activation import gelu as gelu
from framework.nn.functional.activation import leaky_relu as leaky_relu
from framework.nn.functional.activation import log_softmax as log_softmax
from framework.nn.functional.activation import relu as relu
from framework.nn.functional.activation import sigmoid as sigmoid
from framework.nn.functional.activation import silu as silu
from framework.nn.functional.activation import softmax as softmax
from framework.nn.functional.activation import softplus as softplus
from framework.nn.functional.activation import tanh as tanh
from framework.nn.functional.classification import binary_cross_entropy as binary_cross_entropy
from framework.nn.functional.classification import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from framework.nn.functional.classification import cross_entropy as cross_entropy
from framework.nn.functional.classification import kl_div as kl_div
from framework.nn.functional.classification import nll_loss as nll_loss
from framework.nn.functional.embedding import embedding as embedding
from framework.nn.functional.layer import dropout as dropout
from framework.nn.functional.layer import linear as linear
from framework.nn.functional.norm import batch_norm as batch_norm
from framework.nn.functional.norm import layer_norm as layer_norm
from framework.nn.functional.regression import huber_loss as huber_loss
from framework.nn.functional.regression import l1_loss as l1_loss
from framework.nn.functional.regression import mse_loss as mse_loss
from framework.nn.functional.regression import smooth_l1_loss as smooth_l1_loss
