"""Sample inputs and float64 NumPy references of every primitive.

The reference of a primitive is independent of its rules: derivatives are checked against central
differences of it. Values stay away from kinks and poles, and small enough for half precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework.testing.samples_elementwise import ELEMENTWISE, ELEMENTWISE_REFERENCES
from framework.testing.samples_indexing import INDEXING, INDEXING_REFERENCES
from framework.testing.samples_layers import LAYER_REFERENCES, LAYERS
from framework.testing.samples_linear import LINEAR, LINEAR_REFERENCES, OBSERVED
from framework.testing.samples_reductions import REDUCTION_REFERENCES, REDUCTIONS
from framework.testing.sampling import Arrays as Arrays
from framework.testing.sampling import Draw as Draw
from framework.testing.sampling import Sample as Sample

TABLE: dict[str, tuple[Sample, ...]] = {**ELEMENTWISE, **REDUCTIONS, **INDEXING, **LINEAR, **LAYERS}
"""Name of a primitive to its samples."""

REFERENCES: dict[str, Callable[..., Any]] = {
    **ELEMENTWISE_REFERENCES,
    **REDUCTION_REFERENCES,
    **INDEXING_REFERENCES,
    **LINEAR_REFERENCES,
    **LAYER_REFERENCES,
}
"""Name of a primitive to its NumPy function, where NumPy has none of the same name and meaning."""


def samples(name: str) -> tuple[Sample, ...]:
    """The samples of a primitive.

    Raises:
        KeyError: there are none; every primitive needs some.
    """
    return TABLE[name]


def reference(name: str, sample: Sample) -> Callable[..., Any]:
    """The NumPy function of a primitive, taking the inputs and the parameters."""
    own = sample.reference or REFERENCES.get(name)
    return own if own is not None else getattr(np, name)


def observed(name: str, xp: Any, outs: tuple[Any, ...]) -> tuple[Any, ...]:
    """What is unique in the outputs of a primitive: these themselves, but for some decompositions."""
    own = OBSERVED.get(name)
    return outs if own is None else own(xp, *outs)
