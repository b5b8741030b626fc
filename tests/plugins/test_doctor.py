"""`fw doctor`: what it reads out of what machines say, and that it runs here."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import pytest

from framework.cli import doctor

ZEN5 = """\
processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9555P 64-Core Processor
flags\t\t: fpu vme avx avx2 avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl avx512_bf16
bugs\t\t: sysret_ss_attrs

processor\t: 1
model name\t: AMD EPYC 9555P 64-Core Processor
flags\t\t: fpu vme avx avx2
"""
MILAN = "model name\t: AMD EPYC 7763\nflags\t\t: fpu sse4_2 avx avx2 fma\n"
GRAVITON = "processor\t: 0\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd sve bf16\n"


def openblas(kernels: str, threads: int = 2) -> dict:
    """A record as threadpoolctl 3.8 gives it for NumPy's wheel."""
    return {
        "user_api": "blas",
        "internal_api": "openblas",
        "num_threads": threads,
        "prefix": "libscipy_openblas",
        "filepath": "/x/libscipy_openblas64_.so",
        "version": "0.3.31.188.0",
        "threading_layer": "pthreads",
        "architecture": kernels,
    }


OPENMP = {"user_api": "openmp", "internal_api": "openmp", "num_threads": 64, "prefix": "libgomp", "version": None}
MKL = {"user_api": "blas", "internal_api": "mkl", "num_threads": 2, "version": "2024.1", "threading_layer": "intel"}


def test_the_cpu_is_read_from_cpuinfo() -> None:
    assert doctor.cpu_model(ZEN5) == "AMD EPYC 9555P 64-Core Processor"
    assert doctor.cpu_flags(ZEN5) >= doctor.AVX512
    assert "avx2" in doctor.cpu_flags(MILAN)
    assert not doctor.cpu_flags(MILAN) & doctor.AVX512
    assert doctor.cpu_flags(GRAVITON) == {"fp", "asimd", "sve", "bf16"}
    assert doctor.cpu_flags("") == frozenset()
    assert doctor.cpu_model("")


def test_the_machine_names_the_widest_instruction_set() -> None:
    assert dict(doctor.machine(ZEN5))["CPU"].endswith("Processor, AVX-512")
    assert dict(doctor.machine(MILAN))["CPU"] == "AMD EPYC 7763, AVX2"
    assert dict(doctor.machine(MILAN))["CPUs"].split()[0].isdigit()


def test_unused_avx512_is_blamed_on_the_variable_that_is_set() -> None:
    (line,) = doctor.avx512_advice(
        doctor.cpu_flags(ZEN5), [OPENMP, openblas("Haswell")], {"OPENBLAS_CORETYPE": "Haswell"}
    )
    assert "has AVX-512, but openblas uses its Haswell kernels because OPENBLAS_CORETYPE=Haswell is set" in line
    assert line.endswith("Unset OPENBLAS_CORETYPE")


def test_unused_avx512_without_the_variable_is_blamed_on_the_library() -> None:
    (line,) = doctor.avx512_advice(doctor.cpu_flags(ZEN5), [openblas("Zen")], {})
    assert "uses its Zen kernels, as it does not know this CPU" in line


@pytest.mark.parametrize(
    ("cpuinfo", "library"),
    [
        (ZEN5, openblas("SkylakeX")),
        (ZEN5, openblas("Cooperlake")),
        (ZEN5, openblas("SapphireRapids")),
        (ZEN5, MKL),  # does not tell its kernels
        (ZEN5, OPENMP),
        (MILAN, openblas("Haswell")),
        (GRAVITON, openblas("neoversen1")),
        ("", openblas("Haswell")),
    ],
)
def test_no_advice_where_the_kernels_fit_or_cannot_be_known(cpuinfo: str, library: dict) -> None:
    assert doctor.avx512_advice(doctor.cpu_flags(cpuinfo), [library], {"OPENBLAS_CORETYPE": "Haswell"}) == []


def test_blas_is_described_with_the_variables_that_steer_it() -> None:
    environment = {"OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": ""}
    assert doctor.blas([OPENMP, openblas("Haswell")], environment) == [
        ("library", "openblas 0.3.31.188.0"),
        ("kernels", "Haswell"),
        ("threads", "2"),
        ("OPENBLAS_CORETYPE", "Haswell"),
        ("OMP_NUM_THREADS", "3"),
    ]
    assert doctor.blas([MKL], {})[1] == ("kernels", "unknown")
    assert doctor.blas([], {}) == [("library", "none that threadpoolctl knows")]


def test_more_threads_than_cpus_is_said_and_whose_doing_it_is() -> None:
    crowded = [openblas("Haswell", threads=64)]
    assert "64 threads for 4 CPUs; `fw` and `Trainer.fit` limit it to 4" in doctor.thread_advice(crowded, 4, None)[0]
    (line,) = doctor.thread_advice(crowded, 4, "OMP_NUM_THREADS=64")
    assert line.startswith("OMP_NUM_THREADS=64 gives BLAS 64 threads for 4 CPUs; it is left as you set it")
    assert doctor.thread_advice(crowded, 64, None) == []
    assert doctor.thread_advice([OPENMP], 4, None) == []


