"""Which functions each action spent its time in."""

from __future__ import annotations

import cProfile
import io
import pstats
from pathlib import Path

from framework.errors import ConfigError
from framework.profilers.profiler import Profiler


class AdvancedProfiler(Profiler):
    """Runs Python's own profiler in each action, and tells its functions by cumulative time.

    An action's table is without the actions within it, which have tables of their own. Slow.

    Args:
        dirpath: folder of the report; default the run's.
        filename: the report goes to `<dirpath>/<stage>-<filename>.txt`; without a name it is printed.
        line_count_restriction: how much of each table to tell: a number of lines, or a part of them.
        dump_stats: also write each action's statistics to `<dirpath>/<stage>-<filename>-<action>.prof`, for
            programs that show them.

    Examples:
        >>> profiler = AdvancedProfiler(line_count_restriction=3)
        >>> with profiler.profile("sort"):
        ...     _ = sorted(range(1000), key=str)
        >>> "sorted" in profiler.summary()
        True
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        line_count_restriction: float = 1.0,
        dump_stats: bool = False,
    ) -> None:
        super().__init__(dirpath, filename)
        self.line_count_restriction = line_count_restriction
        self.dump_stats = dump_stats
        self.reset()

    def reset(self) -> None:
        """Forget what was measured."""
        self._profiles: dict[str, cProfile.Profile] = {}
        self._inside: list[str] = []
        """The action that is measured, after those around it."""

    def start(self, action_name: str) -> None:
        """Measure this action instead of the one around it.

        Raises:
            ConfigError: another program measures already.
        """
        if self._inside:
            self._profiles[self._inside[-1]].disable()
        profile = self._profiles.setdefault(action_name, cProfile.Profile())
        try:
            profile.enable()
        except ValueError as error:  # Python has one place for such tools
            raise ConfigError(f"AdvancedProfiler: Python's profiler cannot be used, {error}") from error
        self._inside.append(action_name)

    def stop(self, action_name: str) -> None:
        """Measure the action around it again."""
        if action_name not in self._inside:
            return
        self._profiles[self._inside[-1]].disable()
        place = len(self._inside) - 1 - self._inside[::-1].index(action_name)
        del self._inside[place:]
        if self._inside:
            self._profiles[self._inside[-1]].enable()

    def end_all(self) -> None:
        """Stop every action that is still open."""
        while self._inside:
            self.stop(self._inside[-1])

    def summary(self) -> str:
        """A table of functions for each action; empty where nothing was measured."""
        parts = []
        for name, profile in self._profiles.items():
            text = io.StringIO()
            try:
                stats = pstats.Stats(profile, stream=text)
            except TypeError:  # it has measured nothing
                continue
            stats.strip_dirs().sort_stats("cumulative").print_stats(self.line_count_restriction)
            parts.append(f"Profile stats for: {name}\n{text.getvalue().strip()}\n")
        head = f"{self.stage.upper()} Profiler Report".strip()
        return "\n".join([head, *parts]) if parts else ""

    def describe(self, run_dir: str | None = None) -> None:
        """Print the report, or write it to the file; with `dump_stats` the statistics too."""
        super().describe(run_dir)
        if not self.dump_stats:
            return
        folder = self._folder(run_dir)
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name, profile in self._profiles.items():
            action = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
            profile.dump_stats(folder / f"{self._stem}-{action}.prof")
