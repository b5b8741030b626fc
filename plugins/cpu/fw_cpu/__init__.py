"""The CPU backend: NumPy arrays."""

from fw_cpu.backend import CpuBackend as CpuBackend
