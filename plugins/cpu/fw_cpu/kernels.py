"""Where NumPy, used with care, is faster than the plain composition: all kernels by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fw_cpu.activations import ACTIVATIONS
from fw_cpu.attention import ATTENTION
from fw_cpu.convolution import CONVOLUTION
from fw_cpu.elementwise import ELEMENTWISE
from fw_cpu.indexing import INDEXING
from fw_cpu.linear import LINEAR
from fw_cpu.losses import LOSSES
from fw_cpu.normalization import NORMALIZATION
from fw_cpu.pooling import POOLING
from fw_cpu.special import SPECIAL
from fw_cpu.updates import UPDATES

KERNELS: dict[str, Callable[..., Any]] = (
    LINEAR | ELEMENTWISE | LOSSES | NORMALIZATION | INDEXING | SPECIAL | UPDATES
    | CONVOLUTION | POOLING | ATTENTION | ACTIVATIONS
)  # fmt: skip
