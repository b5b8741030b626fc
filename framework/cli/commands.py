"""`fw train`, `check`, `validate`, `test` and `predict`."""

from __future__ import annotations

import argparse
import shlex
import tempfile
from pathlib import Path

from framework.backend.threads import blas_threads
from framework.cli import check
from framework.cli.build import Run, after_first_step, build
from framework.cli.config import Config, load_config
from framework.cli.predictions import check_output, write_predictions
from framework.cli.report import DONE, note
from framework.cli.runs import choose_checkpoint, choose_resume, run_root
from framework.errors import ConfigError
from framework.train import DataModule, TrainModule
from framework.train.signals import Interrupted


def run(args: argparse.Namespace) -> int:
    """Run the command; gives the exit code.

    Raises:
        FrameworkError: it was refused; RunFailedError where it had begun.
    """
    if not args.configs and not any(name.partition(".")[0] == "model" for name, _ in args.overrides):
        raise ConfigError(f"which config? fw {args.command} CONFIG.yaml")
    config = load_config(args.configs, args.overrides)
    for text in config.notes:
        note(text)
    if args.print_config:
        print(config.text, end="")
        return DONE
    with blas_threads() as limit:
        if limit is not None:
            note(f"BLAS uses {limit} thread{'s' if limit > 1 else ''}, what this container may use")
        if args.command == "check":
            return check.run(config, args)
        return train(config, args) if args.command == "train" else evaluate(config, args)


def train(config: Config, args: argparse.Namespace) -> int:
    """Fit, then test."""
    if args.resume and args.ckpt:
        raise ConfigError("--resume restores weights too, so --ckpt beside it would be lost; give one of them")
    choice = choose_resume(config, args.resume)
    if choice.finished is not None:
        note(f"already finished: {choice.finished}")
        return DONE
    check_writable(run_root(config))
    is_checked = check.check_monitors(config)
    run = build(config)
    if not is_checked:
        run.trainer.callbacks.append(check.NameWatch(list(check.watches(config, run))))
    if args.ckpt:
        run.load_weights(choose_checkpoint(config, args.ckpt))
    if choice.checkpoint is not None:
        note(f"resuming from {choice.checkpoint}")
    try:
        with after_first_step(run.trainer):
            run.trainer.fit(
                run.module, datamodule=run.data, ckpt_path=str(choice.checkpoint) if choice.checkpoint else None
            )
            if not args.no_test and has_test(run):
                run.trainer.test(run.module, datamodule=run.data, ckpt_path=best_checkpoint(run))
    except Interrupted as stop:
        if stop.checkpoint is not None:
            note(f"to go on: {same_command(args)} --resume auto")
        return stop.exit_code
    folder = run.trainer.log_dir
    note("done; nothing was written" if folder is None else f"done: {folder}")
    return DONE


def evaluate(config: Config, args: argparse.Namespace) -> int:
    """Validate, test or predict with a checkpoint."""
    checkpoint = choose_checkpoint(config, args.ckpt)
    output = check_output(Path(args.output)) if args.command == "predict" else None
    run = build(config)
    note(f"checkpoint {checkpoint}")
    with after_first_step(run.trainer):
        if output is not None:
            batches = run.trainer.predict(run.module, datamodule=run.data, ckpt_path=str(checkpoint))
            print(write_predictions(batches or [], output))
        elif args.command == "test":
            run.trainer.test(run.module, datamodule=run.data, ckpt_path=str(checkpoint))
        else:
            run.trainer.validate(run.module, datamodule=run.data, ckpt_path=str(checkpoint))
    return DONE


def same_command(args: argparse.Namespace) -> str:
    """The command line that gives the same config again."""
    options = [f"--{name}={text}" for name, text in args.overrides]
    return shlex.join(["fw", args.command, *args.configs, *options])


def has_test(run: Run) -> bool:
    """Whether there are both test data and a step to measure them with."""
    owner = run.data if run.data is not None else run.module
    base: type = DataModule if run.data is not None else TrainModule
    return (
        type(owner).test_dataloader is not base.test_dataloader  # type: ignore[attr-defined]
        and type(run.module).test_step is not TrainModule.test_step
    )


def best_checkpoint(run: Run) -> str | None:
    """`"best"` where this run has kept one; else the weights as they are."""
    callback = run.trainer.checkpoint_callback
    return "best" if callback is not None and callback.best_model_path else None


def check_writable(folder: Path) -> None:
    """Try to write where the run will be, before anything else is done; leaves nothing.

    Raises:
        ConfigError: it is not possible.
    """
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        Path(tempfile.mkdtemp(prefix=".fw-", dir=place)).rmdir()
    except OSError as error:
        raise ConfigError(
            f"cannot write to {folder}: {error.strerror} ({place}). Set --trainer.default_root_dir to another folder"
        ) from None
