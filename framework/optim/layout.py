"""Which parameters are updated as one array, and which by themselves.

A `Layout` knows the homes of one group's parameters. From where the gradients of a step are, and from what
is known of each parameter, it makes runs; they are kept for as long as the next steps look the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any
from weakref import ref

from framework.autodiff import Tensor
from framework.autodiff.namespace import RawNamespace
from framework.autodiff.tape import free_slot
from framework.optim.arena import Home, can_house, home_of, house
from framework.optim.neighbours import Block, Run, State, is_array

Array = Any

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
        return self._has_stayed(params) and all(leaf.grad is leaf.slot for leaf in self._leaves or ())

    def is_ready(self, params: list[Tensor]) -> bool:
        """Whether no gradient is there, and all will be in the slots that they were in at the step before."""
        if not self._has_stayed(params):
            return False
        place: Any
        for leaf, place in zip(self._leaves or (), self._places):
            if leaf.grad is not None or free_slot(leaf) is None or leaf.slot is not place.slot_if_any():
                return False
        return True

    def _has_stayed(self, params: list[Tensor]) -> bool:
        """Whether all parameters are where they were at the step before, when all gradients were in their slots."""
        leaves = self._leaves
        if leaves is None or len(params) != len(leaves):
            return False
        for arena, version in zip(self._arenas, self._versions):
            if arena.lent or arena.version != version:
                return False
        for p, leaf, place in zip(params, leaves, self._places):
            if p._node is not leaf or p._data is not place.array:
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
