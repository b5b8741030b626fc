"""Where the values of a program live: lifetimes, and which value takes the place of which."""

from __future__ import annotations

from fw_cpu.layouts import Room
from fw_cpu.rehearsal import Act, Rehearsal, literal


class Buffer:
    """Room for values of which each ends before, or as, the next is made."""

    def __init__(self, nbytes: int, start: int, end: int) -> None:
        self.nbytes = nbytes
        self.start = start
        self.end = end
        self.offset = 0


class Places:
    """A buffer for every value that is made and does not leave, and for what instructions need beside.

    A result is written over an argument that is not read again where the instruction allows it and both lie alike.

    Args:
        met: the program's first run.
        direct: the values that are computed in the arrays in which they leave.

    Attributes:
        of: the buffer of a value.
        scratch: the buffers that each act needs while it runs.
        size: the bytes of all.
    """

    def __init__(self, met: Rehearsal, direct: set[int]) -> None:
        self.met = met
        self.direct = direct
        self.of: dict[int, Buffer] = {}
        self.scratch: list[list[Buffer]] = []
        self._last = self._last_reads()
        for i, act in enumerate(met.acts):
            self._place(i, act)
        self.size = self._offsets()

    def _last_reads(self) -> dict[int, int]:
        """By the value that memory belongs to: the last act that reads it."""
        last: dict[int, int] = {}
        for i, act in enumerate(self.met.acts):
            if act.source is None:  # a view is made once, and reads nothing
                last.update(dict.fromkeys([self.met.root[n] for n in act.operation.reads], i))
        leaving = [self.met.root[n] for n in self.met.program.outputs if isinstance(n, int)]
        last.update(dict.fromkeys(leaving, len(self.met.acts)))
        return last

    def _place(self, i: int, act: Act) -> None:
        instruction = act.instruction
        room = instruction.scratch if instruction else ()
        self.scratch.append([Buffer(layout.extent, i, i) for layout in room])
        if act.source is not None:
            return
        for k, number in enumerate(act.operation.outputs):
            if number not in self.met.layouts or number in self.direct:
                continue
            end = self._last.get(number, i)
            taken = self._taken(i, act, k)
            if taken is None:
                self.of[number] = Buffer(self.met.layouts[number].extent, i, end)
            else:
                self.of[number] = self.of[taken]
                self.of[number].end = end
                self._last[taken] = -1

    def _taken(self, i: int, act: Act, k: int) -> int | None:
        """The value in whose place output `k` may be written."""
        if act.instruction is None:
            return None
        operation, layouts = act.operation, self.met.layouts
        allowed = [position for position, result in act.instruction.shared if result == k]
        out = layouts[operation.outputs[k]]
        for position in allowed:
            entry = operation.inputs[position]
            if not isinstance(entry, int):
                continue
            root = self.met.root[entry]
            if root not in self.of or self._last[root] != i or layouts[entry][:3] != out[:3]:
                continue
            covers = out.is_dense and out.extent == layouts[root].extent
            elsewhere = [n for p, n in enumerate(operation.inputs) if p not in allowed]
            if covers and not self._reads(elsewhere, root) and self._is_alone(operation.reads, root, entry):
                return root
        return None

    def _reads(self, entries: list[object], root: int) -> bool:
        for entry in entries:
            if isinstance(entry, int):
                if self.met.root[entry] == root:
                    return True
            elif not literal(entry) and self._reads(list(entry), root):  # type: ignore[call-overload]
                return True
        return False

    def _is_alone(self, reads: tuple[int, ...], root: int, entry: int) -> bool:
        return all(n == entry for n in reads if self.met.root[n] == root)

    def _offsets(self) -> int:
        """Give every buffer its place; return the bytes of all."""
        room = Room()
        buffers = {id(b): b for b in self.of.values()}
        starting: dict[int, list[Buffer]] = {}
        ending: dict[int, list[Buffer]] = {}
        for buffer in [*buffers.values(), *(b for scratch in self.scratch for b in scratch)]:
            starting.setdefault(buffer.start, []).append(buffer)
            ending.setdefault(buffer.end, []).append(buffer)
        for i in range(len(self.met.acts)):
            for buffer in starting.get(i, ()):
                buffer.offset = room.take(buffer.nbytes)
            for buffer in ending.get(i, ()):
                room.give(buffer.offset, buffer.nbytes)
        return room.size
