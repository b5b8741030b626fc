"""Runs: neighbours in an arena whose gradients are in their slots are updated as one array.

A `Layout` knows the homes of one group's parameters. From where the gradients of a step are, and from what
is known of each parameter, it makes runs; they are kept for as long as the next steps look the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any
from weakref import ref

from framework.autodiff import Tensor
from framework.autodiff.namespace import RawNamespace
from framework.optim.arena import Arena, Home, can_house, home_of, house

Array = Any
State = dict[str, Any]

NONE, IN_SLOT, ELSEWHERE = 0, 1, 2
"""Where a parameter's gradient is; one without a home has it elsewhere."""


class Away:
    """What stands for the home of a parameter that has none.

    Attributes:
        owner: a weak reference to the parameter.
        ns: the raw namespace of its backend.
        dtype: the dtype of its array, as the library names it.
        waits: whether it gets a home with its first gradient.
    """

    __slots__ = ("dtype", "ns", "owner", "waits")

    array = None  # that no parameter has

    def __init__(self, p: Tensor) -> None:
        self.owner = ref(p)
        self.ns = p._ns
        self.dtype = p.native_dtype
        self.waits = can_house(p)

    def is_left_by(self, p: Tensor) -> bool:
        """Whether `p`, which has a gradient, is no longer here."""
        return self.waits or self.owner() is not p or p._ns is not self.ns or p._data.dtype != self.dtype


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
        signature: what makes two runs alike: the length, the leaves and where each begins.
    """

    __slots__ = (
        "_arrays",
        "_is_behind",
        "_members",
        "_numbers",
        "_views",
        "block",
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
        begins = [(leaf, home.start - self.start) for leaf, (_, home) in zip(self.leaves, members)]
        self.signature = self.stop - self.start, *begins
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


class Layout:
    """The parameters of one group: their homes, and the runs of the last step.

    Making one gives homes to parameters that have gradients and none yet, and brings their state along.

    Attributes:
        runs: what is updated as one array.
        singles: the places, in the group, of parameters that are updated by themselves.
    """

    __slots__ = ("_arenas", "_blocks", "_codes", "_leaves", "_places", "_versions", "runs", "singles")

    def __init__(self, params: list[Tensor], states: dict[Tensor, State], before: Layout | None) -> None:
        if before is not None:
            before.write_back()
        house([p for p in params if p._node is not None and can_house(p) and home_of(p) is None])
        self._places = [_place_of(p) for p in params]
        if before is not None:
            _bring_along(params, states, before._places)
        self._blocks: list[Block] = []
        homes = [(home, i) for i, home in enumerate(self._places) if isinstance(home, Home)]
        for home, i in sorted(homes, key=lambda found: (id(found[0].arena), found[0].start)):
            last = self._blocks[-1] if self._blocks else None
            if last is None or last.arena is not home.arena or last.members[-1][1].end() != home.start:
                last = Block(home.arena)
                self._blocks.append(last)
            last.add(i, home)
        self._arenas = list({id(block.arena): block.arena for block in self._blocks}.values())
        self._versions: list[int] = []
        self._codes: list[int] | None = None
        self._leaves: list[Any] | None = None
        self.runs: list[Run] = []
        self.singles: list[int] = []

    def look(self, params: list[Tensor]) -> list[int] | None:
        """Where each gradient is; None where a parameter is not where it was."""
        places = self._places
        if len(params) != len(places):
            return None
        codes = []
        place: Any
        for p, place in zip(params, places):
            node: Any = p._node
            if node is None or (g := node.grad) is None:
                codes.append(NONE)
            elif p._data is place.array:
                slot = place.slot_if_any()
                inside = g is slot or (isinstance(g, Tensor) and g._data is slot)
                codes.append(IN_SLOT if inside else ELSEWHERE)
            elif place.is_left_by(p):
                return None
            else:
                codes.append(ELSEWHERE)
        return codes

    def is_arranged(self, codes: list[int]) -> bool:
        """Whether the runs are those of such a step."""
        return codes == self._codes and [arena.version for arena in self._arenas] == self._versions

    def is_steady(self, params: list[Tensor]) -> bool:
        """Whether all gradients are in their slots, as in the step before: most often so, and soon seen."""
        leaves = self._leaves
        if leaves is None or len(params) != len(leaves):
            return False
        for arena, version in zip(self._arenas, self._versions):
            if arena.lent or arena.version != version:
                return False
        place: Any
        for p, leaf, place in zip(params, leaves, self._places):
            node: Any = p._node
            if node is not leaf or node.grad is not node.slot or p._data is not place.array:
                return False
        return True

    def is_current(self) -> bool:
        """Whether nobody has given a member of a run another state."""
        return all(run.is_current() for run in self.runs)

    def write_back(self) -> None:
        """Let the parameters' own states say what the runs have made of them."""
        for run in self.runs:
            run.write_back()

    def codes_for(self, params: list[Tensor], computed: Collection[Any]) -> list[int] | None:
        """As `look`, where these leaves, and no others, are about to get gradients; None where these find no slots."""
        if len(params) != len(self._places):
            return None
        codes = []
        place: Any
        for p, place in zip(params, self._places):
            node: Any = p._node
            if node not in computed:
                if node is not None and node.grad is not None:
                    return None
                codes.append(NONE)
                continue
            if p._data is not place.array or not place.takes_gradient(p):
                return None
            codes.append(IN_SLOT)
        return codes

    def look_after_loans(self) -> None:
        """Leave memory that somebody else holds."""
        for arena in self._arenas:
            if arena.lent:
                arena.look_after_loans()

    def arrange(self, params: list[Tensor], codes: list[int], states: dict[Tensor, State], as_runs: bool) -> None:
        """Make the runs of a step with gradients in such places; runs of one each, unless `as_runs`."""
        self.write_back()
        self.runs = []
        self.singles = [i for i, code in enumerate(codes) if code == ELSEWHERE or (code == IN_SLOT and not as_runs)]
        for block in self._blocks if as_runs else ():
            members: list[tuple[int, Home]] = []
            kind: Any = None
            for place, home in block.members:
                own = states.get(params[place]) if codes[place] == IN_SLOT else None
                now = (codes[place], _kind(own))
                if members and now != kind:
                    self._finish(block, members, params, states)
                    members = []
                kind = now
                if now[0] == IN_SLOT:
                    members.append((place, home))
            if members:
                self._finish(block, members, params, states)
        self._versions = [arena.version for arena in self._arenas]
        self._codes = codes
        self._leaves = [p._node for p in params] if as_runs and all(code == IN_SLOT for code in codes) else None

    def _finish(
        self, block: Block, members: list[tuple[int, Home]], params: list[Tensor], states: dict[Tensor, State]
    ) -> None:
        self.runs.append(Run(block, members, [states.get(params[place]) for place, _ in members]))

    def tend_slots(self, params: list[Tensor]) -> None:
        """Offer slots to leaves that have none, and other ones where somebody keeps what is in theirs."""
        kept = set()
        for i in self.singles:
            home, leaf = self._places[i], params[i]._node
            if self._codes[i] != ELSEWHERE or not isinstance(home, Home):  # type: ignore[index]
                continue
            if leaf.slot is None or leaf.slot is not home.slot():  # type: ignore[union-attr]
                home.offer_slot(params[i])
            elif home.is_slot_shared():
                kept.add(home.arena)
        for arena in kept:
            arena.move_gradients()


