"""What `self.log` records: running values, kept where they were computed until somebody needs them.

One `Results` belongs to one stage (training, validation, test). On a synchronous backend values are
Python floats; elsewhere they stay raw device arrays, and nothing waits for the device before a row
is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from framework.autodiff import Tensor
from framework.autodiff.effects import effect
from framework.autodiff.hostnumber import HostNumber
from framework.autodiff.namespace import namespace_of
from framework.backend import Backend
from framework.errors import ConfigError, ShapeError, did_you_mean
from framework.train.batches import batch_size_of

if TYPE_CHECKING:
    from framework.train.trainer import Trainer

REDUCTIONS = {"mean": "mean", "avg": "mean", "sum": "sum", "min": "min", "max": "max"}
RESERVED = ("step", "wall_s")
LOADER = "/dataloader_idx_"
"""Stands in names before the index of one of several loaders."""
_ARGUMENTS = ("prog_bar", "logger", "on_step", "on_epoch", "reduce_fx", "add_dataloader_idx")

LogArguments = tuple[bool, bool, bool | None, bool | None, str, bool]


class Entry:
    """One metric: how it is recorded, and its running values."""

    __slots__ = ("arguments", "logger", "metric", "name", "on_epoch", "on_step", "prog_bar", "reduce", "tick", "total",
                 "value", "weight")  # fmt: skip

    def __init__(self, name: str, arguments: LogArguments | None, on_step: bool, on_epoch: bool) -> None:
        self.name = name
        self.arguments = arguments
        self.on_step = on_step
        self.on_epoch = on_epoch
        self.prog_bar, self.logger = (False, True) if arguments is None else arguments[:2]
        self.reduce = "mean" if arguments is None else REDUCTIONS[arguments[4]]
        self.metric: Any = None
        self.value: Any = math.nan
        """The latest value."""
        self.tick = -1
        """The batch in which it was recorded."""
        self.reset()

    def reset(self) -> None:
        """Forget the epoch."""
        self.total: Any = None
        self.weight = 0

    @property
    def step_name(self) -> str:
        """The name of the value as of a step."""
        return self._with("_step") if self.on_epoch else self.name

    @property
    def epoch_name(self) -> str:
        """The name of the epoch's value."""
        return self._with("_epoch") if self.on_step else self.name

    def _with(self, ending: str) -> str:
        """The name with an ending, before the index of a loader."""
        name, mark, index = self.name.rpartition(LOADER)
        return f"{name}{ending}{mark}{index}" if mark else f"{self.name}{ending}"


