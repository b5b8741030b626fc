"""Blocks of work shared among as many threads as BLAS has.

NumPy's loops and small products keep one core busy, whatever BLAS may use. Within `held`, kernels that take large
arrays block by block hand the blocks out to threads, which NumPy runs at the same time. BLAS uses one thread in each of
them, and so it must for a while before and after: its own threads wait for work by keeping the cores busy. Large
products are therefore cut into parts here, too. A model of matrix products alone is better off without.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Lock, Thread, local
from typing import Any

import numpy as np

Array = Any


class _Waiting(Thread):
    """A thread that is at work only while another waits for it, with kernels alone."""

    draws_nothing = True
    """For whoever looks for the threads that may have drawn random numbers."""


class _Helper:
    """A thread that waits for work."""

    def __init__(self) -> None:
        self.work: Callable[[], None] | None = None
        self.error: BaseException | None = None
        self.begin, self.ended = Lock(), Lock()
        self.begin.acquire()
        self.ended.acquire()
        _Waiting(target=self._serve, name="fw_cpu", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.begin.acquire()
            try:
                self.work()  # type: ignore[misc]
            except BaseException as error:
                self.error = error
            self.work = None  # hold no array while there is nothing to do
            self.ended.release()


class _Pool:
    """The helpers of this process; one piece of work is shared at a time."""

    def __init__(self) -> None:
        self.is_busy = Lock()
        self.limit = 1  # threads among which work is shared now
        self._helpers: list[_Helper] = []
        self._lock = Lock()
        self._held = 0
        self._before: list[tuple[Any, int]] = []
        self._blas: list[Any] | None = None

    def hold(self) -> None:
        """BLAS uses one thread until `release`, and work is shared by as many as it used."""
        with self._lock:
            if not self._held:
                numbers = [c.num_threads or 1 for c in self._libraries()]
                self._before = [(c, n) for c, n in zip(self._libraries(), numbers) if n > 1]
                self.limit = max(numbers, default=1)
                for c, _ in self._before:
                    c.set_num_threads(1)
            self._held += 1

    def release(self) -> None:
        """As before `hold`."""
        with self._lock:
            self._held -= 1
            if not self._held:
                self.limit = 1
                for c, number in self._before:
                    c.set_num_threads(number)

    def _libraries(self) -> list[Any]:
        """NumPy's BLAS, or whatever there is of that kind."""
        if self._blas is None:
            import threadpoolctl

            controllers = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
            self._blas = [c for c in controllers if "numpy" in c.filepath] or controllers
        return self._blas

    def run(self, work: Callable[[Any], Any], blocks: list[Any]) -> None:
        """`work(block)` for all blocks; whoever is free takes the next one."""
        left = iter(blocks)

        def take() -> None:
            for block in left:
                work(block)

        number = max(min(self.limit, len(blocks)) - 1, 0)
        while len(self._helpers) < number:
            self._helpers.append(_Helper())
        helpers = self._helpers[:number]
        try:
            for helper in helpers:
                helper.work = _in_context(take)
                helper.begin.release()
        except BaseException:  # an interrupt: who knows which of them have begun
            self._helpers = []
            raise
        try:
            take()
        finally:
            deque(left, 0)  # after an error nobody begins another block
            errors = self._end(helpers)
        if errors:
            raise errors[0]

    def _end(self, helpers: list[_Helper]) -> list[BaseException]:
        """Wait for the helpers; their errors."""
        try:
            for helper in helpers:
                helper.ended.acquire()
        except BaseException:  # an interrupt: who knows where they are
            self._helpers = []
            raise
        errors = [helper.error for helper in helpers if helper.error is not None]
        for helper in helpers:
            helper.error = None
        return errors


_scratch = local()


def passing(like: Array) -> Array:
    """An array of this shape and dtype for what passes by, C-contiguous: in each thread the same memory every time."""
    held, size = _scratch.__dict__, like.size
    found = held.get(like.dtype)
    if found is None or len(found) < size:
        found = held[like.dtype] = np.empty(size, like.dtype)
    found = found[:size]
    return found if like.ndim == 1 else found.reshape(like.shape)


def _in_context(fn: Callable[[], None]) -> Callable[[], None]:
    """`fn` as the caller would run it: NumPy keeps what floating-point errors do in the context."""
    context = copy_context()
    return lambda: context.run(fn)


_pool = _Pool()


def _renew() -> None:
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def each(work: Callable[[Any], Any], blocks: Iterable[Any]) -> None:
    """`work(block)` for all blocks, which must not touch each other, in any order and several at a time."""
    pool = _pool
    if pool.limit > 1 and pool.is_busy.acquire(False):
        try:
            pool.run(work, list(blocks))
        finally:
            pool.is_busy.release()
        return
    for block in blocks:
        work(block)


def in_order(work: Callable[[Any], Any], blocks: Iterable[Any]) -> Iterator[Any]:
    """What `work` gives for each block, in order; as many as there are threads are made at a time."""
    todo, threads = list(blocks), _pool.limit
    for i in range(0, len(todo), threads):
        part = todo[i : i + threads]
        made: list[Any] = [None] * len(part)
        each(lambda j, part=part, made=made: made.__setitem__(j, work(part[j])), range(len(part)))
        yield from made


LARGE = 1 << 21
"""Products of more multiplications than this are cut into parts."""


def product(a: Array, b: Array, out: Array = None, bias: Array = None) -> Array:
    """`a @ b` of matrices, and a row added; `out` is C-contiguous.

    A part is some rows, or, of a transposed matrix, some columns: parts of its rows would lie in the same lines of
    the cache.
    """
    limit = _pool.limit
    if limit > 1 and a.size * b.shape[1] > LARGE and a.dtype == b.dtype:
        return _in_parts(a, b, np.empty((len(a), b.shape[1]), a.dtype) if out is None else out, bias, limit)
    out = a.dot(b, out)
    if bias is not None:
        out += bias
    return out


def _in_parts(a: Array, b: Array, out: Array, bias: Array, limit: int) -> Array:
    whole = slice(None)
    cuts: list[tuple[slice, slice]]
    if a.flags.c_contiguous:
        step = -(-len(a) // limit)
        cuts = [(slice(i, i + step), whole) for i in range(0, len(a), step)]
    else:
        step = -(-b.shape[1] // limit)
        cuts = [(whole, slice(i, i + step)) for i in range(0, b.shape[1], step)]

    def multiply(cut: tuple[slice, slice]) -> None:
        rows, columns = cut
        part = np.matmul(a[rows], b[:, columns], out=out[cut])
        if bias is not None:
            np.add(part, bias[columns], part)

    each(multiply, cuts)
    return out


@contextmanager
def held() -> Iterator[None]:
    """Within the block work is shared."""
    pool = _pool
    pool.hold()
    try:
        yield
    finally:
        pool.release()
