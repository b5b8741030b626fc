"""All primitives; importing this fills the registry and the namespace of Tensors."""

from framework.autodiff.primitives import complex as complex
from framework.autodiff.primitives import creation as creation
from framework.autodiff.primitives import cumulative as cumulative
from framework.autodiff.primitives import decompositions as decompositions
from framework.autodiff.primitives import einsum as einsum
from framework.autodiff.primitives import elementwise as elementwise
from framework.autodiff.primitives import embedding as embedding
from framework.autodiff.primitives import indexing as indexing
from framework.autodiff.primitives import inverses as inverses
from framework.autodiff.primitives import joining as joining
from framework.autodiff.primitives import linalg as linalg
from framework.autodiff.primitives import matrices as matrices
from framework.autodiff.primitives import normalization as normalization
from framework.autodiff.primitives import norms as norms
from framework.autodiff.primitives import products as products
from framework.autodiff.primitives import pseudoinverse as pseudoinverse
from framework.autodiff.primitives import reductions as reductions
from framework.autodiff.primitives import searching as searching
from framework.autodiff.primitives import shape as shape
from framework.autodiff.primitives import sorting as sorting
from framework.autodiff.primitives import spectral as spectral
from framework.autodiff.primitives import tiling as tiling
