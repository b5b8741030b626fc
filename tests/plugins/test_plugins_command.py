"""`fw plugins` against plugins that behave and plugins that do not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from framework.cli import plugins
from framework.cli.plugins import Row


def rows(timeout_s: float = 20.0) -> dict[str, Row]:
    return {row.name: row for row in plugins.rows_of_all(timeout_s)}


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


FAILING = [
    (lacks("raise BackendError('no toy driver')"), "missing", "no toy driver (pip install toy-driver)"),
    (lacks("raise BackendError('no toy device')", "('numpy',)"), "missing", "no toy device"),
    (lacks("raise BackendError('do pip install toy-driver')"), "missing", "do pip install toy-driver"),
    (
        lacks("import toy_driver"),
        "missing",
        "ModuleNotFoundError: No module named 'toy_driver' (pip install toy-driver)",
    ),
    (lacks("1 / 0"), "broken", "could not be set up: ZeroDivisionError: division by zero"),
    (lacks("pass"), "broken", "backend 'TOY' failed its first operation: AttributeError"),
    ("raise ValueError('two\\nlines \\x1b[31m')", "broken", "does not import: ValueError: two lines [31m"),
    ("import toy_driver", "broken", "does not import: ModuleNotFoundError: No module named 'toy_driver'"),
    ("Plugin = int", "broken", "is not a subclass of framework.backend.Backend"),
    ("raise SystemExit('bye')", "broken", "SystemExit: bye"),
    ("import os; os._exit(0)", "broken", "exited with code 0 while it was tried"),
    (
        "import os, sys; print('first\\nlast words', file=sys.stderr, flush=True); os._exit(7)",
        "broken",
        "exited with code 7 while it was tried: last words",
    ),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "broken", "killed by SIGSEGV while it was tried"),
    ('print(\'{"state": "ready"}\'); raise KeyboardInterrupt', "broken", "KeyboardInterrupt"),
]


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory, installer, good_plugin) -> dict[str, Row]:
    """All of them, and a sound one, installed together and tried at once."""
    install = installer(tmp_path_factory.mktemp("failing"))
    for number, (source, _, _) in enumerate(FAILING):
        install(f"toy{number}", source.replace("TOY", f"toy{number}"), distribution=f"fw-toy{number}")
    install("sound", good_plugin("sound"), distribution="fw-sound")
    sys.path.insert(0, str(install.folder))
    try:
        return rows(timeout_s=60.0)
    finally:
        sys.path.remove(str(install.folder))


@pytest.mark.parametrize("number", range(len(FAILING)))
def test_a_plugin_that_fails_breaks_its_own_row_only(failing: dict[str, Row], number: int) -> None:
    _, state, reason = FAILING[number]
    reason = reason.replace("TOY", f"toy{number}")
    row = failing[f"toy{number}"]
    assert (row.state, row.devices) == (state, ())
    assert row.reason == reason or (state == "broken" and reason in row.reason)
    assert "\n" not in row.reason
    assert "\x1b" not in row.reason
    assert failing["sound"].state == failing["cpu"].state == "ready"


def test_a_plugin_that_lies_about_its_name_is_broken(install_plugin, good_plugin) -> None:
    install_plugin("mine", good_plugin("cpu"), distribution="fw-liar")
    found = rows()
    assert found["mine"].reason == "registered as 'mine', but calls itself 'cpu'"
    assert found["cpu"].state == "ready"


def test_a_plugin_that_computes_wrongly_is_broken(install_plugin, good_plugin) -> None:
    wrong = good_plugin("toy") + "\n        def to_numpy(self, array):\n            return array + 1\n"
    install_plugin("toy", wrong, distribution="fw-toy")
    assert rows()["toy"].reason == "backend 'toy' computed 2 × (1 + 2 + 3) = 13.0"


HANGS = """
    import os, pathlib, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path(__file__).with_suffix(".pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")
def test_plugins_that_hang_wait_together_and_leave_nothing_running(install_plugin, good_plugin) -> None:
    modules = [install_plugin(name, HANGS, distribution=f"fw-{name}") for name in ("slow", "slower")]
    install_plugin("sound", good_plugin("sound"), distribution="fw-sound")
    found = rows(timeout_s=10.0)
    assert found["slow"].reason == found["slower"].reason == "no answer within 10 s"
    assert found["sound"].state == "ready"  # was not kept waiting behind the others
    for module in modules:
        file = install_plugin.folder / f"{module}.pids"
        for pid in file.read_text().split():
            assert _ends(int(pid)), f"process {pid} is still running"


def _ends(pid: int) -> bool:
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
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
    found = plugins.rows_of_all()
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
    done = subprocess.run(
        [sys.executable, "-m", "framework", "plugins"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
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
