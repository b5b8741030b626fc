from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback
from framework.errors import ConfigError, ShapeError


class Logging(fw.TrainModule):
    """Calls what a test gives it in the hooks that it names."""

    def __init__(self, **calls: Callable[..., Any]) -> None:
        super().__init__()
        self.weight = fw.nn.Parameter([1.0])
        for name, call in calls.items():
            object.__setattr__(self, name, lambda *args, call=call, name=name: self.run_call(name, call, args))

    def run_call(self, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        call(self, *args)
        return (self.weight * 0.0).sum() if name == "training_step" else None

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return (self.weight * 0.0).sum()

    def configure_optimizers(self) -> Any:
        return fw.optim.SGD(self.parameters(), lr=0.0)


def numbers(values: Any) -> list[Any]:
    """Batches of the given values, in pairs."""
    return [(np.array(values[i : i + 2], np.float32),) for i in range(0, len(values), 2)]


@pytest.fixture(params=["cpu", "far"])
def fit(request: pytest.FixtureRequest, far: str, tmp_path: Path) -> Any:
    """Fits a `Logging` and gives the Trainer."""

    def run(train: Any = (0.0, 1.0, 2.0, 3.0, 4.0), val: Any = None, calls: Any = None, **arguments: Any) -> fw.Trainer:
        trainer = fw.Trainer(
            **{
                "backend": request.param,
                "max_epochs": 1,
                "log_every_n_steps": 1,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "enable_checkpointing": False,
                "default_root_dir": tmp_path,
                **arguments,
            }
        )
        trainer.fit(Logging(**calls), numbers(train), None if val is None else numbers(val))
        return trainer

    return run


def rows(trainer: fw.Trainer) -> list[dict[str, Any]]:
    lines = (Path(trainer.log_dir) / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("wall_s", "epoch")} for line in lines]


# -- forms -----------------------------------------------------------------------------------------


def test_in_training_a_value_belongs_to_its_step(fit: Any) -> None:
    trainer = fit(calls={"training_step": lambda m, batch, i: m.log("x", batch[0].mean())})
    assert rows(trainer) == [{"step": 1, "x": 0.5}, {"step": 2, "x": 2.5}, {"step": 3, "x": 4.0}]
    assert trainer.callback_metrics == {"x": 4.0}
    assert trainer.logged_metrics == {"x": 4.0, "epoch": 0}


def test_epoch_means_are_weighted_by_the_batch(fit: Any) -> None:
    def step(module: Any, batch: Any, i: int) -> None:
        x = batch[0].mean()
        module.log("mean", x, on_step=False, on_epoch=True)
        module.log("plain", x, on_step=False, on_epoch=True, batch_size=1)
        module.log("sum", x, on_step=False, on_epoch=True, reduce_fx="sum")
        module.log("low", x, on_step=False, on_epoch=True, reduce_fx="min")
        module.log("high", x, on_step=False, on_epoch=True, reduce_fx="max")
        module.log("number", float(i), on_step=False, on_epoch=True, reduce_fx="max")
        module.log("count", batch[0].shape[0], on_step=False, on_epoch=True, reduce_fx="sum")

    (row,) = rows(fit(calls={"training_step": step}))
    expected = {"step": 3, "mean": 2.0, "sum": 7.0, "low": 0.5, "high": 4.0, "number": 2.0, "count": 5.0}
    assert row.pop("plain") == pytest.approx(7 / 3)
    assert row == expected


def test_both_forms_have_names_of_their_own(fit: Any) -> None:
    trainer = fit(
        calls={"training_step": lambda m, b, i: m.log("x", b[0].mean(), on_step=True, on_epoch=True, prog_bar=True)}
    )
    assert [row["x_step"] for row in rows(trainer)] == [0.5, 2.5, 4.0]
    assert rows(trainer)[-1] == {"step": 3, "x_step": 4.0, "x_epoch": 2.0}
    assert trainer.callback_metrics == {"x": 2.0, "x_step": 4.0, "x_epoch": 2.0}
    assert trainer.progress_bar_metrics == {"x_step": 4.0, "x_epoch": 2.0}


@pytest.mark.parametrize(
    ("arguments", "in_training", "in_validation"),
    [
        ({}, ({"x"}, 3), ({"x"}, 1)),
        ({"on_epoch": True}, ({"x_step", "x_epoch"}, 3), ({"x"}, 1)),
        ({"on_step": True}, ({"x"}, 3), ({"x_epoch"}, 1)),
        ({"on_step": False}, ({"x"}, 1), ({"x"}, 1)),
        ({"on_step": True, "on_epoch": True}, ({"x_step", "x_epoch"}, 3), ({"x_epoch"}, 1)),
        ({"on_step": False, "on_epoch": True}, ({"x"}, 1), ({"x"}, 1)),
        ({"on_step": True, "on_epoch": False}, ({"x"}, 3), (set(), 0)),
    ],
    ids=lambda x: str(x) if isinstance(x, dict) else "",  # a set's text has another order in each process
)
def test_the_forms_by_default_are_lightnings(fit: Any, arguments: Any, in_training: Any, in_validation: Any) -> None:
    """Names in the rows, and in how many they are; in validation a value by step is for the bar alone."""

    def log(module: Any, batch: Any, i: int) -> None:
        module.log("x", batch[0].mean(), **arguments)

    for trainer, expected in (
        (fit(calls={"training_step": log}), in_training),
        (fit(val=(1.0, 2.0, 3.0), calls={"validation_step": log}), in_validation),
    ):
        named = [{name for name in row if name != "step"} for row in (rows(trainer) if expected[1] else [])]
        assert (set().union(*named), sum(map(bool, named))) == expected


