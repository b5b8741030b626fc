"""Discrete Fourier transforms: the standard's extension `fft`, differentiable."""

from framework.autodiff import ops as _ops

globals().update(vars(_ops.fft))

__all__ = list(vars(_ops.fft))
