"""Finds a learning rate by trying a range of them before the training."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from framework.callbacks.callback import Callback
from framework.errors import ConfigError, did_you_mean
from framework.loggers.console import say

if TYPE_CHECKING:
    from framework.train import Trainer, TrainModule

SKIP_BEGIN = 10
"""So many losses at the beginning are too noisy to go by."""
_MODES = ("exponential", "linear")
_NAMES = ("lr", "learning_rate")


class LearningRateFinder(Callback):
    """Before training, makes `num_training_steps` updates at rising rates, puts everything back, and takes the
    rate at which the loss fell most steeply against the logarithm of the rate.

    What was found is told by `results`, `suggestion()` and `plot()`; a picture is in the run folder, `lr_find.png`,
    where matplotlib is installed, and there is no other file. Where the losses are too noisy to tell a fall from
    chance, nothing is suggested and the rate stays as it was. A resumed run keeps the rate that it began with. In a
    `fast_dev_run` nothing is tried.

    (Smith 2015, "Cyclical Learning Rates for Training Neural Networks".)

    Args:
        min_lr: the first rate.
        max_lr: the last one.
        num_training_steps: how many.
        mode: "exponential" or "linear" steps between them.
        early_stop_threshold: stop where the smoothed loss is more than so many times the best; None never.
        update_attr: train with the rate: set the module's attribute, make the optimizer anew. Where the module has
            no such attribute and there is no scheduler, the optimizer's rate is set.
        attr_name: the module's attribute or hyper-parameter; default `lr` or `learning_rate`.

    Raises:
        ConfigError: an argument makes no sense; at the start, there is no such attribute.

    Examples:
        >>> LearningRateFinder(min_lr=0.01, max_lr=1.0, num_training_steps=3).rates()
        [0.01, 0.1, 1.0]
    """

    priority: ClassVar[int] = 100

    def __init__(
        self,
        min_lr: float = 1e-8,
        max_lr: float = 1.0,
        num_training_steps: int = 100,
        mode: Literal["exponential", "linear"] = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
    ) -> None:
        if mode not in _MODES:
            raise ConfigError(
                f"LearningRateFinder(mode={mode!r}): expected 'exponential' or 'linear'."
                f"{did_you_mean(str(mode), _MODES)}"
            )
        if not 0 < min_lr < max_lr:
            raise ConfigError(f"LearningRateFinder(min_lr={min_lr}, max_lr={max_lr}): expected 0 < min_lr < max_lr")
        if not isinstance(num_training_steps, int) or num_training_steps < 3:
            raise ConfigError(
                f"LearningRateFinder(num_training_steps={num_training_steps!r}): expected an int of at least 3"
            )
        self.min_lr = min_lr
        self.max_lr = max_lr
        self.num_training_steps = num_training_steps
        self.mode = mode
        self.early_stop_threshold = early_stop_threshold
        self.update_attr = update_attr
        self.attr_name = attr_name
        self.optimal_lr: LearningRates | None = None
        """What was found; None before."""
        self._chosen: float | None = None

    def rates(self) -> list[float]:
        """The rates to try."""
        last, low, high = self.num_training_steps - 1, self.min_lr, self.max_lr
        if self.mode == "linear":
            return [low + (high - low) * i / last for i in range(last)] + [high]
        return [low * (high / low) ** (i / last) for i in range(last)] + [high]

    @property
    def results(self) -> dict[str, list[float]]:
        """The rates that were tried, `lr`, and the running mean of the `loss` at them; empty before."""
        return {"lr": [], "loss": []} if self.optimal_lr is None else self.optimal_lr.results

    def suggestion(self, skip_begin: int = SKIP_BEGIN, skip_end: int = 1) -> float | None:
        """The rate at which the loss falls most steeply; None before the search, or where there is no clear fall."""
        return self._chosen if self.optimal_lr is None else self.optimal_lr.suggestion(skip_begin, skip_end)

    def plot(self, suggest: bool = True, show: bool = False, ax: Any = None, path: str | Path | None = None) -> Any:
        """Draw what was found, as `LearningRates.plot` does; gives matplotlib's figure.

        Raises:
            ConfigError: matplotlib is not installed, or nothing has been tried.
        """
        if self.optimal_lr is None:
            raise ConfigError("LearningRateFinder: nothing has been tried yet; plot() comes after trainer.fit(…)")
        return self.optimal_lr.plot(suggest, show, ax, path)

    def find(self, trainer: Trainer) -> LearningRates:
        """Try the rates; the training is as it was afterwards."""
        rates, found = self.rates(), LearningRates([], [])
        best = math.inf

        def goes_on(loss: float) -> bool:
            nonlocal best
            smoothed = found.add(rates[len(found.lr)], loss)
            if len(found.lr) <= SKIP_BEGIN:  # the mean of a few batches says nothing yet
                best = smoothed
            best = min(best, smoothed)
            limit = self.early_stop_threshold
            # for a best loss above zero this is `limit` times it; below zero that would be less than the best itself
            return math.isfinite(loss) and (limit is None or smoothed <= best + (limit - 1) * abs(best))

        trainer.try_learning_rates(rates, goes_on)
        return found

    # -- hooks ---------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Try the rates and set the one that was found."""
        if trainer.fast_dev_run:
            return
        if trainer.resume_source is not None:
            if self._chosen is not None and self.update_attr:
                self._set(pl_module, self._chosen)  # the optimizer comes back with the checkpoint
            return
        if self.update_attr:
            self._check(trainer, pl_module)
        self.optimal_lr = self.find(trainer)
        self._chosen = self.optimal_lr.suggestion()
        if self._chosen is None:
            say(f"LearningRateFinder: {self._why_none(self.optimal_lr)}; the learning rate stays as it is")
        elif self.update_attr:
            say(f"LearningRateFinder: learning rate {self._chosen:.3g}")
            if self._set(pl_module, self._chosen):
                trainer.remake_optimizers()
            else:
                for group in trainer.optimizers[0].param_groups:
                    group["lr"] = self._chosen
        else:
            say(f"LearningRateFinder: it suggests the learning rate {self._chosen:.3g}")

    def on_train_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Draw what was found into the run folder."""
        if self.optimal_lr is None or trainer.log_dir is None or trainer.resume_source is not None:
            return
        if importlib.util.find_spec("matplotlib") is None:
            return
        try:
            self.optimal_lr.plot(path=Path(trainer.log_dir) / "lr_find.png")
        except OSError as error:
            warnings.warn(f"LearningRateFinder: the picture could not be written: {error}", UserWarning, stacklevel=2)

    def _why_none(self, found: LearningRates) -> str:
        if len(found.lr) <= SKIP_BEGIN + 1:
            return f"the loss was there for {len(found.lr)} rates only, which are too few"
        return (
            f"between {found.lr[0]:.3g} and {found.lr[-1]:.3g} the loss does not fall more than its noise may "
            "(larger batches or more num_training_steps would tell)"
        )

    def _check(self, trainer: Trainer, pl_module: TrainModule) -> None:
        if self.attr_name and not _holders(pl_module, self.attr_name):
            hint = did_you_mean(self.attr_name, [*vars(pl_module), *pl_module.hparams])
            raise ConfigError(
                f"LearningRateFinder(attr_name={self.attr_name!r}): {type(pl_module).__name__} has neither an "
                f"attribute nor a hyper-parameter of that name.{hint}"
            )
        if not self._name(pl_module) and trainer.lr_scheduler_configs:
            raise ConfigError(
                f"LearningRateFinder: {type(pl_module).__name__} has no attribute `lr` or `learning_rate` to set, and "
                "a scheduler counts on the optimizer's rate: give it one that configure_optimizers uses, or "
                "attr_name=, or update_attr=False"
            )

    def _name(self, pl_module: TrainModule) -> str:
        return self.attr_name or next((name for name in _NAMES if _holders(pl_module, name)), "")

    def _set(self, pl_module: TrainModule, rate: float) -> bool:
        name = self._name(pl_module)
        for holder in _holders(pl_module, name) if name else ():
            if isinstance(holder, dict):
                holder[name] = rate
            else:
                setattr(holder, name, rate)
        return bool(name)

    # -- state ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The rate that was found."""
        return {} if self._chosen is None else {"lr": self._chosen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep the rate."""
        self._chosen = state["lr"]


class LearningRates:
    """Learning rates and the losses at them.

    Args:
        lr: the rates, rising.
        loss: the loss before the update at each.

    Examples:
        >>> found = LearningRates([], [])
        >>> for i in range(25):  # falls from 10**-3 to 10**-2
        ...     _ = found.add(10 ** (i / 4 - 6), min(1.0, max(0.2, 1.0 - 0.2 * (i - 12))))
        >>> round(found.suggestion(), 4)
        0.0032
    """

    BETA: ClassVar[float] = 0.98
    PARTS: ClassVar[tuple[int, ...]] = (12, 8, 6, 4)
    """Lines are laid through the losses this part of all to either side: as short as the noise allows."""
    CERTAIN: ClassVar[float] = 4.5
    """So many standard errors must a line fall; less is found in noise."""

    def __init__(self, lr: Sequence[float], loss: Sequence[float]) -> None:
        self.lr: list[float] = []
        self.loss: list[float] = []
        self.smoothed: list[float] = []
        """The losses' exponential mean, corrected for its beginning."""
        self._mean = 0.0
        for rate, value in zip(lr, loss):
            self.add(rate, value)

    @property
    def results(self) -> dict[str, list[float]]:
        """`lr` and the smoothed `loss`."""
        return {"lr": self.lr, "loss": self.smoothed}

    def add(self, rate: float, loss: float) -> float:
        """Add a loss; gives the smoothed one."""
        self._mean = self.BETA * self._mean + (1.0 - self.BETA) * loss
        smoothed = self._mean / (1.0 - self.BETA ** (len(self.lr) + 1))
        self.lr.append(rate)
        self.loss.append(loss)
        self.smoothed.append(smoothed)
        return smoothed

    def slopes(self) -> list[float]:
        """The slope of the loss against the logarithm of the rate, at each rate.

        Each is that of the straight line through the losses around it: unlike a running mean this smooths without
        coming late. The lines are as long as the suggestion needs them.
        """
        return [line.slope for line in self._find(SKIP_BEGIN, 1)[0]]

    def suggestion(self, skip_begin: int = SKIP_BEGIN, skip_end: int = 1) -> float | None:
        """The rate at which the loss falls most steeply with the logarithm of the rate.

        None where there are too few losses, or none of them falls more clearly than the noise in them may.

        Args:
            skip_begin: rates at the beginning that are not looked at.
            skip_end: rates at the end that are not.
        """
        place = self._find(skip_begin, skip_end)[1]
        return None if place is None else self.lr[place]

    def _find(self, skip_begin: int, skip_end: int) -> tuple[list[Line], int | None]:
        """Lines through the losses around each rate, and where the steepest lies; the shortest that are certain."""
        x, count = [math.log(rate) for rate in self.lr], len(self.lr)
        lines: list[Line] = []
        for part in self.PARTS:
            reach = max(4, count // part)
            around = [slice(max(0, i - reach), i + reach + 1) for i in range(count)]
            lines = [line_through(x[some], self.loss[some]) for some in around]
            places = [i for i in range(skip_begin, count - skip_end) if math.isfinite(lines[i].slope)]
            steepest = min(places, key=lambda i: lines[i].slope, default=None)
            if steepest is not None and lines[steepest].slope < -self.CERTAIN * lines[steepest].error:
                return lines, steepest
        return lines, None

    def plot(self, suggest: bool = True, show: bool = False, ax: Any = None, path: str | Path | None = None) -> Any:
        """Draw loss and slope against the rate on a logarithmic axis, and the suggestion; gives the figure.

        Args:
            suggest: mark the suggestion.
            show: open a window.
            ax: matplotlib's axes to draw on; default new ones.
            path: a file to write the picture to, PNG or whatever else its name says.

        Raises:
            ConfigError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ConfigError(
                "LearningRateFinder: a plot needs matplotlib, which is not installed: pip install 'fw-framework[plots]'"
            ) from error
        if ax is not None:
            figure = ax.figure
        elif show:
            import matplotlib.pyplot as plt

            figure = plt.figure(figsize=(8, 4.5), layout="constrained")
        else:
            figure = Figure(figsize=(8, 4.5), layout="constrained")
        self._draw(ax if ax is not None else figure.subplots(), suggest)
        if path is not None:
            figure.savefig(path, dpi=120)
        if show:
            import matplotlib.pyplot as plt

            plt.show()
        return figure

    def _draw(self, ax: Any, suggest: bool) -> None:
        lines, place = self._find(SKIP_BEGIN, 1)
        ax.plot(self.lr, self.loss, ".", color="tab:blue", alpha=0.35, markersize=4, label="loss")
        ax.plot(self.lr, self.smoothed, color="tab:blue", label="loss, running mean")
        low, high = min(_finite(self.loss), default=0.0), max(_finite(self.smoothed[:SKIP_BEGIN]), default=1.0)
        room = 0.15 * max(high - low, 1e-12)
        ax.set_ylim(low - room, high + 3 * room)  # what has exploded would flatten all else
        if _finite(self.loss):  # without a point there are no ticks of a logarithmic axis
            ax.set_xscale("log")
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss")
        ax.spines["top"].set_visible(False)
        beside = ax.twinx()
        slopes = [line.slope for line in lines]
        beside.plot(self.lr, slopes, color="tab:orange", linewidth=1, label="slope: d loss / d log(rate)")
        steepest = abs(min(_finite(slopes), default=-1.0)) or 1.0
        beside.set_ylim(-1.2 * steepest, 1.2 * steepest)
        beside.axhline(0.0, color="tab:orange", linewidth=0.5, linestyle=":")
        beside.set_ylabel("slope", color="tab:orange")
        beside.spines["top"].set_visible(False)
        marks = []
        if suggest and place is not None:
            rate = self.lr[place]
            marks = [ax.axvline(rate, color="tab:red", linestyle="--", label=f"suggestion {rate:.3g}")]
        elif suggest:
            ax.set_title("no fall that is clearer than the noise: nothing is suggested", fontsize="medium")
        shown = [*ax.get_lines()[:2], beside.get_lines()[0], *marks]
        ax.legend(shown, [line.get_label() for line in shown], loc="lower left", fontsize="small")


class Line(NamedTuple):
    """A straight line with the least squares through points."""

    slope: float
    error: float
    """Its standard error."""


def line_through(x: Sequence[float], y: Sequence[float]) -> Line:
    """The straight line with the least squares through points.

    Examples:
        >>> line_through([0.0, 1.0, 2.0], [1.0, 3.0, 5.0])
        Line(slope=2.0, error=0.0)
    """
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    if not spread:
        return Line(0.0, 0.0)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / spread
    left = math.hypot(*(b - mean_y - slope * (a - mean_x) for a, b in zip(x, y)))  # no square of it overflows
    return Line(slope, left / math.sqrt(max(1, len(x) - 2) * spread))


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _holders(pl_module: TrainModule, name: str) -> list[Any]:
    """Where a rate is kept: the module, its hyper-parameters, or both."""
    found: list[Any] = [pl_module] if isinstance(getattr(pl_module, name, None), int | float) else []
    if isinstance(pl_module.hparams.get(name), int | float):
        found.append(pl_module.hparams)
    return found
