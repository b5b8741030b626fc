"""A logger's failures cost one warning."""

from __future__ import annotations

import warnings

import pytest

from framework.errors import ConfigError
from framework.loggers import CSVLogger, Logger, SafeLogger


class Broken(Logger):
    """Fails in every method, as a third party's logger may."""

    name, version = "broken", 1

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _fail(self, name: str):
        self.calls.append(name)
        raise OSError("no space left on device")

    def log_metrics(self, metrics, step=None):
        self._fail("log_metrics")

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self._fail("on_before_optimizer_step")

    def log_hyperparams(self, params):
        self._fail("log_hyperparams")

    def log_config(self, config):
        self._fail("log_config")

    def attach(self, run_dir):
        self._fail("attach")

    def save(self):
        self._fail("save")

    def sync(self):
        self._fail("sync")

    def finalize(self, status):
        self._fail("finalize")

    def after_save_checkpoint(self, checkpoint_callback):
        self._fail("after_save_checkpoint")

    def state_dict(self):
        self._fail("state_dict")

    def load_state_dict(self, state):
        self._fail("load_state_dict")


CALLS = {
    "log_metrics": ({"x": 1.0}, 1),
    "on_before_optimizer_step": (None, None, None),
    "log_hyperparams": ({},),
    "log_config": ({},),
    "attach": (None,),
    "save": (),
    "sync": (),
    "finalize": ("success",),
    "after_save_checkpoint": (None,),
    "state_dict": (),
    "load_state_dict": ({},),
}


@pytest.mark.parametrize("first", CALLS)
def test_each_method_may_fail_and_only_the_first_failure_is_told(first):
    logger = Broken()
    guard = SafeLogger(logger)
    with pytest.warns(RuntimeWarning, match=f"Broken.{first} failed with OSError: no space left") as seen:
        getattr(guard, first)(*CALLS[first])
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, arguments in CALLS.items():
            assert getattr(guard, name)(*arguments) == ({} if name == "state_dict" else None)
    assert logger.calls == [first, *CALLS]


def test_every_public_method_of_a_logger_is_guarded():
    public = {name for name, member in vars(Logger).items() if not name.startswith("_") and callable(member)}
    assert public == set(CALLS)


def test_a_configuration_error_while_attaching_is_not_hidden(tmp_path):
    for folder in ("exp/version_3",):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "metrics.jsonl").write_text("")
    with pytest.raises(ConfigError):
        SafeLogger(CSVLogger(tmp_path, name="exp", version=3)).attach(tmp_path)


def test_an_interrupt_passes():
    class Interrupted(Broken):
        def log_metrics(self, metrics, step=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SafeLogger(Interrupted()).log_metrics({}, 1)
