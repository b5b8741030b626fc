"""Batches: host arrays from a loader become Tensors on the backend."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from framework.autodiff import Tensor
from framework.autodiff.namespace import namespace_of
from framework.backend import Backend
from framework.backend.dtypes import DTYPES, DType
from framework.errors import ConfigError

_NDARRAY = np.ndarray


class Mover:
    """Makes Tensors of a batch's arrays, in the structure that the batch has.

    Floating-point host arrays get the run's dtype; integers and booleans keep theirs. What is no
    array (strings, numbers, None) stays as it is.

    Args:
        backend: whose Tensors are made.
        device: the device string.
        dtype: of floating-point arrays.
    """

    def __init__(self, backend: Backend, device: str, dtype: DType) -> None:
        self.backend = backend
        self._device = device
        self._dtype = dtype
        self._ns = namespace_of(backend)
        self._native = np.dtype(dtype.name)
        self._where = device if ":" in device else None
        self._send = backend.sender(self._where) or partial(backend.asarray, device=self._where)
        self.keeps_arrays = self._where is None and backend.owns(np.zeros(()))
        """Whether Tensors hold host arrays as they are, without a copy."""
        kept = (np.dtype(code) for code in (*np.typecodes["AllInteger"], *np.typecodes["Complex"], "?", self._native))
        self._as_it_is = frozenset(kept) if self.keeps_arrays else frozenset()
        """The dtypes of host arrays that a Tensor may hold without a copy."""
        self._left: set[Any] = set()
        """The dtypes, as the library names them, of Tensors that need no other one."""
        self.loader_index = 0
        """Which of several loaders the batches are from; may be set."""

    def __call__(self, batch: Any) -> Any:
        """The batch, moved."""
        kind = type(batch)
        if kind is tuple:  # of arrays for the most part, so these are not sent through here once more
            ns, as_it_is = self._ns, self._as_it_is
            return tuple(
                [
                    Tensor(item, None, ns) if type(item) is _NDARRAY and item.dtype in as_it_is else self(item)
                    for item in batch
                ]
            )
        if kind is _NDARRAY:
            return self._array(batch)
        if isinstance(batch, Tensor):
            return batch if self._is_moved(batch) else self._tensor(batch)
        if isinstance(batch, Mapping):
            return kind((key, self(value)) for key, value in batch.items())
        if kind is list:
            return [self(item) for item in batch]
        if isinstance(batch, tuple):  # a named one
            return kind(*[self(item) for item in batch])
        if self.backend.owns(batch):
            return self(Tensor(batch, None, self._ns))
        return batch

    def _is_moved(self, t: Tensor) -> bool:
        """Whether it is on the device, in a dtype that the run leaves as it is: soon seen."""
        data = t._data
        return t._ns is self._ns and data.dtype in self._left and self.backend.device_of(data) == self._device

    def _tensor(self, t: Tensor) -> Tensor:
        moved = t.to(device=self._device)
        if moved.dtype.kind == "float" and moved.dtype != self._dtype:
            return moved.to(dtype=self._dtype)
        if moved._ns is self._ns and len(self._left) < len(DTYPES):
            self._left.add(moved._data.dtype)
        return moved

    def _array(self, array: np.ndarray[Any, Any]) -> Any:
        dtype = array.dtype
        if dtype.kind == "f":
            if dtype != self._native:
                array = array.astype(self._native)
        elif dtype.kind not in "iubc":
            return array  # text or objects
        if self.keeps_arrays:
            return Tensor(array, None, self._ns)
        return Tensor(self._send(array), None, self._ns)


class HookedMover(Mover):
    """A `Mover` with the hooks of a module or a datamodule around it.

    Args:
        mover: the one that they may do without.
        hooks: in place of `on_before_batch_transfer`, `transfer_batch_to_device` and `on_after_batch_transfer`,
            where somebody defines them.
    """

    def __init__(self, mover: Mover, hooks: tuple[Any, Any, Any]) -> None:
        super().__init__(mover.backend, mover._device, mover._dtype)
        self.keeps_arrays = False  # who knows what they keep
        self._mover = mover
        self._hooks = hooks

    def __call__(self, batch: Any) -> Any:
        """The batch, moved."""
        before, move, after = self._hooks
        if before is not None:
            batch = _returned(before, before(batch, self.loader_index))
        if move is None:
            batch = self._mover(batch)
        else:
            batch = _returned(move, move(batch, self._device, self.loader_index))
        return batch if after is None else _returned(after, after(batch, self.loader_index))


def _returned(hook: Any, batch: Any) -> Any:
    """The batch that a hook has returned.

    Raises:
        ConfigError: it is None.
    """
    if batch is None:
        raise ConfigError(
            f"{getattr(hook, '__name__', 'a transfer hook')} returned None where the batch is expected; is a `return` "
            "missing?"
        )
    return batch


def batch_size_of(batch: Any) -> int | None:
    """The length of the first array in a batch; None where there is none."""
    stack = [batch]
    while stack:
        item = stack.pop()
        shape = getattr(item, "shape", None)
        if shape:
            return int(shape[0])
        if isinstance(item, Mapping):
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, tuple | list):
            stack.extend(reversed(item))
    return None
