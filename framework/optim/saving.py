"""The state of an optimizer as a tree that can be saved, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from framework.autodiff import Tensor
from framework.errors import CheckpointError
from framework.optim.groups import BESIDE, plain
from framework.optim.neighbours import State, is_array

Groups = Sequence[dict[str, Any]]


def state_tree(param_groups: Groups, states: Mapping[Tensor, State]) -> dict[str, Any]:
    """Copies of the state of each parameter, numbered through all groups, and the arguments of the groups."""
    numbers: dict[int, int] = {}
    groups = []
    for group in param_groups:
        for p in group["params"]:
            numbers[id(p)] = len(numbers)
        given = {key: plain(value) for key, value in group.items() if key != "params"}
        groups.append({**given, "params": [numbers[id(p)] for p in group["params"]]})
    state = {
        str(numbers[id(p)]): {key: _copied(p, value) for key, value in own.items()}
        for p, own in states.items()
        if own and id(p) in numbers
    }
    return {"state": dict(sorted(state.items(), key=lambda item: int(item[0]))), "param_groups": groups}


def states_of(
    state_dict: Mapping[str, Any], name: str, param_groups: Groups, defaults: Mapping[str, Any]
) -> dict[Tensor, State]:
    """The saved state of each parameter; `name` is the optimizer's class, for messages.

    Raises:
        CheckpointError: the groups, their arguments, or the shapes of the parameters, differ.
    """
    saved_groups = state_dict["param_groups"]
    sizes = [len(group["params"]) for group in param_groups]
    saved_sizes = [len(group["params"]) for group in saved_groups]
    if sizes != saved_sizes:
        raise CheckpointError(
            f"{name}.load_state_dict: this optimizer has groups of {sizes} parameters, the saved one of {saved_sizes}"
        )
    expected = {"params", *defaults}
    differing = {key for saved in saved_groups for key in expected.symmetric_difference(saved)}.difference(BESIDE)
    if differing:
        raise CheckpointError(
            f"{name}.load_state_dict: the saved arguments differ in {', '.join(sorted(differing))}; "
            "is this the state of another kind of optimizer?"
        )
    by_number = {
        str(number): p
        for group, saved in zip(param_groups, saved_groups)
        for p, number in zip(group["params"], saved["params"])
    }
    states = {}
    for number, own in state_dict["state"].items():
        p = by_number.get(str(number))
        if p is None:
            raise CheckpointError(f"{name}.load_state_dict: state of parameter {number}, which is in no group")
        if own:
            states[p] = {key: _restored(name, number, key, p, value) for key, value in own.items()}
    return states


def _copied(p: Tensor, value: Any) -> Any:
    return Tensor(p._ns.backend.copy(value), None, p._ns) if is_array(value) else value


def _restored(name: str, number: Any, key: str, p: Tensor, value: Any) -> Any:
    """A saved value as state of `p`: arrays on its device and in its dtype."""
    if not is_array(value) or (not tuple(value.shape) and p.shape):
        return value if not is_array(value) else float(value)
    if tuple(value.shape) != p.shape:
        raise CheckpointError(
            f"{name}.load_state_dict: {key} of parameter {number} has shape {tuple(value.shape)}, "
            f"the parameter {p.shape}; is this the state of another model?"
        )
    held = Tensor(p._data, None, p._ns)
    held.assign(value)
    return held._data if held._data is not p._data else p._ns.backend.copy(held._data)
