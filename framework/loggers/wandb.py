"""A logger for Weights & Biases that cannot hurt the training."""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from framework.errors import BackendError, ConfigError
from framework.loggers.background import Feeder
from framework.loggers.logger import Logger, Status, plain, prefixed, with_prefix
from framework.loggers.wandb_items import (
    Checkpoint,
    Config,
    Flush,
    Histogram,
    Images,
    Media,
    Row,
    Table,
    host_images,
    host_values,
    staged,
    table,
)
from framework.loggers.wandb_run import WandbRun
from framework.loggers.watching import Watch, What, layers_of


class WandbLogger(Logger):
    """Sends rows, hyper-parameters and configuration to Weights & Biases, from a thread of its own.

    The client is imported and started in that thread, and whatever it does there (raise, hang, die)
    costs the run one warning and no time. A row's x-axis is its step, the number of optimizer
    updates. Without `offline`, `WANDB_MODE` or a stored API key, and where the server cannot be
    reached, the run is kept offline and one line says how to upload it. The run's id travels in the
    checkpoint, so a resumed training continues the same W&B run.

    Args:
        name: the run's display name; None makes one of the run folder.
        save_dir: where W&B writes its files; None is `$WANDB_DIR`, else the Trainer's run folder.
        version: the run's id, as is `id`.
        offline: keep everything on this machine.
        dir: the same as `save_dir`.
        id: the run's id; None continues the checkpoint's or makes one.
        anonymous: handed to `wandb.init`.
        project: W&B project; None is `$WANDB_PROJECT`, else "fw".
        log_model: keep checkpoints as artifacts: "all" each when it is saved, True those that are left
            when the training has ended well, False none.
        experiment: an existing W&B run to log to; it is left unfinished.
        prefix: put before each metric's name, with a dash.
        checkpoint_name: name of the artifact; None is `model-<id>`.
        group: W&B group.
        tags: W&B tags.
        watch: watch the module that is trained: "gradients", "parameters" or "all"; see the method.
        watch_freq: the updates between two looks.
        **kwargs: handed to `wandb.init`.

    Raises:
        ConfigError: wandb is not installed, or an argument makes no sense.
    """

    def __init__(
        self,
        name: str | None = None,
        save_dir: str | Path | None = None,
        version: str | None = None,
        offline: bool = False,
        dir: str | Path | None = None,
        id: str | None = None,
        anonymous: bool | None = None,
        project: str | None = None,
        log_model: Literal["all"] | bool = False,
        experiment: Any = None,
        prefix: str = "",
        checkpoint_name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] | None = None,
        watch: What | None = None,
        watch_freq: int = 100,
        **kwargs: Any,
    ) -> None:
        if experiment is None and not _installed():
            raise ConfigError("WandbLogger needs the package wandb, which is not installed: pip install wandb")
        if log_model not in (True, False, "all"):
            raise ConfigError(f"WandbLogger(log_model={log_model!r}): expected true, false or 'all'")
        if save_dir is not None and dir is not None and str(save_dir) != str(dir):
            raise ConfigError(f"WandbLogger: save_dir={str(save_dir)!r} and dir={str(dir)!r} are the same thing")
        self._name = name
        self._save_dir = None if save_dir is None and dir is None else str(save_dir if dir is None else dir)
        self._offline = offline
        self._id = version or id
        self._project = project or os.environ.get("WANDB_PROJECT") or "fw"
        self._prefix = prefix
        self._kwargs = {"group": group, "tags": list(tags) if tags else None, **kwargs}
        if anonymous is not None:
            self._kwargs["anonymous"] = anonymous
        self._log_model, self._checkpoint_name = log_model, checkpoint_name
        self._saver: Any = None
        self._kept: set[tuple[str, int]] = set()
        """The checkpoints that are artifacts already, by path and time of writing."""
        self._watch = None if watch is None else Watch(watch, watch_freq)
        self._experiment = experiment
        self._run_dir: Path | None = None
        self._feeder: Feeder | None = None
        self._run: WandbRun | None = None
        self._warned = False
        self._step = 0

    def __repr__(self) -> str:
        return f"WandbLogger(project={self._project!r}, id={self._id!r})"

    @property
    def name(self) -> str | None:
        """The W&B project."""
        return self._project

    @property
    def version(self) -> str | None:
        """The W&B run's id; None before the run has begun."""
        return self._experiment.id if self._experiment is not None else self._id

    @property
    def save_dir(self) -> str | None:
        """Folder in which W&B makes its own `wandb/`."""
        if self._save_dir is not None or os.environ.get("WANDB_DIR"):
            return self._save_dir or os.environ["WANDB_DIR"]
        return None if self._run_dir is None else str(self._run_dir)

    @property
    def experiment(self) -> Any:
        """The W&B run itself, for images and tables; waits for it to start.

        Raises:
            BackendError: it could not be started, with W&B's reason.
        """
        feeder = self._started()
        if not feeder.wait_started():
            raise BackendError(f"There is no W&B run: wandb {feeder.problem}")
        assert self._run is not None
        return self._run.run

    def attach(self, run_dir: Path) -> None:
        """Learn the run folder; another one than before ends the W&B run, so that the next row begins a new one."""
        if self._run_dir is not None and Path(run_dir) != self._run_dir:
            self.close()
            self._id = None
            self._saver, self._kept = None, set()
        self._run_dir = Path(run_dir)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Queue the values; returns at once."""
        if step is not None:
            self._step = step
        self._put_row(self._step, metrics)

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Add the hyper-parameters to the W&B config."""
        self._started().put(Config(plain(params)))

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Add the resolved configuration to the W&B config."""
        self._started().put(Config(plain(config)))

    # -- things to look at ---------------------------------------------------------------------------

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: list[Any]) -> None:
        """Log pictures, which join the row of their step.

        Args:
            key: the name.
            images: a list of Tensors (height, width) or (channels, height, width), arrays (height, width) or
                (height, width, channels), matplotlib figures, PIL images or paths.
            step: the optimizer updates done, as `self.global_step`; default the step of the latest row.
            **kwargs: more arguments of `wandb.Image`, such as `caption`, each a list with one entry a picture.

        Raises:
            ConfigError: `images` is no list, or another argument no list of the same length.
        """
        self._put(Images(self._step if step is None else step, self._key(key), *host_images(key, images, kwargs)))

    def log_table(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Sequence[Sequence[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log a table: names of columns with rows of numbers, text or W&B objects, or a pandas dataframe."""
        self._put(Table(self._step if step is None else step, self._key(key), table(columns, data, dataframe)))

    def log_text(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Sequence[Sequence[str]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log a table of texts."""
        self.log_table(key, columns, data, dataframe, step)

    def log_histogram(self, key: str, values: Any, step: int | None = None, num_bins: int = 64) -> None:
        """Log how numbers are distributed: a Tensor or an array of any shape, or a list of numbers."""
        self._put(Histogram(self._step if step is None else step, self._key(key), host_values(values), num_bins))

    def watch(self, model: Any, log: What | None = "gradients", log_freq: int = 100, log_graph: bool = False) -> None:
        """Log the Euclidean norm of each gradient, `grad_norm/<parameter>`, and of all, `grad_norm/total`.

        They are taken as an update begins, after accumulation and before clipping, and belong to the step
        that the update makes. Nothing is added to the forward and backward pass, so a compiled step is
        replayed as before.

        Args:
            model: whose parameters.
            log: "gradients"; "parameters" for `param_norm/…` instead; "all" for both; None for neither.
            log_freq: at the first update and every so many.
            log_graph: also log a table of the layers.

        Raises:
            ConfigError: an argument makes no sense.
        """
        self._watch = None if log is None else Watch(log, log_freq, model)
        if log_graph:
            self.log_table("graph", ["layer", "class", "parameters"], layers_of(model), step=0)

    def unwatch(self, model: Any = None) -> None:
        """Watch no longer."""
        self._watch = None

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        """Log the norms of what is watched, if it is their turn."""
        watch, step = self._watch, trainer.global_step + 1
        if watch is not None and watch.is_due(step):
            self._put_row(step, watch.norms(module))

    def _put(self, item: Media | Checkpoint) -> None:
        feeder = self._feeder or self._started()
        feeder.put_heavy(item)
        if feeder.problem is not None:
            self._warn(feeder)

    def _put_row(self, step: int, values: Mapping[str, float]) -> None:
        feeder = self._feeder or self._started()
        feeder.put(Row(step, dict(with_prefix(values, self._prefix))))
        if feeder.problem is not None:
            self._warn(feeder)

    def _key(self, key: str) -> str:
        return prefixed(key, self._prefix)

    # -- checkpoints ---------------------------------------------------------------------------------

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Keep what it has saved as an artifact, now or when the training has ended, as `log_model` says."""
        if not self._log_model:
            return
        self._saver = checkpoint_callback
        if self._log_model == "all" or checkpoint_callback.save_top_k == -1:
            self._keep_checkpoints()

    def _keep_checkpoints(self) -> None:
        """Hand on the checkpoints that are there and are not artifacts yet, in order of writing, the best one last."""
        saver = self._saver
        if saver is None:
            return
        best = saver.best_model_path
        scores = saver.best_k_models
        found = []
        for path in {*scores, saver.last_model_path, best} - {""}:
            with suppress(OSError):
                found.append((path == best, (Path(path) / "manifest.json").stat().st_mtime_ns, path))
        for _, written, path in sorted(found):
            folder = Path(path)
            if (path, written) in self._kept:
                continue
            try:
                copy = staged(folder, Path(self.save_dir or "."))
            except OSError:  # deleted in favour of a better one meanwhile
                continue
            self._kept.add((path, written))
            self._started()  # the name may hold the run's id
            about = {name: getattr(saver, name) for name in ("monitor", "mode", "save_last", "save_top_k", "filename")}
            metadata = {"score": scores.get(path), "original_filename": folder.name, "ModelCheckpoint": about}
            aliases = ["latest", "best"] if path == best else ["latest"]
            self._put(Checkpoint(copy, self._checkpoint_name or f"model-{self._id}", aliases, plain(metadata)))

    # -- the end -------------------------------------------------------------------------------------

    def finalize(self, status: Status) -> None:
        """Wait a bounded time until W&B has the rows; end the W&B run unless a test may still follow.

        After a success it stays open until the process ends, another run begins or `close` is called.
        """
        if self._feeder is None:
            return
        if status != "success":
            self.close(ok=False)
            return
        if self._log_model:
            self._keep_checkpoints()
        self._feeder.put(Flush())
        self._feeder.flush()
        if self._feeder.problem is not None:
            self._warn(self._feeder)

    def close(self, ok: bool = True) -> None:
        """End the W&B run, waiting a bounded time for it; a later row would continue it."""
        feeder, self._feeder = self._feeder, None
        if feeder is None:
            return
        _OPEN.discard(self)
        atexit.unregister(self.close)
        feeder.close(ok)
        if feeder.problem is not None:
            self._warn(feeder)

    def state_dict(self) -> dict[str, Any]:
        """The W&B run's id."""
        return {"id": self.version}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the W&B run of the checkpoint, unless an id was given."""
        if self._id is None:
            self._id = state.get("id")

    def _started(self) -> Feeder:
        """The feeder; the first call starts it, and with it the W&B run."""
        if self._feeder is not None:
            return self._feeder
        for other in list(_OPEN):  # W&B knows one run a process
            other.close()
        in_sweep = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None  # the agent's choice
        self._id = self._id or in_sweep or os.urandom(4).hex()
        settings: Any = self._kwargs.get("settings") or {}
        if isinstance(settings, Mapping):
            settings = {**_QUIET, **settings}
        arguments = {
            "project": self._project,
            "name": self._name or (f"{self._run_dir.parent.name}/{self._run_dir.name}" if self._run_dir else None),
            "id": self._id,
            "resume": "allow",
            "dir": self.save_dir,
            **self._kwargs,
            "settings": settings,
        }
        self._run = WandbRun(arguments, self._experiment, self._offline, when_started=self._close_at_exit)
        self._feeder = Feeder(self._run)
        _OPEN.add(self)
        return self._feeder

    def _close_at_exit(self) -> None:
        # Registered after W&B's own exit hook, this one runs before it, and its wait has an end.
        atexit.register(self.close)

    def _warn(self, feeder: Feeder) -> None:
        if self._warned:
            return
        self._warned = True
        warnings.warn(
            f"W&B: wandb {feeder.problem}. The training goes on; its numbers are in the run folder's metrics.jsonl. "
            f"Further trouble with W&B is not reported.",
            RuntimeWarning,
            stacklevel=3,
        )


_OPEN: set[WandbLogger] = set()
_QUIET = {"console": "off", "silent": True, "x_disable_stats": True, "disable_git": True, "disable_code": True}


def _installed() -> bool:
    if "wandb" in sys.modules:
        return True
    spec = importlib.util.find_spec("wandb")
    # A folder `wandb/`, which W&B leaves behind where it ran, looks like a package without an origin.
    return spec is not None and spec.origin is not None
