"""The training loop: what happens, in the order in which it happens.

Everything that a step needs is looked up once before the first one. Where the training stands is
kept in `Fit.progress` alone, so that a checkpoint may be taken after any batch, and a resumed run
goes on from there.
"""

from __future__ import annotations

import warnings
from typing import Any

from framework.autodiff import Tensor
from framework.errors import NonFiniteError
from framework.train import anomaly, loaders, resume
from framework.train.fitstate import Fit
from framework.train.optimization import loss_of


def train(fit: Fit) -> None:
    """Train until an end is reached."""
    fit.port.results = fit.results
    fit.fire(fit.hooks.train_start)
    if not fit.goes_on():
        warnings.warn(fit.nothing_to_do(), UserWarning, stacklevel=3)
    while fit.goes_on():
        begin_epoch(fit)
        if not fit.at_boundary():
            run_batches(fit)
        end_epoch(fit)
    if fit.saved is not None:  # nothing was left to train: what the run has recorded stays
        resume.restore(fit, fit.saved)
        fit.saved = None
    fit.guard.read()
    fit.port.results = None
    fit.fire(fit.hooks.train_end)


def begin_epoch(fit: Fit) -> None:
    """Start an epoch, or go on within the one that a checkpoint was taken in."""
    fit.port.results = fit.results
    fit.results.end_batches()
    fit.fire(fit.hooks.train_epoch_start)
    if fit.saved is not None:  # whatever the hooks have done: from here on the run is the saved one
        resume.restore(fit, fit.saved)
        fit.saved = None


def run_batches(fit: Fit) -> None:
    """The batches that are left of this epoch."""
    hooks, progress, results, window = fit.hooks, fit.progress, fit.results, fit.window
    optimizer, move, training_step, owner = fit.optimizer, fit.move, fit.training_step, type(fit.module).__name__
    compiled, whole_step, backward, zero_grad = fit.compiled, fit.whole_step, fit.backward, hooks.zero_grad
    batches = fit.open_batches()
    try:
        for host_batch in batches:
            index = progress.batch
            progress.in_step = True
            batch = move(host_batch)
            results.begin_batch(batch)
            for hook in hooks.train_batch_start:
                hook(batch, index)
            if hooks.module_batch_start is not None and hooks.module_batch_start(batch, index) == -1:
                break

            is_last = index + 1 == fit.num_batches
            if whole_step is not None:
                output, loss, updates = whole_step(batch, index)
            else:
                if window.done == 0:
                    for hook in hooks.before_zero_grad:
                        hook(optimizer)
                    if zero_grad is None:
                        optimizer.zero_grad()
                    else:
                        zero_grad(progress.epoch, index, optimizer)
                if compiled is not None:
                    output, loss = compiled(batch, index)  # the next six lines, recorded and replayed
                else:
                    output = training_step(batch, index)
                    loss = loss_of(output, owner)
                    if loss is not None:  # None skips the batch
                        for hook in hooks.before_backward:
                            hook(loss)
                        backward(loss, window.share(loss, batch))
                if loss is not None:
                    for hook in hooks.after_backward:
                        hook()
                updates = window.closes(is_last) and update(fit, index, loss)
            fit.end_step(is_last)
            if ends_with(fit, batch, index, fit.outputs(output, loss), updates):
                return
            results.end_batches()
            del host_batch, batch  # the loader may lend the arrays again
        fit.skip_rest()
    except NonFiniteError as error:
        if progress.in_step:
            raise anomaly.retold(fit, error, batch, index) from None  # noqa: F821 - a step has a batch
        raise
    finally:
        loaders.close(batches)


def update(fit: Fit, index: int, loss: Tensor | None) -> bool:
    """The update that follows on the last batch of a window; whether one was made."""
    optimizer, progress, clip = fit.optimizer, fit.progress, fit.clip
    fit.window.correct(optimizer)
    if not fit.is_updated:  # by the compiled step itself
        for hook in fit.hooks.before_step:
            hook(optimizer)
        fit.guard.check(loss, optimizer, progress.global_step + 1)
        if clip is not None:
            clip(optimizer)
        if fit.own_step is not None:
            return fit.own_step(index, loss)
        optimizer.step()
    progress.global_step += 1
    if fit.step_schedulers:
        fit.step_schedules(progress.global_step)
    return True


def ends_with(fit: Fit, batch: Any, index: int, outputs: dict[str, Any], updates: bool) -> bool:
    """What follows on a batch: end hooks, rows, a validation that is due; whether it was the last one."""
    for hook in fit.hooks.train_batch_end:
        hook(outputs, batch, index)
    if updates:
        fit.write_due_row()
    for hook in fit.hooks.train_batch_end_late:
        hook(outputs, batch, index)
    return fit.at_boundary()


def end_epoch(fit: Fit) -> None:
    """End an epoch, or a part of one where the training stops within it."""
    fit.results.end_batches()
    fit.fire(fit.hooks.train_epoch_end)
    fit.write_epoch_row()
    if fit.progress.exhausted:
        for config in fit.metric_schedulers:
            config.step_with(fit.progress.epoch + 1, fit.rows.callback_metrics(fit.results))
    fit.progress.ended_at = fit.progress.batch
    fit.port.results = None
    fit.fire(fit.hooks.train_epoch_end_late, place="on_train_epoch_end of a callback with a priority below zero")
    if fit.progress.exhausted:
        fit.progress.next_epoch()
    for logger in fit.rows.loggers:
        logger.save()
