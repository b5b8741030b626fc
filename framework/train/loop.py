"""The training loop: what happens, in the order in which it happens.

Everything that a step needs is looked up once before the first one. Where the training stands is
kept in `Fit.progress` alone, so that a checkpoint may be taken after any batch, and a resumed run
goes on from there.
"""

from __future__ import annotations

from framework.train import loaders, resume
from framework.train.fitstate import Fit
from framework.train.optimization import loss_of


def train(fit: Fit) -> None:
    """Train until an end is reached."""
    fit.port.results = fit.results
    fit.fire(fit.hooks.train_start)
    while fit.goes_on():
        begin_epoch(fit)
        if not fit.at_boundary():
            run_batches(fit)
        end_epoch(fit)
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
    hooks, progress, results, window, guard = fit.hooks, fit.progress, fit.results, fit.window, fit.guard
    optimizer, move, training_step, owner = fit.optimizer, fit.move, fit.training_step, type(fit.module).__name__
    clip, compiled = fit.clip, fit.compiled
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

            if window.done == 0:
                for hook in hooks.before_zero_grad:
                    hook(optimizer)
                optimizer.zero_grad()
            if compiled is not None:
                output, loss = compiled(batch, index)  # the next six lines, recorded and replayed
            else:
                output = training_step(batch, index)
                loss = loss_of(output, owner)
                if loss is not None:  # None skips the batch
                    for hook in hooks.before_backward:
                        hook(loss)
                    loss.backward(window.share(loss, batch))
            if loss is not None:
                for hook in hooks.after_backward:
                    hook()
            is_last = index + 1 == fit.num_batches
            updates = window.closes(is_last)
            if updates:
                window.correct(optimizer)
                for hook in hooks.before_step:
                    hook(optimizer)
                guard.check(loss, optimizer, progress.global_step + 1)
                if clip is not None:
                    clip(optimizer)
                optimizer.step()
                progress.global_step += 1
                for config in fit.step_schedulers:
                    config.step(progress.global_step)
            fit.end_step(is_last)

            outputs = fit.outputs(output, loss)
            for hook in hooks.train_batch_end:
                hook(outputs, batch, index)
            if updates:
                fit.write_due_row()
            for hook in hooks.train_batch_end_late:
                hook(outputs, batch, index)
            if fit.at_boundary():
                return
            results.end_batches()
            del host_batch, batch  # the loader may lend the arrays again
        fit.skip_rest()
    finally:
        loaders.close(batches)


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
