"""What can be wrong with the arguments of a `ModelCheckpoint`, in words."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from framework.errors import ConfigError, did_you_mean


def check_arguments(
    monitor: str | None,
    save_top_k: int,
    mode: str,
    every_n_train_steps: int | None,
    train_time_interval: timedelta | None,
    every_n_epochs: int | None,
) -> None:
    """Raise ConfigError where the arguments of a `ModelCheckpoint` contradict each other."""
    if mode not in ("min", "max"):
        raise ConfigError(
            f"ModelCheckpoint(mode={mode!r}): expected 'min' or 'max'.{did_you_mean(mode, ['min', 'max'])}"
        )
    if save_top_k < -1:
        raise ConfigError(f"ModelCheckpoint(save_top_k={save_top_k}): expected a count, 0 for none or -1 for all.")
    if monitor is None and save_top_k not in (-1, 0, 1):
        raise ConfigError(
            f"ModelCheckpoint(save_top_k={save_top_k}) needs monitor= to tell which ones are best. Without it the "
            f"newest is kept (1), all (-1) or none (0)."
        )
    counts = {"every_n_train_steps": every_n_train_steps, "every_n_epochs": every_n_epochs}
    for name, count in counts.items():
        if count is not None and count < 0:
            raise ConfigError(f"ModelCheckpoint({name}={count}): expected 0 (never) or more.")
    given = [name for name, count in counts.items() if count] + ["train_time_interval"] * (
        train_time_interval is not None
    )
    if len(given) > 1:
        raise ConfigError(f"ModelCheckpoint: {' and '.join(given)} exclude each other; give one, or use two callbacks.")


def unknown_metric(name: str, monitor: str | None, filename: str | None, values: Iterable[str]) -> ConfigError:
    """The error that `monitor` or `filename` names a metric which nobody logs."""
    argument = f"monitor={monitor!r}" if name == monitor else f"filename={filename!r}"
    known = sorted(set(values) - {"epoch", "step"})
    return ConfigError(
        f"ModelCheckpoint({argument}): nothing logs the metric {name!r}. Logged so far: "
        f"{', '.join(map(repr, known)) or 'nothing'}.{did_you_mean(name, known)} "
        f"Log it with self.log({name!r}, value)."
    )
