"""`Embedding`: a row of numbers for each of many things."""

from __future__ import annotations

from typing import Any, Self

from framework.autodiff import Tensor, as_tensor, get_default_dtype, ops
from framework.errors import ConfigError, ShapeError
from framework.nn import functional as F
from framework.nn import init
from framework.nn.functional.lookup import padding_row, refuse_sparse
from framework.nn.module import Module
from framework.nn.parameter import Parameter


class Embedding(Module):
    """Rows of a table by number: integers (...) give (..., embedding_dim).

    The weight (num_embeddings, embedding_dim) starts normally distributed, with mean 0 and variance 1, and
    with zeros in row `padding_idx`.

    Args:
        padding_idx: a row that gets no gradient; negative ones count from the end.
        max_norm: rows that are asked for and have a larger norm are first scaled down to it, in place.
        norm_type: the p of that norm.
        scale_grad_by_freq: divide a row's gradient by how often it was asked for.
        sparse: must be False; gradients are dense here.

    Raises:
        AxisError: an index is not from 0 to num_embeddings − 1 (an IndexError).
        DTypeError: the input has no integer dtype.

    Examples:
        >>> import framework as fw
        >>> fw.nn.Embedding(10, 3)(fw.tensor([[1, 2], [4, 1]])).shape
        (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Any = None,
        _freeze: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        for name, n in (("num_embeddings", num_embeddings), ("embedding_dim", embedding_dim)):
            if not isinstance(n, int) or isinstance(n, bool) or n < 0:
                raise ConfigError(f"Embedding: {name} is a number of rows or columns, got {n!r}")
        refuse_sparse(sparse)
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_row(padding_idx, num_embeddings)
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        shape = (num_embeddings, embedding_dim)
        if _weight is not None:
            if tuple(_weight.shape) != shape:
                raise ShapeError(f"Embedding{shape}: the weight given has shape {tuple(_weight.shape)}")
            self.weight = Parameter(_weight, requires_grad=not _freeze)
            return
        made = ops.zeros(shape, dtype=dtype or get_default_dtype(), device=device)
        self.weight = Parameter(made, requires_grad=not _freeze)
        self.reset_parameters()

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """A layer with a copy of `embeddings` (num_embeddings, embedding_dim) as its weight.

        Args:
            freeze: do not train it.
            padding_idx: as in the class, as are the others; the row keeps its values.

        Raises:
            ShapeError: `embeddings` has not two axes.
        """
        table = as_tensor(embeddings)
        if table.ndim != 2:
            raise ShapeError(f"{cls.__name__}.from_pretrained: a table has two axes, got shape {table.shape}")
        rows, width = table.shape
        return cls(rows, width, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, table, freeze)

    def reset_parameters(self) -> None:
        """Draw the weight anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            row = ops.zeros((self.embedding_dim,), dtype=self.weight.dtype, device=self.weight.device)
            self.weight.assign(ops.setitem(self.weight.detach(), self.padding_idx, row))

    def forward(self, input: Any) -> Tensor:
        """Integers (...) to (..., embedding_dim)."""
        return F.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )

    def extra_repr(self) -> str:
        """The sizes, and the arguments that are not their defaults."""
        defaults = {"padding_idx": None, "max_norm": None, "norm_type": 2, "scale_grad_by_freq": False}
        own = [f"{name}={getattr(self, name)}" for name, default in defaults.items() if getattr(self, name) != default]
        return ", ".join([str(self.num_embeddings), str(self.embedding_dim), *own])
