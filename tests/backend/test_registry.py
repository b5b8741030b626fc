"""Finding backends: real distributions on the path, real entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

import pytest

from framework.backend import Backend, auto, get, names, register, registry
from framework.errors import BackendError


def fresh(code: str, **environment: str) -> str:
    """What a fresh interpreter with this one's path prints."""
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- names and discovery ---------------------------------------------------------------------------


def test_bundled_and_registered_names_are_listed() -> None:
    assert {"cpu", "cuda", "strict"} <= set(names())
    assert list(names()) == sorted(names())


def test_discovery_imports_no_plugin(install_plugin) -> None:
    module = install_plugin("explosive", "raise SystemExit('imported')", distribution="fw-explosive")
    assert "explosive" in names()
    assert module not in sys.modules


def test_an_installed_backend_is_constructed_once(install_plugin, good_plugin) -> None:
    install_plugin("toy", good_plugin("toy"), distribution="fw-toy")
    backend = get("toy")
    assert backend.name == "toy"
    assert get("toy") is backend


def test_only_the_chosen_plugin_is_imported(install_plugin, good_plugin) -> None:
    chosen = install_plugin("toy", good_plugin("toy"), distribution="fw-toy")
    other = install_plugin("other", good_plugin("other"), distribution="fw-other")
    get("toy")
    assert chosen in sys.modules
    assert other not in sys.modules


def test_a_device_string_gives_its_backend() -> None:
    assert get("strict:1") is get("strict")
    with pytest.raises(BackendError, match=r"'strict' has no device 'strict:7'; it has strict, strict:1"):
        get("strict:7")


def test_an_unknown_name_names_the_nearest_and_all() -> None:
    with pytest.raises(BackendError, match=r"unknown backend 'strickt'\. Did you mean 'strict'\? Installed: .*cpu"):
        get("strickt")


# -- plugins that do not work ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_library", r"'bad' from fw-bad does not import: ModuleNotFoundError: .*no_such_library"),
        ("1 / 0", r"'bad' from fw-bad does not import: ZeroDivisionError"),
        ("Plugin = 3", r"from fw-bad is not a subclass of framework.backend.Backend"),
        ("x = 1", r"'bad' from fw-bad does not import: AttributeError"),
        (
            "from framework.backend import Backend\nclass Plugin(Backend):\n    name = 'bad'",
            r"'bad' could not be set up: TypeError: .*abstract",
        ),
    ],
)
def test_a_broken_plugin_is_one_clear_error(install_plugin, source: str, message: str) -> None:
    install_plugin("bad", source, distribution="fw-bad")
    with pytest.raises(BackendError, match=message):
        get("bad")
    assert get("strict").name == "strict"  # the others stay usable


def test_a_plugin_that_lies_about_its_name_is_refused(install_plugin, good_plugin) -> None:
    install_plugin("mine", good_plugin("cpu"), distribution="fw-liar")
    with pytest.raises(BackendError, match=r"registered as 'mine' calls itself 'cpu'"):
        get("mine")


def test_the_plugins_own_reason_reaches_the_user(install_plugin, good_plugin) -> None:
    source = good_plugin("toy") + (
        "\n        def __init__(self):"
        "\n            from framework.errors import BackendError"
        "\n            raise BackendError('no toy device; pip install toys')"
    )
    install_plugin("toy", source, distribution="fw-toy")
    with pytest.raises(BackendError, match=r"^no toy device; pip install toys$"):
        get("toy")


# -- one name, several distributions -----------------------------------------------------------------


def test_two_distributions_of_one_name_are_an_error_naming_both(install_plugin, good_plugin) -> None:
    install_plugin("toy", good_plugin("toy"), distribution="fw-toy")
    install_plugin("toy", good_plugin("toy"), distribution="toys-inc")
    with pytest.raises(
        BackendError, match=r"'toy' is claimed by fw-toy and toys-inc; settle it with `plugins: \{toy: "
    ):
        get("toy")
    assert get("strict").name == "strict"


def test_a_preferred_distribution_settles_it(install_plugin, good_plugin) -> None:
    install_plugin("toy", good_plugin("toy"), distribution="fw-toy")
    second = install_plugin("toy", good_plugin("toy"), distribution="toys-inc")
    registry.prefer("toy", "toys-inc")
    assert type(get("toy")).__module__ == second
    registry.prefer("toy", "nobody")
    with pytest.raises(BackendError, match=r"plugins: \{toy: nobody\}, but 'toy' comes from fw-toy, toys-inc"):
        get("toy")


