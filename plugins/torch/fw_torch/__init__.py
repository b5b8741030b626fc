"""PyTorch as a backend: what runs a torch Tensor runs the framework. Importing it does not import torch."""

from fw_torch.backend import TorchBackend as TorchBackend
