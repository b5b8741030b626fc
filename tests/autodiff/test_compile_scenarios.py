"""Small programs, compiled, see bit for bit what they see eagerly; a call that is not replayed says why, once."""

from __future__ import annotations

import re
import threading
import warnings
from typing import Any

import compile_python  # noqa: F401 - adds scenarios
import compile_seen  # noqa: F401 - adds scenarios
import compile_values  # noqa: F401 - adds scenarios
import numpy as np
import pytest
from compile_scenarios import SCENARIOS, Scenario

import framework as fw
from framework.errors import CompileWarning


@pytest.fixture(autouse=True)
def _threads_that_libraries_keep_draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tests of this process leave one behind, waiting; which, depends on the order of the files."""
    for thread in threading.enumerate():
        monkeypatch.setattr(thread, "draws_nothing", True, raising=False)


def plain(seen: Any) -> Any:
    """What was seen, as something to compare: types, dtypes and the very bits, but those of a NaN."""
    if isinstance(seen, fw.Tensor):
        array = seen.detach().numpy()
        if array.dtype.kind == "f":
            array = np.where(np.isnan(array), array.dtype.type(np.nan), array)  # whose sign says nothing
        return type(seen), str(seen.dtype), seen.requires_grad, array.shape, array.tobytes()
    if isinstance(seen, dict):
        return type(seen), {key: plain(part) for key, part in seen.items()}
    if isinstance(seen, list | tuple):
        return type(seen), [plain(part) for part in seen]
    return (type(seen), seen.tobytes()) if isinstance(seen, np.ndarray) else (type(seen), repr(seen))


def replays_in(compiled: Any) -> int:
    """The replays of a function, or of a method for all its objects."""
    return int(compiled.replayed + sum(bound.replayed for _, bound in compiled._bound.values()))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_a_compiled_program_sees_the_same(scenario: Scenario) -> None:
    eager: list[Any] = []
    fw.seed_everything(1)
    scenario.play(lambda fn: fn, eager)

    made: list[Any] = []

    def compile(fn: Any) -> Any:
        made.append(fw.compile(fn))
        return made[-1]

    seen: list[Any] = []
    fw.seed_everything(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept = scenario.play(compile, seen)
        replayed = sum(map(replays_in, made))
        del kept
    assert len(seen) == len(eager)
    for i, (a, b) in enumerate(zip(eager, seen)):
        assert plain(b) == plain(a), f"number {i}: eager {a}, compiled {b}"

    assert [w.category for w in caught] == [CompileWarning] * bool(scenario.warns)
    assert replayed == scenario.replayed
    if scenario.warns:
        message = str(caught[0].message)
        assert scenario.warns in message
        if scenario.has_line:
            assert re.search(r"compile_\w+\.py:\d+", message), message
