"""The namespaces that derivative rules are written in.

A rule receives a namespace `ns` and arrays that belong together: raw arrays with a
`RawNamespace` (first order, fast), or Tensors with `ops` (higher order, every transform).
Both offer the Array API's functions, the primitives and the performance names of `KERNELS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from framework.autodiff.modes import get_default_dtype
from framework.backend import KERNELS, Backend

if TYPE_CHECKING:
    from framework.autodiff.primitive import Primitive

PRIMITIVES: dict[str, Primitive] = {}
"""Every primitive by name."""


LATER: dict[str, str] = {}
"""Names that are declared when they are first asked for, each with the module that does it."""


class Ops:
    """The differentiable functions on Tensors, by name; filled by the modules that declare them."""

    recorder = None

    @staticmethod
    def is_complex(x: Any) -> bool:
        """Whether a Tensor has a complex dtype."""
        return bool(x.dtype.kind == "complex")

    def __getattr__(self, name: str) -> Any:
        if name in LATER:
            import_module(LATER[name])
            return self.__dict__[name]
        if name in KERNELS:  # a performance name differentiated again is its composition
            value = partial(KERNELS[name], self)
            setattr(self, name, value)
            return value
        raise AttributeError(f"no differentiable function named {name!r}")


ops: Any = Ops()


class RawNamespace:
    """The functions of one backend on raw arrays: kernel, primitive's forward, or the library's own."""

    recorder: Any = None
    """Who is told of every function that runs, while a call is recorded; see `recorder`."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.xp = backend.xp
        self.floats: set[Any] = set()  # the library's floating-point dtypes, as they are met
        self._ones: dict[Any, Any] = {}
        self.around: Callable[[str, Any], Any] | None = None  # what is put around functions, see `rounding`

    def one_like(self, x: Any) -> Any:
        """An array of one element, one: where a backward starts. It is shared, and never written."""
        key = (x.dtype, x.shape, x.device)
        one = self._ones.get(key)
        if one is None:
            one = self.xp.ones_like(x)
            one = self._ones[key] = one if x.shape else one[()]  # NumPy is faster with its scalars
        return one

    def ones(self) -> Iterable[Any]:
        """The arrays that are shared."""
        return self._ones.values()

    def as_floating(self, x: Any) -> Any:
        """The array; of the default dtype, where it is one of integers or bools."""
        if self.backend.dtype_of(x).is_differentiable:
            self.floats.add(x.dtype)
            return x
        return self.xp.astype(x, self.backend.native(get_default_dtype()))

    def is_complex(self, x: Any) -> bool:
        """Whether an array has a complex dtype."""
        return self.backend.dtype_of(x).kind == "complex"

    def __getattr__(self, name: str) -> Any:
        value = self._resolve(name)
        if self.around is not None:
            value = self.around(name, value)
        if self.recorder is not None and callable(value):
            value = self.recorder.wrapped(name, value)
        setattr(self, name, value)  # found once
        return value

    def holds(self, predicate: Callable[[Any], bool], array: Any) -> bool:
        """`predicate(array)`, of a value that is read to choose how to compute; a replay asks again."""
        return predicate(array) if self.recorder is None else self.recorder.check(predicate, array)

    def listener(self) -> Any:
        """The recorder of the call that this is a part of, if one is."""
        recorder = self.recorder
        return recorder if recorder is not None and recorder.listens() else None

    def record(self, recorder: Any) -> None:
        """Tell `recorder` of the functions that run from now on; None ends it."""
        self.recorder = recorder
        self._forget()

    def look_again(self, around: Callable[[str, Any], Any] | None) -> None:
        """Put `around(name, function)` in place of each function from now on; None ends it."""
        self.around = around
        self._forget()

    def _forget(self) -> None:
        for name in [name for name in self.__dict__ if name not in _OWN]:
            delattr(self, name)  # to be found again

    def _resolve(self, name: str) -> Any:
        kernel = self.backend.kernels.get(name)
        if kernel is not None:
            return kernel
        if name in KERNELS:
            return partial(KERNELS[name], self)
        if name in LATER:
            import_module(LATER[name])
        primitive = PRIMITIVES.get(name)
        if primitive is not None and primitive.forward is not None:
            return partial(primitive.forward, self)
        return getattr(self.xp, name)


_OWN = ("backend", "xp", "floats", "_ones", "recorder", "around")


def namespace_of(backend: Backend) -> RawNamespace:
    """The raw namespace of a backend, one per backend instance."""
    try:
        return backend.__dict__["_namespace"]
    except KeyError:
        namespace = backend.__dict__["_namespace"] = RawNamespace(backend)
        return namespace
