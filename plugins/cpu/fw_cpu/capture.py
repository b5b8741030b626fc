"""Programs as planned calls of NumPy: what `CpuBackend.capture` gives."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from fw_cpu.layouts import Layout, layout_of, overlap
from fw_cpu.plan import Plan
from fw_cpu.rehearsal import Rehearsal
from fw_cpu.steps import ChangedError

if TYPE_CHECKING:
    from framework.backend.program import Program

Array = Any

_MOST = 4
"""Layouts of the inputs for which a plan is kept."""


class Replay:
    """A program that is run on planned buffers: bit for bit what `Program.run` gives.

    The first call with inputs of certain shapes, dtypes and strides runs the program operation by operation and
    takes down what it makes; from the second on its buffers are there, and nothing is allocated but outputs.
    Inputs and constants are never written. An output is a new array in each call, or the one given for it in
    `into`: a tuple with an array or None for each output.

    A program is run operation by operation always if a value is no array, or if a function returns other shapes
    from call to call; so is a call that comes, from another thread, while one is under way.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._plan: Plan | None = None
        self._plans: dict[tuple[Layout, ...], Plan | Rehearsal] = {}
        self._reason = ""  # why there is no plan, and will be none
        self._lock = Lock()

    def __call__(self, *arrays: Array, into: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        """The outputs for these inputs."""
        if into is not None:
            into = tuple(into)
            if len(into) != len(self.program.outputs):
                raise ValueError(f"into has {len(into)} entries; the program has {len(self.program.outputs)} outputs")
        if self._reason or not self._lock.acquire(False):
            return self._deliver(self.program.run(*arrays), arrays, into)
        try:
            if self._plan is not None and len(arrays) == len(self.program.inputs):
                outputs = self._plan.run(arrays, into)
                if outputs is not None:
                    return outputs
            return self._planned(arrays, into)
        except ChangedError:
            self._give_up("a function returned another shape, dtype or order in memory than before")
        finally:
            self._lock.release()
        return self._deliver(self.program.run(*arrays), arrays, into)

    @property
    def nbytes(self) -> int:
        """The bytes of the buffers of the plan that was used last; 0 before there is one."""
        return self._plan.places.size if self._plan is not None else 0

    def __str__(self) -> str:
        """The plan that was used last: what is called, and where its results are."""
        if self._plan is not None:
            return f"replay: {self._plan.describe()}"
        return f"replay: operation by operation; {self._reason or 'a plan is made by the second call'}"

    def _planned(self, arrays: tuple[Array, ...], into: tuple[Any, ...] | None) -> tuple[Any, ...]:
        """The outputs from another plan than the last one, or from a first run."""
        if not all(isinstance(a, np.ndarray | np.generic) for a in arrays):
            return self._deliver(self.program.run(*arrays), arrays, into)
        key = tuple([layout_of(a) for a in arrays])
        found = self._plans.get(key)
        if found is None:
            return self._rehearsed(key, arrays, into)
        if isinstance(found, Plan) and found is not self._plan:
            self._plan = found
            outputs = found.run(arrays, into)
            if outputs is not None:
                return outputs
        met = found.met if isinstance(found, Plan) else found
        self._plan = self._plans[key] = Plan(met, arrays, into or (None,) * len(self.program.outputs))
        outputs = self._plan.run(arrays, into)
        if outputs is None:
            raise AssertionError("a plan does not fit the arrays that it was made for")
        return outputs

    def _rehearsed(self, key: Any, arrays: tuple[Array, ...], into: tuple[Any, ...] | None) -> tuple[Any, ...]:
        met = Rehearsal(self.program, arrays)
        outputs, met.outputs = met.outputs, ()
        if met.reason:
            self._give_up(met.reason)
        else:
            if len(self._plans) >= _MOST:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = met
        return self._deliver(outputs, arrays, into)

    def _give_up(self, reason: str) -> None:
        self._reason = reason
        self._plan = None
        self._plans.clear()

    def _deliver(self, outputs: Any, arrays: tuple[Array, ...], into: tuple[Any, ...] | None) -> tuple[Any, ...]:
        """What `Program.run` returned, with copies of what shares memory."""
        apart = [a for a in (*arrays, *self.program.constants.values()) if isinstance(a, np.ndarray)]
        left: list[Any] = []
        for output in outputs:
            if isinstance(output, np.ndarray):
                if any(overlap(output, a) for a in apart):
                    output = output.copy("K")
                apart.append(output)
            left.append(output)
        if into is not None:
            for j, target in enumerate(into):
                if target is not None:
                    np.copyto(target, left[j], "unsafe")
                    left[j] = target
        return tuple(left)
