"""What the parts of the conformance kit share: the backend under test, its deviations, tolerances."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

import numpy as np

from framework.backend import Backend, registry
from framework.backend import dtypes as dt
from framework.errors import BackendError

try:
    import pytest
except ImportError as error:
    raise ImportError("framework.testing needs pytest: pip install 'fw-framework[test]'") from error

F = TypeVar("F", bound=Callable[..., Any])


class Kit:
    """A group of tests for one backend."""

    backend: ClassVar[str]
    """The backend's name, installed or registered."""

    deviations: ClassVar[dict[str, str]] = {}
    """Test id, such as `test_forward[erf-float16]`, to the reason why it may not hold. `*` stands for anything.

    A test that is named here and passes is a failure, and so is an id that names no test. Those that the backend
    states itself, in its own `deviations`, are added.
    """

    optional: ClassVar[bool] = False
    """Skip, with the reason, where the backend cannot be constructed, instead of failing."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give a test marked with `over` one case for each thing that the backend under test offers."""
        over_what = getattr(metafunc.function, "over", None)
        if over_what is not None:
            names, cases = over_what
            try:
                found = cases(registry.get(self.backend))
            except BackendError:  # the fixture says why; there is nothing to list
                found = []
            metafunc.parametrize(names, found)

    @pytest.fixture
    def b(self) -> Backend:
        """The backend under test."""
        try:
            return registry.get(self.backend)
        except BackendError as error:
            if self.optional:
                pytest.skip(str(error))
            raise

    def known_deviations(self) -> dict[str, str]:
        """Those of this class and those that the backend states."""
        try:
            stated = registry.get(self.backend).deviations
        except BackendError:  # the fixture says why
            stated = {}
        return {**stated, **self.deviations}

    @pytest.fixture(autouse=True)
    def _expect_deviations(self, request: pytest.FixtureRequest) -> None:
        for pattern, reason in self.known_deviations().items():
            if matches(pattern, request.node.name):
                request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    def test_every_deviation_names_a_test(self, request: pytest.FixtureRequest) -> None:
        """No deviation is left over from a test that is gone, and none comes without a reason."""
        known = self.known_deviations()
        assert all(reason.strip() for reason in known.values()), f"deviations without a reason: {known}"
        group = request.node.getparent(pytest.Class)
        ids = [item.name for item in group.collect()] if known else []
        stale = [pattern for pattern in known if not any(matches(pattern, name) for name in ids)]
        assert not stale, f"deviations that name no test: {stale}"


def over(names: str, cases: Callable[[Backend], Iterable[Any]]) -> Callable[[F], F]:
    """Parametrise a test of a `Kit` by what a function of the backend lists: only what is offered is run."""

    def mark(test: F) -> F:
        test.over = names, lambda b: list(cases(b))  # type: ignore[attr-defined]
        return test

    return mark


def matches(pattern: str, name: str) -> bool:
    """Whether a test's name fits a pattern in which `*` stands for anything and brackets for themselves.

    Examples:
        >>> matches("test_forward[erf-*]", "test_forward[erf-float16]")
        True
    """
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name) is not None


def parameters_of(fn: Callable[..., Any]) -> list[tuple[str, bool, Any]]:
    """A function's parameters: name, whether by name only, default.

    Examples:
        >>> parameters_of(lambda x, *, copy=None: x)
        [('x', False, 'required'), ('copy', True, None)]
    """
    return [
        (p.name, p.kind is p.KEYWORD_ONLY, p.default if p.default is not p.empty else "required")
        for p in inspect.signature(fn).parameters.values()
    ]


def offered(b: Backend, dtype: str) -> dt.DType:
    """The dtype, if the backend offers it; else the test is skipped with that reason."""
    d = dt.dtype(dtype)
    if d not in b.dtypes:
        pytest.skip(f"backend {b.name!r} does not offer {dtype}")
    return d


def on_host(b: Backend, array: Any) -> np.ndarray:
    """An array's values, floating point as float64, complex as complex128."""
    values = np.asarray(b.to_numpy(array))
    wide = {"float": np.float64, "complex": np.complex128}.get(b.dtype_of(array).kind)
    return values if wide is None else values.astype(wide)


TOLERANCE = {
    "float64": 1e-13,
    "float32": 1e-5,
    "float16": 1.6e-2,
    "bfloat16": 8e-2,
    "complex64": 1e-5,
    "complex128": 1e-13,
}
"""Relative to the largest magnitude expected, by the dtype that was computed in."""


def close(got: Any, expected: Any, tolerance: float, what: str) -> None:
    """Assert that two host arrays have one shape and values within the tolerance of the largest magnitude."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"{what}: got shape {got.shape}, expected {expected.shape}"
    if expected.dtype.kind not in "fc":
        np.testing.assert_array_equal(got, expected, err_msg=what)
        return
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, float(finite.max(initial=0.0)))
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale, err_msg=what)
