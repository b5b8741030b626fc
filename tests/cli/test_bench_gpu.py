"""The program that measures on a GPU, where there is none."""

from __future__ import annotations

import pytest

from benchmarks import gpu
from framework.backend import registry
from framework.errors import BackendError


def test_without_a_gpu_it_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        registry.get("cuda")
    except BackendError as error:
        reason = str(error)
    else:
        pytest.skip("there is a GPU here")
    assert gpu.main([]) == 2
    assert capsys.readouterr() == ("", f"no figures: {reason}\n")


def test_rows_of_the_table() -> None:
    row = gpu.ROWS[0]
    found = [("ours", [2e-6, 1e-6, 3e-6]), ("other", [4e-6, 4e-6, 5e-6])]
    assert list(gpu.lines(row, found)) == [
        "| MNIST MLP, one step at batch 128 | ours | 2.0 | 1.5 to 2.5 | 1.00 |",
        "| MNIST MLP, one step at batch 128 | other | 4.0 | 4.0 to 4.5 | 2.00 |",
    ]


def test_contenders_take_turns() -> None:
    turns: list[str] = []

    def contenders(place: gpu.Place):
        yield gpu.Contender("a", lambda n: turns.append(f"a{n}"))
        yield gpu.Contender("b", lambda n: float(n))

    found = gpu.measured(gpu.Row("row", 4, contenders), gpu.Place("cpu", "cpu", 2, has_gpu=False), rounds=3)
    assert turns == ["a2"] * 4
    assert found[1] == ("b", [1.0, 1.0, 1.0])


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
def test_a_rehearsal_measures_every_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # as Lightning sets it when it is imported
    assert gpu.main(["--rehearse", "--rounds", "1"]) == 0
    said = capsys.readouterr().out
    assert "these figures mean nothing" in said
    assert all(row.name in said for row in gpu.ROWS)
