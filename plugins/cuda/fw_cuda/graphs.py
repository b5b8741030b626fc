"""Programs as CUDA graphs: what `CudaBackend.capture` gives."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import ref

from framework.errors import CompileWarning
from fw_cuda.arrays import put
from fw_cuda.fusion import fused
from fw_cuda.running import RefusedError, naming

if TYPE_CHECKING:
    from framework.backend.program import Program
    from fw_cuda.products import Products

Array = Any

MOST_LAYOUTS = 4
"""Layouts of the inputs that have a graph each; calls with yet others run operation by operation."""

_RETRIES = 16
"""Graphs made anew for one layout because an address changed, before addresses are not relied on any more."""


class Replay:
    """A program as CUDA graphs, one for each layout of its inputs.

    The first call of a layout runs operation by operation. The second runs once more, on a stream and with a
    memory pool of the graph's own, and is recorded. From the third on a call is: the inputs that move are copied to
    where the graph reads them, the graph is launched on the current stream, and the outputs that leave are copied.

    An input whose address was the same in both calls, such as a parameter, is read where it is; so is an output
    written to the array that `into` has for it, if that array stays the same. Where such an address changes the
    graph is recorded anew, without relying on that one. State, what is a part of it, and what takes its place are
    always read and written where they are.

    Between calls a graph holds no array of the caller's, but all that it works on itself: constants, buffers and the
    pool that they are from, which nobody else allocates from.

    Args:
        cupy: the module.
        program: what to run.
        products: the backend's products.
    """

    def __init__(self, cupy: Any, program: Program, products: Products) -> None:
        self.program = program
        self.reason = ""
        """Why the program runs operation by operation, if it always does."""
        self.launches = 0
        """Launches of graphs so far."""
        self._cupy = cupy
        self._fused = fused(program, products)
        self._state_in = [program.inputs.index(before) for before in program.state_in]
        self._entries: dict[Any, _Entry] = {}
        self._latest: _Entry | None = None
        self._lock = Lock()
        if not products.can_be_captured:
            self.reason = "cuBLASLt is not found, and CuPy's products cannot be part of a graph"
            self._warn()

    def __call__(self, *arrays: Array, into: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        """The outputs for these inputs."""
        into = (None,) * len(self.program.outputs) if into is None else into
        if len(into) != len(self.program.outputs):
            raise ValueError(f"into has {len(into)} entries; the program has {len(self.program.outputs)} outputs")
        if self.reason or len(arrays) != len(self.program.inputs) or not self._lock.acquire(False):
            return self._eager(arrays, into)
        try:
            return self._replayed(arrays, into)
        except RefusedError as refusal:
            self.reason = str(refusal)
            self._entries.clear()
            self._latest = None
            self._warn()
        finally:
            self._lock.release()
        return self._eager(arrays, into)

    def _replayed(self, arrays: tuple[Array, ...], into: tuple[Any, ...]) -> tuple[Any, ...]:
        cupy, latest = self._cupy, self._latest
        device = cupy.cuda.runtime.getDevice()
        if latest is not None and latest.is_met_again(device, arrays, into):
            self.launches += 1
            return latest.graph.launch(arrays, into)  # type: ignore[union-attr]
        if not all(isinstance(a, cupy.ndarray) for a in arrays):
            return self._eager(arrays, into)
        key = (device, *[(a.shape, a.dtype, a.strides) for a in arrays])
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) < MOST_LAYOUTS:
                state = self._state_in, [j for j, n in enumerate(self.program.outputs) if n in self.program.state_out]
                self._entries[key] = _Entry(device, arrays, into, *state)
            return self._eager(arrays, into)
        if entry.graph is not None and entry.fits(arrays, into):
            self.launches += 1
            self._latest = entry
            entry.meet(arrays, into)
            return entry.graph.launch(arrays, into)
        self._latest = None  # another graph may rely on other addresses
        entry.learn(arrays, into)
        entry.graph = None  # its memory is free for the next one
        before = [(arrays[i], arrays[i].copy()) for i in self._state_in]
        while entry.graph is None:
            try:
                entry.graph = Recorded(cupy, self._fused, arrays, into, entry.fixed, entry.written)
            except _LentError as lent:
                self._put_back(before)
                entry.rely_less(lent.index)
            except Exception:
                self._put_back(before)
                raise
        return entry.graph.first(into)

    def _put_back(self, before: list[tuple[Array, Array]]) -> None:
        """Give state the values that it had before a run that does not count."""
        if before:
            self._cupy.cuda.Device().synchronize()
        for array, values in before:
            array[...] = values

    def _eager(self, arrays: tuple[Array, ...], into: tuple[Any, ...]) -> tuple[Any, ...]:
        """Operation by operation; outputs share no memory with inputs and constants."""
        outputs = self._fused.run(*arrays)
        apart = [_memory(a) for a in (*arrays, *self.program.constants.values())]
        found = []
        for output, target in zip(outputs, into):
            if target is not None:
                put(output, target)
                found.append(target)
            elif isinstance(output, self._cupy.ndarray):
                if any(_memory(output) is memory for memory in apart):
                    output = output.copy()
                apart.append(_memory(output))
                found.append(output)
            else:
                found.append(output)
        return tuple(found)

    def _warn(self) -> None:
        text = f"compile: a program of {len(self.program.operations)} operations is no CUDA graph: {self.reason}"
        warnings.warn(text, CompileWarning, stacklevel=4)

    def __str__(self) -> str:
        """How the program runs, and its operations."""
        graphs = sum(entry.graph is not None for entry in self._entries.values())
        how = f"operation by operation: {self.reason}" if self.reason else f"{graphs} CUDA graphs"
        return f"replay: {how}\n{self._fused}"


class _Entry:
    """What is known of calls of one layout: the graph, and which addresses stay the same."""

    def __init__(
        self,
        device: int,
        arrays: Sequence[Array],
        into: Sequence[Any],
        state_in: Sequence[int],
        state_out: Sequence[int],
    ) -> None:
        self.graph: Recorded | None = None
        self._device, self._state_in, self._state_out = device, state_in, state_out
        self._kind = type(arrays[0]) if arrays else None
        self._met: list[Any] = []
        self._met_into: list[tuple[int, Any]] = []
        self.fixed: dict[int, int] = {i: a.data.ptr for i, a in enumerate(arrays)}
        """Inputs that are read where they are, with their addresses."""
        self.written: dict[int, int] = {j: t.data.ptr for j, t in enumerate(into) if t is not None}
        """Outputs that the graph writes where they are wanted, with the addresses."""
        self._left = _RETRIES

    def meet(self, arrays: Sequence[Array], into: Sequence[Any]) -> None:
        """Note which arrays these are, without keeping them."""
        self._met = [ref(a) for a in arrays]
        self._layouts = [(a.shape, a.dtype, a.strides) for a in arrays]
        self._met_into = [(j, ref(into[j])) for j in self.written]

    def is_met_again(self, device: int, arrays: Sequence[Array], into: Sequence[Any]) -> bool:
        """Whether the same arrays have come as before, but for some that look and lie alike: soon seen."""
        if self.graph is None or device != self._device:
            return False
        for i, (a, met) in enumerate(zip(arrays, self._met)):
            if met() is not a and not self._is_alike(i, a):
                return False
        for j, met in self._met_into:
            target = into[j]
            if target is None or (met() is not target and target.data.ptr != self.written[j]):
                return False
        return True

    def _is_alike(self, i: int, a: Any) -> bool:
        if type(a) is not self._kind or (a.shape, a.dtype, a.strides) != self._layouts[i]:
            return False
        return i not in self.fixed or a.data.ptr == self.fixed[i]

    def fits(self, arrays: Sequence[Array], into: Sequence[Any]) -> bool:
        """Whether all addresses that the graph relies on are those of this call."""
        here = all(arrays[i].data.ptr == pointer for i, pointer in self.fixed.items())
        return here and all(into[j] is not None and into[j].data.ptr == p for j, p in self.written.items())

    def learn(self, arrays: Sequence[Array], into: Sequence[Any]) -> None:
        """Rely on those addresses only that are the same again."""
        self._left -= 1
        if self._left < 0:
            if self._state_in:
                raise RefusedError("the state moves in memory")
            self.fixed, self.written = {}, {}
        self.fixed = {i: p for i, p in self.fixed.items() if arrays[i].data.ptr == p}
        self.written = {j: p for j, p in self.written.items() if into[j] is not None and into[j].data.ptr == p}
        spans = [(arrays[i].data.ptr, arrays[i].data.ptr + arrays[i].nbytes) for i in self._state_in]
        self._kept = {i for i, a in enumerate(arrays) if any(start <= a.data.ptr < stop for start, stop in spans)}
        self._kept.update(self._state_in)
        self.fixed |= {i: arrays[i].data.ptr for i in self._kept}
        self.written |= {j: into[j].data.ptr for j in self._state_out if into[j] is not None}

    def rely_less(self, index: int) -> None:
        """Do not read this input where it is.

        Raises:
            RefusedError: it is a part of the state.
        """
        if index in self._kept:
            raise RefusedError("an output is a part of the state")
        del self.fixed[index]


class _LentError(Exception):
    """An output is a part of an input that is read where it is: a graph that kept it would keep the caller's array."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class Recorded:
    """One CUDA graph with all that it works on.

    Args:
        cupy: the module.
        program: what to record.
        arrays: the inputs of a call, with which it is run before it is recorded.
        into: the arrays for outputs.
        fixed: the inputs that are read where they are.
        written: the outputs that are written to the arrays in `into`.

    Raises:
        RefusedError: something cannot be recorded.
    """

    def __init__(
        self,
        cupy: Any,
        program: Program,
        arrays: Sequence[Array],
        into: Sequence[Any],
        fixed: dict[int, int],
        written: dict[int, int],
    ) -> None:
        self._cupy = cupy
        self._program = naming(program)
        self._literals = [not isinstance(entry, int) for entry in program.outputs]
        self._written = frozenset(written)
        self.pool = cupy.cuda.MemoryPool()
        self.stream = cupy.cuda.Stream(non_blocking=True)
        current = cupy.cuda.get_current_stream()
        self._launched_on = current.ptr
        self.stream.wait_event(current.record())
        outside = cupy.cuda.get_allocator()
        with self.stream, cupy.cuda.using_allocator(self.pool.malloc):
            self._buffers = {i: a.copy() for i, a in enumerate(arrays) if i not in fixed}
            inputs = [self._buffers.get(i, a) for i, a in enumerate(arrays)]
            self._outputs = self._run(inputs, into)  # compiles, chooses algorithms, and fills the pool
            of_state = [j for j, number in enumerate(program.outputs) if number in program.state_out]
            for i in fixed:
                if any(_memory(o) is _memory(arrays[i]) for j, o in enumerate(self._outputs) if j not in of_state):
                    raise _LentError(i)
            with cupy.cuda.using_allocator(outside):
                self._first = [o.copy() if isinstance(o, cupy.ndarray) else None for o in self._outputs]
            self.stream.synchronize()
            del self._outputs
            self._graph, self._outputs = self._recorded(lambda: self._run(inputs, into))
        self._leaving = [(j, output) for j, output in enumerate(self._outputs) if j not in self._written]
        current.wait_event(self.stream.record())

    def _run(self, inputs: Sequence[Array], into: Sequence[Any]) -> list[Any]:
        """The outputs that are to be copied; None for numbers, and for those that are written where they are wanted."""
        outputs: list[Any] = []
        for j, output in enumerate(self._program.run(*inputs)):
            if j in self._written:
                put(output, into[j])
            outputs.append(None if j in self._written or self._literals[j] else output)
        return outputs

    def _recorded(self, work: Callable[[], list[Any]]) -> tuple[Any, list[Any]]:
        """What is queued by `work`, as a graph, and what `work` returned."""
        reserved = self.pool.total_bytes()
        self.stream.begin_capture()
        try:
            outputs = work()
        except Exception as error:
            with contextlib.suppress(Exception):  # the error before says it all
                self.stream.end_capture()
            if isinstance(error, RefusedError):
                raise
            raise RefusedError(f"{type(error).__name__}: {error}") from error
        try:
            graph = self.stream.end_capture()
        except Exception as error:
            raise RefusedError(f"the recording ended with {type(error).__name__}: {error}") from error
        if self.pool.total_bytes() < reserved:
            raise RefusedError("memory ran out while it was recorded")
        return graph, outputs

    def first(self, into: tuple[Any, ...]) -> tuple[Any, ...]:
        """The outputs of the call that the graph was made in."""
        outputs, self._first = self._first, []
        return tuple([self._given(j, output, into[j], fresh=True) for j, output in enumerate(outputs)])

    def launch(self, arrays: Sequence[Array], into: tuple[Any, ...]) -> tuple[Any, ...]:
        """The outputs for these inputs, whose addresses fit."""
        current = self._cupy.cuda.get_current_stream()
        if current.ptr != self._launched_on:  # the buffers may still be in use on the other stream
            self._cupy.cuda.Device().synchronize()
            self._launched_on = current.ptr
        for i, buffer in self._buffers.items():
            buffer[...] = arrays[i]
        self._graph.launch(current)
        found = list(into)
        for j, output in self._leaving:
            found[j] = self._given(j, output, into[j], fresh=False)
        return tuple(found)

    def _given(self, j: int, output: Any, target: Any, fresh: bool) -> Any:
        if self._literals[j]:
            value = self._program.outputs[j].value  # type: ignore[union-attr]
            if target is None:
                return value
            target[...] = value
            return target
        if j in self._written:
            return target
        if target is None:
            return output if fresh else output.copy()
        put(output, target)
        return target


def _memory(array: Any) -> Any:
    """What owns the memory of an array."""
    return array.data.mem if hasattr(array, "data") and hasattr(array.data, "mem") else array
