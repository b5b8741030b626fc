"""The two faces of the progress bar: a tqdm bar, and plain lines."""

from __future__ import annotations

import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping
from datetime import timedelta
from typing import Any

from framework.loggers.console import is_open, say

BAR_S = 0.1
"""Seconds between two looks at the metrics for the bar; a look waits for the device."""
SIDE_S = 0.5
"""Seconds that a validation may take before it gets a bar of its own."""
LINE_S = 30.0
"""Seconds between two lines of a long epoch; later 3 % of the time passed, if that is more."""
FORESEEN_S = 1e8
"""Seconds that a training may still take (three years): a number of steps that takes longer is no plan."""
EPOCH_LINES = 60
"""About so many epochs get a line, however many there are."""
COLUMNS = 120
"""Width of the bar in a terminal that does not tell its own; in a narrower one it shows less beside the metrics."""
WIDE = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
NARROW = "{desc} |{bar}| {rate_fmt}{postfix}"

Metrics = Mapping[str, float]


class View(ABC):
    """What the progress bar draws on. `side` is a stage beside the epoch: a validation, a test."""

    due = math.inf
    """When to draw next, on the monotonic clock."""

    @abstractmethod
    def start(self, epochs: float, step: int, steps: float) -> None:
        """Training begins at `step` and is to last for about so many epochs, and until about step `steps`."""

    @abstractmethod
    def begin(self, title: str, total: float, done: int) -> None:
        """The epoch `title` of `total` batches is at hand; nothing new if it was already."""

    @abstractmethod
    def draw(self, done: int, step: int, metrics: Metrics) -> None:
        """So many batches of the epoch are done."""

    @abstractmethod
    def wants_end(self, epoch: int) -> bool:
        """Whether the end of this epoch is to be shown."""

    @abstractmethod
    def end(self, step: int, metrics: Metrics) -> None:
        """The epoch has ended."""

    @abstractmethod
    def finish(self, step: int, metrics: Callable[[], Metrics]) -> None:
        """Training has ended at `step`."""

    @abstractmethod
    def begin_side(self, title: str, total: float) -> None:
        """A stage beside the epoch begins."""

    @abstractmethod
    def draw_side(self, done: int) -> None:
        """So many batches of that stage are done."""

    @abstractmethod
    def end_side(self) -> None:
        """The stage has ended."""

    @abstractmethod
    def close(self) -> None:
        """Take everything that moves off the screen."""


class Bars(View):
    """A tqdm bar for the epoch, and one below it for a validation that takes its time."""

    def __init__(self, position: int, leave: bool) -> None:
        from tqdm import tqdm

        class Bar(tqdm):
            monitor_interval = 0  # no thread that wakes up slow bars: this file draws by the clock
            final: MutableMapping[str, Any] | None = None

            @property
            def format_dict(self) -> MutableMapping[str, Any]:
                return self.final or super().format_dict

        self._make = Bar
        self._position = position
        self._leave = leave
        self._bar: Any = None
        self._title = ""
        self._side: Any = None
        self._side_title: tuple[str, float] = ("", 0)
        self._side_began = self._side_due = math.inf

    def start(self, epochs: float, step: int, steps: float) -> None:
        """Draw soon."""
        self.due = time.monotonic() + BAR_S

    def begin(self, title: str, total: float, done: int) -> None:
        """Put the bar back to the start, or open it."""
        if title == self._title:
            return
        if self._leave:
            self._close_bar()
        self._title = title
        if self._bar is None:
            self._bar = self._open(title, total, self._position, leave=True)
        else:
            self._bar.set_description_str(title, refresh=False)
            self._bar.reset(_count(total))
        self._bar.n = self._bar.initial = self._bar.last_print_n = done

    def draw(self, done: int, step: int, metrics: Metrics) -> None:
        """Move the bar."""
        self._bar.set_description_str(f"{self._title} step {step}", refresh=False)
        self._bar.set_postfix_str(" ".join(_texts(metrics)), refresh=False)
        self._bar.update(done - self._bar.n)
        self.due = time.monotonic() + BAR_S

    def wants_end(self, epoch: int) -> bool:
        """Each epoch's end is drawn."""
        return self._bar is not None

    def end(self, step: int, metrics: Metrics) -> None:
        """Show the full bar with the epoch's metrics."""
        total = self._bar.total
        self.draw(self._bar.n if total is None else total, step, metrics)

    def finish(self, step: int, metrics: Callable[[], Metrics]) -> None:
        """Leave the last bar as it is."""
        self._close_bar()

    def begin_side(self, title: str, total: float) -> None:
        """Remember what to show if it takes long."""
        self._side_title, self._side_began = (title, total), time.time()  # tqdm's clock
        self._side_due = time.monotonic() + SIDE_S

    def draw_side(self, done: int) -> None:
        """Move the second bar, which opens here."""
        if time.monotonic() < self._side_due:
            return
        if self._side is None:
            self._side = self._open(*self._side_title, self._position + (self._bar is not None), leave=False)
            self._side.start_t = self._side.last_print_t = self._side_began
        self._side.update(done - self._side.n)
        self._side_due = time.monotonic() + BAR_S

    def end_side(self) -> None:
        """Take the second bar off; the time it took is not the epoch's."""
        if self._side is not None:
            self._side.close()
            self._side = None
        if self._bar is not None:
            pause = max(0.0, time.time() - self._side_began)
            self._bar.start_t += pause
            self._bar.last_print_t += pause
        self._side_began = math.inf

    def close(self) -> None:
        """Close both bars."""
        self.end_side()
        self._close_bar()

    def _open(self, title: str, total: float, position: int, leave: bool) -> Any:
        # Every update draws: it is this file that keeps them rare.
        columns = _terminal_columns()
        known = columns > 0
        return self._make(
            desc=title,
            total=_count(total),
            position=position,
            leave=leave,
            file=sys.stderr,
            ncols=None if known else COLUMNS,
            nrows=None if known else 24,
            dynamic_ncols=known,
            bar_format=NARROW if 0 < columns < COLUMNS and position == self._position else WIDE,
            mininterval=0,
            miniters=0,
        )

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.final = self._bar.format_dict  # so that closing does not change the rate
            self._bar.close()
            self._bar, self._title = None, ""


