"""What every test gets: the strict backend, the place of MNIST, and a check that nothing leaks."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hypothesis
import pytest

from framework import random
from framework.autodiff import modes
from framework.backend import host, registry
from framework.loggers.background import Feeder

REPOSITORY = Path(__file__).resolve().parents[1]

sys.path.insert(0, str(REPOSITORY / "plugins" / "strict"))
from fw_strict import StrictBackend  # noqa: E402 - the line above makes it importable

registry.register(StrictBackend)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts its background jobs so, and children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test fails because a machine is busy, or by the luck of the draw: new cases are drawn where all of them are run.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=os.environ.get("FW_TEST_CASES") != "full",
    database=None,
)
hypothesis.settings.load_profile("any machine")

THREADS_THAT_STAY = ("fw_cpu", "tqdm", "wandb", "AsyncioManager", "pydevd", "ThreadPoolExecutor-jax")
"""Beginnings of the names, or of the classes, of threads that a library keeps for the whole process."""

VARIABLES_THAT_STAY = (
    "PYTEST_",
    "WANDB_SERVICE",
    "WANDB__",
    "_WANDB",
    "KMP_",
    "TF_",
    "TPU_",
    "CRC32C_",
    "TORCHINDUCTOR_",
    "XLA_",
)
"""Beginnings of the names of environment variables that pytest and libraries set for themselves."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The whole suite takes a process for each core; what names a file or a test runs in this one, at once."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the workers are as many as the cores already
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)


def pytest_collection_finish() -> None:
    """Some twenty thousand tests are a million objects, which no collection in a test need look through."""
    gc.collect()
    gc.freeze()
    random._generators.clear()


