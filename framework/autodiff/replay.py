"""Running a recording again, without Python's part of the call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from framework.autodiff import tape, tree
from framework.autodiff.differences import numbers_in
from framework.autodiff.effects import Accumulate, Effect, SetGradient, Write
from framework.autodiff.recorded import Returned
from framework.autodiff.recorder import Recorder
from framework.autodiff.sequel import MOST, Continued, Plan, Sequel, continued
from framework.autodiff.tape import Node
from framework.autodiff.tensor import Tensor
from framework.backend.program import Operation, Program, filled, results
from framework.errors import CompileWarning

Array = Any


class _Segment:
    """What is computed between two barriers: sources, then one captured program, then sinks."""

    def __init__(self, items: list[Operation | Effect]) -> None:
        self.operations = [item for item in items if isinstance(item, Operation)]
        effects = [item for item in items if isinstance(item, Effect)]
        self.sources = [(e.fn, e.outputs) for e in effects if e.kind == "source"]
        self.sinks = [(e.fn, e.inputs) for e in effects if e.kind == "sink"]
        self.acts = [(fn, n, fn.leaf if isinstance(fn, Accumulate) else None) for fn, n in self.sinks]
        self.written = {fn.tensor._node for fn, _ in self.sinks if isinstance(fn, Write)}
        """Leaves that are written before the barrier, and so before what follows."""
        self.seen: list[tuple[int, Tensor]] = []
        """Parameters that effects look at, with their numbers."""
        self.sets_gradients = any(isinstance(e.fn, SetGradient) for e in effects)
        self.barrier = next((e for e in effects if e.kind == "barrier"), None)
        self.follows: Sequel | None = None
        """The barrier as what follows on the program, where it can be that."""
        self.passed: list[int] = []
        self.wanted: set[int] = set()
        """The values that come later, or are returned."""
        self.leaves: dict[Any, int] = {}
        """Leaves that get one gradient, each with its number."""
        self._continued: dict[Plan, Continued | None] = {}
        self.is_spoilt = False
        """Whether the last run with what follows has failed when something was written already."""

    def reads(self) -> set[int]:
        """The values that come from before this segment, or are made by it for its effects."""
        found = {n for _, numbers in self.sinks for n in numbers}
        for operation in self.operations:
            found.update(numbers_in(operation.inputs))
        return found

    def prepare(self, recorder: Recorder, wanted: set[int]) -> None:
        """Capture the program that computes what is wanted."""
        made = {n for operation in self.operations for n in operation.outputs}
        outputs = tuple(sorted(made & wanted))
        known = list(self.reads() - made)
        constants = {n: what for n, (kind, what) in recorder.origin.items() if kind == "outside" and n in known}
        functions = recorder.functions.__getitem__
        inputs = tuple([n for n in known if n not in constants])
        operations = _folded(self.operations, constants, recorder.shared, functions)
        program = Program(inputs, constants, operations, outputs, recorder.values, functions).pruned()
        read = {n for operation in program.operations for n in numbers_in(operation.inputs)}
        state = [n for n in program.inputs if n in read and recorder.origin.get(n, ("",))[0] == "state"]
        rest = [n for n in program.inputs if n in read and n not in state]
        self.state = [recorder.origin[n][1] for n in state]
        self.rest = rest
        self.outputs = outputs
        self.program = Program(
            (*state, *rest), program.constants, program.operations, outputs, program.values, program.functions
        )
        self.run = recorder.ns.backend.capture(self.program)
        self.copy = recorder.ns.backend.copy
        if self.barrier is not None and recorder.ns.backend.captures_updates and outputs:
            self.follows = getattr(self.barrier.fn, "sequel", _nothing)()
        sinks = self.sinks if recorder.ns.backend.writable else []  # no place is kept that nothing can be written into
        leaves = {n[0]: fn.leaf for fn, n in reversed(sinks) if isinstance(fn, Accumulate)}
        first = {leaf: n for n, leaf in reversed(leaves.items())}  # a leaf's first gradient goes into its slot
        self.slots = [leaves[n] if n in leaves and first[leaves[n]] == n else None for n in outputs]
        self.has_slots = any(leaf is not None for leaf in self.slots)
        self.leaves = _once(self.sinks)
        states = {n: t for n, (kind, t) in recorder.origin.items() if kind == "state" and t._node is not None}
        self.seen = [(n, states[n]) for _, numbers in self.sinks for n in numbers if n in states]

    def draw(self, env: list[Any]) -> None:
        """Make what comes out of nothing, which is done before anything else."""
        for make, numbers in self.sources:
            made = make()
            for number in numbers:
                env[number] = made._array()

    def run_program(self, env: list[Any]) -> bool:
        """Compute; whether anything is to be done with it."""
        if self.outputs:
            arrays = [t._data for t in self.state] + [env[n] for n in self.rest]
            into = None
            if self.has_slots:
                into = tuple([None if x is None or x.grad is not None else tape.free_slot(x) for x in self.slots])
            for number, array, leaf in zip(self.outputs, self.run(*arrays, into=into), self.slots):
                if leaf is not None and leaf.slot is None:
                    leaf.slot = array = self.copy(array)  # what was spread out by a broadcast cannot be written
                env[number] = array
        return bool(self.sinks) or self.barrier is not None

    def run_with(self, sequel: Sequel, env: list[Any], value: int | None, ns: Any) -> Plan | None:
        """The same with what follows, in one program, if that can be; what was done then."""
        self.is_spoilt = False
        if self.sets_gradients:
            return None
        try:
            plan = sequel.plan(self.leaves)
        except Exception:  # which comes again in its place, when the step is made by itself
            return None
        if plan is None or not self.written.isdisjoint(plan.leaves):
            return None
        if plan not in self._continued:
            if len(self._continued) >= MOST:
                return None
            self._continued[plan] = None  # if this fails it is not tried again
            numbers = [self.leaves[leaf] for leaf in plan.leaves]
            read = self.wanted.union(*[n for _, n, leaf in self.acts if leaf is None or leaf not in plan.leaves])
            kept = [n for n in self.outputs if n in read]
            moved = [n for n, t in (*zip(self.program.inputs, self.state), *self.seen) if t._node in plan.leaves]
            if read.isdisjoint(moved):  # else written over before it is looked at
                self._continued[plan] = continued(ns, self.program, self.state, plan, numbers, kept, value)
        found = self._continued[plan]
        if found is None:
            return None
        try:
            outputs = found([env[n] for n in self.rest])
        except Exception as error:
            self._continued[plan] = None
            self.is_spoilt = found.is_spoilt
            if self.is_spoilt:
                raise
            text = f"compile: the update is not part of the program: {type(error).__name__}: {error}"
            warnings.warn(text, CompileWarning, stacklevel=7)
            return None
        for number, array in zip(found.kept, outputs):
            env[number] = array
        sequel.done()
        return plan

    def programs(self) -> list[Program]:
        """The program, and those with what follows."""
        return [self.program, *[found.program for found in self._continued.values() if found is not None]]

    def act(self, env: list[Any], done: Plan | None = None) -> None:
        """Do with the values what the call did."""
        taken: Any = () if done is None else set(done.leaves)
        for n, t in self.seen:
            env[n] = t._data  # a step before this segment may have moved it
        for fn, numbers, leaf in self.acts:
            if leaf in taken:
                continue
            if leaf is not None and leaf.grad is None:
                leaf.grad = env[numbers[0]]
            else:
                fn(*[env[n] for n in numbers])
        for n in self.passed:
            env[n] = None  # who asks whether a gradient is held by others is not to find this call
        if self.barrier is not None and (done is None or self.follows is None):
            out = self.barrier.fn()
            for number in self.barrier.outputs:
                env[number] = out._array()


def _nothing() -> None:
    return None


def _once(sinks: list[tuple[Any, tuple[int, ...]]]) -> dict[Any, int]:
    """The leaves in which one gradient is accumulated, each with its number."""
    found: dict[Any, int] = {}
    for fn, numbers in sinks:
        if isinstance(fn, Accumulate):
            if fn.leaf in found:
                return {}
            found[fn.leaf] = numbers[0]
    return found


def _folded(
    operations: Sequence[Operation], constants: dict[int, Any], shared: set[int], functions: Any
) -> tuple[Operation, ...]:
    """The operations that remain; the results of those on constants that nobody writes are constants from here on."""
    left: list[Operation] = []
    for operation in operations:
        read = numbers_in(operation.inputs)
        if not read or any(n not in constants or n in shared for n in read):
            left.append(operation)
            continue
        made = functions(operation.primitive)(*filled(operation.inputs, constants), **operation.params)
        constants.update(zip(operation.outputs, results(made)))
    return tuple(left)


class Replay:
    """A recording that can be run again.

    Attributes:
        segments: what is run, in order; each has its `program`.
        reason: why it cannot be run, if so.
        has_acted: whether the last run got as far as an effect before it ended.
    """

    def __init__(self, recorder: Recorder, returned: list[Returned], structure: Any) -> None:
        self.ns = recorder.ns
        self.returned = returned
        self.structure = structure
        self._is_flat = type(structure) is tuple and all(part is tree.LEAF for part in structure)
        self.guards = recorder.guards
        self.fresh = recorder.fresh
        self.size = len(recorder.values)
        self.has_acted = False
        last = returned[-1] if returned else None
        last = returned[last.what] if last is not None and last.kind == "same" else last
        self._value = last.what if last is not None and last.kind == "tensor" else None
        self.prelude, reads, self.reason = _prelude(recorder)
        self.segments = self._segments(recorder)
        read = {n for n, _, _ in recorder.checks} | {r.what for r in returned if r.kind in ("array", "tensor")}
        for segment in self.segments:  # which looks at parameters and buffers itself
            read.update(segment.rest, *[numbers for _, numbers in segment.sinks])
        read.update(reads)
        known = [(n, kind, what) for n, (kind, what) in recorder.origin.items() if n in read]
        self.arguments = [(n, what) for n, kind, what in known if kind == "argument"]
        self.states = [(n, what) for n, kind, what in known if kind == "state"]
        self.scalars = [(n, *what) for n, kind, what in known if kind == "scalar"]
        self.constants: list[Any] = [None] * self.size
        for n, kind, what in known:
            if kind == "outside":
                self.constants[n] = what
        at_once = {n: what for n, kind, what in known if kind == "argument"}
        self.checks = [(n, predicate, outcome) for n, predicate, outcome in recorder.checks if n not in at_once]
        self.argument_checks = [(at_once[n], *check) for n, *check in recorder.checks if n in at_once]

    def _segments(self, recorder: Recorder) -> list[_Segment]:
        groups: list[list[Any]] = [[]]
        for item in recorder.stream:
            groups[-1].append(item)
            if isinstance(item, Effect) and item.kind == "barrier":
                groups.append([])
        segments = [_Segment(group) for group in groups if group]
        wanted = {r.what for r in self.returned if r.kind in ("array", "tensor")}
        for segment in reversed(segments):
            here = wanted | {n for _, numbers in segment.sinks for n in numbers}
            segment.wanted = set(wanted)
            segment.prepare(recorder, here)
            segment.passed = [
                numbers[0] for fn, numbers in segment.sinks if isinstance(fn, Accumulate) and numbers[0] not in wanted
            ]
            wanted |= segment.reads()
        return segments

    def holds(self, arrays: Sequence[Array], numbers: Sequence[Any]) -> bool:
        """Whether this recording is one of a call with these arrays and numbers."""
        for read, value in self.guards:
            if read(numbers) != value:
                return False
        for leaf, dropped in self.fresh:
            if leaf.grad is not None and leaf not in dropped():
                return False
        for i, predicate, outcome in self.argument_checks:
            if predicate(arrays[i]) != outcome:
                return False
        if not self.checks:
            return True
        known = self.prelude(self._given(arrays, numbers))
        return all(bool(predicate(known[n])) == outcome for n, predicate, outcome in self.checks)

    def _given(self, arrays: Sequence[Array], numbers: Sequence[Any]) -> list[Any]:
        """The values that are there before the call, by number."""
        env = self.constants.copy()
        for n, i in self.arguments:
            env[n] = arrays[i]
        for n, t in self.states:
            env[n] = t._data
        for n, read, dtype in self.scalars:
            env[n] = self.ns.xp.asarray(read(numbers), dtype=dtype)
        return env

    def __call__(
        self, arguments: Sequence[Any], arrays: Sequence[Array], numbers: Sequence[Any], sequel: Sequel | None = None
    ) -> Any:
        """What the call returns, after doing what it does; and what follows on it, if that can be."""
        env = self._given(arrays, numbers)
        self.has_acted = False
        for segment in self.segments:
            segment.draw(env)
            if (sequel is None and segment.follows is None) or not self._goes_on(segment, sequel, env):
                if segment.run_program(env):
                    self.has_acted = True
                segment.act(env)
        leaves: list[Any] = []
        for r in self.returned:
            leaves.append(leaves[r.what] if r.kind == "same" else self._leaf(r, arguments, env, numbers))
        return tuple(leaves) if self._is_flat else tree.unflatten(self.structure, leaves)

    def _goes_on(self, segment: _Segment, sequel: Sequel | None, env: list[Any]) -> bool:
        """Run a segment with what follows on it, if that can be: its barrier, or what follows on the call."""
        value, follows = None, segment.follows
        if follows is None:
            if sequel is None or len(self.segments) != 1 or segment.barrier is not None or not segment.outputs:
                return False
            follows, value = sequel, self._value
            if value is None:
                return False
        try:
            plan = segment.run_with(follows, env, value, self.ns)
        except Exception:
            self.has_acted = self.has_acted or segment.is_spoilt
            raise
        if plan is None:
            return False
        self.has_acted = True
        segment.act(env, plan)
        return True

    def _leaf(self, r: Returned, arguments: Sequence[Any], env: list[Any], numbers: Sequence[Any]) -> Any:
        if r.kind == "tensor":
            array = env[r.what]
            node = r.node
            return Tensor(array, None if node is None else Node(node.prim, (), None, {}, array, self.ns), self.ns)
        if r.kind == "object":
            return r.what
        if r.kind == "argument":
            return arguments[r.what]
        return env[r.what] if r.kind == "array" else r.what(numbers)


_LONGEST = 12
"""The most operations that are run before a call to see whether a recording holds."""


def _prelude(recorder: Recorder) -> tuple[Callable[[list[Any]], Any], list[int], str]:
    """What computes the values that a recording's checks are of, what it reads, and why there is no such thing."""
    wanted = {n for n, _, _ in recorder.checks}
    computed = tuple(sorted(wanted - recorder.origin.keys()))
    given = [n for n in recorder.origin if recorder.origin[n][0] not in ("source", "effect")]
    if any(recorder.origin.get(n, ("",))[0] in ("source", "effect") for n in wanted):
        return _as_it_is, [], "a value that is drawn in the call decides how to compute"
    if not computed:
        return _as_it_is, [], ""
    operations = tuple([item for item in recorder.stream if isinstance(item, Operation)])
    functions = recorder.functions.__getitem__
    program = Program(tuple(given), {}, operations, computed, recorder.values, functions).pruned()
    made = {n for operation in program.operations for n in operation.outputs}
    read = {n for operation in program.operations for n in numbers_in(operation.inputs)} - made
    if len(program.operations) > _LONGEST or not read <= set(given):
        return _as_it_is, [], "a computed value decides how to compute, and is far from the arguments"
    inputs = sorted(read)
    small = Program(tuple(inputs), {}, program.operations, computed, program.values, functions)

    def run(env: list[Any]) -> list[Any]:
        for n, array in zip(computed, small.run(*[env[n] for n in inputs])):
            env[n] = array
        return env

    return run, inputs, ""


def _as_it_is(env: list[Any]) -> list[Any]:
    return env