def test_integers_and_booleans_are_summed_without_overflow(fit: Any) -> None:
    trainer = fit(
        train=list(range(300)),
        calls={
            "training_step": lambda m, b, i: m.log(
                "hits", (b[0] * 0 + 200).astype("uint8").max(), on_step=False, on_epoch=True, reduce_fx="sum"
            )
        },
    )
    assert rows(trainer)[-1]["hits"] == 150 * 200


def test_means_go_through_nan_and_extremes_too(fit: Any) -> None:
    def step(module: Any, batch: Any, i: int) -> None:
        value = batch[0].mean() * (math.nan if i == 1 else 1.0)
        for reduce in ("mean", "min", "max", "sum"):
            module.log(reduce, value, on_step=False, on_epoch=True, reduce_fx=reduce)

    trainer = fit(calls={"training_step": step})
    assert all(math.isnan(trainer.callback_metrics[name]) for name in ("mean", "min", "max", "sum"))


def test_a_metric_object_gives_the_epochs_value_and_begins_anew(fit: Any) -> None:
    metrics = {"train": fw.metrics.MeanMetric(), "val": fw.metrics.MeanMetric()}

    def step(name: str) -> Any:
        def call(module: Any, batch: Any, i: int) -> None:
            metrics[name].update(batch[0])
            module.log(f"{name}_mean", metrics[name])

        return call

    trainer = fit(
        val=(10.0, 20.0), max_epochs=2, calls={"training_step": step("train"), "validation_step": step("val")}
    )
    assert rows(trainer) == [{"step": step, "train_mean": 2.0, "val_mean": 15.0} for step in (3, 6)]


def test_logger_false_is_for_callbacks_only(fit: Any) -> None:
    trainer = fit(calls={"training_step": lambda m, b, i: (m.log("x", 1.0, logger=False), m.log("y", 2.0))})
    assert all("x" not in row for row in rows(trainer))
    assert trainer.callback_metrics == {"x": 1.0, "y": 2.0}


def test_what_was_not_logged_in_this_step_is_not_in_its_row(fit: Any) -> None:
    trainer = fit(calls={"training_step": lambda m, b, i: m.log("x" if i % 2 else "y", float(i))})
    assert rows(trainer) == [{"step": 1, "y": 0.0}, {"step": 2, "x": 1.0}, {"step": 3, "y": 2.0}]


def test_the_last_value_of_a_step_wins_and_all_count_in_the_epoch(fit: Any) -> None:
    def step(module: Any, batch: Any, i: int) -> None:
        for value in (1.0, 3.0):
            module.log("a", value)
            module.log("b", value, on_step=False, on_epoch=True)

    last = rows(fit(calls={"training_step": step}))[-1]
    assert last == {"step": 3, "a": 3.0, "b": 2.0}


def test_log_dict(fit: Any) -> None:
    trainer = fit(calls={"training_step": lambda m, b, i: m.log_dict({"a": 1.0, "b": 2.0}, prog_bar=True)})
    assert trainer.progress_bar_metrics == {"a": 1.0, "b": 2.0}


@pytest.mark.parametrize(
    ("hook", "arguments"),
    [
        ("on_train_start", ()),
        ("on_train_epoch_start", ()),
        ("on_train_epoch_end", ()),
        ("on_train_batch_start", ()),
        ("on_train_batch_end", ()),
        ("on_before_zero_grad", ()),
        ("on_before_backward", ()),
        ("on_after_backward", ()),
        ("on_before_optimizer_step", ()),
        ("on_validation_start", ()),
        ("on_validation_epoch_start", ()),
        ("on_validation_epoch_end", ()),
        ("on_validation_batch_start", ()),
        ("on_validation_batch_end", ()),
    ],
)
def test_hooks_of_batches_and_epochs_can_log(fit: Any, hook: str, arguments: Any) -> None:
    trainer = fit(val=(1.0, 2.0), calls={hook: lambda m, *args: m.log("x", 5.0), "validation_step": lambda m, *a: None})
    by_step = "batch" in hook or "before" in hook or "after" in hook
    expected = [1, 2, 3] if by_step and "validation" not in hook else [3]
    assert [row["step"] for row in rows(trainer) if row.get("x") == 5.0] == expected


