"""How many threads BLAS gets: what the machine, the affinity and the cgroup allow together.

BLAS libraries look at the number of CPUs and, at best, at the affinity; a container with a CPU quota
below that gets threads that only wait for each other. Nothing is changed at import.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SETTINGS: Final = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""The environment variables by which a user decides; where one is set, nothing is done here."""


def user_setting() -> str | None:
    """The first of `SETTINGS` that the user has set, as `NAME=VALUE`."""
    return next((f"{name}={os.environ[name]}" for name in SETTINGS if os.environ.get(name)), None)


def available_cpus(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """The CPUs this process may keep busy: the affinity, or the cgroup's quota where that is less; at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(root, membership)
    return max(1, min(cpus, int(quota))) if quota is not None else cpus


def cgroup_quota(root: Path, membership: Path) -> float | None:
    """The smallest CPU quota from this process's cgroup upwards, in CPUs; None where there is none."""
    quotas = []
    for line in _read(membership).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            base, read = root, _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = root / "cpu", _quota_v1
        else:
            continue
        folder = base / path.lstrip("/")
        for place in (folder, *folder.parents):
            quotas.append(read(place))
            if place == base:
                break
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_v2(folder: Path) -> float | None:
    words = _read(folder / "cpu.max").split()
    return _ratio(*words) if len(words) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> float | None:
    """`quota / period`; None for "max", -1 and what cannot be read."""
    try:
        value = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):
        return None
    return value if value > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@contextmanager
def blas_threads() -> Iterator[int | None]:
    """Within the block, BLAS uses no more threads than `available_cpus`; gives their number.

    Gives None, and changes nothing, where the user has set the number, or BLAS already keeps to it.

    Examples:
        >>> with blas_threads() as limit:
        ...     pass
    """
    cpus = available_cpus()
    if user_setting() or cpus >= (os.cpu_count() or 1):
        yield None
        return
    import threadpoolctl

    controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
    if all(library["num_threads"] <= cpus for library in controller.info()):
        yield None
        return
    with controller.limit(limits=cpus, user_api="blas"):
        yield cpus
