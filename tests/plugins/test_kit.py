"""The conformance kit is itself held to account: it passes a sound backend and fails an unsound one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from framework.autodiff import PRIMITIVES
from framework.backend import get
from framework.testing.kit import matches
from framework.testing.primitive_tests import PrimitiveTests

SOUND = """
    import numpy
    from framework.backend import Backend, register
    from framework.testing import BackendConformance

    @register
    class Toy(Backend):
        name = "toy"
        xp = numpy
        {class_body}

        def asarray(self, obj, *, dtype=None, device=None, copy=None):
            self.check_device(device)
            if hasattr(obj, "__dlpack__"):
                obj = numpy.from_dlpack(obj)
            return numpy.array(obj, dtype=None if dtype is None else self.native(dtype), copy=copy)

        def to_numpy(self, array):
            return numpy.asarray(array)

        def owns(self, array):
            return isinstance(array, (numpy.ndarray, numpy.generic))

        def synchronize(self):
            pass

    class TestToy(BackendConformance):
        backend = "toy"
        {test_body}
"""


ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # the kit needs pytest alone
}


def outcomes(tmp_path: Path, class_body: str = "pass", test_body: str = "", *args: str) -> dict[str, set[str]]:
    """Run the kit on a toy backend in a process of its own; test names by outcome."""
    file = tmp_path / "test_toy.py"
    file.write_text(textwrap.dedent(SOUND).format(class_body=class_body, test_body=test_body))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=no", "-p", "no:cacheprovider", str(file), *args],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=300,
    )
    found: dict[str, set[str]] = {"PASSED": set(), "FAILED": set(), "XFAIL": set(), "ERROR": set()}
    for line in done.stdout.splitlines():
        outcome, _, rest = line.partition(" ")
        if outcome in found:
            found[outcome].add(rest.partition("::TestToy::")[2].partition(" - ")[0].strip())
    assert not found["ERROR"], done.stdout
    assert found["PASSED"] or found["FAILED"], done.stdout + done.stderr
    return found


def test_a_sound_backend_of_thirty_lines_passes(tmp_path: Path) -> None:
    found = outcomes(tmp_path, "pass", "", "-k", "contract or linear or matmul")  # test_new_plugin.py runs all
    assert not found["FAILED"]
    assert {"test_contract", "test_reverse_rule[linear]", "test_forward[matmul-float32]"} <= found["PASSED"]


def test_a_backend_without_complex_numbers_is_held_to_real_ones_alone(tmp_path: Path) -> None:
    real = (
        "from framework.backend import dtypes as t; dtypes = tuple(d for d in t.DTYPES.values() if d.kind != 'complex'"
    )
    found = outcomes(tmp_path, real + " and d.name != 'bfloat16')", "", "-k", "fftn or abs or solve or svd")
    assert not found["FAILED"]
    assert {"test_reverse_rule[svd]", "test_forward[abs-float32]"} <= found["PASSED"]
    assert not any("complex" in name for name in found["PASSED"])


def test_a_deviation_with_a_reason_is_expected_to_fail(tmp_path: Path) -> None:
    body = "deviations = {'test_kernel_names': 'a name of our own'}"
    found = outcomes(tmp_path, "kernels = {'our_own': max}", body, "-k", "kernel_names or deviation")
    assert found["XFAIL"] == {"test_kernel_names"}
    assert not found["FAILED"]


def test_a_deviation_that_passes_fails(tmp_path: Path) -> None:
    body = "deviations = {'test_forward[exp-*]': 'said to be wrong'}"
    found = outcomes(tmp_path, "pass", body, "-k", "test_forward and exp- or deviation")
    assert "test_forward[exp-float32]" in found["FAILED"]
    assert "test_forward[expm1-float32]" not in found["FAILED"]
    assert "test_every_deviation_names_a_test" in found["PASSED"]


def test_a_deviation_of_no_test_fails(tmp_path: Path) -> None:
    body = "deviations = {'test_forward[gone-*]': 'there is no such primitive'}"
    found = outcomes(tmp_path, "pass", body, "-k", "deviation")
    assert found["FAILED"] == {"test_every_deviation_names_a_test"}


def test_a_deviation_without_a_reason_fails(tmp_path: Path) -> None:
    body = "deviations = {'test_kernel_names': ' '}"
    found = outcomes(tmp_path, "kernels = {'our_own': max}", body, "-k", "deviation")
    assert found["FAILED"] == {"test_every_deviation_names_a_test"}


def test_a_backend_that_cannot_be_had_fails_unless_it_is_optional(tmp_path: Path) -> None:
    refuses = "def __init__(self): raise __import__('framework').errors.BackendError('no toys')"
    file = tmp_path / "test_toy.py"
    for body, expected in (("", 1), ("optional = True", 0)):
        file.write_text(textwrap.dedent(SOUND).format(class_body=refuses, test_body=body))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file), "-rs", "-k", "contract"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=120,
        )
        assert done.returncode == expected, done.stdout
        assert "no toys" in done.stdout


# -- wrong rules ---------------------------------------------------------------------------------------

PRIMITIVES_KIT = type("PrimitivesKit", (PrimitiveTests,), {"backend": "cpu"})()


@pytest.mark.parametrize(
    ("name", "rule", "wrong"),
    [
        ("tanh", "vjp", lambda ns, g, needs, out, residual, x: (g * (1 - out),)),
        ("matmul", "vjp", lambda ns, g, needs, out, residual, x, y: (None, None)),
        ("softmax", "vjp", lambda ns, g, needs, out, residual, x, axis: (g * out,)),
    ],
)
def test_a_wrong_reverse_rule_fails(monkeypatch, name: str, rule: str, wrong) -> None:
    PRIMITIVES_KIT.test_reverse_rule(get("cpu"), name)
    monkeypatch.setattr(PRIMITIVES[name], rule, wrong)
    with pytest.raises(AssertionError, match=f"{name}, sample 0"):
        PRIMITIVES_KIT.test_reverse_rule(get("cpu"), name)


def test_a_rule_that_is_wrong_for_complex_numbers_only_fails(monkeypatch) -> None:
    PRIMITIVES_KIT.test_reverse_rule(get("cpu"), "abs")
    monkeypatch.setattr(PRIMITIVES["abs"], "vjp", lambda ns, g, needs, out, residual, x: (g * ns.sign(x),))
    with pytest.raises(AssertionError, match="abs, sample 4, complex128, gradient"):
        PRIMITIVES_KIT.test_reverse_rule(get("cpu"), "abs")


def test_a_rule_that_forgets_one_of_several_outputs_fails(monkeypatch) -> None:
    PRIMITIVES_KIT.test_reverse_rule(get("cpu"), "batch_norm")
    right = PRIMITIVES["batch_norm"].vjp

    def wrong(ns, g, *args, **params):
        return right(ns, (*g[:2], None), *args, **params)

    monkeypatch.setattr(PRIMITIVES["batch_norm"], "vjp", wrong)
    with pytest.raises(AssertionError, match=r"batch_norm, sample 0, .*from outputs \(2,\)"):
        PRIMITIVES_KIT.test_reverse_rule(get("cpu"), "batch_norm")


def test_a_rule_that_needs_a_gradient_of_every_output_fails(monkeypatch) -> None:
    PRIMITIVES_KIT.test_reverse_rule(get("cpu"), "split_at")
    right = PRIMITIVES["split_at"].vjp

    def wrong(ns, g, *args, **params):
        return (None,) if any(part is None for part in g) else right(ns, g, *args, **params)

    monkeypatch.setattr(PRIMITIVES["split_at"], "vjp", wrong)
    with pytest.raises(AssertionError, match=r"split_at, sample 0, .*from outputs \(0,\)"):
        PRIMITIVES_KIT.test_reverse_rule(get("cpu"), "split_at")


def test_a_wrong_forward_mode_rule_fails(monkeypatch) -> None:
    PRIMITIVES_KIT.test_forward_rule(get("cpu"), "tanh")
    monkeypatch.setattr(PRIMITIVES["tanh"], "jvp", lambda ns, tangents, out, x: tangents[0])
    with pytest.raises(AssertionError, match="tanh, sample 0, float64, tangent along"):
        PRIMITIVES_KIT.test_forward_rule(get("cpu"), "tanh")


def test_a_wrong_batching_rule_fails(monkeypatch) -> None:
    PRIMITIVES_KIT.test_batch_rule(get("cpu"), "softmax")
    wrong = lambda ops, n, is_batched, inputs, params, fn: fn(*inputs, axis=0)  # noqa: E731
    monkeypatch.setattr(PRIMITIVES["softmax"], "batch", wrong)
    with pytest.raises(AssertionError, match="softmax, sample 0, float64, batched inputs"):
        PRIMITIVES_KIT.test_batch_rule(get("cpu"), "softmax")


def test_a_rule_that_cannot_be_differentiated_again_fails(monkeypatch) -> None:
    PRIMITIVES_KIT.test_second_order(get("cpu"), "exp")
    monkeypatch.setattr(
        PRIMITIVES["exp"], "vjp", lambda ns, g, needs, out, residual, x: (g * ns.stop_gradient(out),), raising=True
    )
    with pytest.raises((AssertionError, AttributeError)):
        PRIMITIVES_KIT.test_second_order(get("cpu"), "exp")


def test_a_primitive_without_samples_fails(monkeypatch) -> None:
    monkeypatch.setitem(PRIMITIVES, "brand_new", PRIMITIVES["exp"])
    with pytest.raises(AssertionError, match="brought up to date"):
        PRIMITIVES_KIT.test_every_primitive_has_samples()


def test_patterns_take_brackets_as_they_are() -> None:
    assert matches("test_forward[erf-float16]", "test_forward[erf-float16]")
    assert matches("test_forward[erf-*]", "test_forward[erf-float16]")
    assert matches("*float16*", "test_forward[erf-float16]")
    assert not matches("test_forward[erf-*]", "test_forward[erfc]")
    assert not matches("test_forward", "test_forward[erf-float16]")
