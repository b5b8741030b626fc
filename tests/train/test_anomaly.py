"""`detect_anomaly=True` names the first operation, and the step, that went non-finite."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
import framework.numpy as fnp
from framework.errors import CompileWarning, NonFiniteError
from framework.train.anomaly import Watcher

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # NumPy's own


class Line(fw.TrainModule):
    """Has a loss of its own in batch 2."""

    def __init__(self, loss: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.layer = fw.nn.Linear(2, 1)
        self.loss = loss

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        out = self.layer(batch[0])
        return self.loss(self, out) if batch_idx == 2 else (out**2).mean()

    def configure_optimizers(self) -> Any:
        return fw.optim.SGD(self.parameters(), lr=0.01)


def log_of_zero(module: Any, out: Any) -> Any:
    return fnp.log(out * 0.0).mean()  # the line of log


def division(module: Any, out: Any) -> Any:
    masked = fnp.where(fnp.isinf(fnp.asarray([-np.inf])), out, 0.0)  # infinities that are meant
    return (masked / (masked - masked)).mean()  # the line of divide


def log_of_nearly_zero(module: Any, out: Any) -> Any:
    return fnp.log(out * 0.0 + 1e-40).mean()  # the line of a finite log, whose gradient overflows


CASES = {
    "log": (log_of_zero, r"'log' at .*test_anomaly.py:\d+", "the line of log"),
    "divide": (division, r"'divide' at .*test_anomaly.py:\d+", "the line of divide"),
    "a gradient": (log_of_nearly_zero, r"the gradient of 'log'.*test_anomaly.py:\d+", "the line of a finite log"),
}


def fit(folder: Path, loss: Any, **arguments: Any) -> Any:
    data = fw.data.DataLoader(fw.data.ArrayDataset(np.ones((12, 2), np.float32)), batch_size=2)
    trainer = fw.Trainer(
        **{
            "max_epochs": 1, "backend": "cpu", "enable_progress_bar": False, "enable_model_summary": False,
            "default_root_dir": folder, "detect_anomaly": True, **arguments,
        }
    )  # fmt: skip
    trainer.fit(Line(loss), data)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_first_operation_is_named_with_its_line_and_step(case: str, accumulate: int, tmp_path: Path) -> None:
    loss, words, line = CASES[case]
    step = {1: 3, 3: 1}[accumulate]
    with pytest.raises(
        NonFiniteError, match=rf"(?s)^step {step}: .*first result that was not finite.*{words}"
    ) as caught:
        fit(tmp_path, loss, accumulate_grad_batches=accumulate)
    number = int(str(caught.value).rpartition("test_anomaly.py:")[2].split()[0].rstrip(".,)`'"))
    assert line in Path(__file__).read_text().splitlines()[number - 1]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("compile", [False, True])
def test_without_it_the_step_is_made_again_to_name_the_operation(case: str, compile: bool, tmp_path: Path) -> None:
    loss, words, _ = CASES[case]
    calls: list[Any] = []

    def counted(module: Any, out: Any) -> Any:
        calls.append({name: t.tolist() for name, t in module.state_dict().items()})
        return loss(module, out)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompileWarning)
        with pytest.raises(
            NonFiniteError, match=rf"(?s)^step 3: .*The update was not applied.*that was not finite.*{words}"
        ):
            fit(tmp_path, counted, detect_anomaly=False, compile=compile)
    assert len(calls) == 2
    assert calls[0] == calls[1]


def test_a_step_that_does_not_bear_that_leaves_the_error_as_it_is(tmp_path: Path) -> None:
    calls: list[int] = []

    def once(module: Any, out: Any) -> Any:
        calls.append(1)
        assert len(calls) == 1, "only once"
        return log_of_zero(module, out)

    with pytest.raises(NonFiniteError, match="^step 3: the loss is -inf. The update was not applied"):
        fit(tmp_path, once, detect_anomaly=False)
    assert len(calls) == 2


def test_a_batch_that_is_not_finite_is_named_as_the_cause(tmp_path: Path) -> None:
    def given(module: Any, out: Any) -> Any:
        return (out * fw.tensor(np.array([np.nan], np.float32))).mean()

    with pytest.raises(NonFiniteError, match="step 3: .*was given something that is not finite already"):
        fit(tmp_path, given)


def test_compiled_it_runs_eagerly_with_a_word(tmp_path: Path) -> None:
    with (
        pytest.warns(CompileWarning, match="detect_anomaly=True looks at every operation"),
        pytest.raises(NonFiniteError, match="'log' at"),
    ):
        fit(tmp_path, log_of_zero, compile=True)


def test_afterwards_nothing_is_looked_at_any_more(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError):
        fit(tmp_path, log_of_zero)
    assert not isinstance(fw.tensor(1.0)._ns.recorder, Watcher)
    fit(tmp_path, lambda module, out: (out**2).mean())
    fit(tmp_path, lambda module, out: (out**2).mean(), detect_anomaly=False)
