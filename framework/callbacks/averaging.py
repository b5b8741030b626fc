"""Averages of the weights beside the weights: what is validated, saved, and left when training has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framework.autodiff import Tensor, no_grad
from framework.callbacks.callback import Callback
from framework.errors import ConfigError

if TYPE_CHECKING:
    from framework.train import Trainer, TrainModule


class WeightAveraging(Callback):
    """Base of callbacks that keep an average of the weights. A subclass says when: it calls `update`.

    The average is in the module's place during each validation of the fit and after it. A checkpoint
    holds the average as its weights, so that what is loaded from it is what was validated; the weights
    that training goes on with are in it too, and a resumed run takes them.

    Args:
        use_buffers: average floating-point buffers as well, such as BatchNorm's running statistics;
            without it they are the module's latest.
        device: where the average is kept; None is where the weights are. Of half precision it is kept in float32.
    """

    def __init__(self, use_buffers: bool = True, device: str | None = None) -> None:
        self.use_buffers = use_buffers
        self.device = device
        self.n_averaged = 0
        """How often the weights were taken into the average."""
        self._average: dict[str, Tensor] = {}
        self._current: dict[str, Tensor] | None = None
        """The weights, while the average is in their place."""

    # -- the average ---------------------------------------------------------------------------------

    def mean(self, average: Tensor, current: Tensor) -> Tensor:
        """The new average of one parameter; `n_averaged` counts the values that are in the old one."""
        raise NotImplementedError

    def update(self, pl_module: TrainModule) -> None:
        """Take the module's weights into the average; the first ones are the average."""
        shared: dict[int, Tensor] = {}  # a tied parameter has several names and one average
        with no_grad():
            for name, tensor in self._averaged(pl_module).items():
                value = shared.get(id(tensor))
                if value is None:
                    value = self._copied(tensor)
                    if self.n_averaged:
                        value = self.mean(self._average[name], value)
                    shared[id(tensor)] = value
                self._average[name] = value
        self.n_averaged += 1

    def _averaged(self, pl_module: TrainModule) -> dict[str, Tensor]:
        """The parameters, and the buffers that are averaged, by name."""
        state = pl_module.state_dict()
        left_out = {name for name, b in pl_module.named_buffers() if not self.use_buffers or b.dtype.kind != "float"}
        return {name: tensor for name, tensor in state.items() if name not in left_out}

    def _copied(self, tensor: Tensor) -> Tensor:
        value = tensor.detach().clone()
        if value.dtype.kind == "float" and value.dtype.itemsize < 4:  # small changes would be rounded away
            value = value.to("float32")
        return value if self.device is None else value.to(device=self.device)

    def _put_average(self, pl_module: TrainModule) -> None:
        if self.n_averaged and self._current is None:
            self._current = {name: t.detach().clone() for name, t in self._averaged(pl_module).items()}
            pl_module.load_state_dict(self._average, strict=False)

    def _put_back(self, pl_module: TrainModule) -> None:
        if self._current is not None:
            pl_module.load_state_dict(self._current, strict=False)
            self._current = None

    # -- hooks ---------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Begin anew, unless the fit goes on from a checkpoint."""
        self._current = None
        if trainer.resume_source is None:
            self._forget()

    def _forget(self) -> None:
        self.n_averaged, self._average = 0, {}

    def on_validation_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Validate the average."""
        if trainer.fitting:
            self._put_average(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Go on with the weights."""
        if trainer.fitting:
            self._put_back(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Leave the average in the module."""
        self._put_average(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: TrainModule, exception: BaseException) -> None:
        """Leave the weights in the module where a validation was cut short."""
        if trainer.fitting:
            self._put_back(pl_module)

    # -- checkpoints ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The count; the arrays are in the checkpoint's weights and beside them."""
        return {"n_averaged": self.n_averaged}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the count over."""
        self.n_averaged = state["n_averaged"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: TrainModule, checkpoint: dict[str, Any]) -> None:
        """Make the average the checkpoint's weights, with the weights beside it."""
        if not self.n_averaged:
            return
        weights = dict(checkpoint["state_dict"])
        current = self._current or {name: weights[name] for name in self._average}
        checkpoint[self.state_key] = {"current": current}
        checkpoint["state_dict"] = {**weights, **self._average}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: TrainModule, checkpoint: dict[str, Any]) -> None:
        """Take the average, and leave the weights for the training."""
        saved = checkpoint.get(self.state_key)
        if saved is None:
            self._forget()
            return
        weights = checkpoint["state_dict"]
        own = pl_module.state_dict()
        for name in saved["current"]:
            value = self._copied(own[name])
            value.assign(weights[name])
            self._average[name] = value
        checkpoint["state_dict"] = {**weights, **saved["current"]}


class EMA(WeightAveraging):
    """Exponential moving average of the weights: `average = decay * average + (1 - decay) * weights`.

    Args:
        decay: how much of the average stays at each update, from 0 to 1.
        update_every_n_steps: take the weights in after every so many optimizer updates.
        update_starting_at_step: not before so many updates.
        update_starting_at_epoch: not before the epoch of this index.
        use_buffers: average floating-point buffers as well, such as BatchNorm's running statistics.
        device: where the average is kept; None is where the weights are.

    Raises:
        ConfigError: an argument is out of range.

    Examples:
        >>> import framework as fw
        >>> layer = fw.nn.Linear(1, 1, bias=False)
        >>> ema = EMA(decay=0.5)
        >>> for value in (0.0, 1.0, 1.0):
        ...     layer.weight.assign([[value]])
        ...     ema.update(layer)
        >>> ema._average["weight"].item()
        0.75
    """

    def __init__(
        self,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
        update_starting_at_epoch: int | None = None,
        use_buffers: bool = True,
        device: str | None = None,
    ) -> None:
        super().__init__(use_buffers, device)
        if not 0 <= decay <= 1:
            raise ConfigError(f"EMA(decay={decay}): expected a number from 0 to 1, such as 0.999")
        if not isinstance(update_every_n_steps, int) or update_every_n_steps < 1:
            raise ConfigError(f"EMA(update_every_n_steps={update_every_n_steps!r}): expected an int of at least 1")
        self.decay = decay
        self.update_every_n_steps = update_every_n_steps
        self.update_starting_at_step = update_starting_at_step or 0
        self.update_starting_at_epoch = update_starting_at_epoch or 0
        self._seen = 0
        """The update that was looked at last."""

    def mean(self, average: Tensor, current: Tensor) -> Tensor:
        """The new average of one parameter."""
        return average + (current - average) * (1.0 - self.decay)

    def on_train_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Updates count from here on."""
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: TrainModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the weights in, if it is their turn."""
        step, every = trainer.global_step, self.update_every_n_steps
        before, self._seen = self._seen, step
        # a batch may be a part of an update, and under manual optimization it may make several
        if step // every == before // every or step < self.update_starting_at_step:
            return
        if trainer.current_epoch >= self.update_starting_at_epoch:
            self.update(pl_module)
