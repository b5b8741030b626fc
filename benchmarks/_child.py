"""Run a piece of Python in a fresh process under a known environment; shared by the benchmarks."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def environment(threads: int) -> dict[str, str]:
    """The shell's environment with BLAS as the library itself would choose, on `threads` threads."""
    env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "PYTHONDONTWRITEBYTECODE")}
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        env[name] = str(threads)
    return env


def run(code: str, threads: int = 1, *arguments: str) -> Any:
    """The JSON that `code` prints on its last line."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment(threads), cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"a benchmark's child process failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


_DESCRIBE = """
import json, numpy, threadpoolctl
blas = [p for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]
p = blas[0] if blas else {}
print(json.dumps({"numpy": numpy.__version__, "blas": p.get("internal_api"), "blas_version": p.get("version"),
                  "core_type": p.get("architecture"), "threads": p.get("num_threads")}))
"""


def describe(threads: int) -> dict[str, Any]:
    """The environment as found: Python, NumPy, BLAS, its core type and threads, and what the shell had set."""
    info = run(_DESCRIBE, threads)
    info["python"] = platform.python_version()
    info["cpu"] = _cpu()
    info["OPENBLAS_CORETYPE in the shell"] = os.environ.get("OPENBLAS_CORETYPE", "not set")
    return info  # type: ignore[no-any-return]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} x {len(names)}" if names else platform.machine()
