"""How many threads BLAS is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import threadpoolctl

from framework.backend import threads


@pytest.fixture(autouse=True)
def _no_user_setting(monkeypatch):
    for name in threads.SETTINGS:
        monkeypatch.delenv(name, raising=False)


def cgroup(tmp_path: Path, membership: str, **files: str) -> tuple[Path, Path]:
    for name, text in files.items():
        file = tmp_path / "fs" / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "membership").write_text(membership)
    return tmp_path / "fs", tmp_path / "membership"


def test_the_smallest_quota_upwards_counts(tmp_path):
    files = {"a__b__cpu_dot_max": "max 100000\n", "a__cpu_dot_max": "150000 100000\n", "cpu_dot_max": "max 100000\n"}
    assert threads.cgroup_quota(*cgroup(tmp_path, "0::/a/b\n", **files)) == 1.5


def test_the_first_version_of_cgroups(tmp_path):
    files = {"cpu__cpu_dot_cfs_quota_us": "-1", "cpu__job__cpu_dot_cfs_quota_us": "50000"}
    files |= {"cpu__cpu_dot_cfs_period_us": "100000", "cpu__job__cpu_dot_cfs_period_us": "100000"}
    assert threads.cgroup_quota(*cgroup(tmp_path, "5:memory:/\n4:cpu,cpuacct:/job\n", **files)) == 0.5
    assert threads.available_cpus(*cgroup(tmp_path, "4:cpu,cpuacct:/job\n")) == 1


@pytest.mark.parametrize("text", ["", "max", "nonsense here", "0 0"])
def test_no_quota_leaves_the_affinity(tmp_path, text):
    root, membership = cgroup(tmp_path, "0::/\n", cpu_dot_max=text)
    assert threads.cgroup_quota(root, membership) is None
    assert threads.available_cpus(root, membership) == len(os.sched_getaffinity(0))


def test_no_cgroups_at_all(tmp_path):
    assert threads.available_cpus(tmp_path / "none", tmp_path / "nothing") == len(os.sched_getaffinity(0))


def blas_thread_counts():
    return [lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]


def test_blas_is_limited_within_the_block_only(monkeypatch):
    import numpy  # noqa: F401  so that its BLAS is loaded

    before = blas_thread_counts()
    if max(before) < 2:
        pytest.skip("BLAS has one thread here anyway")
    monkeypatch.setattr(threads, "available_cpus", lambda: 1)
    with threads.blas_threads() as limit:
        assert limit == 1
        assert set(blas_thread_counts()) == {1}
    assert blas_thread_counts() == before


def test_a_users_own_setting_is_left_alone(monkeypatch):
    monkeypatch.setattr(threads, "available_cpus", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = blas_thread_counts()
    with threads.blas_threads() as limit:
        assert limit is None
        assert blas_thread_counts() == before
    assert threads.user_setting() == "OMP_NUM_THREADS=7"