def test_the_bundled_distribution_wins_with_one_warning_naming_both(install_plugin, good_plugin) -> None:
    install_plugin("toy", good_plugin("toy"), distribution=registry.BUNDLED)
    install_plugin("toy", good_plugin("toy"), distribution="toys-inc")
    with pytest.warns(
        UserWarning, match=r"'toy' is claimed by fw-framework and toys-inc; the bundled one is used"
    ) as said:
        backend = get("toy")
    assert len(said) == 1
    assert type(backend).__module__.startswith("fw_framework")
    registry._instances.pop("toy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get("toy")  # said once


def test_the_same_entry_point_found_twice_is_one(install_plugin, good_plugin, monkeypatch) -> None:
    install_plugin("toy", good_plugin("toy"), distribution="fw-toy")
    link = install_plugin.folder.parent / "again"
    link.symlink_to(install_plugin.folder)
    monkeypatch.syspath_prepend(str(link))
    assert get("toy").name == "toy"


# -- registering in this process -----------------------------------------------------------------------


def test_register_refuses_what_is_no_backend() -> None:
    with pytest.raises(BackendError, match=r"takes a subclass of framework.backend.Backend, got <class 'int'>"):
        register(int)
    nameless = type("Nameless", (Backend,), {})
    with pytest.raises(BackendError, match=r"Nameless has no `name`"):
        register(nameless)


def test_a_registered_class_wins_over_an_installed_one_and_replaces_its_instance(install_plugin, good_plugin) -> None:
    install_plugin("toy", good_plugin("toy"), distribution="fw-toy")
    installed = get("toy")

    class Local(type(installed)):
        pass

    assert register(Local) is Local
    assert type(get("toy")) is Local


# -- auto ------------------------------------------------------------------------------------------


def test_auto_takes_the_first_by_falling_priority_that_works(install_plugin, good_plugin) -> None:
    install_plugin("best", "raise OSError('no such device')", distribution="fw-best", auto="99")
    install_plugin("second", good_plugin("second"), distribution="fw-second", auto="98")
    install_plugin("third", good_plugin("third"), distribution="fw-third", auto="97.5")
    assert auto().name == "second"


def test_auto_runs_an_operation_before_it_trusts_a_backend(install_plugin, good_plugin) -> None:
    wrong = good_plugin("wrong") + "\n        def to_numpy(self, array):\n            return array + 1\n"
    install_plugin("wrong", wrong, distribution="fw-wrong", auto="99")
    install_plugin("right", good_plugin("right"), distribution="fw-right", auto="98")
    assert auto().name == "right"


def test_auto_says_why_each_failed(install_plugin, monkeypatch) -> None:
    install_plugin("best", "raise OSError('no such device')", distribution="fw-best", auto="99")
    real = registry.entry_points

    def only_ours(group: str = registry.GROUP) -> list:
        return [point for point in real(group) if registry.distribution_of(point) == "fw-best"]

    monkeypatch.setattr(registry, "entry_points", only_ours)
    with pytest.raises(BackendError, match=r"no backend works here\. .*OSError: no such device"):
        auto()


def test_a_priority_that_is_no_number_comes_last(install_plugin, good_plugin) -> None:
    install_plugin("odd", good_plugin("odd"), distribution="fw-odd", auto="soon")
    assert auto().name != "odd"


# -- the environment variable ------------------------------------------------------------------------

STRICT = "import framework.backend as b; from fw_strict import StrictBackend; b.register(StrictBackend);"


def test_the_environment_variable_names_the_first_backend() -> None:
    code = STRICT + "import framework.autodiff.modes as m; print(m.default_backend())"
    assert fresh(code, FW_BACKEND="strict") == "strict"
    assert fresh(code, FW_BACKEND="") == "cpu"


def test_a_wrong_environment_variable_is_a_clear_error() -> None:
    code = (
        "import framework.autodiff.modes as m\n"
        "try: m.default_backend()\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    assert fresh(code, FW_BACKEND="gpu").startswith("BackendError unknown backend 'gpu'")


def test_metadata_is_read_when_a_name_is_asked_for_and_not_before() -> None:
    code = (
        "import sys, json, framework.backend as b\n"
        "before = 'importlib.metadata' in sys.modules\n"
        "b.names()\n"
        "print(json.dumps([before, 'importlib.metadata' in sys.modules]))"
    )
    assert json.loads(fresh(code)) == [False, True]
