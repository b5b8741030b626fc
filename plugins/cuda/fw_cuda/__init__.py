"""The CUDA backend: CuPy arrays on NVIDIA GPUs. Importing it needs neither CuPy nor a GPU."""

from fw_cuda.backend import CudaBackend as CudaBackend
