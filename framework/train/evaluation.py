"""A pass over evaluation data: validation, test, prediction."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from framework.autodiff import Tensor, no_grad
from framework.errors import ConfigError
from framework.loggers.console import say
from framework.train import loaders
from framework.train.batches import Mover
from framework.train.fitstate import Fit
from framework.train.hooks import EvaluationHooks, HookList
from framework.train.loaders import Source
from framework.train.module import TrainModule
from framework.train.results import LOADER, LogPort, Results
from framework.train.signals import Interrupted, StopSignals


@dataclass(slots=True)
class Evaluation:
    """One pass: what is run on which data."""

    what: str
    """"validation", "test" or "predict"."""
    module: TrainModule
    step: Callable[..., Any]
    hooks: EvaluationHooks
    sources: Sequence[Source]
    move: Mover
    port: LogPort
    results: Results | None
    """Where `self.log` goes; None for a prediction."""
    stop: StopSignals
    write: Callable[[], None] = lambda: None
    """Writes the results, before the end hooks run."""
    begins: Callable[[], None] = lambda: None
    """Called before the first batch."""
    keeps_outputs: bool = False

    def fire(self, hooks: HookList) -> None:
        """Call hooks that take no arguments."""
        self.port.place = hooks.name
        for hook in hooks:
            hook()


def validation_of(fit: Fit, sources: Sequence[Source], results: Results, write: Callable[[], None]) -> Evaluation:
    """A validation within a fit."""
    return Evaluation(
        what="validation",
        module=fit.module,
        step=check_signature(fit.module.validation_step, sources),
        hooks=fit.hooks.validation,
        sources=sources,
        move=fit.move,
        port=fit.port,
        results=results,
        stop=fit.stop,
        write=write,
    )


def evaluate(job: Evaluation) -> list[list[Any]]:
    """Run the pass, in evaluation mode and without a tape; gives what the steps returned, by loader, if kept."""
    modes = [(module, module.training) for module in job.module.modules()]
    before = job.port.results
    hooks = job.hooks
    (hooks.model_eval or job.module.eval)()
    try:
        with no_grad():
            job.port.results = job.results
            job.fire(job.hooks.start)
            job.fire(job.hooks.epoch_start)
            job.begins()
            outputs = [_batches(job, index, source) for index, source in enumerate(job.sources)]
            if job.results is not None:
                job.results.suffix = ""
                job.results.end_batches()
            job.fire(job.hooks.epoch_end)
            job.write()
            job.port.results = None
            job.fire(job.hooks.end)
    except BaseException:
        if job.results is not None:
            job.results.reset()  # half a pass is none
        raise
    finally:
        job.port.results = before
        for module, training in modes:
            module.training = training
    if hooks.model_train is not None:
        hooks.model_train()
    return outputs


def _batches(job: Evaluation, loader_index: int, source: Source) -> list[Any]:
    several = len(job.sources) > 1
    extra = (loader_index,) if several else ()
    results, hooks, step, move = job.results, job.hooks, job.step, job.move
    move.loader_index = loader_index
    if results is not None:
        results.suffix = f"{LOADER}{loader_index}" if several else ""
    outputs = []
    index = 0
    batches = source.batches(job.move.keeps_arrays) if source.count else iter(())
    try:
        for host_batch in batches:
            if job.stop.received:
                raise Interrupted(job.stop.received)
            batch = move(host_batch)
            if results is not None:
                results.begin_batch(batch)
            for hook in hooks.batch_start:
                hook(batch, index, *extra)
            output = step(batch, index, *extra)
            for hook in hooks.batch_end:
                hook(output, batch, index, *extra)
            if job.keeps_outputs:
                outputs.append(_to_host(output))
            index += 1  # not by enumerate, which would hold the batch while the next is read
            if index >= source.count:
                break
            if results is not None:
                results.end_batches()
            del host_batch, batch, output  # the loader may lend the arrays again
    finally:
        move.loader_index = 0
        loaders.close(batches)
    if source.is_cut:  # the next pass begins anew
        source.load_state(source.state(exhausted=True))
    return outputs


def check_signature(step: Callable[..., Any], sources: Sequence[Source]) -> Callable[..., Any]:
    """The step, to be called with a batch, its index and, of several loaders, the loader's.

    Raises:
        ConfigError: there are several loaders and it takes no `dataloader_idx`.
    """
    parameters = inspect.signature(step).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return step
    positional = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    name = getattr(step, "__qualname__", "the step")
    if len(sources) > 1 and positional < 3:
        raise ConfigError(
            f"there are {len(sources)} loaders, but {name} takes no dataloader_idx: "
            f"def {name.rpartition('.')[2]}(self, batch, batch_idx, dataloader_idx=0)"
        )
    if positional == 0:
        raise ConfigError(f"{name} must take the batch: def {name.rpartition('.')[2]}(self, batch, batch_idx)")
    if positional == 1:  # the index may be left out

        def without_index(batch: Any, batch_idx: int) -> Any:
            return step(batch)

        return without_index
    return step


def by_loader(row: Mapping[str, float], count: int) -> list[dict[str, float]]:
    """The metrics of each of `count` loaders; those of no loader in particular belong to all."""
    found: list[dict[str, float]] = [{} for _ in range(count)]
    for name, value in row.items():
        _, mark, index = name.rpartition(LOADER)
        for result in [found[int(index)]] if mark and count > 1 else found:
            result[name] = value
    return found


def print_table(title: str, results: Sequence[Mapping[str, float]]) -> None:
    """Print the metrics of an evaluation, a column for each loader."""
    names = list(dict.fromkeys(name for result in results for name in result))
    if not names:
        return
    width = max(len(title) - 2, *(len(name) for name in names))
    lines = [title]
    for name in names:
        cells = "".join(f"  {result[name]:<12.6g}" if name in result else " " * 14 for result in results)
        lines.append(f"  {name:<{width}}{cells}".rstrip())
    say("\n".join(lines))


def _to_host(output: Any) -> Any:
    """Outputs off the device, in their structure."""
    if isinstance(output, Tensor):
        return output.detach().to(device="cpu")
    if isinstance(output, dict):
        return {key: _to_host(value) for key, value in output.items()}
    if type(output) in (list, tuple):
        return type(output)(_to_host(item) for item in output)
    return output
