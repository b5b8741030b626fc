"""`fw doctor`: what this machine gives the framework, and what stands in its way.

Versions, backends, BLAS and its threads, a measured matrix product, CUDA; then one line of advice for
each thing found wanting. It changes nothing and always succeeds.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

from framework._version import __version__
from framework.backend import threads
from framework.cli import plugins

DISTRIBUTION = "fw-framework"
AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})
"""What BLAS libraries ask of a CPU before they use their AVX-512 kernels."""

AVX512_KERNELS = frozenset({"skylakex", "cooperlake", "sapphirerapids", "skx", "knl", "zen4", "zen5"})
"""Kernel families of OpenBLAS and BLIS that use AVX-512, in lower case."""

Lines = list[tuple[str, str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`fw doctor` takes no arguments."""
    parser.description = "Show versions, backends, BLAS, threads and CUDA; measure a matrix product; advise."


def run(args: argparse.Namespace) -> int:
    """Print all sections, then the advice; always 0."""
    cpuinfo = _read("/proc/cpuinfo")
    libraries = threadpoolctl.threadpool_info()
    driver = cuda_driver()
    installed = distributions()
    _section("versions", versions(installed))
    _section("machine", machine(cpuinfo))
    _section("BLAS", [*blas(libraries), ("float32 product", measure())])
    _section("CUDA", cuda(driver, gpus(_nvidia_smi()), installed))
    print("backends")
    rows = plugins.rows_of_all()
    print("\n".join(f"  {line}" for line in plugins.table(rows).splitlines()))
    advice = [
        *avx512_advice(cpu_flags(cpuinfo), libraries, os.environ),
        *thread_advice(libraries, threads.available_cpus(), threads.user_setting()),
        *cuda_advice(driver, cupy_packages(installed)),
        *plugins.remarks(rows),
    ]
    for line in advice:
        print(f"\nadvice: {line}")
    return 0


def _section(title: str, lines: Lines) -> None:
    width = max((len(name) for name, _ in lines), default=0)
    print(title)
    for name, text in lines:
        print(f"  {name.ljust(width)}  {text}")
    print()


# -- versions --------------------------------------------------------------------------------------


def distributions() -> dict[str, str]:
    """Name, in lower case with hyphens, to version of everything installed."""
    found: dict[str, str] = {}
    for dist in metadata.distributions():
        try:
            name, version = dist.name, dist.version
        except Exception:  # a damaged distribution is not ours to report
            continue
        if name:
            found.setdefault(normal(name), str(version))
    return found


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it.

    Examples:
        >>> normal("ml_dtypes"), normal("PyYAML")
        ('ml-dtypes', 'pyyaml')
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement(text: str) -> tuple[str, str]:
    """The name, and the extra or "", of a requirement in a distribution's metadata.

    Examples:
        >>> requirement("cupy-cuda13x[ctk]<15,>=14.2; extra == 'cuda'")
        ('cupy-cuda13x', 'cuda')
    """
    name = re.match(r"[\w.-]+", text)
    extra = re.search(r"extra\s*==\s*['\"]([\w.-]+)['\"]", text)
    return normal(name.group()) if name else "", extra.group(1) if extra else ""


def versions(installed: Mapping[str, str], requires: Iterable[str] | None = None) -> Lines:
    """The framework, Python, and what the framework requires; extras for users, beside their name."""
    if requires is None:
        try:
            requires = metadata.requires(DISTRIBUTION) or []
        except metadata.PackageNotFoundError:
            requires = []
    extras: dict[str, list[str]] = {}
    for name, extra in map(requirement, requires):
        if extra not in ("test", "dev"):
            extras.setdefault(name, []).append(extra)
    lines = [("framework", __version__), ("python", f"{platform.python_version()} at {sys.executable}")]
    for name, wanted in extras.items():
        optional = "" if "" in wanted else f" (extra {', '.join(wanted)})"
        lines.append((name, installed.get(name, "not installed") + optional))
    return lines