class Lines(View):
    """Plain lines, few enough for a log file or a notebook."""

    def __init__(self) -> None:
        self._began = self._drawn = self._spoke = time.monotonic()
        self._stride: float = 1
        self._title = ""
        self._total: float = 0
        self._step = self._first = 0
        self._last: float = math.inf
        self._side = ("", 0.0)
        self._side_began = 0.0
        self._aside = 0.0  # seconds since the last line that went into validation

    def start(self, epochs: float, step: int, steps: float) -> None:
        """Begin to count time and steps."""
        self._began = self._drawn = self._spoke = time.monotonic()
        self._first, self._last = step, steps
        self._step, self._aside = step, 0.0
        self._stride = max(1, math.ceil(epochs / EPOCH_LINES)) if math.isfinite(epochs) else math.inf
        self.due = self._drawn + LINE_S

    def begin(self, title: str, total: float, done: int) -> None:
        """Remember the epoch's title."""
        self._title, self._total = title, total

    def draw(self, done: int, step: int, metrics: Metrics) -> None:
        """Write a line within an epoch."""
        batches = f"batch {done}" if math.isinf(self._total) else f"batch {done}/{int(self._total)}"
        self._write(f"{self._title}  {batches}", step, metrics)

    def wants_end(self, epoch: int) -> bool:
        """The first epoch, each so many, and any that comes when a line is due."""
        return epoch == 0 or (epoch + 1) % self._stride == 0 or time.monotonic() >= self.due

    def end(self, step: int, metrics: Metrics) -> None:
        """Write the epoch's line."""
        self._write(self._title, step, metrics)

    def finish(self, step: int, metrics: Callable[[], Metrics]) -> None:
        """Write where training has ended, unless the last line says so."""
        if step != self._step:
            self._write(self._title, step, metrics())
        self.due = math.inf

    def begin_side(self, title: str, total: float) -> None:
        """Stop the clock of the steps."""
        self._side, self._side_began = (title, total), time.monotonic()

    def draw_side(self, done: int) -> None:
        """Write a line if the stage takes long."""
        now = time.monotonic()
        if now < max(self._spoke, self._side_began) + LINE_S:
            return
        title, total = self._side
        self._spoke = now
        say(f"{title}  batch {done}" if math.isinf(total) else f"{title}  batch {done}/{int(total)}")

    def end_side(self) -> None:
        """Let the clock of the steps go on."""
        self._aside += time.monotonic() - self._side_began

    def close(self) -> None:
        """Nothing moves here."""

    def _write(self, title: str, step: int, metrics: Metrics) -> None:
        now = time.monotonic()
        seconds = now - self._drawn - self._aside
        rate = [f"{(step - self._step) / seconds:.1f} it/s"] if seconds > 0 and step > self._step else []
        self._drawn = self._spoke = now
        self._step, self._aside = step, 0.0
        self.due = now + max(LINE_S, 0.03 * (now - self._began))
        say("  ".join([title, f"step {step}", *rate, *self._left(now, step), *_texts(metrics)]))

    def _left(self, now: float, step: int) -> list[str]:
        """How long the training will still take, validations included, if it goes on as it has."""
        done = step - self._first
        if done <= 0 or not step < self._last < math.inf:
            return []
        seconds = (now - self._began) / done * (self._last - step)
        return [f"ETA {timedelta(seconds=math.ceil(seconds))}"] if seconds < FORESEEN_S else []


def in_terminal() -> bool:
    """Whether both streams are a terminal that can redraw a line."""
    streams = (sys.stdout, sys.stderr)
    return (
        all(is_open(stream) and stream.isatty() for stream in streams)
        and os.environ.get("TERM") != "dumb"
        and not in_notebook()
    )


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel, whose streams may say that they are a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _terminal_columns() -> int:
    """Width of the terminal; 0 for one that does not tell, as under `script` or in some CI."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 0


def _texts(metrics: Metrics) -> list[str]:
    return [f"{name}={_short(value)}" for name, value in metrics.items()]


def _short(value: float) -> str:
    return f"{value:.4f}" if 0.001 <= abs(value) < 100 else f"{value:.4g}"


def _count(total: float) -> int | None:
    return None if math.isinf(total) else int(total)
