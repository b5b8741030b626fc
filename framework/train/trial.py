"""Training steps beside the run: everything is put back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from framework.autodiff import no_grad
from framework.errors import ConfigError, NonFiniteError
from framework.nn.norm import BatchNorm
from framework.train import loaders, resume
from framework.train.optimization import loss_of, read_optimizers
from framework.train.results import Results

if TYPE_CHECKING:
    from framework.train.fitstate import Fit


@contextmanager
def everything_kept(fit: Fit, with_positions: bool = True) -> Iterator[None]:
    """Whatever is trained, drawn, read and logged within: afterwards the run stands where it stood before.

    Args:
        fit: the training.
        with_positions: whether the training data are read within.
    """
    module, optimizer, port = fit.module, fit.optimizer, fit.port
    with no_grad():
        weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        beside = [(b, b.detach().clone()) for name, b in module.named_buffers() if name not in weights]
    metrics = [(metric, metric.state_dict()) for metric in resume.module_metrics(module).values()]
    gradients = [(p, p.grad) for p in module.parameters()]
    rates = [group.get("lr") for group in optimizer.param_groups]
    modes = [(part, part.training) for part in module.modules()]
    results, scaler = port.results, fit.window.scaler
    scale = None if scaler is None else scaler.state_dict()
    module.train()
    try:
        with resume.positions_kept([fit.train] if with_positions else []):
            port.results = Results("training", fit.move.backend, {}, by_step=True)
            yield
    finally:
        port.results = results
        for part, training in modes:
            part.training = training
        module.load_state_dict(weights)
        for buffer, value in beside:
            buffer.assign(value)
        for metric, state in metrics:
            metric.reset()
            metric.load_state_dict(state)
        if scaler is not None and scale is not None:
            scaler.load_state_dict(scale)
        for p, gradient in gradients:
            p.grad = gradient
        for group, rate in zip(optimizer.param_groups, rates):
            if rate is not None:
                group["lr"] = rate


def batches_of(fit: Fit, results: Results | None = None) -> Iterator[tuple[Any, int]]:
    """One pass over the training batches that an epoch uses, each with its index."""
    batches = fit.train.batches(False) if fit.train.count else iter(())
    try:
        for index, host_batch in enumerate(batches):
            if index >= fit.train.count:
                break
            batch = fit.move(host_batch)
            if results is not None:
                results.begin_batch(batch)
            yield batch, index
    finally:
        loaders.close(batches)


def try_learning_rates(fit: Fit, rates: Sequence[float], goes_on: Callable[[float], bool]) -> list[float]:
    """The loss at each learning rate, one update after the other, as far as `goes_on(loss)`.

    The optimizer is a new one each time, as `configure_optimizers` makes it; schedulers rest, hooks are not called.

    Raises:
        ConfigError: the optimizer has no learning rate.
    """
    owner = type(fit.module).__name__
    if fit.whole_step is not None:
        raise ConfigError(
            f"{owner}: learning rates are tried by updates that the Trainer makes, so there must be automatic "
            "optimization and an optimizer without a closure"
        )
    losses: list[float] = []
    with everything_kept(fit):
        optimizer, _ = read_optimizers(fit.module.configure_optimizers(), owner)
        if any("lr" not in group for group in optimizer.param_groups):
            raise ConfigError(f"{type(optimizer).__name__} has no learning rate to find")
        results, scaler = fit.port.results, fit.window.scaler
        while len(losses) < len(rates):
            tried = len(losses)
            for batch, index in batches_of(fit, results):
                for group in optimizer.param_groups:
                    group["lr"] = rates[len(losses)]
                optimizer.zero_grad()
                loss = loss_of(fit.training_step(batch, index), owner)
                if loss is None:
                    continue
                fit.backward(loss, None if scaler is None else scaler.start(loss, None))
                if scaler is not None:
                    scaler.unscale(optimizer)
                try:
                    fit.guard.check(loss, optimizer, len(losses) + 1)
                    fit.guard.read()
                except NonFiniteError:
                    return losses
                if fit.clip is not None:
                    fit.clip(optimizer)
                optimizer.step()
                losses.append(loss.item())
                if not goes_on(losses[-1]) or len(losses) == len(rates):
                    return losses
            if len(losses) == tried:
                raise ConfigError(f"{owner}.training_step skipped every batch: there is no loss to look at")
    return losses


def refresh_batch_norm(fit: Fit) -> bool:
    """Measure BatchNorm's running statistics anew, in one pass over the training data; whether there are any."""
    layers = [part for part in fit.module.modules() if isinstance(part, BatchNorm) and part.running_mean is not None]
    if not layers:
        return False
    momenta = [layer.momentum for layer in layers]
    measured: list[dict[str, Any]] = []
    with everything_kept(fit), no_grad():
        for part in fit.module.modules():
            part.training = part in layers
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
        for batch, index in batches_of(fit, fit.port.results):
            fit.training_step(batch, index)
        measured = [{name: b.detach().clone() for name, b in layer.named_buffers()} for layer in layers]
    for layer, momentum, buffers in zip(layers, momenta, measured):
        layer.momentum = momentum
        layer.load_state_dict(buffers, strict=False)
    return True