# -- the machine -----------------------------------------------------------------------------------


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The instruction sets that `/proc/cpuinfo` names; empty where it is not to be had."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def cpu_model(cpuinfo: str) -> str:
    """The CPU's name from `/proc/cpuinfo`, or what Python knows of it."""
    found = re.search(r"^model name\s*:(.*)$", cpuinfo, re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def machine(cpuinfo: str) -> Lines:
    """System, CPU, and the CPUs that this process may use."""
    flags = cpu_flags(cpuinfo)
    widest = "AVX-512" if flags >= AVX512 else "AVX2" if "avx2" in flags else ""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = threads.cgroup_quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    limit = "no limit by cgroup" if quota is None else f"cgroup allows {quota:g}"
    return [
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("CPU", f"{cpu_model(cpuinfo)}{f', {widest}' if widest else ''}"),
        ("CPUs", f"{threads.available_cpus()} to use: {os.cpu_count()} there, {affinity} by affinity, {limit}"),
    ]


# -- BLAS ------------------------------------------------------------------------------------------


def blas(libraries: Sequence[Mapping[str, Any]], environment: Mapping[str, str] = os.environ) -> Lines:
    """The BLAS libraries loaded, as threadpoolctl describes them, and the variables that steer them."""
    lines = []
    for library in libraries:
        if library["user_api"] == "blas":
            kernels = library.get("architecture") or "unknown"
            lines.append(("library", f"{library['internal_api']} {library['version'] or ''}".strip()))
            lines.append(("kernels", str(kernels)))
            lines.append(("threads", str(library["num_threads"])))
    if not lines:
        lines.append(("library", "none that threadpoolctl knows"))
    for name in ("OPENBLAS_CORETYPE", *threads.SETTINGS):
        if environment.get(name):
            lines.append((name, environment[name]))
    return lines


def measure(size: int = 1024, seconds: float = 0.25) -> str:
    """GFLOP/s of a float32 matrix product, on one thread and on all that BLAS uses."""
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        one = gflops(size, seconds)
    return f"{one:.0f} GFLOP/s on one thread, {gflops(size, seconds):.0f} on all ({size} × {size})"


def gflops(size: int, seconds: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """The best rate, in 10⁹ operations a second, of `size`² products repeated for about `seconds`."""
    x = np.full((size, size), 0.5, dtype=np.float32)
    out = np.empty_like(x)
    np.matmul(x, x, out=out)  # the first one wakes the threads
    best = float("inf")
    end = clock() + seconds
    while True:
        start = clock()
        np.matmul(x, x, out=out)
        now = clock()
        best = min(best, now - start)
        if now >= end:
            return 2.0 * size**3 / best / 1e9 if best > 0 else float("inf")


def avx512_advice(
    flags: frozenset[str], libraries: Sequence[Mapping[str, Any]], environment: Mapping[str, str]
) -> list[str]:
    """What to do where the CPU has AVX-512 and the BLAS does not use it."""
    if not flags >= AVX512:
        return []
    advice = []
    for library in libraries:
        kernels = library.get("architecture") if library["user_api"] == "blas" else None
        if not kernels or kernels.lower() in AVX512_KERNELS:
            continue
        told = environment.get("OPENBLAS_CORETYPE")
        said = f"the CPU has AVX-512, but {library['internal_api']} uses its {kernels} kernels"
        if told:
            advice.append(
                f"{said} because OPENBLAS_CORETYPE={told} is set; float32 products may take twice as long. "
                "Unset OPENBLAS_CORETYPE"
            )
        else:
            advice.append(f"{said}, as it does not know this CPU; a newer NumPy may, or OPENBLAS_CORETYPE=SkylakeX")
    return advice


def thread_advice(libraries: Sequence[Mapping[str, Any]], cpus: int, setting: str | None) -> list[str]:
    """What to do where BLAS starts more threads than there are CPUs for."""
    most = max((library["num_threads"] for library in libraries if library["user_api"] == "blas"), default=0)
    if most <= cpus:
        return []
    if setting is None:
        return [f"BLAS starts {most} threads for {cpus} CPUs; `fw` and `Trainer.fit` limit it to {cpus} by themselves"]
    return [
        f"{setting} gives BLAS {most} threads for {cpus} CPUs; it is left as you set it, but {cpus} would be faster"
    ]


# -- CUDA ------------------------------------------------------------------------------------------


def cuda_driver() -> tuple[int, int] | None:
    """The newest CUDA version that the driver runs; None where there is no driver."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        version = ctypes.c_int()
        if library.cuDriverGetVersion(ctypes.byref(version)) != 0 or version.value <= 0:
            return None
    except (OSError, AttributeError):
        return None
    return cuda_version(version.value)


def cuda_version(number: int) -> tuple[int, int]:
    """CUDA's version number as major and minor.

    Examples:
        >>> cuda_version(12080)
        (12, 8)
    """
    return number // 1000, number % 1000 // 10


def gpus(csv: str) -> list[str]:
    """The GPUs in what `nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader` prints."""
    found = []
    for line in csv.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 3:
            found.append(f"{cells[0]}, {cells[1]}, driver {cells[2]}")
    return found


def _nvidia_smi() -> str:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def cupy_packages(installed: Mapping[str, str]) -> list[str]:
    """The distributions that bring the module `cupy`, with their versions.

    Examples:
        >>> cupy_packages({"cupy-cuda12x": "14.2.0", "cupyx-extra": "1.0", "numpy": "2.4"})
        ['cupy-cuda12x 14.2.0']
    """
    own = re.compile(r"cupy(-cuda\d+x?|-rocm-[\d-]+)?")
    return [f"{name} {version}" for name, version in sorted(installed.items()) if own.fullmatch(name)]


def cuda(driver: tuple[int, int] | None, devices: Sequence[str], installed: Mapping[str, str]) -> Lines:
    """Driver, GPUs, CuPy, and the NVIDIA libraries that came by pip."""
    lines = [("driver", f"runs CUDA {driver[0]}.{driver[1]} and older" if driver else "none")]
    lines += [("GPU", device) for device in devices]
    lines.append(("CuPy", ", ".join(cupy_packages(installed)) or "not installed"))
    for part in ("nvidia-cuda-nvrtc", "nvidia-cublas", "nvidia-nccl", "nvidia-cudnn"):
        found = [f"{n} {v}" for n, v in sorted(installed.items()) if n == part or n.startswith(f"{part}-cu")]
        if found:
            lines.append((part.removeprefix("nvidia-"), ", ".join(found)))
    return lines


def cuda_advice(driver: tuple[int, int] | None, packages: Sequence[str]) -> list[str]:
    """What to install or remove, so that the driver and CuPy fit."""
    if len(packages) > 1:
        return [
            f"{' and '.join(packages)} are installed, and they overwrite each other: "
            f"`pip uninstall {' '.join(p.split()[0] for p in packages)}`, then install the one that fits"
        ]
    if driver is None:
        return []
    fits = "cuda" if driver >= (13, 0) else "cuda12" if driver >= (12, 0) else ""
    if not fits:
        return [f"the driver runs CUDA {driver[0]}.{driver[1]} at most; CuPy 14 needs 12.0. Update the driver"]
    if not packages:
        return [f"there is an NVIDIA driver, but no CuPy: pip install '{DISTRIBUTION}[{fits}]'"]
    if driver < (13, 0) and packages[0].startswith("cupy-cuda13x"):
        return [
            f"{packages[0]} needs a driver for CUDA 13, this one runs {driver[0]}.{driver[1]}: "
            f"pip uninstall cupy-cuda13x, then pip install '{DISTRIBUTION}[cuda12]'"
        ]
    return []


def _read(file: str) -> str:
    try:
        return Path(file).read_text(errors="replace")
    except OSError:
        return ""
