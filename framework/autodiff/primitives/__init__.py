"""All primitives; importing this fills the registry and the namespace of Tensors."""

from framework.autodiff.primitives import creation as creation
from framework.autodiff.primitives import elementwise as elementwise
from framework.autodiff.primitives import indexing as indexing
from framework.autodiff.primitives import linalg as linalg
from framework.autodiff.primitives import reductions as reductions
from framework.autodiff.primitives import shape as shape
