"""Where a training stands, as plain data: the one source of truth for position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(slots=True)
class Progress:
    """The position of a training. A step is an optimizer update, everywhere.

    A checkpoint may be taken between any two batches; `exhausted`, `validated_at` and `ended_at`
    then tell what of the boundary has been done already, so that a resumed run does the rest, once.
    """

    epoch: int = 0
    """Index of the epoch under way."""

    global_step: int = 0
    """Optimizer updates done."""

    batch: int = 0
    """Batches done in this epoch."""

    total_batches: int = 0
    """Batches done in all epochs."""

    exhausted: bool = False
    """Whether no batch of this epoch is left."""

    validated_at: int = -1
    """After how many batches of this epoch the last validation has run."""

    ended_at: int = -1
    """After how many batches of this epoch its end hooks have run."""

    row_at: int = 0
    """The step whose row has been written last."""

    wall_s: float = 0.0
    """Seconds of training before the latest start of this process."""

    in_step: bool = False
    """Whether a batch has been taken and is not done; never true in a checkpoint."""

    @property
    def unfinished(self) -> bool:
        """Whether batches of this epoch are done whose end is not."""
        return self.batch > 0 and self.ended_at != self.batch

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.epoch += 1
        self.restart_epoch()

    def restart_epoch(self) -> None:
        """Move to the start of this epoch."""
        self.in_step = False
        self.batch, self.exhausted, self.validated_at, self.ended_at = 0, False, -1, -1

    def state_dict(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the position over; an epoch that had ended is left behind."""
        for field in fields(self):
            if field.name in state:
                setattr(self, field.name, state[field.name])
        if self.exhausted and not self.unfinished:
            self.next_epoch()
