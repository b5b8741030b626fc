"""The conformance kit on the bundled backends and on the strict one."""

from __future__ import annotations

import pytest

from framework.testing import BackendConformance


class TestCpu(BackendConformance):
    backend = "cpu"


class TestStrict(BackendConformance):
    backend = "strict"


@pytest.mark.cuda
class TestCuda(BackendConformance):
    backend = "cuda"
    optional = True