class Results:
    """The metrics of one stage.

    Args:
        stage: its name, as in messages.
        backend: whose arrays are recorded.
        owners: name of a metric to the stage that it belongs to; shared between the stages of a run.
        by_step: whether values belong to a step unless told otherwise.
    """

    def __init__(self, stage: str, backend: Backend, owners: dict[str, str], *, by_step: bool = False) -> None:
        self.stage = stage
        self.entries: dict[str, Entry] = {}
        self.by_step = by_step
        self.suffix = ""
        """Added to names: which of several loaders the batch is from."""
        self.owners = owners
        self._backend = backend
        self._ns = namespace_of(backend)
        self._read: Any = float if backend.synchronous else self._as_float
        self._tick = 0
        self._batch: Any = None
        self._size: int | None = 1

    # -- recording -----------------------------------------------------------------------------------

    def begin_batch(self, batch: Any) -> None:
        """A new batch: its length is the weight of what is logged until the next one."""
        self._tick += 1
        self._batch = batch
        self._size = None

    def end_batches(self) -> None:
        """What is logged from now on belongs to no batch."""
        self._batch, self._size = None, 1

    def log(self, name: str, value: Any, arguments: LogArguments, batch_size: int | None) -> None:
        """Record one value; see `TrainModule.log`."""
        if self.suffix and arguments[5]:
            name += self.suffix
        entry = self.entries.get(name)
        if entry is None or entry.arguments != arguments:
            entry = self._entry(name, value, arguments)
        if isinstance(value, Tensor):
            data = value._data
            if data.shape:
                data = self._only_element(name, value)
            value = self._read(data)
        elif type(value) is not float:
            if entry.metric is not None:
                entry.tick = self._tick
                return
            value = number(value, name)
        entry.value = value
        entry.tick = self._tick
        if entry.on_epoch:
            self._accumulate(entry, value, batch_size)

    def _accumulate(self, entry: Entry, value: Any, batch_size: int | None) -> None:
        reduce = entry.reduce
        if reduce == "mean":
            size = batch_size or self._size or self._measure(entry.name)
            entry.total = value * size if entry.total is None else entry.total + value * size
            entry.weight += size
        elif entry.total is None:
            entry.total = value
        elif reduce == "sum":
            entry.total = entry.total + value
        else:
            entry.total = self._extreme(reduce, entry.total, value)

    def _measure(self, name: str) -> int:
        size = batch_size_of(self._batch)
        if size is None:
            raise ConfigError(
                f"self.log({name!r}, …): the batch holds no array whose length could weigh the value in the mean; "
                "pass batch_size="
            )
        self._size = size
        return size

    def _extreme(self, reduce: str, a: Any, b: Any) -> Any:
        if isinstance(a, float) and isinstance(b, float):
            if math.isnan(a) or math.isnan(b):
                return math.nan
            return min(a, b) if reduce == "min" else max(a, b)
        a, b = (x if self._backend.owns(x) else self._backend.asarray(x) for x in (a, b))
        return self._ns.minimum(a, b) if reduce == "min" else self._ns.maximum(a, b)

    def _as_float(self, data: Any) -> Any:
        """A device scalar of a floating-point dtype; sums of small integers would overflow."""
        return data if self._backend.dtype_of(data).kind == "float" else self._ns.astype(data, self._ns.float32)

    def _only_element(self, name: str, value: Tensor) -> Any:
        if value.size != 1:
            raise ShapeError(
                f"self.log({name!r}, …): got a Tensor of shape {value.shape}; a metric is one number: "
                f"log value.mean(), say, or value.sum()"
            )
        return self._ns.reshape(value._data, ())

    # -- new names -----------------------------------------------------------------------------------

    def _entry(self, name: str, value: Any, arguments: LogArguments) -> Entry:
        known = self.entries.get(name)
        if known is not None and known.arguments is not None:
            changed = _difference(known.arguments, arguments)
            raise ConfigError(
                f"self.log({name!r}, …) was called with other arguments before: {changed}. "
                "Give one name one meaning: use the same arguments, or another name"
            )
        is_metric = hasattr(value, "compute") and hasattr(value, "reset")
        on_step, on_epoch = self._when(name, arguments, is_metric)
        _check_arguments(name, value, arguments, is_metric)
        entry = Entry(name, arguments, on_step, on_epoch)
        if known is not None:  # it came with a checkpoint
            entry.value, entry.tick, entry.total, entry.weight = known.value, known.tick, known.total, known.weight
        for full in {name, entry.step_name, entry.epoch_name}:
            owner = self.owners.setdefault(full, self.stage)
            if owner != self.stage:
                raise ConfigError(
                    f"self.log({name!r}, …) in {self.stage}: the name belongs to {owner} already, and one value would "
                    f"overwrite the other. Use two names, such as 'train_{name}' and 'val_{name}'"
                )
        entry.metric = value if is_metric else None
        self.entries[name] = entry
        return entry

    def _when(self, name: str, arguments: LogArguments, is_metric: bool) -> tuple[bool, bool]:
        on_step, on_epoch = arguments[2:4]
        step_wise = self.by_step and self._batch is not None
        if on_step and not step_wise and self.by_step:
            raise ConfigError(
                f"self.log({name!r}, …, on_step=True): this hook belongs to no step; leave on_step out, the value "
                "then belongs to the epoch"
            )
        if is_metric and on_step is None:
            on_step, on_epoch = False, on_epoch is None or on_epoch
        if on_epoch is None:
            on_epoch = not step_wise or on_step is False
        on_step = step_wise if on_step is None else on_step
        if not on_step and not on_epoch:
            raise ConfigError(f"self.log({name!r}, …, on_step=False, on_epoch=False) would record nothing")
        return on_step, on_epoch

    # -- reading -------------------------------------------------------------------------------------

    def step_row(self) -> dict[str, float]:
        """What was logged for the loggers in the current batch."""
        tick = self._tick
        return {
            entry.step_name: self._value(entry)
            for entry in self.entries.values()
            if entry.on_step and entry.logger and entry.tick == tick
        }

    def latest(self) -> Iterator[tuple[Entry, str, float]]:
        """The latest value of each metric that is recorded by step, with its name."""
        for entry in self.entries.values():
            if entry.on_step and entry.tick >= 0:
                yield entry, entry.step_name, self._value(entry)

    def epoch_values(self) -> list[tuple[Entry, float]]:
        """The epoch's value of each metric that has one."""
        values = []
        for entry in self.entries.values():
            if not entry.on_epoch:
                continue
            if entry.metric is not None:
                values.append((entry, number(entry.metric.compute(), entry.name)))
            elif entry.total is not None:
                total = self._host(entry.total)
                values.append((entry, total / entry.weight if entry.reduce == "mean" else total))
        return values

    def _value(self, entry: Entry) -> float:
        """The latest value."""
        return self._host(entry.value) if entry.metric is None else number(entry.metric.compute(), entry.name)

    def _host(self, value: Any) -> float:
        """A value on the host; waits for the device where it is there."""
        return value if type(value) is float else float(self._backend.to_numpy(value))

    def reset(self) -> None:
        """Begin a new epoch."""
        for entry in self.entries.values():
            entry.reset()
            if entry.metric is not None:
                entry.metric.reset()

    # -- state ---------------------------------------------------------------------------------------

    def state_dict(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """The running values; of metric objects, which keep their own state, the name in `metrics`."""
        names = {id(metric): name for name, metric in metrics.items()}
        return {
            entry.name: {
                "on_step": entry.on_step,
                "on_epoch": entry.on_epoch,
                "prog_bar": entry.prog_bar,
                "logger": entry.logger,
                "reduce": entry.reduce,
                "value": self._host(entry.value),
                "current": entry.tick == self._tick,
                "seen": entry.tick >= 0,
                "total": None if entry.total is None else self._host(entry.total),
                "weight": entry.weight,
                "metric": names.get(id(entry.metric)),
            }
            for entry in self.entries.values()
        }

    def load_state_dict(self, state: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
        """Continue from saved running values, with the metric objects of these names."""
        self.entries = {}
        for name, saved in state.items():
            entry = self.entries[name] = Entry(name, None, saved["on_step"], saved["on_epoch"])
            entry.prog_bar, entry.logger, entry.reduce = saved["prog_bar"], saved["logger"], saved["reduce"]
            entry.value, entry.total, entry.weight = saved["value"], saved["total"], saved["weight"]
            entry.metric = metrics.get(saved["metric"])
            entry.tick = self._tick if saved["current"] else 0 if saved["seen"] else -1


class LogPort:
    """Where a module's `self.log` goes at the moment; the Trainer turns it."""

    __slots__ = ("counters", "place", "results", "trainer")

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.results: Results | None = None
        self.place = ""
        """The hook at work where logging is not possible."""
        self.counters: Any = None
        """The epoch, the count of updates and the batch, as numbers of the step, while one may be recorded."""

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        return None  # a copied module has no Trainer

    def __reduce__(self) -> tuple[Any, ...]:
        return _no_port, ()

    def log(self, name: str, value: Any, arguments: LogArguments, batch_size: int | None) -> None:
        """Record a value; a step that is replayed records its value again."""
        given = (value,) if isinstance(value, Tensor) or type(value) is HostNumber else ()
        plain = None if given else value  # a recording keeps no Tensor alive

        def record(*values: Any) -> None:
            if self.results is not None:
                self.results.log(name, values[0] if values else plain, arguments, batch_size)

        effect("self.log", record, given, (name, plain, arguments, batch_size))

    @staticmethod
    def refuse(port: LogPort | None, name: str) -> None:
        """Say why `self.log` cannot record.

        Raises:
            ConfigError: it is called where values belong to no step or epoch.
        """
        if port is None:
            import warnings

            warnings.warn(f"self.log({name!r}, …) does nothing without a Trainer", UserWarning, stacklevel=3)
            return
        where = f" in {port.place}" if port.place else " here"
        raise ConfigError(
            f"self.log({name!r}, …) cannot be used{where}: the value would belong to no step or epoch. "
            "Log in a step, or in a hook of a batch or an epoch; self.logger.log_metrics({…}, step=…) works anywhere"
        )


def _no_port() -> None:
    return None


def number(value: Any, name: str) -> float:
    """A value that was logged, as a float.

    Raises:
        ConfigError: it is no number.
        ShapeError: it has several elements.
    """
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__float__"):
        if isinstance(value, Mapping):
            raise ConfigError(f"self.log({name!r}, …): got a dict; for several metrics use self.log_dict({{…}})")
        raise ConfigError(f"self.log({name!r}, …): a metric is a number, got {value!r} of type {type(value).__name__}")
    if getattr(value, "size", 1) != 1:
        raise ShapeError(f"self.log({name!r}, …): a metric is one number, got an array of shape {value.shape}")
    return float(value.item()) if hasattr(value, "item") else float(value)


def _check_arguments(name: str, value: Any, arguments: LogArguments, is_metric: bool) -> None:
    reduce = arguments[4]
    if not isinstance(name, str):
        raise ConfigError(f"self.log({name!r}, …): a name is a string, got a {type(name).__name__}")
    if name in RESERVED:
        raise ConfigError(f"self.log({name!r}, …): every row has a {name!r} of its own; choose another name")
    if not isinstance(reduce, str) or reduce not in REDUCTIONS:
        hint = did_you_mean(reduce, REDUCTIONS) if isinstance(reduce, str) else " For others log a metric object."
        raise ConfigError(f"self.log({name!r}, …, reduce_fx={reduce!r}): choose one of {', '.join(REDUCTIONS)}.{hint}")
    if not is_metric and not isinstance(value, Tensor):
        number(value, name)


def _difference(before: LogArguments, now: LogArguments) -> str:
    changed = [f"{n}={a!r}, now {b!r}" for n, a, b in zip(_ARGUMENTS, before, now) if a != b]
    return "; ".join(changed)
