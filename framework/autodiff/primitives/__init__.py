"""The primitives. Those of every day are declared when this is imported, the others when one is first asked for."""

from importlib import import_module

from framework.autodiff.namespace import LATER
from framework.autodiff.primitives import complex as complex
from framework.autodiff.primitives import creation as creation
from framework.autodiff.primitives import elementwise as elementwise
from framework.autodiff.primitives import indexing as indexing
from framework.autodiff.primitives import joining as joining
from framework.autodiff.primitives import linalg as linalg
from framework.autodiff.primitives import reductions as reductions
from framework.autodiff.primitives import shape as shape

_LATER = {
    "activation": "gelu",
    "attention": "attention",
    "convolution": "conv2d conv2d_dw conv2d_dx",
    "cumulative": "cumulative_prod cumulative_sum diff",
    "decompositions": "eigh eigvalsh qr svd svdvals",
    "einsum": "einsum",
    "embedding": "embedding embedding_grad",
    "inverses": "cholesky cofactor det inv matrix_power slogdet solve",
    "normalization": "batch_norm layer_norm",
    "norms": "linalg matrix_norm vector_norm",
    "pooling": "max_pool2d max_pool2d_places max_pool2d_put max_pool2d_take window_spread window_sum",
    "products": "cross diagonal dot inner kron outer tensordot trace vecdot",
    "pseudoinverse": "matrix_rank pinv",
    "searching": "argwhere count_nonzero flatnonzero nonzero searchsorted select",
    "sorting": "argsort sort unique unique_all unique_counts unique_inverse unique_values",
    "spectral": "fft fftn ifftn irfftn rfftn",
    "tiling": "pad repeat tile",
}
"""Modules, and the names that each puts into the namespace of Tensors."""

LATER.update({name: f"{__name__}.{module}" for module, names in _LATER.items() for name in names.split()})


def declare_all() -> None:
    """Declare what has not been asked for, so that the registry is complete."""
    for module in _LATER:
        import_module(f"{__name__}.{module}")
