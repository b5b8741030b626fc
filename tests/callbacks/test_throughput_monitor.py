"""Batches and samples a second."""

from __future__ import annotations

import pytest

from framework.callbacks import ThroughputMonitor
from framework.errors import ConfigError


def size(batch) -> int:
    return len(batch[0])


def test_rates_over_a_window():
    monitor = ThroughputMonitor(len, lambda batch: 3 * len(batch), window_size=3, available_flops=1000.0)
    for second in (1.0, 2.0):
        monitor.count([0] * 8, at=second, flops=100.0)
    assert monitor.rates() == {"time": 2.0, "batches": 2, "samples": 16, "lengths": 48}
    for second in (4.0, 6.0):
        monitor.count([0] * 4, at=second, flops=100.0)
    assert monitor.rates() == {
        "time": 6.0,
        "batches": 4,
        "samples": 24,
        "lengths": 72,
        "device/batches_per_sec": 0.5,
        "device/samples_per_sec": 2.0,
        "device/items_per_sec": 6.0,
        "device/flops_per_sec": 50.0,
        "device/mfu": 0.05,
    }


def test_rows_of_a_run(small, tmp_path):
    monitor = ThroughputMonitor(size, window_size=4, separator="|")
    trainer = small.trainer(tmp_path, monitor, log_every_n_steps=3)
    trainer.fit(small.Net(), small.loader(), small.loader(2))
    rows = small.rows(trainer)
    assert [(row["step"], row["train|samples"]) for row in rows] == [
        (str(s), str(4.0 * s)) for s in (1, 3, 6, 9, 12, 15, 18)
    ]
    assert [bool(row["train|device|samples_per_sec"]) for row in rows] == [False, False, True, True, True, True, True]
    assert all(float(row["train|device|samples_per_sec"]) > 0 for row in rows[2:])
    assert float(rows[2]["validate|device|samples_per_sec"]) > 0
    times = [float(row["train|time"]) for row in rows]
    assert times == sorted(times)


def test_totals_go_on_and_the_run_is_exact(small, tmp_path):
    whole = small.check_exact_resume(
        tmp_path,
        lambda: [ThroughputMonitor(size, window_size=2)],
        [7],
        timed=("wall_s", "train/time", "train/device", "validate/device"),
    )
    assert small.rows(whole)[-1]["train/samples"] == "72.0"


def test_it_refuses_what_it_cannot_do(small, tmp_path):
    with pytest.raises(ConfigError, match="logger=False"):
        small.trainer(tmp_path, ThroughputMonitor(size), logger=False).fit(small.Net(), small.loader())
    with pytest.raises(ConfigError, match="window_size=1"):
        ThroughputMonitor(size, window_size=1)
    with pytest.raises(ConfigError, match="functions of a batch"):
        ThroughputMonitor(32)
