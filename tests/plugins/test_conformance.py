"""The conformance kit on the bundled backends and on the strict one."""

from __future__ import annotations

import pytest

from framework.testing import BackendConformance


class TestCpu(BackendConformance):
    backend = "cpu"


class TestStrict(BackendConformance):
    backend = "strict"
    one_in = (("test_", 4),)  # slow; each rule is also run on it beside the table of primitives


@pytest.mark.cuda
class TestCuda(BackendConformance):
    backend = "cuda"
    optional = True
