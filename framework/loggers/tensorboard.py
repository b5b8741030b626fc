"""A logger that writes TensorBoard's event files."""

from __future__ import annotations

import atexit
import importlib.util
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from framework.errors import BackendError, ConfigError
from framework.loggers.background import Client, Feeder
from framework.loggers.logger import Status, plain, prefixed, with_prefix
from framework.loggers.pictures import check_list, png_or_pixels
from framework.loggers.versioned import VersionedLogger


class TensorBoardLogger(VersionedLogger):
    """Writes event files that `tensorboard --logdir runs` shows, through tensorboardX, from a thread of its own.

    A row's x-axis is its step, the number of optimizer updates. A resumed run writes another file in the
    same folder, and TensorBoard then leaves out what the first one has after the checkpoint. Whatever
    the writing does (raise, hang, die) costs the run one warning and no time.

    Args:
        save_dir: folder for `<name>/version_<N>/`; None writes in the Trainer's run folder.
        name: name of the experiment, used with `save_dir` only.
        version: number or name of the version; None takes the next free number.
        prefix: put before each metric's name, with a dash.
        sub_dir: folder within the version's.
        default_hp_metric: give the hyper-parameters' page a metric `hp_metric` of its own.
        **kwargs: handed to `tensorboardX.SummaryWriter`.

    Raises:
        ConfigError: tensorboardX is not installed.

    Examples:
        >>> import tempfile
        >>> logger = TensorBoardLogger(tempfile.mkdtemp(), name="demo")
        >>> logger.log_metrics({"epoch": 0, "loss": 0.5}, step=1)
        >>> logger.close()
        >>> len(list(Path(logger.log_dir).glob("events.out.tfevents.*")))
        1
    """

    def __init__(
        self,
        save_dir: str | Path | None = None,
        name: str = "logs",
        version: int | str | None = None,
        prefix: str = "",
        sub_dir: str | None = None,
        default_hp_metric: bool = True,
        **kwargs: Any,
    ) -> None:
        if importlib.util.find_spec("tensorboardX") is None:
            raise ConfigError(
                "TensorBoardLogger needs the package tensorboardX, which is not installed: "
                "pip install 'fw-framework[tensorboard]'"
            )
        super().__init__(save_dir, name, version, prefix)
        self._sub_dir = sub_dir
        self._default_hp_metric = default_hp_metric
        self._kwargs = kwargs
        self._feeder: Feeder | None = None
        self._writer: EventWriter | None = None
        self._resumed_at: int | None = None
        self._step = 0
        self._warned = False

    @property
    def log_dir(self) -> str | None:
        """The folder that holds the event files; None before it is known."""
        if self._folder is None:
            return None
        return str(self._folder / self._sub_dir if self._sub_dir else self._folder)

    @property
    def experiment(self) -> Any:
        """The `tensorboardX.SummaryWriter`, for images and histograms; waits for it to be made.

        Raises:
            BackendError: it could not be made.
        """
        feeder = self._started()
        if not feeder.wait_started():
            raise BackendError(f"There is no SummaryWriter: tensorboardX {feeder.problem}")
        assert self._writer is not None
        return self._writer.writer

    def attach(self, run_dir: Path) -> None:
        """Write in `run_dir`, unless there is an own `save_dir`; another folder begins anew there."""
        folder = Path(run_dir) if self._save_dir is None else self._own_folder()
        if folder != self._folder:
            self.close()
            self._folder = folder

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Queue the values; returns at once."""
        if step is not None:
            self._step = step
        feeder = self._feeder or self._started()
        feeder.put(Scalars(self._step, dict(with_prefix(metrics, self._prefix))))
        if feeder.problem is not None:
            self._warn(feeder)

    def log_hyperparams(self, params: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        """Write the hyper-parameters, with the metrics that their page is to compare runs by."""
        if metrics is None:
            metrics = {"hp_metric": -1.0} if self._default_hp_metric else {}
        flat = {name: v if isinstance(v, bool | int | float | str) else str(v) for name, v in _flat(plain(params))}
        if flat:
            self._started().put(HyperParameters(flat, dict(metrics)))

    def log_image(self, key: str, images: Sequence[Any], step: int | None = None) -> None:
        """Queue pictures; returns at once.

        Args:
            key: the name; of several each has its number after a slash.
            images: a list of Tensors (height, width) or (channels, height, width), arrays (height, width) or
                (height, width, channels), both of bytes or of numbers from 0 to 1, matplotlib figures, or PNG files
                (paths).
            step: the optimizer updates done; default those of the latest row.

        Raises:
            ConfigError: `images` is no list of such things.
        """
        check_list(key, images)
        name, feeder = prefixed(key, self._prefix), self._started()
        for number, content in enumerate([png_or_pixels(key, image) for image in images]):
            numbered = f"{name}/{number}" if len(images) > 1 else name
            feeder.put_heavy(Picture(self._step if step is None else step, numbered, content))
        if feeder.problem is not None:
            self._warn(feeder)

    def finalize(self, status: Status) -> None:
        """Wait a bounded time until the file's writer has all; a later row joins the same file.

        It is whole on the disk after `close`, or when the process has ended.
        """
        if self._feeder is None:
            return
        self._feeder.put(FLUSH)
        self._feeder.flush()
        if self._feeder.problem is not None:
            self._warn(self._feeder)

    def close(self) -> None:
        """Write all, and end the file; a later row begins another one."""
        feeder, self._feeder = self._feeder, None
        if feeder is None:
            return
        atexit.unregister(self.close)
        feeder.close(ok=True)
        if feeder.problem is not None:
            self._warn(feeder)

    def state_dict(self) -> dict[str, Any]:
        """The step of the latest row, and the version."""
        return {"step": self._step, "version": self.version if self._save_dir is not None else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What was written after this step is to be left out."""
        self.close()
        self._step = state.get("step", 0)
        self._resumed_at = self._step
        if self._version is None:
            self._version = state.get("version")

    def _started(self) -> Feeder:
        """The feeder; the first call starts it, and with it the file."""
        if self._feeder is not None:
            return self._feeder
        if self._folder is None:
            if self._save_dir is None:
                raise ConfigError("TensorBoardLogger() has no folder yet: give it save_dir=…, or hand it to a Trainer.")
            self._folder = self._own_folder()
        arguments = dict(self._kwargs)
        before = len(list(Path(str(self.log_dir)).glob("events.out.tfevents.*")))
        if before:  # files are named by the second, so that one begun within it would be overwritten
            arguments["filename_suffix"] = f".{before}{arguments.get('filename_suffix', '')}"
        if self._resumed_at is not None:
            arguments.setdefault("purge_step", self._resumed_at + 1)
            self._resumed_at = None
        self._writer = EventWriter(str(self.log_dir), arguments)
        self._feeder = Feeder(self._writer)
        atexit.register(self.close)
        return self._feeder

    def _warn(self, feeder: Feeder) -> None:
        if self._warned:
            return
        self._warned = True
        warnings.warn(
            f"TensorBoard: tensorboardX {feeder.problem}. The training goes on; its numbers are in the run folder's "
            f"metrics.jsonl. Further trouble with TensorBoard is not reported.",
            RuntimeWarning,
            stacklevel=3,
        )