def test_callbacks_log_through_the_module(fit: Any) -> None:
    class Both(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            pl_module.log("loss_again", outputs["loss"])

        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            pl_module.log("val_extra", 3.0)

    trainer = fit(val=(1.0, 2.0), callbacks=[Both()], calls={"validation_step": lambda m, *a: None})
    assert rows(trainer)[-1] == {"step": 3, "loss_again": 0.0, "val_extra": 3.0}


def test_in_evaluation_a_step_value_is_for_the_bar_alone(fit: Any) -> None:
    trainer = fit(
        val=(1.0, 2.0, 3.0, 5.0),
        calls={"validation_step": lambda m, b, i: m.log("v", b[0].mean(), on_step=True, on_epoch=True)},
    )
    assert rows(trainer) == [{"step": 3, "v_epoch": 2.75}]  # the axis of every row is the optimizer's step


def test_reading_callback_metrics_in_the_middle(fit: Any) -> None:
    seen: list[dict[str, float]] = []

    def step(module: Any, batch: Any, i: int) -> None:
        module.log("x", batch[0].mean(), on_step=True, on_epoch=True)
        seen.append(module.trainer.callback_metrics)

    fit(max_epochs=2, calls={"training_step": step})
    assert seen[0] == {"x": 0.5, "x_step": 0.5}  # no epoch has ended
    assert seen[4] == {"x": 2.0, "x_step": 2.5, "x_epoch": 2.0}


# -- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("high", ConfigError, "a metric is a number, got 'high' of type str"),
        (None, ConfigError, "a metric is a number, got None"),
        ({"a": 1.0}, ConfigError, "use self.log_dict"),
        (np.ones(3), ShapeError, "got an array of shape (3,)"),
        (fw.tensor([1.0, 2.0]), ShapeError, "got a Tensor of shape (2,); a metric is one number"),
    ],
)
def test_values_that_are_no_number(fit: Any, value: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        fit(calls={"training_step": lambda m, b, i: m.log("x", value)})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, b, i: m.log("x", 1.0, reduce_fx="meen"), "Did you mean 'mean'?"),
        (lambda m, b, i: m.log("x", 1.0, reduce_fx=max), "log a metric object"),
        (lambda m, b, i: m.log("step", 1.0), "every row has a 'step' of its own"),
        (lambda m, b, i: m.log("x", 1.0, on_step=False, on_epoch=False), "would record nothing"),
        (lambda m, b, i: (m.log("x", 1.0), m.log("x", 1.0, prog_bar=True)), "prog_bar=False, now True"),
        (lambda m, b, i: (m.log("x", 1.0, on_epoch=True), m.log("x", 1.0)), "on_epoch=True, now None"),
        (lambda m, b, i: m.log(3, 1.0), "a name is a string, got a int"),
    ],
)
def test_arguments_that_make_no_sense(fit: Any, call: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fit(calls={"training_step": call})
    assert words in str(caught.value)


def test_one_name_in_training_and_validation_is_an_error_before_training(fit: Any) -> None:
    step = {"training_step": lambda m, b, i: m.log("loss", 1.0), "validation_step": lambda m, b, i: m.log("loss", 2.0)}
    with pytest.raises(ConfigError, match=r"the name belongs to validation already.*'train_loss' and 'val_loss'"):
        fit(val=(1.0, 2.0), calls=step)
    with pytest.raises(ConfigError, match=r"in validation: the name belongs to training already"):
        fit(val=(1.0, 2.0), num_sanity_val_steps=0, calls=step)


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_train_end", "on_fit_end", "on_validation_end"])
def test_hooks_outside_steps_and_epochs_cannot_log(fit: Any, hook: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot be used in {hook}"):
        fit(val=(1.0, 2.0), calls={hook: lambda m, *a: m.log("x", 1.0), "validation_step": lambda m, *a: None})


def test_by_step_is_refused_where_there_is_none(fit: Any) -> None:
    with pytest.raises(ConfigError, match="this hook belongs to no step"):
        fit(calls={"on_train_epoch_end": lambda m: m.log("x", 1.0, on_step=True)})


def test_a_batch_without_arrays_needs_a_size(tmp_path: Path) -> None:
    module = Logging(training_step=lambda m, b, i: m.log("x", 1.0, on_step=False, on_epoch=True))
    trainer = fw.Trainer(max_epochs=1, backend="cpu", default_root_dir=tmp_path, enable_checkpointing=False)
    with pytest.raises(ConfigError, match="pass batch_size="):
        trainer.fit(module, [["only", "words"]])


def test_without_a_trainer_it_warns() -> None:
    with pytest.warns(UserWarning, match="does nothing without a Trainer"):
        Logging().log("x", 1.0)


def test_a_copied_module_has_no_trainer(fit: Any) -> None:
    copies: list[Any] = []

    def step(module: Any, batch: Any, i: int) -> None:
        if not copies:
            clean = fw.nn.Module.__new__(type(module))
            clean.__dict__.update({k: v for k, v in vars(module).items() if not callable(v)})
            copies.extend([copy.deepcopy(clean), pickle.loads(pickle.dumps(clean))])

    fit(calls={"training_step": step})
    for one in copies:
        with pytest.raises(ConfigError, match="has no Trainer yet"):
            _ = one.trainer
        assert one.global_step == 0