@pytest.fixture(scope="session", autouse=True)
def no_plugins_of_others_in_children() -> None:
    """A pytest that a test starts loads none of the plugins that happen to be installed."""
    os.environ.setdefault("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture(scope="session", autouse=True)
def clients_of_loggers_may_be_slow() -> None:
    """On a busy machine an import alone may take longer than a user would wait for it."""
    Feeder.START_S = Feeder.HANDLE_S = Feeder.FINISH_S = 240.0


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """A folder that holds `mnist/` with the four files: `$FW_TEST_MNIST`, or `../shared/data`."""
    root = Path(os.environ.get("FW_TEST_MNIST") or REPOSITORY.parent / "shared" / "data")
    if not any((root / "mnist").glob("train-images-idx3-ubyte*")):
        pytest.skip(f"no MNIST under {root}; set FW_TEST_MNIST to a folder that holds mnist/")
    return root


class Installer:
    """Puts distributions with entry points on `sys.path`, as pip would, for the time of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: list[str] = []

    def __call__(
        self, name: str, source: str, *, distribution: str, version: str = "1.0", cls: str = "Plugin", auto: str = ""
    ) -> str:
        """Install a plugin; `source` is its module's text. Gives the module's name."""
        module = f"{distribution.replace('-', '_')}_{name}_{len(self.modules)}"
        self.modules.append(module)
        (self.folder / f"{module}.py").write_text(textwrap.dedent(source))
        info = self.folder / f"{distribution.replace('-', '_')}_{len(self.modules)}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = ["[framework.backends]", f"{name} = {module}:{cls}"]
        if auto:
            lines += ["[framework.backends.auto]", f"{auto} = {module}:{cls}"]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        importlib.invalidate_caches()
        return module


@pytest.fixture(scope="session")
def installer() -> type[Installer]:
    """Makes an `Installer` for a folder; whoever uses it puts the folder on `sys.path`."""
    return Installer


@pytest.fixture
def install_plugin(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    """Install real distributions, each with one backend, for the time of a test."""
    folder = tmp_path_factory.mktemp("site")
    monkeypatch.syspath_prepend(str(folder))
    installer = Installer(folder)
    yield installer
    for module in installer.modules:
        sys.modules.pop(module, None)
    for name in {*registry._instances}:
        if type(registry._instances[name]).__module__ in installer.modules:
            del registry._instances[name]
    registry._warned.clear()


@pytest.fixture(scope="session")
def run_at_home() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m WORDS` in a folder that is its home, beside what is installed in `site`; without data or a network."""

    def run(words: Sequence[str], folder: Path, site: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            env={
                **{name: value for name, value in os.environ.items() if name != "FW_DATA"},
                "PYTHONPATH": os.pathsep.join([str(site), *(p for p in sys.path if p)]),
                "HOME": str(folder),
                "FW_MIRROR": "http://127.0.0.1:9/",
            },
            timeout=timeout,
        )

    return run


GOOD_PLUGIN = """
    import numpy
    from framework.backend import Backend

    class Plugin(Backend):
        name = {name!r}
        xp = numpy

        def asarray(self, obj, *, dtype=None, device=None, copy=None):
            return numpy.array(obj, dtype=None if dtype is None else self.native(dtype), copy=copy)

        def to_numpy(self, array):
            return array

        def owns(self, array):
            return isinstance(array, (numpy.ndarray, numpy.generic))

        def synchronize(self):
            pass
"""


@pytest.fixture(scope="session")
def good_plugin() -> Callable[[str], str]:
    """The text of a plugin that works, given its name."""
    return lambda name: GOOD_PLUGIN.format(name=name)


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fail the test that leaves behind a variable, a default, a folder or a thread; undo what it left.

    The default generators begin anew, so that what a test draws does not depend on the tests before it.
    """
    random._generators.clear()
    environment = _environment()
    folder = Path.cwd()
    threads = set(threading.enumerate())
    dtype, backend = modes.get_default_dtype(), modes._process_backend
    seed = host.global_seed()
    local, preferred = dict(registry._local), dict(registry._preferred)
    yield
    leaks = [f"environment variable {name}" for name in _restore_environment(environment)]
    if Path.cwd() != folder:
        leaks.append(f"working directory {Path.cwd()}")
        os.chdir(folder)
    if modes.get_default_dtype() is not dtype:
        leaks.append(f"default dtype {modes.get_default_dtype().name}")
        modes.set_default_dtype(dtype)
    expected = backend if backend is not None else _first_default()
    if modes._process_backend is not None and modes._process_backend != expected:
        leaks.append(f"default backend {modes._process_backend}")
        modes._process_backend = backend
    if not modes.grad_enabled.get():
        leaks.append("no_grad")
        modes.grad_enabled.set(True)
    leaks += [f"thread {thread.name}" for thread in _left_running(threads)]
    host.set_global_seed(seed)
    random._generators.clear()
    _restore_registry(local, preferred)
    if leaks:
        pytest.fail(f"the test leaks: {', '.join(leaks)}", pytrace=False)


def _first_default() -> str:
    """The default backend that the first Tensor made in a process settles."""
    return os.environ.get("FW_BACKEND") or "cpu"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(VARIABLES_THAT_STAY)}


def _restore_environment(before: dict[str, str]) -> list[str]:
    after = _environment()
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    for name in changed:
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]
    return sorted(changed)


def _left_running(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads that were started since and do not end within a minute: one may be looking for a host that is silent."""
    new = [
        thread
        for thread in threading.enumerate()
        if thread not in before
        and not thread.name.startswith(THREADS_THAT_STAY)
        and not type(thread).__module__.startswith(THREADS_THAT_STAY)
    ]
    deadline = time.monotonic() + 60.0
    for thread in new:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in new if thread.is_alive()]


def _restore_registry(local: dict[str, type], preferred: dict[str, str]) -> None:
    """Forget the classes that the test registered; a registration lasts as long as a process, which tests share."""
    for name in {*registry._local, *local}:
        if registry._local.get(name) is not local.get(name):
            registry._instances.pop(name, None)
    for name in {*registry._preferred, *preferred}:
        if registry._preferred.get(name) != preferred.get(name):
            registry._instances.pop(name, None)
    registry._local.clear()
    registry._local.update(local)
    registry._preferred.clear()
    registry._preferred.update(preferred)
