"""`fw plugins` against plugins that behave and plugins that do not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from framework.backend import registry
from framework.cli import plugins
from framework.cli.plugins import Row


def rows(timeout_s: float = 90.0) -> dict[str, Row]:
    return {row.name: row for row in plugins.rows_of_all(timeout_s)}


def lines_of(*options: str) -> list[str]:
    """What `fw plugins` prints, run as a command."""
    done = subprocess.run(
        [sys.executable, "-m", "framework", "plugins", *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def listed(*options: str) -> list[Row]:
    """The rows that `fw plugins` prints; its remarks are left out."""
    head, *lines = lines_of(*options)
    assert head.split() == ["name", "distribution", "state", "devices", "reason"]
    at = [head.index(title) for title in head.split()]
    cells = [
        [line[a:b].strip() for a, b in zip(at, [*at[1:], None])] for line in lines if " is claimed by " not in line
    ]
    return [Row(*cell[:3], tuple(cell[3].split(", ")) if cell[3] != "-" else (), cell[4]) for cell in cells]


def test_a_working_plugin_is_ready_with_its_devices(install_plugin, good_plugin) -> None:
    install_plugin("toy", good_plugin("toy"), distribution="fw-toy", version="2.5")
    assert rows()["toy"] == Row("toy", "fw-toy 2.5", "ready", ("toy",))


LACKS = """
    from framework.backend import Backend
    from framework.errors import BackendError

    class Plugin(Backend):
        name = "TOY"
        install = "pip install toy-driver"
        requirements = {requirements}
        def __init__(self): {body}
        def asarray(self, obj, *, dtype=None, device=None, copy=None): ...
        def to_numpy(self, array): ...
        def owns(self, array): ...
        def synchronize(self): ...
"""


def lacks(body: str, requirements: str = "('toy_driver',)") -> str:
    return LACKS.format(body=body, requirements=requirements)


WRONG = """
    import sys
    import numpy
    from framework.backend import Backend

    class Plugin(Backend):
        name = "TOY"
        xp = numpy
        def asarray(self, obj, *, dtype=None, device=None, copy=None):
            return numpy.array(obj, dtype=None if dtype is None else self.native(dtype), copy=copy)
        def to_numpy(self, array): return array
        def owns(self, array): return isinstance(array, numpy.ndarray | numpy.generic)
        def synchronize(self): pass
        {body}
