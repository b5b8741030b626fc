"""A thin NumPy-backed stand-in for the part of CuPy that the CUDA plugin calls, for tests without a GPU.

It is no model of a device: everything runs at once on the host. It keeps the rules that the plugin's control flow
depends on: results are arrays even without axes; while a stream is captured nothing is computed (results are filled
with NaN), CuPy's own products and copies from the host raise, and the graph does it all again, in the same memory, at
each launch; kernels are given arguments of exactly the types they declare (the kernels themselves are the plugin's,
compiled for the host).
"""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from types import SimpleNamespace
from typing import Any

import cuda_host_kernels as host_kernels
import cuda_streams
import numpy as np

_log: list[Any] | None = None  # of the stream that is being captured


def record(result: Any, again: Any) -> Any:
    """While a stream is captured: `again()` computes `result` at each launch of the graph."""
    if _log is not None:
        parts = result if isinstance(result, tuple) else (result,)
        for part in parts:
            if isinstance(part, np.ndarray) and part.dtype.kind in "fc" and part.flags.writeable:
                part.view(np.ndarray).fill(np.nan)
        _log.append(([part if isinstance(part, np.ndarray) else None for part in parts], again))
    return result


def launch(run: Any) -> None:
    """What a library does with arrays that are there: now or, while a stream is captured, at each launch of the graph."""
    if _log is None:
        run()
    record(None, run)


def _plain(x: Any) -> Any:
    if isinstance(x, Array):
        return x.view(np.ndarray)
    if isinstance(x, tuple | list):
        return type(x)([_plain(part) for part in x])
    return x


def _owned(x: Any) -> Any:
    if isinstance(x, np.ndarray | np.generic):
        return np.asarray(x).view(Array)
    return tuple([_owned(part) for part in x]) if isinstance(x, tuple) else x


def _shares(result: Any, args: Any) -> bool:
    return isinstance(result, np.ndarray) and any(
        isinstance(a, np.ndarray) and np.may_share_memory(_plain(result), _plain(a)) for a in args
    )


class Pointer:
    """An address, and what owns the memory."""

    def __init__(self, ptr: int, mem: Any) -> None:
        self.ptr, self.mem = ptr, mem

    def __add__(self, offset: int) -> Pointer:
        return Pointer(self.ptr + offset, self.mem)


