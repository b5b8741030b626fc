"""The environment as found: versions, CPU, BLAS with its kernels and threads, and what the shell had set."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.children import THREAD_VARIABLES, environment

LIBRARIES = ("fw-framework", "numpy", "torch", "lightning", "jax", "autograd")

_BLAS = """
import json, numpy, threadpoolctl
found = [p for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]
print(json.dumps([{k: p.get(k) for k in ("internal_api", "version", "architecture", "num_threads")} for p in found]))
"""


def describe(threads: tuple[int, ...]) -> dict[str, Any]:
    """What stands beside every table."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": versions(),
        "blas": {str(n): blas(n) for n in threads},
        "shell": {name: os.environ.get(name) for name in ("OPENBLAS_CORETYPE", *THREAD_VARIABLES)},
    }


def versions() -> dict[str, str]:
    """Distribution to version; those that are not installed are left out."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def blas(threads: int) -> list[dict[str, Any]]:
    """NumPy's BLAS as the contenders' processes have it."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _BLAS], env=environment(threads), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def cpu() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def lines(found: dict[str, Any]) -> list[str]:
    """The same as text, a line each."""
    load = "" if found["load"] is None else f", load {found['load']:.1f} at the start"
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    told = [
        f"{found['cpu']}, {found['cpus']} CPUs to use{load}; {found['system']}",
        f"Python {found['python']}, {versions}",
    ]
    for threads, libraries in found["blas"].items():
        for library in libraries:
            told.append(
                f"BLAS with OPENBLAS_CORETYPE removed, {threads} thread{'s' if threads != '1' else ''} asked for: "
                f"{library['internal_api']} {library['version']}, {library['architecture']} kernels, "
                f"{library['num_threads']} used"
            )
    set_there = [f"{name}={value}" for name, value in found["shell"].items() if value is not None]
    told.append(
        f"set in the shell: {', '.join(set_there) or 'nothing of OPENBLAS_CORETYPE and the numbers of threads'}"
    )
    return told