"""


def wrong(body: str) -> str:
    return WRONG.format(body=body)


ASARRAY = "def asarray(self, obj, *, dtype=None, device=None, copy=None): return "

FAILING = [
    # what it needs is not here
    (lacks("raise BackendError('no toy driver')"), "missing", "no toy driver (pip install toy-driver)"),
    (lacks("raise BackendError('no toy device')", "('numpy',)"), "missing", "no toy device"),
    (lacks("raise BackendError('do pip install toy-driver')"), "missing", "do pip install toy-driver"),
    (lacks("raise BackendError('none')", "('toy_driver.gpu',)"), "missing", "none (pip install toy-driver)"),
    (
        lacks("import toy_driver"),
        "missing",
        "ModuleNotFoundError: No module named 'toy_driver' (pip install toy-driver)",
    ),
    # it raises
    (lacks("1 / 0"), "broken", "could not be set up: ZeroDivisionError: division by zero"),
    ("raise ValueError('two\\nlines \\x1b[31m')", "broken", "does not import: ValueError: two lines [31m"),
    ("import toy_driver", "broken", "does not import: ModuleNotFoundError: No module named 'toy_driver'"),
    # it exits
    ("raise SystemExit('bye')", "broken", "does not import: SystemExit: bye"),
    (lacks("raise SystemExit(0)"), "broken", "could not be set up: SystemExit: 0"),
    (wrong("def synchronize(self): sys.exit(5)"), "broken", "backend 'TOY' failed its first operation: SystemExit: 5"),
    ("import os; os._exit(0)", "broken", "exited with code 0 while it was tried"),
    (
        "import os, sys; print('first\\nlast words', file=sys.stderr, flush=True); os._exit(7)",
        "broken",
        "exited with code 7 while it was tried: last words",
    ),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "broken", "killed by SIGSEGV while it was tried"),
    ('print(\'{"state": "ready"}\'); raise KeyboardInterrupt', "broken", "KeyboardInterrupt"),
    # it lies about its name
    (wrong("name = 'cpu'"), "broken", "registered as 'TOY', but calls itself 'cpu'"),
    # it lacks something
    ("Plugin = int", "broken", "is not a subclass of framework.backend.Backend"),
    ("x = 1", "broken", "does not import: AttributeError: module '"),
    (
        "from framework.backend import Backend\nclass Plugin(Backend): name = 'TOY'",
        "broken",
        "could not be set up: TypeError: Can't instantiate abstract class Plugin",
    ),
    (lacks("pass"), "broken", "backend 'TOY' failed its first operation: AttributeError: "),
    (wrong("owns = None"), "broken", "backend 'TOY' failed its first operation: TypeError: 'NoneType' object is not"),
    # it is wrong
    (wrong("def to_numpy(self, array): return array + 1"), "broken", "backend 'TOY' computed 2 × (1 + 2 + 3) = 13.0"),
    (wrong(ASARRAY + "numpy.array([obj], dtype='f4')"), "broken", "'TOY': asarray gives shape (1, 3) where (3,) is"),
    (wrong(ASARRAY + "numpy.array(obj, dtype='f8')"), "broken", "'TOY': asarray gives float64 where float32 is right"),
    (wrong("def to_numpy(self, array): return 12.0"), "broken", "to_numpy of a 0-d array of float32 gives 12.0"),
    (wrong("def owns(self, array): return False"), "broken", "'TOY': asarray gives a ndarray that it does not own"),
    (wrong("devices = ('gpu',)"), "broken", "backend 'TOY': its devices are ('gpu',); each begins with its name"),
    (wrong("devices = 1"), "broken", "backend 'TOY' failed its first operation: TypeError: 'int' object is not"),
]
"""What a plugin is, the state that it is in for that, and why."""


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory, installer, good_plugin) -> dict[str, Row]:
    """All of them, one that claims another's name, and a sound one, installed together and tried at once."""
    install = installer(tmp_path_factory.mktemp("failing"))
    for number, (source, _, _) in enumerate(FAILING):
        install(f"toy{number}", source.replace("TOY", f"toy{number}"), distribution=f"fw-toy{number}")
    install("cpu", "raise ValueError('not the real one')", distribution="fw-claimant")
    install("sound", good_plugin("sound"), distribution="fw-sound")
    sys.path.insert(0, str(install.folder))
    try:
        return {f"{row.name} of {row.distribution}": row for row in listed("--timeout", "90")}
    finally:
        sys.path.remove(str(install.folder))


@pytest.mark.parametrize("number", range(len(FAILING)))
def test_a_plugin_that_fails_breaks_its_own_row_only(failing: dict[str, Row], number: int) -> None:
    _, state, reason = FAILING[number]
    reason = reason.replace("TOY", f"toy{number}")
    row = failing[f"toy{number} of fw-toy{number} 1.0"]
    assert (row.state, row.devices) == (state, ())
    assert row.reason == reason or (state == "broken" and reason in row.reason)
    assert not {"\n", "\x1b"} & set(row.reason)


def test_sound_ones_are_ready_among_those_that_fail(failing: dict[str, Row]) -> None:
    assert failing["sound of fw-sound 1.0"] == Row("sound", "fw-sound 1.0", "ready", ("sound",))
    assert failing["cpu of fw-claimant 1.0"].reason == "does not import: ValueError: not the real one"
    (bundled,) = (row for key, row in failing.items() if key.startswith("cpu of fw-framework"))
    assert (bundled.state, bundled.devices) == ("ready", ("cpu",))
    assert len(failing) == len(FAILING) + 4  # cuda is the fourth


