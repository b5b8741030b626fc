"""Which checkpoints a `ModelCheckpoint` keeps, as plain data that changes in one step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Book:
    """Names of the folders that one callback has saved and what each is kept for.

    A book never changes; `admit` gives the book after one more checkpoint. That book is written
    into the checkpoint itself, so a run resumed from it knows what the new one was to replace.
    """

    best: dict[str, float] = field(default_factory=dict)
    """The top k by score, in order of saving."""
    plain: tuple[str, ...] = ()
    """Those kept without a score."""
    newest: str = ""
    """The last one saved; kept at least until there is a newer one."""
    doomed: tuple[str, ...] = ()
    """Those not kept any more whose folders may still be there."""

    @property
    def kept(self) -> frozenset[str]:
        """All that must be on disk."""
        return frozenset((*self.best, *self.plain, self.newest)) - {""}

    @property
    def owned(self) -> frozenset[str]:
        """All that this callback has saved and not yet deleted."""
        return self.kept | frozenset(self.doomed)

    def top(self, mode: str) -> str:
        """Name of the best one (the earliest among equals, the newest where there are no scores); "" if none."""
        if self.best:
            return (min if mode == "min" else max)(self.best, key=self.best.__getitem__)
        return self.plain[-1] if self.plain else ""

    def worst(self, mode: str) -> str:
        """Name of the one that leaves next (the earliest among equals); "" if none."""
        if not self.best:
            return ""
        return (max if mode == "min" else min)(self.best, key=self.best.__getitem__)

    def enters(self, score: float | None, top_k: int, mode: str) -> bool:
        """Whether a checkpoint of this score would be kept for its score; a tie replaces nothing."""
        if score is None or top_k <= 0 or len(self.best) < top_k:
            return top_k != 0
        limit = self.best[self.worst(mode)]
        return score < limit if mode == "min" else score > limit

    def admit(self, name: str, score: float | None, top_k: int, mode: str) -> Book:
        """The book after saving `name`, whatever its score; the replaced ones are doomed."""
        best = {other: value for other, value in self.best.items() if other != name}
        plain = tuple(other for other in self.plain if other != name)
        without = replace(self, best=best, plain=plain)
        if without.enters(score, top_k, mode):
            if score is None:
                plain = (*plain, name)[-top_k if top_k > 0 else None :]
            else:
                if len(best) >= top_k > 0:
                    del best[without.worst(mode)]
                best[name] = score
        book = Book(best, plain, newest=name)
        return replace(book, doomed=tuple(sorted(self.owned - book.kept)))

    def without(self, gone: frozenset[str] | set[str]) -> Book:
        """The book without these names."""
        return Book(
            {name: score for name, score in self.best.items() if name not in gone},
            tuple(name for name in self.plain if name not in gone),
            "" if self.newest in gone else self.newest,
            tuple(name for name in self.doomed if name not in gone),
        )

    def state_dict(self) -> dict[str, Any]:
        """The book as a state tree."""
        return {
            "best": [[name, score] for name, score in self.best.items()],
            "plain": list(self.plain),
            "newest": self.newest,
            "doomed": list(self.doomed),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Book:
        """The book that gave `state`."""
        best = {name: float(score) for name, score in state["best"]}
        return cls(best, tuple(state["plain"]), state["newest"], tuple(state["doomed"]))


def ranked(score: float, mode: str) -> float:
    """The score, with NaN as the worst there is.

    Examples:
        >>> ranked(float("nan"), "min")
        inf
    """
    return (math.inf if mode == "min" else -math.inf) if math.isnan(score) else score
