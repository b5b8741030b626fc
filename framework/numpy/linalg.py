"""Linear algebra: the standard's extension `linalg`, differentiable."""

from framework.autodiff import ops as _ops

globals().update(vars(_ops.linalg))

__all__ = list(vars(_ops.linalg))
