"""`Trainer`: fit, validate, test and predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from framework.backend.dtypes import dtype as dtype_named
from framework.callbacks import Callback, Timer
from framework.errors import ConfigError
from framework.loggers import Logger
from framework.loggers.console import say
from framework.profilers import Profiler
from framework.strategies import SingleDevice
from framework.train import checkpoint, checks, options, preparation, resume, trial
from framework.train.datamodule import DataModule
from framework.train.evaluation import Evaluation, by_loader, evaluate, print_table, validation_of
from framework.train.fitstate import Fit
from framework.train.loop import train
from framework.train.module import TrainModule
from framework.train.precision import check_backend
from framework.train.precision import named as named_precision
from framework.train.profiling import profile_evaluation, profile_fit
from framework.train.records import Heading
from framework.train.results import Results
from framework.train.saving import Saving
from framework.train.signals import Interrupted
from framework.train.stage import Stage
from framework.train.state import RunState


class Trainer(Saving):
    """Trains a `TrainModule`, and validates, tests and predicts with it.

    A step is an optimizer update, everywhere: in limits, rows, checkpoints and schedules. Each fit has
    a run folder `<default_root_dir>/runs/<name>/version_<N>/` with its rows, checkpoints and summary.

    Args:
        backend: a backend's name, a device such as "cuda:1", or "auto" for the best that works here.
        accelerator: Lightning's name for the same ("cpu", "gpu"); give one of the two.
        devices: 1 or "auto"; `[1]` is the second device.
        strategy: "auto", "single_device" or a `fw.strategies.SingleDevice`: one process, one device.
        precision: "32-true" or "64-true", the dtype of parameters and floating-point batches; "bf16-mixed" or
            "16-mixed", float32 whose products are of rounded operands.
        logger: loggers beside the run folder's own rows; False for neither.
        callbacks: a callback or a list of them.
        fast_dev_run: try everything on so many batches (True: one), keeping nothing.
        max_epochs: -1 is no limit. Default 1000, or no limit with `max_steps`.
        min_epochs: `should_stop` is ignored before.
        max_steps: -1 is no limit.
        min_steps: `should_stop` is ignored before.
        limit_train_batches: an int is a number of batches, a float a part of them.
        limit_val_batches: the same for validation; 0 is none.
        limit_test_batches: the same for the test.
        limit_predict_batches: the same for prediction.
        overfit_batches: train on the same few batches in every epoch, and validate on as many.
        val_check_interval: validate after so many batches, or each such part of an epoch.
        check_val_every_n_epoch: validate in every n-th epoch; None counts the interval across epochs.
        num_sanity_val_steps: batches of the trial validation before training; -1 is all.
        log_every_n_steps: rows of what is logged by step: the first, every n-th, and each epoch's last.
        enable_checkpointing: add a `ModelCheckpoint` if there is none.
        enable_progress_bar: add a `TQDMProgressBar` if there is none.
        enable_model_summary: add a `ModelSummary` if there is none.
        accumulate_grad_batches: batches that make one update.
        gradient_clip_val: the largest norm, or value, of the gradients of an update; None or 0 for no limit.
        compile: record the forward and backward pass of a step once and replay it; see `fw.compile`.
        gradient_clip_algorithm: "norm" (the default): scale all gradients together; "value": cut each element.
        default_root_dir: where `runs/` is; default the current folder.
        max_time: the time that training may take, "DD:HH:MM:SS", a timedelta, or a dict of its arguments: a `Timer`.
        profiler: "simple", "advanced" or a profiler of `fw.profilers`: tells where the time went.
        detect_anomaly: name the first operation whose result is not finite, when a loss or gradient is not; slow.

    Raises:
        ConfigError: an argument makes no sense, or two contradict each other.
        BackendError: the backend cannot be used.
    """

    def __init__(
        self,
        *,
        backend: str = "auto",
        accelerator: str | None = None,
        devices: int | str | list[int] = "auto",
        strategy: str | SingleDevice = "auto",
        precision: str | int | None = "32-true",
        logger: Logger | list[Logger] | bool | None = True,
        callbacks: list[Callback] | Callback | None = None,
        fast_dev_run: bool | int = False,
        max_epochs: int | None = None,
        min_epochs: int | None = None,
        max_steps: int = -1,
        min_steps: int | None = None,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        overfit_batches: int | float = 0.0,
        val_check_interval: int | float | None = None,
        check_val_every_n_epoch: int | None = 1,
        num_sanity_val_steps: int | None = None,
        log_every_n_steps: int | None = 50,
        enable_checkpointing: bool | None = True,
        enable_progress_bar: bool | None = True,
        enable_model_summary: bool | None = True,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
        default_root_dir: str | Path | None = None,
        compile: bool = False,
        max_time: str | timedelta | dict[str, int] | None = None,
        profiler: Profiler | str | None = None,
        detect_anomaly: bool = False,
    ) -> None:
        super().__init__()
        n = self.fast_dev_run = options.fast_dev_run(fast_dev_run)
        self._saves = enable_checkpointing is not False and not n
        self.callbacks = checks.with_timer(
            checks.check_callbacks(callbacks, enable_checkpointing is not False), max_time
        )
        is_timed = any(isinstance(callback, Timer) and callback.duration is not None for callback in self.callbacks)
        self.duration = options.duration(max_epochs, min_epochs, max_steps, min_steps, n, is_timed)
        self.limits = options.limits(
            limit_train_batches, limit_val_batches, limit_test_batches, limit_predict_batches, overfit_batches, n
        )
        self.validation = options.validation(val_check_interval, check_val_every_n_epoch, num_sanity_val_steps, n)
        every = 50 if log_every_n_steps is None else log_every_n_steps
        self.log_every_n_steps = options.count("log_every_n_steps", every, lowest=0)
        self.accumulate_grad_batches = checks.check_accumulation(accumulate_grad_batches, self.callbacks)
        clipping = options.clipping(gradient_clip_val, gradient_clip_algorithm)
        self.gradient_clip_val, self.gradient_clip_algorithm = clipping
        self.compile = compile
        self.precision = precision = "32-true" if precision is None else precision
        self.numbers = named_precision(precision)
        self.dtype = dtype_named(self.numbers.dtype)
        self.default_root_dir = "." if default_root_dir is None else str(default_root_dir)
        self.profiler = options.profiler(profiler)
        self.detect_anomaly = detect_anomaly
        checks.add_defaults(
            self.callbacks, self._saves, enable_progress_bar is not False, enable_model_summary is not False
        )
        self.loggers = checks.check_loggers(logger)
        self.strategy = options.strategy(strategy, backend, accelerator, devices)
        check_backend(self.numbers, self.strategy.backend)

    # -- entry points --------------------------------------------------------------------------------

    def fit(
        self,
        model: TrainModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: DataModule | None = None,
        ckpt_path: str | Path | None = None,
    ) -> None:
        """Train.

        Args:
            model: what to train.
            train_dataloaders: the training data, if not from a datamodule (which may stand here) or the module.
            val_dataloaders: the validation data: a loader or a list of them.
            datamodule: where the data come from.
            ckpt_path: a checkpoint to go on from, exactly, in its own run folder; or "last". Hooks up to
                the first `on_train_epoch_start` run before the saved state is put in place.

        Raises:
            ConfigError: something does not fit together.
            CheckpointError: `ckpt_path` holds no undamaged checkpoint of this model.
            NonFiniteError: the loss or a gradient became NaN or infinite; the update was not applied.
            Interrupted: a signal has stopped the training; its state is saved.
        """
        module = checks.check_module(model, "fit")
        checks.check_fit(module, self)
        train_dataloaders, datamodule = checks.check_data_arguments(
            (train_dataloaders, val_dataloaders), datamodule, "fit"
        )
        saved = self._load_saved(ckpt_path, module)
        with self._begin_stage("fit", module, datamodule) as stage:
            self.sources = preparation.fit_sources(stage, self, train_dataloaders, val_dataloaders)
            preparation.raise_epochs(self, None if datamodule is None else datamodule.minimum_updates)
            self.strategy.place(module, self.dtype)
            fit = self._fit = preparation.make_fit(self, stage, saved)
            fit.fire(fit.hooks.fit_start)
            profile_fit(fit, self.profiler, stage.ended)
            with fit.stop:
                if fit.goes_on() and saved is None:
                    self._sanity_check(fit)
                self._begin_run(fit, stage)
                try:
                    train(fit)
                    self.background.finish()
                except Interrupted as stop:
                    stop.checkpoint = self._save_interrupted()
                    raise
            fit.fire(fit.hooks.fit_end)

    def validate(
        self,
        model: TrainModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | Path | None = None,
        verbose: bool = True,
        datamodule: DataModule | None = None,
    ) -> list[dict[str, float]]:
        """Run `validation_step` on the validation data.

        Args:
            model: the module; default the one that was trained, with its best weights.
            dataloaders: the data, if not from a datamodule or the module.
            ckpt_path: whose weights to use: a checkpoint, "best" or "last"; default the module's as they are.
            verbose: print the metrics.
            datamodule: where the data come from.

        Returns:
            The logged metrics, a dict for each loader.
        """
        _, found = self._evaluate_alone("validate", model, dataloaders, ckpt_path, datamodule)
        if verbose:
            print_table("validation metrics", found)
        return found

    def test(
        self,
        model: TrainModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | Path | None = None,
        verbose: bool = True,
        datamodule: DataModule | None = None,
    ) -> list[dict[str, float]]:
        """Run `test_step` on the test data; arguments and result as in `validate`."""
        _, found = self._evaluate_alone("test", model, dataloaders, ckpt_path, datamodule)
        if verbose:
            print_table("test metrics", found)
        return found

    def predict(
        self,
        model: TrainModule | None = None,
        dataloaders: Any = None,
        datamodule: DataModule | None = None,
        return_predictions: bool = True,
        ckpt_path: str | Path | None = None,
    ) -> list[Any] | None:
        """Run `predict_step` on the prediction data.

        Returns:
            What the step returned for each batch, off the device; of several loaders a list for each.
        """
        outputs, _ = self._evaluate_alone("predict", model, dataloaders, ckpt_path, datamodule, return_predictions)
        if not return_predictions:
            return None
        return outputs[0] if len(outputs) == 1 else outputs

    def print(self, *args: Any, sep: str = " ") -> None:
        """Print a line without tearing the progress bar."""
        say(sep.join(map(str, args)))

    # -- stages --------------------------------------------------------------------------------------

    def _begin_stage(self, name: str, module: TrainModule, datamodule: DataModule | None) -> Stage:
        if self.strategy.is_automatic:
            self.strategy.is_automatic = False
            say(f"backend: {self.strategy.device} (the best that works here)")
        self.module, self.datamodule, self._stage = module, datamodule, name
        self._state = RunState(name, "running")
        self.callbacks = checks.with_own_callbacks(self.callbacks, module)
        return Stage(self, name, module, datamodule, self._end_stage)

    def _end_stage(self, status: str) -> None:
        stage, self._stage, self._evaluating, self._results = self._stage, "", "", None
        self._state = RunState(stage, "finished" if status == "success" else "interrupted")
        try:
            self.background.finish()
        except BaseException:
            status = "failed"
            raise
        finally:
            self.records.end(stage, status, self.strategy)

    def _begin_run(self, fit: Fit, stage: Stage) -> None:
        """From here on something is written."""
        if not self.fast_dev_run:
            heading = Heading(
                parent=self._runs_of(fit.module),
                config_text=self.config_text,
                config_tree=self.config_tree,
                hyper_parameters=preparation.hyper_parameters(stage),
                modes=checks.monitored_modes(self.callbacks),
                dataset=None if self.datamodule is None else self.datamodule.dataset_name,
            )
            self.records.begin(heading, self.loggers, fit.saved, self.resume_source)
            self.records.write_summary("running", self.strategy)
        self.has_begun = True
        self.records.start_clock()

    # -- for callbacks, before the first epoch or after the last ---------------------------------------

    def try_learning_rates(self, rates: Sequence[float], goes_on: Callable[[float], bool]) -> list[float]:
        """The loss at each learning rate, one update after the other, as far as `goes_on(loss)`; all is put back."""
        return trial.try_learning_rates(self._within_fit("try_learning_rates"), rates, goes_on)

    def refresh_batch_norm(self) -> bool:
        """Measure BatchNorm's running statistics anew over the training data; whether there are any."""
        return trial.refresh_batch_norm(self._within_fit("refresh_batch_norm"))

    def remake_optimizers(self) -> None:
        """Ask the module's `configure_optimizers` again, before training has begun."""
        fit = self._within_fit("remake_optimizers")
        fit.use_optimizers(*preparation.optimizers_of(self, fit.module))

    def _within_fit(self, method: str) -> Fit:
        if self._fit is None or not self.fitting:
            raise ConfigError(f"trainer.{method}() needs a fit under way: call it in a callback")
        return self._fit

    # -- evaluation ----------------------------------------------------------------------------------

    def validate_in_fit(self) -> None:
        """Validate, within a fit, and write the row."""
        fit = self._fit
        assert fit is not None

        def write() -> None:
            self.rows.write(self.rows.take(fit.val_results.epoch_values()))
            fit.val_results.reset()
            fit.progress.validated_at = fit.progress.batch

        self._evaluate(validation_of(fit, fit.val, fit.val_results, write))

    def _sanity_check(self, fit: Fit) -> None:
        """A few validation batches before training, so that mistakes show at once; nothing of it stays."""
        steps = self.validation.sanity_steps
        if not fit.val or not steps:
            return
        results = Results("validation", self.strategy.backend, fit.val_results.owners)
        job = validation_of(fit, [source.first(steps) for source in fit.val], results, results.reset)
        self.sanity_checking = True
        try:
            with resume.positions_kept(fit.val):
                fit.fire(fit.hooks.sanity_check_start)
                self._evaluate(job)
                fit.fire(fit.hooks.sanity_check_end)
        finally:
            self.sanity_checking = False

    def _evaluate(self, job: Evaluation) -> list[list[Any]]:
        self._evaluating, self._results = job.what, job.results
        profile_evaluation(job, self.profiler)
        try:
            with self.profiler.profile(f"run_{job.what}"):
                return evaluate(job)
        finally:
            self._evaluating = ""

    def _evaluate_alone(
        self,
        stage_name: str,
        model: TrainModule | None,
        dataloaders: Any,
        ckpt_path: str | Path | None,
        datamodule: DataModule | None,
        keeps_outputs: bool = False,
    ) -> tuple[list[list[Any]], list[dict[str, float]]]:
        """Validate, test or predict outside a fit; gives the outputs and the logged metrics, each by loader."""
        if model is None:
            if self.module is None:
                raise ConfigError(f"trainer.{stage_name}() needs a module: trainer.{stage_name}(module, …)")
            model = self.module
            ckpt_path = ckpt_path or (
                "best" if self.checkpoint_callback and self.checkpoint_callback.best_model_path else None
            )
        module = checks.check_module(model, stage_name)
        dataloaders, datamodule = checks.check_data_arguments((dataloaders,), datamodule, stage_name)
        source = None if ckpt_path is None else self._find_checkpoint(ckpt_path, module)
        self.ckpt_path = None if source is None else str(source)
        weights = None if source is None else checkpoint.load(source)["model"]
        found: list[dict[str, float]] = []
        with self._begin_stage(stage_name, module, datamodule) as stage:
            self.strategy.place(module, self.dtype)
            if weights is not None:
                module.load_state_dict(weights)
            kind, _ = preparation.EVALUATIONS[stage_name]
            self.sources[kind] = preparation.sources_of(kind, stage, self, dataloaders)
            job = preparation.evaluation_of(self, stage)
            job.keeps_outputs = keeps_outputs
            results = job.results

            def write() -> None:
                if results is not None:
                    row = self.rows.take(results.epoch_values())
                    found.extend(by_loader(row, len(job.sources)))
                    if stage_name == "test":
                        self.records.test_metrics.update(row)
                    self.rows.write(row, in_epoch=False)
                    results.reset()

            job.write, job.begins = write, self._mark_begun
            outputs = self._evaluate(job)
        return outputs, found

    def _mark_begun(self) -> None:
        self.has_begun = True
