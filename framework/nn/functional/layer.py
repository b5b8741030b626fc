"""Functions of layers."""

from __future__ import annotations

from typing import Any

from framework import random
from framework.autodiff import Tensor, as_tensor, ops
from framework.nn.functional.arguments import check_probability

linear = ops.linear


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Elements set to zero with probability `p`, the others divided by 1 − p; the input where not `training`.

    Examples:
        >>> import framework as fw
        >>> fw.nn.functional.dropout(fw.tensor([1.0, 2.0]), p=1.0).tolist()
        [0.0, 0.0]
    """
    check_probability(p)
    x = as_tensor(input)
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    kept = random.bernoulli(1 - p, x.shape, dtype=x.dtype, backend=x.backend).to(device=x.device)
    return x * (kept * (1 / (1 - p)))
