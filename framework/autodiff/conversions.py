"""How Tensors turn into other things: NumPy arrays, Python numbers, text, arrays of other libraries."""

from __future__ import annotations

from typing import Any

from framework.autodiff.modes import default_backend
from framework.autodiff.namespace import ops
from framework.errors import DTypeError, GradientError, ShapeError

T = Any  # a Tensor: the class is built on this one

API_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")


class Conversions:
    """The protocols by which Python and other libraries read a Tensor."""

    __slots__ = ()

    def _seen(self: T) -> Any:
        """The array, of which Python is about to see the values."""
        if self._ns.recorder is not None:
            self._ns.recorder.read(self._data)
        return self._data

    def numpy(self: T) -> Any:
        """The values as a NumPy array, which may share memory.

        Raises:
            GradientError: the Tensor is on the tape; write `.detach().numpy()`.
        """
        if self._node is not None:
            raise GradientError("this Tensor requires a gradient, which NumPy would lose; use .detach().numpy()")
        return self._ns.backend.to_numpy(self._seen())

    def __array__(self: T, dtype: Any = None, copy: bool | None = None) -> Any:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError("a cast needs a copy, and copy=False forbids it")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_ufunc__(self: T, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """NumPy's operations on Tensors become ours, where we have them."""
        return ops.from_ufunc(self, ufunc, method, inputs, kwargs)

    def __array_function__(self: T, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions of Tensors become ours, where we have them."""
        return ops.from_function(self, func, args, kwargs)

    def __array_namespace__(self: T, *, api_version: str | None = None) -> Any:
        """`framework.numpy`, the standard's functions.

        Raises:
            ValueError: a version of the standard that is not offered.
        """
        from framework import numpy as namespace  # of the floor above: the standard asks an array for its functions

        if api_version not in (None, *API_VERSIONS):
            raise ValueError(f"api_version {api_version!r} is not offered; these are: {', '.join(API_VERSIONS)}")
        return namespace

    def item(self: T) -> Any:
        """The only element, as a Python number.

        Raises:
            ShapeError: there is not exactly one.
        """
        if self.size != 1:
            raise ShapeError(f"item() needs one element, got shape {self.shape}")
        return self._ns.backend.to_numpy(self._seen()).item()

    def tolist(self: T) -> Any:
        """The elements as nested lists of Python numbers."""
        return self._ns.backend.to_numpy(self._seen()).tolist()

    def __float__(self: T) -> float:
        return float(self.item())

    def __int__(self: T) -> int:
        return int(self.item())

    def __complex__(self: T) -> complex:
        return complex(self.item())

    def __bool__(self: T) -> bool:
        if self.size != 1:
            raise ShapeError(f"bool() needs one element, got shape {self.shape}; use .any() or .all()")
        return bool(self.item())

    def __index__(self: T) -> int:
        if self.dtype.kind not in ("int", "uint"):
            raise DTypeError(f"only an integer Tensor can be an index, got {self.dtype.name}")
        return int(self.item())

    def __len__(self: T) -> int:
        if not self.shape:
            raise TypeError("a 0-d Tensor has no length; .item() is its value, .size its number of elements")
        return self.shape[0]

    def __iter__(self: T) -> Any:
        return (self[i] for i in range(len(self)))

    def __contains__(self: T, value: Any) -> bool:
        return bool(ops.any(ops.equal(self, value)))

    def __dlpack__(
        self: T,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if self._node is not None or self._level is not None:
            raise GradientError("this Tensor requires a gradient, which DLPack would lose; use .detach()")
        wanted = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
        self._seen()
        return self._array().__dlpack__(**{name: value for name, value in wanted.items() if value is not None})

    def __dlpack_device__(self: T) -> Any:
        return self._array().__dlpack_device__()

    def __repr__(self: T) -> str:
        text = str(self._ns.backend.to_numpy(self._data).__repr__())
        body = text[text.index("(") + 1 : -1] if "(" in text else text
        body = body.rpartition("dtype=")[0].rstrip(", \n") or body  # a full line ends before it
        where = "" if self.backend is default_backend() else f", device={self.device!r}"
        grad = ", requires_grad=True" if self._node is not None else ""
        return f"tensor({body}, dtype={self.dtype.name}{where}{grad})"

    def __format__(self: T, spec: str) -> str:
        return format(self.item(), spec) if spec and not self.shape else format(str(self), spec)
