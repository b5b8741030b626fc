"""Which Tensor holds an array that a call took from outside: state that is read anew, or a constant if none does."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Collection
from sys import getrefcount
from typing import Any

from framework.autodiff import lines
from framework.autodiff.differences import used_at
from framework.autodiff.recorder import READ, Recorder
from framework.autodiff.tape import counts_are_exact
from framework.autodiff.tensor import Tensor

Array = Any

_OUTSIDE = ("outside", "state", "argument")
_FEW = 8
"""Up to so many arrays the interpreter's own search for who refers to them is faster."""


def find_owners(recorder: Recorder, known: set[int], seen: Collection[Any]) -> None:
    """Tell state, which some Tensor holds, from constants, among the arrays from outside.

    Args:
        recorder: of the call, which has ended.
        known: identities of the Tensors among the arguments and results.
        seen: what the function can see, where most owners are found at once.
    """
    numbers = {id(recorder.array(n)): n for n, (kind, _) in recorder.origin.items() if kind in _OUTSIDE}
    for x in seen:
        if issubclass(type(x), Tensor):
            _tell(recorder, numbers, known, x)
    views = Counter([id(getattr(array, "base", None)) for _, array in recorder.intermediates()])
    left = [n for n in numbers.values() if _is_held_elsewhere(recorder, n, views)]
    if left:
        for t in _holders([recorder.array(n) for n in left]):
            _tell(recorder, numbers, known, t)
    recorder.shared.update(n for n in left if recorder.origin[n][0] == "outside")
    visible = {id(x) for x in seen}  # arrays that the user's code has by itself
    untold = [n for n in left if recorder.origin[n][0] == "outside" and id(recorder.array(n)) not in visible]
    if untold and recorder.broken is None and gc.get_freeze_count():  # which counts them, one by one
        recorder.broken = (
            "an array from outside may be that of a Tensor that gc.freeze() hides; pass the Tensor as an "
            f"argument, or hold it in a module{used_at(recorder, untold[0])}"
        )
    for number, line in recorder.reads:
        if recorder.origin[number][0] == "state" and recorder.broken is None:
            recorder.broken = f"{READ} ({lines.text(line)})"


def _tell(recorder: Recorder, numbers: dict[int, int], known: set[int], t: Tensor) -> None:
    """A Tensor that is there after the call."""
    number = numbers.get(id(getattr(t, "_data", None)))
    if number is None:
        return
    kind, what = recorder.origin[number]
    if kind == "outside":
        recorder.origin[number] = ("state", t)
    elif t is not what and id(t) not in known and recorder.broken is None:
        recorder.broken = "two Tensors that outlive the call share one array; give one of them a .clone()"


def _is_held_elsewhere(recorder: Recorder, n: int, views: Counter[int]) -> bool:
    """Whether there are more references to an array than those that are known: somebody else has it."""
    array = recorder.array(n)
    kind, what = recorder.origin[n]
    references = 3 + views[id(array)]  # the recorder's, the name above and the argument of the count
    if kind == "outside":
        if any(array is one for one in recorder.ns.ones()):
            return False
        references += 2  # the origin's, and the name `what`
    elif kind == "argument":
        references += 2  # the argument's and the call's
    else:
        home = getattr(what, "_home", None)
        references += (what._data is array) + (home is not None and home.array is array)
    return not counts_are_exact or getrefcount(array) > references


def _holders(arrays: list[Array]) -> list[Tensor]:
    """The Tensors that hold one of these arrays, and some that do not."""
    kinds = {Tensor}
    new = [Tensor]
    while new:
        new = [kind for above in new for kind in above.__subclasses__()]
        kinds.update(new)
    # By their types, not isinstance: that asks stand-ins for other objects, which may import or warn.
    objects = gc.get_referrers(*arrays) if len(arrays) <= _FEW else gc.get_objects()
    return [x for x in objects if type(x) in kinds]