HANGS = """
    import os, pathlib, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path(__file__).with_suffix(".pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")
def test_plugins_that_hang_wait_together_and_leave_nothing_running(install_plugin, good_plugin, monkeypatch) -> None:
    """The time is up when both hang, each with a process of its own, and the third has answered, however long that takes."""
    modules = [install_plugin(name, HANGS, distribution=f"fw-{name}") for name in ("slow", "slower")]
    files = [install_plugin.folder / f"{module}.pids" for module in modules]
    install_plugin("sound", good_plugin("sound"), distribution="fw-sound")
    points = {point.name: point for point in registry.entry_points() if point.name in ("slow", "slower", "sound")}
    probes: list[plugins.Probe] = []

    class Noted(plugins.Probe):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            probes.append(self)

    def clock() -> float:
        if not asked:  # for the deadline
            asked.append(True)
            return 0.0
        _wait_until(lambda: all(f.exists() and len(f.read_text().split()) == 2 for f in files))
        _wait_until(lambda: probes[2].process.poll() is not None)
        return 10.0

    asked: list[bool] = []
    monkeypatch.setattr(plugins, "Probe", Noted)
    monkeypatch.setattr(plugins, "time", SimpleNamespace(monotonic=clock))
    found = {row.name: row for row in plugins.rows_of([*points.values()], 10.0)}
    assert found["slow"].reason == found["slower"].reason == "no answer within 10 s"
    assert found["sound"].state == "ready"  # was not kept waiting behind the others
    for file in files:
        for pid in file.read_text().split():
            assert _ends(int(pid)), f"process {pid} is still running"


def _wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come about in two minutes")


def _ends(pid: int) -> bool:
    for _ in range(1200):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):  # it may end between the opening and the reading
            return True
        time.sleep(0.05)
    return False


def test_what_a_sound_plugin_started_does_not_outlive_the_probe(install_plugin, good_plugin) -> None:
    starts = """
    import pathlib, subprocess, sys
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path(__file__).with_suffix(".pids").write_text(str(child.pid))
    """
    module = install_plugin("toy", starts + good_plugin("toy"), distribution="fw-toy")
    assert rows()["toy"].state == "ready"
    assert _ends(int((install_plugin.folder / f"{module}.pids").read_text()))


def test_a_name_of_two_distributions_has_two_rows_and_a_remark(install_plugin, good_plugin) -> None:
    install_plugin("toy", good_plugin("toy"), distribution="fw-toy")
    install_plugin("toy", "1 / 0", distribution="toys-inc")
    install_plugin("cpu", good_plugin("cpu"), distribution="fast-cpu")
    found = plugins.rows_of_all(90.0)
    assert [(row.distribution, row.state) for row in found if row.name == "toy"] == [
        ("fw-toy 1.0", "ready"),
        ("toys-inc 1.0", "broken"),
    ]
    assert plugins.remarks(found) == [
        "cpu is claimed by fast-cpu and fw-framework: fw-framework's is used unless "
        "`plugins: {cpu: DISTRIBUTION}` settles it",
        "toy is claimed by fw-toy and toys-inc: neither can be used unless `plugins: {toy: DISTRIBUTION}` settles it",
    ]


def test_a_distribution_without_metadata_still_has_a_row(install_plugin, good_plugin) -> None:
    install_plugin("toy", good_plugin("toy"), distribution="fw-toy")
    for file in install_plugin.folder.glob("*.dist-info/METADATA"):
        file.unlink()
    assert rows()["toy"].state == "ready"


def test_the_command_prints_an_aligned_table_and_succeeds(install_plugin) -> None:
    install_plugin("toy", "raise ValueError('as told')", distribution="fw-toy")
    head, *lines = lines_of()
    assert head.split() == ["name", "distribution", "state", "devices", "reason"]
    assert {line.split()[0] for line in lines} >= {"cpu", "cuda", "toy"}
    for title in ("distribution", "state", "devices"):
        at = head.index(title)
        assert all(line[at - 2 : at] == "  " and line[at] != " " for line in lines)
    assert next(line for line in lines if line.startswith("toy")).endswith("ValueError: as told")


def test_the_childs_answer_is_not_trusted(tmp_path) -> None:
    for text in ("", "no json", "[]", '{"state": "fine"}', '{"state": "ready", "devices": 3, "reason": ""}'):
        file = tmp_path / "result.json"
        file.write_text(text)
        assert plugins.read_result(file) is None
    assert plugins.read_result(tmp_path / "absent.json") is None


def test_long_reasons_are_cut() -> None:
    assert plugins.one_line("x" * 1000) == "x" * 399 + "…"
    assert plugins.one_line(" a \t b\r\nc ") == "a b c"
