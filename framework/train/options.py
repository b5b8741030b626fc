"""What a Trainer was told, checked and put into small records."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

from framework.backend import registry
from framework.errors import ConfigError, did_you_mean
from framework.profilers import AdvancedProfiler, PassThroughProfiler, Profiler, SimpleProfiler
from framework.strategies import SingleDevice

ACCELERATORS = {"gpu": "cuda", "auto": "auto"}
"""Lightning's names of devices that are not a backend's name already."""

PROFILERS: dict[str, type[Profiler]] = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}
"""Name of a profiler to its class."""

STRATEGIES = ("auto", "single_device")
"""Names of ways to share the work."""

CLIPPINGS = ("norm", "value")
"""Ways to clip gradients: all together by their norm, or each element."""

Limit = int | float | None


@dataclass(slots=True)
class Duration:
    """How long to train. -1 means no limit."""

    max_epochs: int
    min_epochs: int
    max_steps: int
    min_steps: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of each loader to use: an int is a number of batches, a float a part of them."""

    train: int | float
    val: int | float
    test: int | float
    predict: int | float
    overfit: int | float

    @property
    def overfits(self) -> bool:
        """Whether the same few batches are used in every epoch."""
        return self.overfit != 0


@dataclass(frozen=True, slots=True)
class Validation:
    """When to validate within a fit."""

    check_interval: int | float
    every_n_epochs: int | None
    sanity_steps: int | float


def duration(
    max_epochs: int | None,
    min_epochs: int | None,
    max_steps: int,
    min_steps: int | None,
    fast_dev_run: int,
    is_timed: bool = False,
) -> Duration:
    """Check the limits of a training and fill in what was left out.

    Raises:
        ConfigError: a limit is no count, or a minimum lies above its maximum.
    """
    for name, value in {"max_epochs": max_epochs, "max_steps": max_steps}.items():
        _check_count(name, value, lowest=-1)
    for name, value in {"min_epochs": min_epochs, "min_steps": min_steps}.items():
        _check_count(name, value, lowest=0)
    if fast_dev_run:
        return Duration(1, 0, fast_dev_run, 0)
    if max_epochs is None:
        max_epochs = -1 if max_steps != -1 or is_timed else 1000
        if max_epochs == 1000:
            warnings.warn(
                "neither max_epochs nor max_steps was given: training for 1000 epochs. "
                "Write max_epochs=10, say, or max_epochs=-1 for no end",
                UserWarning,
                stacklevel=3,
            )
    for low, high, what in ((min_epochs, max_epochs, "epochs"), (min_steps, max_steps, "steps")):
        if low is not None and high != -1 and low > high:
            raise ConfigError(f"min_{what}={low} is more than max_{what}={high}")
    return Duration(max_epochs, min_epochs or 0, max_steps, min_steps or 0)


def limits(train: Limit, val: Limit, test: Limit, predict: Limit, overfit: int | float, fast_dev_run: int) -> Limits:
    """Check the `limit_…_batches` and `overfit_batches`.

    Raises:
        ConfigError: one is neither a count nor a part between 0.0 and 1.0.
    """
    given = {"train": train, "val": val, "test": test, "predict": predict}
    checked = {k: _check_part(f"limit_{k}_batches", 1.0 if v is None else v) for k, v in given.items()}
    overfit = _check_part("overfit_batches", overfit)
    if fast_dev_run:
        return Limits(fast_dev_run, fast_dev_run, fast_dev_run, fast_dev_run, 0)
    if overfit != 0:
        checked["train"] = checked["val"] = overfit
    return Limits(**checked, overfit=overfit)


def validation(
    check_interval: int | float | None, every_n_epochs: int | None, sanity_steps: int | None, fast_dev_run: int
) -> Validation:
    """Check when to validate.

    Raises:
        ConfigError: an interval makes no sense.
    """
    interval = _check_part("val_check_interval", 1.0 if check_interval is None else check_interval)
    if interval == 0:
        raise ConfigError("val_check_interval=0 would never validate; for that write limit_val_batches=0")
    if every_n_epochs is None and isinstance(interval, float):
        raise ConfigError(
            f"check_val_every_n_epoch=None counts batches across epochs, so val_check_interval must be a number of "
            f"batches (an int), got {interval}"
        )
    if every_n_epochs is not None:
        _check_count("check_val_every_n_epoch", every_n_epochs, lowest=1)
    _check_count("num_sanity_val_steps", sanity_steps, lowest=-1)
    steps = 2 if sanity_steps is None else sanity_steps
    if fast_dev_run:  # of so few batches, once at the end
        return Validation(1.0, 1, 0)
    return Validation(interval, every_n_epochs, math.inf if steps == -1 else steps)


