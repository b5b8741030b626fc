"""What is in force: whether gradients are recorded, the default dtype, the default backend."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from framework.backend import Backend, registry
from framework.backend.dtypes import DType, dtype, float32
from framework.errors import DTypeError

F = TypeVar("F", bound=Callable[..., Any])

grad_enabled: ContextVar[bool] = ContextVar("grad_enabled", default=True)
_backend: ContextVar[Backend | None] = ContextVar("backend", default=None)
_process_backend: Backend | None = None
_default_dtype: DType = float32


class _GradMode:
    """Switches recording; a context manager and a decorator, usable with or without parentheses.

    The mode belongs to the thread or the task that enters it. A decorated generator or coroutine has it
    while its own code runs, its caller does not.
    """

    _value: bool

    def __new__(cls, fn: Callable[..., Any] | None = None) -> Any:
        mode = super().__new__(cls)
        mode._tokens = []
        return mode if fn is None else mode(fn)

    _tokens: list[Any]

    def __enter__(self) -> None:
        self._tokens.append(grad_enabled.set(self._value))

    def __exit__(self, *exc: object) -> None:
        tokens = self._tokens
        for token in reversed(list(tokens)):
            try:
                grad_enabled.reset(token)
            except (ValueError, RuntimeError):  # that of another thread, which uses the same object, or is leaving it
                continue
            tokens.remove(token)
            return

    def __call__(self, fn: F) -> F:
        """Decorate a function, a method, a generator function or a coroutine function.

        Raises:
            TypeError: it is a class, or cannot be called.
        """
        name = type(self).__name__
        if isinstance(fn, staticmethod | classmethod):
            return type(fn)(self(fn.__func__))
        if isinstance(fn, type):
            raise TypeError(f"{name} decorates functions, got the class {fn.__name__}; decorate its methods")
        if not callable(fn):
            raise TypeError(f"{name} decorates functions, got {type(fn).__name__}; `with {name}():` needs no argument")
        made = _decorated(fn, type(self))
        functools.update_wrapper(made, fn)
        return made


_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200  # flags of code objects


def _decorated(fn: Callable[..., Any], mode: type[_GradMode]) -> Any:
    inner = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    flags = getattr(getattr(inner, "__code__", None), "co_flags", 0)

    def function(*args: Any, **kwargs: Any) -> Any:
        token = grad_enabled.set(mode._value)
        try:
            return fn(*args, **kwargs)
        finally:
            grad_enabled.reset(token)

    def generator(*args: Any, **kwargs: Any) -> Any:
        return (yield from _Stepwise(fn(*args, **kwargs), mode))

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return await _Stepwise(fn(*args, **kwargs).__await__(), mode)

    async def async_generator(*args: Any, **kwargs: Any) -> Any:
        body = fn(*args, **kwargs)
        step, value = body.asend, None
        try:
            while True:
                try:
                    item = await _Stepwise(step(value).__await__(), mode)
                except StopAsyncIteration:
                    return
                try:
                    step, value = body.asend, (yield item)
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step, value = body.athrow, error
        finally:
            await _Stepwise(body.aclose().__await__(), mode)

    if flags & _GENERATOR:
        return generator
    if flags & _COROUTINE:
        return coroutine
    return async_generator if flags & _ASYNC_GENERATOR else function


class _Stepwise:
    """A generator, or what a coroutine is made of, whose every step runs in a mode.

    `yield from` and `await` hand on what is sent and thrown.
    """

    def __init__(self, body: Any, mode: type[_GradMode]) -> None:
        self._body = body
        self._mode = mode

    def __iter__(self) -> _Stepwise:
        return self

    def __await__(self) -> _Stepwise:
        return self

    def __next__(self) -> Any:
        with self._mode():
            return next(self._body)

    def send(self, value: Any) -> Any:
        with self._mode():
            return self._body.send(value)

    def throw(self, *error: Any) -> Any:
        with self._mode():
            return self._body.throw(*error)

    def close(self) -> None:
        with self._mode():
            self._body.close()


class no_grad(_GradMode):  # noqa: N801 - torch's name
    """Record no operations, as a context manager or a decorator.

    Examples:
        >>> import framework as fw
        >>> x = fw.tensor([1.0], requires_grad=True)
        >>> with fw.no_grad():
        ...     (2 * x).requires_grad
        False
    """

    _value = False


class enable_grad(_GradMode):  # noqa: N801 - torch's name
    """Record operations again inside `no_grad`, as a context manager or a decorator."""

    _value = True


def get_default_dtype() -> DType:
    """The dtype of Python floats and of creation functions; float32 at the start."""
    return _default_dtype


def set_default_dtype(d: DType | str) -> None:
    """Set the dtype of Python floats and of creation functions.

    Raises:
        DTypeError: it is not a floating-point dtype.
    """
    global _default_dtype
    d = dtype(d)
    if d.kind != "float":
        raise DTypeError(f"the default dtype must be a floating-point dtype, got {d.name}")
    _default_dtype = d


def default_backend() -> Backend:
    """The backend of new Tensors: what `use_backend` or `set_default_backend` chose, else `$FW_BACKEND`, else cpu."""
    global _process_backend
    backend = _backend.get() or _process_backend
    if backend is None:
        backend = _process_backend = registry.get(os.environ.get("FW_BACKEND") or "cpu")
    return backend


def set_default_backend(name: str) -> None:
    """Set the backend of new Tensors for this process."""
    global _process_backend
    _process_backend = registry.get(name)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Make new Tensors on this backend inside a `with` block."""
    token = _backend.set(registry.get(name))
    try:
        yield
    finally:
        _backend.reset(token)
