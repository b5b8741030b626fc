"""Exit codes, messages, and whose traceback is shown."""

from __future__ import annotations

import pytest

from framework.cli.nodes import Node, Origin, failed
from framework.cli.report import FAILED, REFUSED, RunFailedError, report
from framework.errors import ConfigError, DataError, ShapeError


@pytest.fixture
def user_function(tmp_path):
    """Runs a body as if it stood in a user's file."""

    def build(body):
        space: dict = {}
        file = str(tmp_path / "mine.py")
        exec(compile(f"def mine():\n    {body}\n", file, "exec"), space, space)
        space.update(ShapeError=ShapeError, DataError=DataError)
        return space["mine"]

    return build


def reported(fn, capsys, *, debug=False, after=False):
    try:
        fn()
    except Exception as error:
        wrapped = error
        if after:
            wrapped = RunFailedError()
            wrapped.__cause__ = error
        code = report(wrapped, debug=debug)
    return code, capsys.readouterr().err


def refuse():
    raise ConfigError("a: b")


def test_a_refusal_is_one_line(capsys):
    assert reported(refuse, capsys) == (REFUSED, "fw: error: a: b\n")


def test_debug_shows_the_traceback(capsys):
    code, err = reported(refuse, capsys, debug=True)
    assert code == REFUSED
    assert "Traceback" in err
    assert err.endswith("fw: error: a: b\n")


def test_after_the_first_step_the_code_is_one(capsys):
    assert reported(refuse, capsys, after=True) == (FAILED, "fw: error: a: b\n")


def test_the_users_own_exception_has_its_traceback_without_our_frames(user_function, capsys):
    code, err = reported(user_function("1 / 0"), capsys)
    assert code == REFUSED
    assert "mine.py" in err
    assert "ZeroDivisionError" in err
    assert "test_report.py" in err or err.count("File") == 1
    assert err.endswith("fw: error: ZeroDivisionError: division by zero\n")


def test_a_refusal_caused_by_user_code_shows_the_cause(user_function, capsys):
    mine = user_function("1 / 0")

    def constructor():
        try:
            mine()
        except ZeroDivisionError as error:
            raise failed(Node(0, Origin("c.yaml", 3)), "model", "Net(…) raised", error) from error

    _, err = reported(constructor, capsys)
    assert "mine.py" in err
    assert err.endswith("fw: error: c.yaml:3: model: Net(…) raised ZeroDivisionError: division by zero\n")


def test_bad_data_needs_no_traceback_though_user_code_read_it(user_function, capsys):
    assert reported(user_function("raise DataError('truncated')"), capsys)[1] == "fw: error: truncated\n"


def test_a_wrong_shape_in_user_code_does(user_function, capsys):
    _, err = reported(user_function("raise ShapeError('3 is not 4')"), capsys)
    assert "mine.py" in err
    assert err.endswith("fw: error: 3 is not 4\n")


def test_an_operating_system_error_is_put_in_words(tmp_path, capsys):
    def open_nothing():
        (tmp_path / "none").read_text()

    _, err = reported(open_nothing, capsys)
    assert err.endswith(f"fw: error: No such file or directory: {tmp_path / 'none'}\n")
