"""Logs how many batches and samples a second go through."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from framework.callbacks.callback import Callback
from framework.errors import ConfigError

if TYPE_CHECKING:
    from framework.train import Trainer, TrainModule


class Mark(NamedTuple):
    """What had gone through at a moment."""

    time: float
    batches: int
    samples: int
    lengths: int
    flops: float


class ThroughputMonitor(Callback):
    """Logs rates over the latest batches, on the rows of `log_every_n_steps`; nothing waits for the device.

    Logged are `train/time`, `train/batches`, `train/samples`, and, once the window is full,
    `train/device/batches_per_sec` and `train/device/samples_per_sec`; with `length_fn` `train/lengths` and
    `train/device/items_per_sec`; where the module has `flops_per_batch`, `train/device/flops_per_sec`, and
    with `available_flops` `train/device/mfu`, their quotient. A validation that belongs to a fit logs
    `validate/device/samples_per_sec`, a test `test/device/samples_per_sec`. Time counts while training
    runs, validations left out.

    Args:
        batch_size_fn: the number of samples of a batch.
        length_fn: the number of items (such as tokens) of a batch.
        window_size: batches to take the mean over.
        available_flops: floating-point operations a second that the device can do at most.
        separator: between the parts of the names.

    Raises:
        ConfigError: an argument makes no sense, or the Trainer has no logger.

    Examples:
        >>> monitor = ThroughputMonitor(batch_size_fn=len, window_size=2)
        >>> for second in range(3):
        ...     monitor.count([0] * 64, at=float(second))
        >>> monitor.rates()["device/samples_per_sec"]
        64.0
    """

    def __init__(
        self,
        batch_size_fn: Callable[[Any], int],
        length_fn: Callable[[Any], int] | None = None,
        *,
        window_size: int = 100,
        available_flops: float | None = None,
        separator: str = "/",
    ) -> None:
        if not callable(batch_size_fn) or (length_fn is not None and not callable(length_fn)):
            raise ConfigError(
                "ThroughputMonitor: batch_size_fn and length_fn are functions of a batch, such as "
                "lambda batch: len(batch[0])"
            )
        if not isinstance(window_size, int) or window_size < 2:
            raise ConfigError(f"ThroughputMonitor(window_size={window_size!r}): expected an int of at least 2")
        self.batch_size_fn = batch_size_fn
        self.length_fn = length_fn
        self.available_flops = available_flops
        self.separator = separator
        self._marks: deque[Mark] = deque(maxlen=window_size)
        self._last = Mark(0.0, 0, 0, 0, 0.0)
        self._began = 0.0
        """The moment at which `_last.time` was zero."""
        self._other = [0.0, 0, 0]
        """When a validation or test began, and what went through since."""

    def count(self, batch: Any, at: float, flops: float = 0.0) -> None:
        """Count a batch that was done `at` seconds of training."""
        before = self._last
        length = 0 if self.length_fn is None else self.length_fn(batch)
        self._last = Mark(
            at,
            before.batches + 1,
            before.samples + self.batch_size_fn(batch),
            before.lengths + length,
            before.flops + flops,
        )
        self._marks.append(self._last)

    def rates(self) -> dict[str, float]:
        """The totals, and the rates over the window once that is full."""
        now, device = self._last, f"device{self.separator}"
        found: dict[str, float] = {"time": now.time, "batches": now.batches, "samples": now.samples}
        if self.length_fn is not None:
            found["lengths"] = now.lengths
        first = self._marks[0] if self._marks else now
        elapsed = now.time - first.time
        if len(self._marks) < (self._marks.maxlen or 0) or elapsed <= 0:
            return found
        found[f"{device}batches_per_sec"] = (now.batches - first.batches) / elapsed
        found[f"{device}samples_per_sec"] = (now.samples - first.samples) / elapsed
        if self.length_fn is not None:
            found[f"{device}items_per_sec"] = (now.lengths - first.lengths) / elapsed
        if now.flops > first.flops:
            found[f"{device}flops_per_sec"] = (now.flops - first.flops) / elapsed
            if self.available_flops:
                found[f"{device}mfu"] = found[f"{device}flops_per_sec"] / self.available_flops
        return found

    # -- hooks ---------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: TrainModule, stage: str) -> None:
        """Refuse a Trainer without a logger."""
        if stage == "fit" and not trainer.loggers:
            raise ConfigError("ThroughputMonitor has nowhere to log to: the Trainer has logger=False. Leave one out.")

    def on_train_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Start the clock where it stood."""
        self._marks.clear()
        if trainer.resume_source is None and trainer.global_step == 0:
            self._last = Mark(0.0, 0, 0, 0, 0.0)
        self._began = time.perf_counter() - self._last.time

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: TrainModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; log where a row is due."""
        flops = getattr(pl_module, "flops_per_batch", None) or 0.0
        self.count(batch, time.perf_counter() - self._began, flops)
        step, every = trainer.global_step, trainer.log_every_n_steps
        if every and (step % every == 0 or step == 1 or trainer.is_last_batch):
            for name, value in self.rates().items():
                pl_module.log(f"train{self.separator}{name}", value, on_step=True, on_epoch=False)

    def on_validation_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Begin to count the validation."""
        self._begin_pass()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: TrainModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self._count_pass(batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Log the validation's rates; its time is none of training's."""
        self._log_pass(pl_module, "validate")
        self._began += time.perf_counter() - self._other[0]

    def on_test_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Begin to count the test."""
        self._begin_pass()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: TrainModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self._count_pass(batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Log the test's rates."""
        self._log_pass(pl_module, "test")

    def _begin_pass(self) -> None:
        self._other = [time.perf_counter(), 0, 0]

    def _count_pass(self, batch: Any) -> None:
        self._other[1] += 1
        self._other[2] += self.batch_size_fn(batch)

    def _log_pass(self, pl_module: TrainModule, stage: str) -> None:
        began, batches, samples = self._other
        elapsed = time.perf_counter() - began
        if batches and elapsed > 0:
            start = f"{stage}{self.separator}device{self.separator}"
            pl_module.log(f"{start}batches_per_sec", batches / elapsed)
            pl_module.log(f"{start}samples_per_sec", samples / elapsed)

    # -- state ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The totals."""
        return self._last._asdict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count on from `state`."""
        self._last = Mark(**state)
        self._marks.clear()
