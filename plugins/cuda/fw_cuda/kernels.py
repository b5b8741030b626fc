"""Where own kernels are faster than CuPy's functions: all by their names in the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fw_cuda import attention, convolution, elementwise, indexing, normalization, updates
from fw_cuda.arrays import Array
from fw_cuda.cudnn import Library, is_installed
from fw_cuda.products import Products
from fw_cuda.sources import Kernels

PRODUCTS = ("matmul", "linear", "linear_dx", "linear_dw", "rounded_matmul")

NAMES = (*PRODUCTS, *elementwise.NAMES, *normalization.NAMES, *indexing.NAMES, *updates.NAMES)
"""What `table` offers, each with the contract's signature."""

OWNERS: dict[str, type] = {
    **dict.fromkeys(PRODUCTS, Products),
    **dict.fromkeys(elementwise.NAMES, elementwise.Elementwise),
    **dict.fromkeys(normalization.NAMES, normalization.Normalization),
    **dict.fromkeys(indexing.NAMES, indexing.Indexing),
    **dict.fromkeys(updates.NAMES, updates.Updates),
}
"""The class that each name is a method of."""


Table = dict[str, Callable[..., Any]]


def table(cupy: Any, kernels: Kernels, products: Products, erf: Callable[..., Any]) -> tuple[Table, updates.Updates]:
    """Name to kernel, and the object that makes updates.

    Args:
        cupy: the module (so that this one imports without it).
        kernels: launches.
        products: multiplies.
        erf: the error function of CuPy's arrays.
    """
    rooms = (
        products,
        elementwise.Elementwise(cupy, kernels, erf),
        normalization.Normalization(cupy, kernels),
        indexing.Indexing(cupy, kernels),
        made := updates.Updates(cupy, kernels),
    )
    by_class = {type(room): room for room in rooms}
    return {name: getattr(by_class[owner], name) for name, owner in OWNERS.items()}, made


def by_cudnn(cupy: Any, matmul: Callable[[Array, Array], Array]) -> Table:
    """Name to kernel; none without the package, so that the framework composes these of its products."""
    if not is_installed():
        return {}
    library = Library(cupy)
    rooms = {
        convolution.NAMES: convolution.Convolutions(cupy, matmul, library),
        attention.NAMES: attention.Attention(cupy, matmul, library),
    }
    return {name: getattr(room, name) for names, room in rooms.items() for name in names}