def _place_of(p: Tensor) -> Home | Away:
    return home_of(p) or Away(p)


def _bring_along(params: list[Tensor], states: dict[Tensor, State], before: list[Home | Away]) -> None:
    """State that was kept in another dtype, or elsewhere, follows its parameter."""
    for p, place in zip(params, before):
        own = states.get(p)
        if not own or place.owner() is not p:
            continue
        ns = place.arena.ns if isinstance(place, Home) else place.ns
        for key, value in own.items():
            if is_array(value) and (ns is not p._ns or value.dtype != p._data.dtype):
                own[key] = Tensor(value, None, ns).to(device=p.device, dtype=p.dtype)._data


def _kind(state: State | None) -> Any:
    """What the state of neighbours must share: its entries, and the numbers among them."""
    return state and tuple([(key, None if is_array(value) else value) for key, value in state.items()])


def is_array(value: Any) -> bool:
    """Whether an entry of a state is an array."""
    return hasattr(value, "shape")


def selected(update: Callable[..., Array], flag: Array) -> Callable[..., Array]:
    """`update` with its results chosen on the device: where `flag` is false, the old values."""

    def selected(ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        copy = ns.backend.copy if ns.backend.writable else _same
        old = {key: copy(value) for key, value in state.items() if is_array(value)}
        p_old = copy(p)
        p_new = update(ns, p, g, state, hyper)
        for key, value in state.items():
            if is_array(value):  # a velocity that began with this step goes back to nothing
                state[key] = ns.xp.where(flag, value, old[key] if key in old else ns.xp.zeros_like(value))
        return ns.xp.where(flag, p_new, p_old)

    return selected


def _same(array: Array) -> Array:
    return array
