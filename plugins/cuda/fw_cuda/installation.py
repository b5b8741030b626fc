"""What is installed and which GPUs there are: a usable CuPy, or one line that says what is missing."""

from __future__ import annotations

from typing import Any

from framework.errors import BackendError

INSTALL = "pip install 'fw-framework[cuda]'"
INSTALL_12 = "pip install 'fw-framework[cuda12]'"
SUPPORTED_MAJOR = 14

PACKAGES = ("cupy", "cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x", "cupy-rocm-7-0", "cupy-rocm-5-0", "amd-cupy")
"""Distributions that bring the module `cupy`. Two of them overwrite each other's files."""


def import_cupy() -> Any:
    """The module `cupy`, of a version that this plugin is written for.

    Raises:
        BackendError: it is not installed, installed twice, does not import, or is of another version.
    """
    packages = installed_packages()
    if len(packages) > 1:
        raise BackendError(
            f"several CuPy packages are installed ({', '.join(packages)}) and overwrite each other: "
            f"pip uninstall {' '.join(packages)}, then {INSTALL}"
        )
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise BackendError(f"CuPy is installed, but does not import: {error}. Try {INSTALL}") from error
        raise BackendError(f"CuPy is not installed: {INSTALL}") from error
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise BackendError(f"CuPy is installed, but does not import: {reason}. Try {INSTALL}") from error
    version = cupy.__version__
    if version.split(".")[0] != str(SUPPORTED_MAJOR):
        raise BackendError(f"CuPy {version} is not supported, {SUPPORTED_MAJOR}.x is: {INSTALL}")
    return cupy


def installed_packages() -> list[str]:
    """The installed distributions that bring the module `cupy`."""
    from importlib import metadata

    found = []
    for name in PACKAGES:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def count_devices(cupy: Any) -> int:
    """The number of GPUs that the process sees, at least 1.

    Raises:
        BackendError: there is no driver, it is older than CuPy needs, or there is no device.
    """
    runtime = cupy.cuda.runtime
    driver = runtime.driverGetVersion()
    if driver == 0:
        raise BackendError("there is no NVIDIA driver on this machine")
    needed = runtime.runtimeGetVersion()
    if driver // 1000 < needed // 1000:
        advice = f"update the driver, or {INSTALL_12}" if driver >= 12000 else "update the driver"
        raise BackendError(
            f"the NVIDIA driver runs CUDA {_version(driver)} at most, but the CuPy installed needs "
            f"CUDA {_version(needed)}: {advice}"
        )
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise BackendError(f"there is no usable CUDA device: {error}") from error
    if count == 0:
        raise BackendError("there is no CUDA device; is CUDA_VISIBLE_DEVICES set to none?")
    return int(count)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