class Array(np.ndarray):
    """An array of the stand-in."""

    def __new__(cls, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C") -> Any:
        if memptr is None:
            return super().__new__(cls, shape, dtype, order=order)
        memory = memptr.mem.view(np.ndarray).reshape(-1).view(np.uint8)
        return super().__new__(cls, shape, dtype, memory, memptr.ptr - memory.ctypes.data, order=order)

    @property
    def data(self) -> Pointer:
        root = self
        while isinstance(root.base, np.ndarray):
            root = root.base
        return Pointer(self.ctypes.data, root)

    @property
    def device(self) -> Any:
        return _Device()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        args, given = _plain(inputs), {key: _plain(value) for key, value in kwargs.items()}

        def again() -> Any:
            return getattr(ufunc, method)(*args, **given)

        if "out" in kwargs:
            (target,) = kwargs["out"]
            if _log is None:
                again()
            record(None, again)
            return target
        result = _owned(again())
        return None if result is None else record(result, again)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        args, kwargs = _plain(args), {key: _plain(value) for key, value in kwargs.items()}
        result = _owned(function(*args, **kwargs))
        return result if _shares(result, args) else record(result, lambda: function(*args, **kwargs))

    def _method(self, name: str, *args: Any, **kwargs: Any) -> Any:
        plain, args = _plain(self), _plain(args)
        result = _owned(getattr(plain, name)(*args, **kwargs))
        return result if _shares(result, (plain,)) else record(result, lambda: getattr(plain, name)(*args, **kwargs))

    def astype(self, *args: Any, **kwargs: Any) -> Any:
        return self._method("astype", *args, **kwargs)

    def copy(self, order: str = "C") -> Any:
        return self._method("copy", order)

    def reshape(self, *shape: Any) -> Any:
        return self._method("reshape", *shape)

    def __getitem__(self, key: Any) -> Any:
        return self._method("__getitem__", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        plain, key, value = _plain(self), _plain(key), _plain(value)
        if _log is None:
            plain[key] = value
        record(None, lambda: plain.__setitem__(key, value))


class Graph:
    """What was recorded."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.launches = 0

    def launch(self, stream: Any = None) -> None:
        self.launches += 1
        for results, again in self.log:
            made = again()
            for place, value in zip(results, made if isinstance(made, tuple) else (made,)):
                if place is not None:
                    np.copyto(_plain(place), value)


class Pool:
    """A pool that counts; nothing is ever handed out twice."""

    def __init__(self) -> None:
        self.bytes = 0

    def malloc(self, size: int) -> None:
        self.bytes += size

    def total_bytes(self) -> int:
        return self.bytes

    used_bytes = total_bytes

    def free_bytes(self) -> int:
        return 0


class StandIn:
    """The module `cupy`."""

    __version__ = "14.2.0"
    ndarray = Array

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.kernels = host_kernels.kernels()
        self.pool = self.default = Pool()
        self.allocator = self.pool.malloc
        self.stream = self.null = SimpleNamespace(ptr=0, record=lambda: "event", wait_event=lambda event: None)
        self.graphs: list[Graph] = []
        self.add = self.wrapped(np.add)
        self.add.at = self._add_at
        self.cuda = SimpleNamespace(
            MemoryPool=Pool, Stream=lambda non_blocking: Stream(self), get_current_stream=lambda: self.stream,
            get_allocator=lambda: self.allocator, using_allocator=self.using_allocator,
            Device=lambda index=0: _Device(),
            runtime=SimpleNamespace(
                getDevice=lambda: 0, runtimeGetVersion=lambda: 13000, memcpyHostToDevice=1,
                memcpyAsync=lambda target, source, size, kind, stream: ctypes.memmove(target, source, size),
            ),
            Event=Event, alloc=cuda_streams.Memory, alloc_pinned_memory=lambda size: bytearray(size),
            UnownedMemory=cuda_streams.unowned, MemoryPointer=lambda memory, offset: Pointer(
                ctypes.addressof(memory) + offset, np.frombuffer(memory, np.uint8)
            ),
        )  # fmt: skip

    @contextlib.contextmanager
    def using_allocator(self, allocator: Any) -> Any:
        before, self.allocator = self.allocator, allocator
        try:
            yield
        finally:
            self.allocator = before

    def get_default_memory_pool(self) -> Pool:
        return self.default

    def RawModule(self, code: str, options: tuple[str, ...]) -> Any:
        types = dict(option[len("-DFW_") :].split("=") for option in options if "=" in option)
        return SimpleNamespace(get_function=lambda name: self._kernel(name, types))

    def _kernel(self, name: str, types: dict[str, str]) -> Any:
        _, parameters, _ = self.kernels[name]
        dtypes = {
            "float": "float32",
            "double": "float64",
            "long long": "int64",
            "int": "int32",
            "unsigned char": "uint8",
        }
        named = {key: np.dtype(dtypes[value]) for key, value in types.items()}
        function = getattr(self.library, f"{name}_{named['T'].name}_{named['I'].name}")

        def launch(grid: tuple[int], block: tuple[int], args: tuple[Any, ...]) -> None:
            assert block == (256,)
            pointers, held = host_kernels.arguments(parameters, args, named)

            # Memory, as a graph's pool does, no arrays; what is lent has an owner who would see that it is held.
            memory = [a.data.mem for a in args if isinstance(a, Array)]
            held = held, [m for m in memory if not hasattr(m.base, "owner")]

            def run() -> None:
                assert held
                function(ctypes.c_uint(grid[0]), pointers)

            if _log is None:
                run()
            record(None, run)

        return launch

    # -- arrays --------------------------------------------------------------------------------------

    def _add_at(self, array: Any, key: Any, values: Any) -> None:
        args = _plain((array, key, values))
        if _log is None:
            np.add.at(*args)
        record(None, lambda: np.add.at(*args))

    def matmul(self, x: Any, y: Any) -> Any:
        if _log is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        return _owned(np.matmul(_plain(x), _plain(y)))

    def asarray(self, obj: Any, dtype: Any = None, **kwargs: Any) -> Any:
        if isinstance(obj, Array) and dtype in (None, obj.dtype):
            return obj
        return self.array(obj, dtype=dtype)

    def array(self, obj: Any, dtype: Any = None, copy: bool = True) -> Any:
        if isinstance(obj, Array):
            if not copy and dtype in (None, obj.dtype):
                return obj
            if not copy:
                raise ValueError("a copy is needed")
            return obj.astype(dtype or obj.dtype, copy=True)
        if _log is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: a copy from the host")
        return _owned(np.array(obj, dtype=dtype))

    def ascontiguousarray(self, x: Any) -> Any:
        return x if x.flags.c_contiguous else x.copy()

    def asnumpy(self, x: Any) -> Any:
        if _log is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: a copy to the host")
        return np.array(_plain(x))

    def __getattr__(self, name: str) -> Any:
        value = getattr(np, name)
        return value if not callable(value) or isinstance(value, type) else self.wrapped(value, name)

    def wrapped(self, value: Any, name: str = "") -> Any:
        """A function of NumPy's arrays as one of the stand-in's."""

        def function(*args: Any, **kwargs: Any) -> Any:
            kwargs.pop("device", None)
            if any(isinstance(a, Array) for a in args) or "out" in kwargs:
                return _owned(value(*args, **kwargs))
            made = _owned(value(*_plain(args), **{key: _plain(v) for key, v in kwargs.items()}))
            if isinstance(made, Array):
                self.allocator(made.nbytes)
                if name.startswith("empty"):
                    if _log is not None and made.dtype.kind in "fc":
                        made.fill(np.nan)
                elif not _shares(made, _plain(tuple(args))):
                    record(made, lambda: value(*_plain(args), **kwargs))
            return made

        return function


class Event:
    """A place in a stream, which is over: everything is done at once."""

    done = True

    def __init__(self, disable_timing: bool) -> None:
        pass

    def record(self, stream: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


class _Device:
    """The one device."""

    id = 0
    mem_info = (1 << 30, 1 << 30)

    def synchronize(self) -> None:
        pass

    def use(self) -> None:
        pass

    def __enter__(self) -> _Device:
        return self

    def __exit__(self, *error: Any) -> None:
        pass


class Stream:
    """A stream that can be captured."""

    def __init__(self, cupy: StandIn) -> None:
        self.cupy, self.ptr, self._before = cupy, id(self), None

    def record(self) -> str:
        return "event"

    def wait_event(self, event: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def __enter__(self) -> Stream:
        self._before, self.cupy.stream = self.cupy.stream, self
        return self

    def __exit__(self, *error: Any) -> None:
        self.cupy.stream = self._before

    def begin_capture(self) -> None:
        global _log
        assert self.cupy.stream is self
        _log = []

    def end_capture(self) -> Graph:
        global _log
        assert _log is not None
        graph, _log = Graph(_log), None
        self.cupy.graphs.append(graph)
        return graph


def backend_class(cupy: StandIn, blas: Any, name: str, has_halves: bool = False) -> Any:
    """The plugin's backend on the stand-in; `blas` None is where none is found.

    Of float16, which not every C++ compiler has, there are products alone.
    """
    from fw_cuda import CudaBackend
    from fw_cuda.kernels import table
    from fw_cuda.namespace import Namespace
    from fw_cuda.products import Products
    from fw_cuda.sources import Kernels

    from framework.backend import host

    class OnHost(CudaBackend):
        def __init__(self) -> None:
            self.cupy, self._devices = cupy, (name,)
            self._own, self.products = Kernels(cupy), Products(cupy, blas)
            self.xp = Namespace(cupy, self.products.matmul)
            erf = cupy.wrapped(host.erf)
            self.kernels, self._updates = table(cupy, self._own, self.products, erf)
            self._senders = weakref.WeakValueDictionary()
            self._written_on = None

        @property
        def dtypes(self) -> Any:
            left_out = ("bfloat16",) if has_halves else ("float16", "bfloat16")
            return tuple(d for d in super().dtypes if d.name not in left_out)

    OnHost.name = name
    return OnHost
