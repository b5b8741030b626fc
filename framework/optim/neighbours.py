"""Runs: neighbours in an arena whose gradients are in their slots are updated as one array."""

from __future__ import annotations

from typing import Any

from framework.autodiff import Tensor
from framework.optim.arena import Arena, Home

Array = Any
State = dict[str, Any]


class Block:
    """Homes of one group that lie side by side, and the optimizer's state of them, laid out alike."""

    __slots__ = ("arena", "members", "start", "state", "stop", "views")

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.members: list[tuple[int, Home]] = []  # with the parameter's place in the group
        self.start = self.stop = 0
        self.state: dict[str, Array] = {}
        self.views: dict[tuple[str, int], Array] = {}  # of state, with the parameter's shape

    def add(self, place: int, home: Home) -> None:
        """Take one more home, which follows the last."""
        if not self.members:
            self.start = home.start
        self.members.append((place, home))
        self.stop = home.stop

    def flat(self, key: str) -> Array:
        """The state of this name, of the whole block."""
        if key not in self.state:
            self.state[key] = self.arena.like(self.stop - self.start)
        return self.state[key]

    def view(self, key: str, place: int, home: Home) -> Array:
        """The state of this name of one member; the same array each time."""
        found = self.views.get((key, place))
        if found is None:
            found = self.arena.segment(self.flat(key), home.start - self.start, home.array)
            self.views[key, place] = found
        return found


class Run:
    """Neighbours that are updated as one array.

    Attributes:
        p: their values.
        g: their gradients.
        state: what the optimizer knows of them, with arrays as long as `p`; None before their first step.
        leaves: their leaves on the tape.
        bounds: where each begins and ends in these arrays.
        signature: what makes two runs alike: the length, the leaves and where each is.
    """

    __slots__ = (
        "_arrays",
        "_is_behind",
        "_members",
        "_numbers",
        "_views",
        "block",
        "bounds",
        "g",
        "leaves",
        "p",
        "signature",
        "start",
        "state",
        "states",
        "stop",
    )

    def __init__(self, block: Block, members: list[tuple[int, Home]], states: list[State | None]) -> None:
        self.block = block
        self._members = members
        self.leaves: list[Any] = [home.owner()._node for _, home in members]  # type: ignore[union-attr]
        self.start, self.stop = members[0][1].start, members[-1][1].stop
        self.bounds = tuple([(home.start - self.start, home.stop - self.start) for _, home in members])
        self.signature = self.stop - self.start, *zip(self.leaves, self.bounds)
        self.p = block.arena.values[self.start : self.stop]
        self.g = block.arena.gradients[self.start : self.stop]
        self.states: list[State] = []
        self.state: State | None = None
        self._arrays: list[tuple[str, Array]] = []
        self._numbers: list[str] = []
        self._views: list[tuple[State, str, Array]] = []
        self._is_behind = False
        if states[0]:
            self.states = states  # type: ignore[assignment]  # all of them have one, or none
            self.state = {key: self._of_all(key, value) for key, value in states[0].items()}
            self._sort()

    @property
    def steps(self) -> int:
        """The steps made so far, where they are counted."""
        return 0 if self.state is None else self.state.get("step", 0)

    @property
    def first(self) -> Tensor:
        """The first of them."""
        return self._members[0][1].owner()  # type: ignore[return-value]

    def _of_all(self, key: str, value: Any) -> Any:
        """An entry of the state, the members' own one after the other; they become views of it."""
        if not is_array(value):
            return value
        for (place, home), own in zip(self._members, self.states):
            view = self.block.view(key, place, home)
            if own[key] is not view:
                view[...] = own[key]
                own[key] = view
        return self.block.flat(key)[self.start - self.block.start : self.stop - self.block.start]

    def _sort(self) -> None:
        state: State = self.state  # type: ignore[assignment]
        self._arrays = [(key, value) for key, value in state.items() if is_array(value)]
        self._numbers = [key for key, value in state.items() if not is_array(value)]
        self._views = [
            (own, key, self.block.view(key, place, home))
            for (place, home), own in zip(self._members, self.states)
            for key, _ in self._arrays
        ]

    def is_current(self) -> bool:
        """Whether nobody has given a member another state meanwhile."""
        for own, key, view in self._views:
            if own.get(key) is not view:
                return False
        for key in self._numbers:
            number = self.state[key]  # type: ignore[index]
            for own in self.states:
                if own.get(key) is not number:
                    return False
        return True

    def put_back(self, state: State, params: list[Tensor], states: dict[Tensor, State]) -> None:
        """Keep what a step has made of the state."""
        if self.state is None:
            self._begin(state, params, states)
            return
        for key, flat in self._arrays:
            if state[key] is not flat:
                flat[...] = state[key]
                state[key] = flat
        self._is_behind = True
        if len(state) != len(self._arrays) + len(self._numbers):
            self._begin(state, params, states)

    def count_step(self) -> None:
        """A step was made on the arrays themselves."""
        if self.state is not None:
            if "step" in self.state:
                self.state["step"] += 1
            self._is_behind = True

    def write_back(self) -> None:
        """Give the members' own states the numbers that the steps have made."""
        if self._is_behind:
            self._is_behind = False
            for key in self._numbers:
                for own in self.states:
                    own[key] = self.state[key]  # type: ignore[index]

    def _begin(self, state: State, params: list[Tensor], states: dict[Tensor, State]) -> None:
        """Give each member its part of a state that is new, or has new entries."""
        self.states = [states.setdefault(params[place], {}) for place, _ in self._members]
        lo, hi = self.start - self.block.start, self.stop - self.block.start
        for key, value in state.items():
            if is_array(value):
                flat = self.block.flat(key)[lo:hi]
                flat[...] = value
                state[key] = flat
            for (place, home), own in zip(self._members, self.states):
                own[key] = self.block.view(key, place, home) if is_array(value) else value
        self.state = state
        self._is_behind = False
        self._sort()


def is_array(value: Any) -> bool:
    """Whether an entry of a state is an array."""
    return hasattr(value, "shape")