def test_gpus_are_read_from_nvidia_smi() -> None:
    said = "NVIDIA H200, 143771 MiB, 580.95.05\nNVIDIA H200, 143771 MiB, 580.95.05\n"
    assert doctor.gpus(said) == ["NVIDIA H200, 143771 MiB, driver 580.95.05"] * 2
    assert doctor.gpus("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n") == []
    assert doctor.gpus("") == []


def test_the_packages_that_bring_cupy_are_told_from_others() -> None:
    installed = {"cupy": "14.0", "cupy-cuda12x": "14.2.0", "cupy-rocm-5-0": "13", "cupylike": "1", "fw-cupy": "1"}
    assert doctor.cupy_packages(installed) == ["cupy 14.0", "cupy-cuda12x 14.2.0", "cupy-rocm-5-0 13"]


@pytest.mark.parametrize(
    ("driver", "packages", "advice"),
    [
        (None, [], None),
        (None, ["cupy-cuda13x 14.2.0"], None),
        ((13, 0), ["cupy-cuda13x 14.2.0"], None),
        ((13, 0), ["cupy-cuda12x 14.2.0"], None),
        ((12, 4), ["cupy-cuda12x 14.2.0"], None),
        ((13, 0), [], "pip install 'fw-framework[cuda]'"),
        ((12, 4), [], "pip install 'fw-framework[cuda12]'"),
        ((12, 4), ["cupy-cuda13x 14.2.0"], "this one runs 12.4: pip uninstall cupy-cuda13x"),
        ((11, 8), [], "CUDA 11.8 at most; CuPy 14 needs 12.0"),
        (None, ["cupy 14", "cupy-cuda12x 14.2.0"], "`pip uninstall cupy cupy-cuda12x`"),
    ],
)
def test_advice_on_cupy_follows_the_driver(driver, packages, advice) -> None:
    found = doctor.cuda_advice(driver, packages)
    if advice is None:
        assert found == []
    else:
        assert len(found) == 1
        assert advice in found[0]


def test_the_cuda_section_lists_what_pip_brought() -> None:
    installed = {"cupy-cuda13x": "14.2.0", "nvidia-cuda-nvrtc": "13.0.48", "nvidia-nccl-cu12": "2.27", "nvidia-ml": "1"}
    assert doctor.cuda((13, 0), ["NVIDIA H200"], installed) == [
        ("driver", "runs CUDA 13.0 and older"),
        ("GPU", "NVIDIA H200"),
        ("CuPy", "cupy-cuda13x 14.2.0"),
        ("cuda-nvrtc", "nvidia-cuda-nvrtc 13.0.48"),
        ("nccl", "nvidia-nccl-cu12 2.27"),
    ]
    assert doctor.cuda(None, [], {}) == [("driver", "none"), ("CuPy", "not installed")]


def test_versions_name_what_is_required_and_the_extra_that_brings_it() -> None:
    requires = [
        "numpy<3,>=2.1",
        "PyYAML>=6.0",
        "cupy-cuda13x[ctk]<15,>=14.2; extra == 'cuda'",
        "ml_dtypes>=0.5; extra == 'cuda'",
        'ml_dtypes>=0.5; extra == "cuda12"',
        "pytest>=8.2; extra == 'test'",
    ]
    assert doctor.versions({"numpy": "2.4.6", "pyyaml": "6.0.3", "ml-dtypes": "0.6"}, requires)[2:] == [
        ("numpy", "2.4.6"),
        ("pyyaml", "6.0.3"),
        ("cupy-cuda13x", "not installed (extra cuda)"),
        ("ml-dtypes", "0.6 (extra cuda, cuda12)"),
    ]


def test_distributions_are_read_from_metadata() -> None:
    installed = doctor.distributions()
    assert installed["numpy"][0].isdigit()
    assert "threadpoolctl" in installed


def test_the_rate_is_the_best_of_the_products_timed() -> None:
    ticks = iter([0.0, 0.0, 0.010, 0.010, 0.014, 0.014, 0.024, 0.024, 1.0])  # 10, 4, 10, 976 ms
    assert doctor.gflops(100, 0.5, clock=lambda: next(ticks)) == pytest.approx(2e6 / 0.004 / 1e9)


X86_ONLY = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="Haswell is an x86 core type")


@pytest.mark.parametrize("coretype", ["", pytest.param("Haswell", marks=X86_ONLY)])
def test_the_command_runs_here_and_succeeds(coretype: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    environment |= {"OPENBLAS_CORETYPE": coretype} if coretype else {}
    done = subprocess.run(
        [sys.executable, "-m", "framework", "doctor"], capture_output=True, text=True, env=environment, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    titles = [line for line in done.stdout.splitlines() if line and not line.startswith((" ", "advice"))]
    assert titles == ["versions", "machine", "BLAS", "CUDA", "backends"]
    assert "GFLOP/s on one thread" in done.stdout
    assert bool(re.search(r"OPENBLAS_CORETYPE +Haswell", done.stdout)) == bool(coretype)