def profiler(value: Profiler | str | None) -> Profiler:
    """The profiler that a Trainer was given, or was told the name of.

    Raises:
        ConfigError: it is neither.
    """
    if value is None:
        return PassThroughProfiler()
    if isinstance(value, str) and value in PROFILERS:
        return PROFILERS[value]()
    if not isinstance(value, Profiler):
        raise ConfigError(
            f"profiler={value!r}: expected one of {', '.join(map(repr, PROFILERS))}, or a fw.profilers.Profiler."
            f"{did_you_mean(str(value), PROFILERS)}"
        )
    return value


def fast_dev_run(value: bool | int) -> int:
    """The number of batches of a `fast_dev_run`; 0 is off.

    Raises:
        ConfigError: it is negative.
    """
    if not isinstance(value, bool):
        _check_count("fast_dev_run", value, lowest=0)
    return int(value)


def count(name: str, value: int, lowest: int) -> int:
    """`value`, if it is an int of at least `lowest`.

    Raises:
        ConfigError: it is not.
    """
    _check_count(name, value, lowest)
    return value


def clipping(value: int | float | None, algorithm: str | None) -> tuple[float | None, str | None]:
    """Check `gradient_clip_val` and `gradient_clip_algorithm`.

    Raises:
        ConfigError: the value is no number from 0 on, or there is no such algorithm.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
        raise ConfigError(
            f"gradient_clip_val={value!r}: expected the largest norm, or value, of gradients, a number from 0 on "
            "(0 and None clip nothing)"
        )
    if algorithm is not None and algorithm not in CLIPPINGS:
        raise ConfigError(
            f"gradient_clip_algorithm={algorithm!r} is not available; choose one of {', '.join(CLIPPINGS)}."
            f"{did_you_mean(str(algorithm), CLIPPINGS)}"
        )
    return value, algorithm


def strategy(
    value: str | SingleDevice, backend: str, accelerator: str | None, devices: int | str | list[int]
) -> SingleDevice:
    """The strategy that a Trainer was given, or that its other arguments mean.

    Raises:
        ConfigError: there is no such strategy, or it contradicts the others.
    """
    if isinstance(value, SingleDevice):
        if (backend, accelerator, devices) != ("auto", None, "auto"):
            raise ConfigError(f"strategy={value!r} names the device; leave out backend, accelerator and devices")
        return value
    if value not in STRATEGIES:
        raise ConfigError(
            f"strategy={value!r} is not available; choose one of {', '.join(STRATEGIES)}: one process trains on one "
            f"device.{did_you_mean(str(value), STRATEGIES)}"
        )
    return SingleDevice(device_string(backend, accelerator, devices))


def device_string(backend: str, accelerator: str | None, devices: int | str | list[int]) -> str:
    """The backend, or its device, that `backend`, or its alias `accelerator` with `devices`, means.

    Raises:
        ConfigError: both were given, or more than one device, or there is no such accelerator.
    """
    if accelerator is not None:
        if backend != "auto":
            raise ConfigError(
                f"backend={backend!r} and accelerator={accelerator!r} mean the same thing; give one of them, "
                "best backend="
            )
        known = sorted({*ACCELERATORS, *registry.names()})
        if accelerator.partition(":")[0] not in known:
            raise ConfigError(
                f"accelerator={accelerator!r} is not available; choose one of {', '.join(known)}."
                f"{did_you_mean(accelerator, known)}"
            )
        backend = ACCELERATORS.get(accelerator, accelerator)
    if isinstance(devices, str) and devices.lstrip("-").isdigit():
        devices = int(devices)
    if devices in ("auto", 1):
        return backend
    if isinstance(devices, list) and len(devices) == 1 and isinstance(devices[0], int) and devices[0] >= 0:
        if ":" in backend or backend == "auto":
            raise ConfigError(f"devices={devices} needs the name of a backend, got backend={backend!r}")
        return f"{backend}:{devices[0]}" if devices[0] else backend
    raise ConfigError(f"devices={devices!r}: one device is used; write devices=1, or devices=[1] for the second one")


def _check_count(name: str, value: object, lowest: int) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{name}={value!r}: expected a whole number, got a {type(value).__name__}")
    if value < lowest:
        meaning = " (-1 means no limit)" if lowest == -1 else ""
        raise ConfigError(f"{name}={value}: expected {lowest} or more{meaning}")


def _check_part(name: str, value: int | float) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name}={value!r}: expected a number of batches (an int) or a part of them (0.0 to 1.0)")
    if value < 0 or (isinstance(value, float) and not value <= 1.0):
        advice = f" For {int(value)} batches write {int(value)}." if value > 1 and value == int(value) else ""
        raise ConfigError(
            f"{name}={value}: expected a number of batches (an int, at least 0) or a part of them (a float from 0.0 to "
            f"1.0).{advice}"
        )
    return value
