"""`BackendConformance`: all that a backend has to do.

    from framework.testing import BackendConformance

    class TestMine(BackendConformance):
        backend = "mine"

The tests run over the registry of primitives and the backend's own lists, so that they grow with both.
"""

from __future__ import annotations

from framework.testing.array_tests import ArrayTests
from framework.testing.capture_tests import CaptureTests
from framework.testing.kernel_tests import KernelTests
from framework.testing.primitive_tests import PrimitiveTests
from framework.testing.random_tests import RandomTests


class BackendConformance(ArrayTests, PrimitiveTests, KernelTests, CaptureTests, RandomTests):
    """Subclass it in a test module, name the backend, and pytest does the rest.

    Examples:
        >>> class TestMine(BackendConformance):
        ...     backend = "mine"
        ...     deviations = {"test_forward[erf-float16]": "the library's erf is single precision only"}
    """