class Scalars(NamedTuple):
    """Values of one step."""

    step: int
    values: dict[str, float]


class HyperParameters(NamedTuple):
    """The hyper-parameters, and the metrics to compare runs by."""

    values: dict[str, Any]
    metrics: dict[str, float]


@dataclass(slots=True)
class Picture:
    """A picture of one step: the content of a PNG file, or an array."""

    step: int
    name: str
    content: Any
    is_heavy = True


FLUSH = object()
"""A wish to have all written."""


class EventWriter(Client):
    """The writer, used from one thread."""

    def __init__(self, folder: str, arguments: dict[str, Any]) -> None:
        self.writer: Any = None
        self._folder = folder
        self._arguments = arguments

    def start(self) -> None:
        """Import tensorboardX and begin a file."""
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(logdir=self._folder, **self._arguments)

    def handle(self, item: Any) -> None:
        """Write one item."""
        if isinstance(item, Scalars):
            for name, value in item.values.items():
                self.writer.add_scalar(name, value, item.step)
        elif isinstance(item, HyperParameters):
            self._hyper_parameters(item)
        elif isinstance(item, Picture):
            self._picture(item)
        else:
            self.writer.flush()

    def finish(self, ok: bool) -> None:
        """End the file."""
        self.writer.close()

    def _picture(self, item: Picture) -> None:
        if not isinstance(item.content, bytes):
            formats = "HW" if len(item.content.shape) == 2 else "HWC"
            self.writer.add_image(item.name, item.content, item.step, dataformats=formats)
            return
        from tensorboardX.proto.summary_pb2 import Summary

        width, height = struct.unpack(">II", item.content[16:24])  # where a PNG file has them
        image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=item.content)
        value = Summary.Value(tag=item.name, image=image)
        self.writer.file_writer.add_summary(Summary(value=[value]), item.step)

    def _hyper_parameters(self, item: HyperParameters) -> None:
        """Into the file at hand; the writer's own way would make a folder of its own."""
        from tensorboardX.summary import hparams

        for summary in hparams(item.values, item.metrics):
            self.writer.file_writer.add_summary(summary)
        for name, value in item.metrics.items():
            self.writer.add_scalar(name, value, 0)


def _flat(values: Mapping[str, Any], start: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{start}{name}/")
        else:
            found.append((f"{start}{name}", value))
    return found
