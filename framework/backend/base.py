"""The contract between the framework and an array library: one class.

Required of a backend: `name`, `xp`, `asarray`, `to_numpy`, `owns`, `synchronize`. All else has a
default here. A backend knows arrays; it knows no calculus, no losses and no optimizers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from framework.backend.dtypes import DTYPES, DType, dtype
from framework.errors import BackendError, DTypeError

if TYPE_CHECKING:
    from framework.backend.program import Program


class Backend(ABC):
    """An array library as the framework sees it.

    Construction raises `BackendError`, with the line that installs what is missing, where the
    library or its device is absent; importing the plugin's module never does.
    """

    name: ClassVar[str]
    """The entry point's name, and the first part of every device string."""

    xp: Any
    """An Array API 2024.12 namespace."""

    synchronous: ClassVar[bool] = False
    """Whether operations are finished when they return, so that reading a value costs nothing."""

    writable: ClassVar[bool] = False
    """Whether arrays can be written in place; kernels of such a backend may do so."""

    captures_updates: ClassVar[bool] = False
    """Whether an optimizer's update is to be part of the program of a compiled step; a Trainer's with clipping."""

    kernels: Mapping[str, Callable[..., Any]] = {}
    """Name to faster implementation, of a primitive's forward or of a name in `KERNELS`."""

    requirements: ClassVar[tuple[str, ...]] = ()
    """Import names of what the plugin needs beside the framework."""

    install: ClassVar[str] = ""
    """The line that installs the requirements."""

    deviations: Mapping[str, str] = {}
    """Test of the conformance kit to the reason why it may not hold here; see `framework.testing`."""

    _dtype_table: Mapping[Any, DType] = {}  # an instance's own, once it has named a dtype

    # -- required -------------------------------------------------------------------------------

    @abstractmethod
    def asarray(
        self, obj: Any, *, dtype: DType | None = None, device: str | None = None, copy: bool | None = None
    ) -> Any:
        """An array of this backend from nested lists, a Python scalar, a NumPy array or an own array.

        `copy=True` always copies, `False` never does (and raises where it must), `None` where needed.
        """

    @abstractmethod
    def to_numpy(self, array: Any) -> Any:
        """The array's values as a NumPy array; may share memory."""

    @abstractmethod
    def owns(self, array: Any) -> bool:
        """Whether `array` is an array of this backend."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until everything that was asked of the device is done."""

    # -- optional -------------------------------------------------------------------------------

    @property
    def devices(self) -> tuple[str, ...]:
        """The device strings that `asarray` accepts; the first is the default."""
        return (self.name,)

    @property
    def dtypes(self) -> tuple[DType, ...]:
        """What the backend computes in. Default: every dtype that `xp` names."""
        return tuple(d for d in DTYPES.values() if hasattr(self.xp, d.name))

    def native(self, d: DType | str) -> Any:
        """The library's own dtype object.

        Raises:
            DTypeError: the backend does not offer this dtype.
        """
        d = dtype(d)
        try:
            return getattr(self.xp, d.name)
        except AttributeError:
            offered = ", ".join(t.name for t in self.dtypes)
            raise DTypeError(f"backend {self.name!r} does not offer {d.name}; it computes in {offered}") from None

    def dtype_of(self, array: Any) -> DType:
        """The backend-neutral dtype of an array."""
        own = array.dtype
        try:
            return self._dtype_table[own]
        except KeyError:
            table = self.__dict__.setdefault("_dtype_table", {})
            for d in self.dtypes:
                if own == getattr(self.xp, d.name):
                    table[own] = d
                    return d
        raise DTypeError(f"backend {self.name!r}: no framework dtype for {own!r}")

    def device_of(self, array: Any) -> str:
        """The device string of an array."""
        return self.devices[0]

    def copy(self, array: Any) -> Any:
        """A copy that shares no memory."""
        return self.xp.asarray(array, copy=True)

    def overwrite(self, array: Any, values: Sequence[float]) -> None:
        """Write a few numbers to an array of one axis, in its dtype. For backends with `writable` alone."""
        array[...] = self.asarray(values, dtype=self.dtype_of(array), device=self.device_of(array))

    def buffer(self, size: int, native: Any, device: str) -> Any | None:
        """A flat array of zeros, aligned to 64 bytes, to take segments of; None where the backend has no segments.

        For backends with `writable` alone.
        """
        return None

    def segment(self, buffer: Any, start: int, like: Any) -> Any:
        """The elements of a buffer from `start` on, as an array with the shape and the order in memory of `like`.

        Views of it refer to it, not to the buffer, so that its count of references tells who sees its elements.
        """
        raise NotImplementedError(f"backend {self.name!r} has no segments")

    def updates_where(self, flag: Any) -> Any | None:
        """A context manager in which the kernels of updates change nothing if the flag, a 0-d bool, does not hold.

        A state that would begin with the update is zeros then. None where the backend has no such thing.
        """
        return None

    def room(self) -> int:
        """Bytes that a dataset may take which is kept on the device, so that batches are gathered there; 0 for none."""
        return 0

    def sender(self, device: str | None) -> Callable[[Any], Any] | None:
        """A function that copies a NumPy array to the device as `asarray` does, while the device goes on computing.

        A Trainer sends its batches by it. The host's array may be changed at once, and what was given keeps its
        values for as long as anybody holds it. None where `asarray` does as well.
        """
        return None

    def gatherer(
        self, arrays: Sequence[Any], affine: tuple[Any, Any] | None
    ) -> Callable[[Any], Callable[[int, int], Sequence[Any]]] | None:
        """A function that gathers batches of a dataset's arrays on the device, where `room` lets them be kept.

        It is given an epoch's order, a NumPy array of int64 indices that are known to be inside the arrays, and
        returns `gather(start, stop)`: of each array the entries at `order[start:stop]`; of the first in the dtype of
        the factor, times factor plus offset as `gather_normalized` rounds them, where `affine` is these two. The
        arrays and `affine` stay as they are. An array of a batch keeps its values for as long as anybody holds it, a
        view of it or an export; then a later batch may lie there, and does so best at the same address each time. None
        where `take` and `gather_normalized` do as well.
        """
        return None

    def bernoulli(
        self, key: int, counter: int, shape: tuple[int, ...], p: float, dtype: DType, device: str | None
    ) -> Any | None:
        """Ones with probability `p`, else zeros, made on the device; None where the host is to make them.

        They are those of the host's generator: a one where word number `counter` and on of the stream `key`, cut to
        its upper 53 bits, is below p · 2⁵³.
        """
        return None

    def capture(self, program: Program) -> Callable[..., tuple[Any, ...]]:
        """A function that runs a program of this backend's arrays, as fast as the backend can.

        It is called `replay(*arrays, into=None)` and returns a tuple of arrays. `into` has an array, or None, for
        each output; where arrays can be written (`writable`), the output is copied to the array given, which is
        returned for it. The memory of an input that is a `state_in` may be taken for its `state_out`.
        """

        def replay(*arrays: Any, into: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
            outputs = program.run(*arrays)
            if into is None or not self.writable:
                return outputs
            for target, output in zip(into, outputs, strict=True):
                if target is not None:
                    target[...] = output
            return tuple([output if target is None else target for target, output in zip(into, outputs)])

        return replay

    def sharing(self) -> AbstractContextManager[None]:
        """Within this context large kernels may share their work among threads. Default: nothing changes.

        It pays for convolutions, attention and normalization of large arrays. A model of matrix products alone is
        better off without: these a BLAS library shares by itself.
        """
        return nullcontext()

    def memory_stats(self) -> dict[str, int]:
        """Bytes in use and reserved on the device, where the library can tell."""
        return {}

    def check_device(self, device: str | None) -> str:
        """`device`, or the default one, if it is one of `devices`.

        Raises:
            BackendError: it is not.
        """
        if device is None:
            return self.devices[0]
        if device not in self.devices:
            raise BackendError(f"backend {self.name!r} has no device {device!r}; it has {', '.join(self.devices)}")
        return device

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, str) and self.name == other)

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<backend {self.name}>"
