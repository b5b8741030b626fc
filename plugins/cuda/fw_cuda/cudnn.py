"""cuDNN through `nvidia-cudnn-frontend`: a graph is planned when its problem is first met, and then launched."""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import Any, NamedTuple, Protocol

from fw_cuda.arrays import Array

TYPES = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT"}
"""What it computes in, by its own names; sums are float32."""

ALIGNMENT = 16
"""Bytes; cuDNN takes it for granted that tensors begin at a multiple of it."""


class Problem(Protocol):
    """What a graph is made for, and found by: it is hashable."""

    def described(self, cudnn: Any, handle: Any) -> Any:
        """The graph, which nothing is planned for yet."""

    def narrow(self, cudnn: Any, graph: Any) -> None:
        """Leave out of a graph's algorithms those that are not to be taken."""


class _Plan(NamedTuple):
    graph: Any
    workspace: int


def is_installed() -> bool:
    """Whether there is a package `cudnn`; it is not imported."""
    return find_spec("cudnn") is not None


def planned(cudnn: Any, problem: Problem, handle: Any) -> Any:
    """The graph of a problem with the algorithm that cuDNN's heuristics put first.

    Raises:
        Exception: there is none, or cuDNN cannot be used.
    """
    graph = problem.described(cudnn, handle)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    problem.narrow(cudnn, graph)
    graph.check_support()
    graph.build_plans()
    return graph


class Library:
    """cuDNN, with a handle for each device: one for all kernels that use it.

    A graph is built and its algorithm chosen when a problem is first met. A program is run before it is recorded, so
    then both are there, and the pool of the CUDA graph has the memory for the workspace.

    Args:
        cupy: the module.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._cudnn: Any = None
        self._handles: dict[int, Any] = {}
        self._plans: dict[Any, _Plan | None] = {}
        self._lock = Lock()
        self.reason = ""
        """Why cuDNN is not used at all, if it is not."""
        self.launches = 0
        """Graphs launched so far."""

    def run(self, problem: Problem, arrays: dict[int, Array]) -> bool:
        """Launch the graph of a problem on arrays, by the numbers of its tensors; False where cuDNN has no way."""
        if self.reason:
            return False
        cupy = self._cupy
        device = cupy.cuda.runtime.getDevice()
        with self._lock:
            plan = self._plan(device, problem)
            if plan is None:
                return False
            handle = self._handles[device]
            self._cudnn.set_stream(handle=handle, stream=cupy.cuda.get_current_stream().ptr)
            workspace = cupy.empty(max(1, plan.workspace), dtype="uint8")
            pointers = {number: array.data.ptr for number, array in arrays.items()}
            plan.graph.execute(pointers, workspace=workspace, handle=handle)
            self.launches += 1
        return True

    def _plan(self, device: int, problem: Problem) -> _Plan | None:
        key = (device, type(problem), problem)
        if key not in self._plans:
            handle = self._handle(device)
            self._plans[key] = None
            if handle is not None:
                try:
                    graph = planned(self._cudnn, problem, handle)
                    self._plans[key] = _Plan(graph, int(graph.get_workspace_size()))
                except (RuntimeError, ValueError, self._cudnn.cudnnGraphNotSupportedError):
                    pass  # cuDNN has no algorithm, or none that is allowed
        return self._plans[key]

    def _handle(self, device: int) -> Any:
        """cuDNN's handle for a device; None, with one warning, where cuDNN cannot be used."""
        found = self._handles.get(device)
        if found is None and not self.reason:
            try:
                self._cudnn = import_module("cudnn")
                found = self._handles[device] = self._cudnn.create_handle()
            except (ImportError, OSError, RuntimeError) as error:
                self.reason = " ".join(f"{type(error).__name__}: {error}".split())
                text = f"convolution and attention are done without cuDNN: {self.reason}"
                warnings.warn(text, RuntimeWarning, stacklevel=7)
        return found
