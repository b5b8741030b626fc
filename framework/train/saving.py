"""How a Trainer saves its training, and finds what it is to go on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from framework.callbacks import EarlyStopping, Timer
from framework.errors import CheckpointError, ConfigError
from framework.loggers import Logger
from framework.loggers.console import say
from framework.train import checkpoint, resume
from framework.train.module import TrainModule
from framework.train.run import snake_case
from framework.train.state import TrainerState


class Saving(TrainerState):
    """The part of a Trainer that writes and finds checkpoints."""

    def save_checkpoint(self, filepath: str | Path, weights_only: bool = False) -> None:
        """Write a checkpoint folder of the training as it stands, or of the weights alone.

        Raises:
            ConfigError: there has been no fit.
            CheckpointError: it cannot be written; earlier ones are untouched.
        """
        self.prepare_checkpoint(filepath, weights_only)()

    def prepare_checkpoint(self, filepath: str | Path, weights_only: bool = False) -> Callable[[], None]:
        """As `save_checkpoint`, of the training as it stands now; but what is returned does the writing.

        The state is copied here, so that the writing may be done while the training goes on.
        """
        if self._fit is None:
            raise ConfigError("trainer.save_checkpoint() needs a trainer.fit() before it, or under way")
        self.background.finish()
        self.records.stop_clock()
        trees = resume.add_user_state(self._fit, resume.gather(self._fit, self.log_dir))
        if weights_only:
            trees = {name: trees[name] for name in ("model", "progress", "hparams", "extra", "about")}
        return partial(_write, filepath, checkpoint.pack(trees), self.rows.loggers)

    def write_checkpoint_pointer(self, which: str, target: str | Path) -> None:
        """Make the file `last` or `best` beside a checkpoint name it."""
        self.background.finish()
        checkpoint.write_pointer(Path(target).parent, which, target)

    def _save_interrupted(self) -> Path | None:
        """Save the state of a training that a signal has stopped, and say how to go on."""
        step = self.global_step
        if self.records.run is None or not self._saves:
            say(f"interrupted after step {step}; nothing is saved, as checkpointing is off")
            return None
        if self._fit is not None and self._fit.saved is not None:
            say(f"interrupted before going on from {self.resume_source}")
            return Path(str(self.resume_source))
        self.background.finish()
        path = checkpoint.free_path(self.records.run.checkpoints / f"epoch={self.current_epoch}-step={step}")
        self.save_checkpoint(path)
        self.write_checkpoint_pointer("last", path)
        say(f"interrupted after step {step}; saved {path}")
        if self.config_text is None:  # the command line names its own command
            say(f"to go on: fit(…, ckpt_path={str(path)!r})")
        return path

    def _load_saved(self, ckpt_path: str | Path | None, module: TrainModule) -> dict[str, Any] | None:
        """The checkpoint to go on from; the position is taken over at once."""
        self.resume_source = self.ckpt_path = None
        if ckpt_path is None:
            self.progress.restart_epoch()
            return None
        path = self._find_checkpoint(ckpt_path, module)
        trees = checkpoint.load(path)
        resume.check_is_training(trees, path, type(module).__name__)
        self.resume_source = self.ckpt_path = str(path)
        self.progress.load_state_dict(trees["progress"])
        # where there is an EarlyStopping or a Timer, it says itself whether the training is stopped
        decides = any(isinstance(callback, EarlyStopping | Timer) for callback in self.callbacks)
        self.should_stop = trees["results"]["should_stop"] and not decides
        return trees

    def _find_checkpoint(self, wanted: str | Path, module: TrainModule) -> Path:
        """The folder that `ckpt_path` means."""
        if wanted == "best":
            if not self._best_model_path:
                raise CheckpointError('ckpt_path="best": no ModelCheckpoint of this Trainer has saved anything')
            return Path(self._best_model_path)
        return self.records.last_checkpoint(self._runs_of(module)) if wanted == "last" else Path(wanted)

    @property
    def _best_model_path(self) -> str:
        return "" if self.checkpoint_callback is None else self.checkpoint_callback.best_model_path

    def _runs_of(self, module: TrainModule) -> Path:
        return Path(self.default_root_dir) / "runs" / (self.run_name or snake_case(type(module).__name__))


def _write(path: str | Path, packed: Mapping[str, checkpoint.Buffer], loggers: Sequence[Logger]) -> None:
    for logger in loggers:  # the rows that it counts are on the disk before it is
        logger.sync()
    checkpoint.write(path, packed)
