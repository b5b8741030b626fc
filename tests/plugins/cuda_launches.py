"""How many launches a program of the CUDA plugin is."""

from __future__ import annotations

from framework.backend.program import Program

LAUNCHES: dict[str, int] = {
    "softmax_cross_entropy": 2, "sum_of_squares": 2, "linear": 1, "linear_relu": 1, "linear_dx": 1, "linear_dw": 1,
    "matmul": 1, "colsum": 1, "relu": 1, "relu_grad": 1, "gelu": 1, "xent_grad": 1, "layer_norm": 1,
    "layer_norm_grad": 1, "batch_norm": 1, "batch_norm_grad": 1, "embedding": 1, "embedding_grad": 1,
    "latch": 1, "latch_in_place": 1, "squares_of_parts": 3, "scaled_to_norm": 1, "sgd_step": 1, "adam_step": 1, "rprop_step": 1, "fill_parts": 0,
    "reshape": 0, "permute_dims": 0, "matrix_transpose": 0, "expand_dims": 0, "squeeze": 0, "broadcast_to": 0,
}  # fmt: skip
"""Launches of an operation on arrays by rows; of one that is not named, at least one."""


def launches(program: Program) -> int:
    """The launches of a program of arrays by rows, as far as its operations are in `LAUNCHES`; others count as one."""
    return sum(LAUNCHES.get(operation.primitive, 1) for operation in program.operations)
