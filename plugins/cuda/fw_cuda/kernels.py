"""Where own kernels are faster than CuPy's functions: all by their names in the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fw_cuda import elementwise, indexing, normalization, updates
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
