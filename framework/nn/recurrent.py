"""Recurrent layers: sequences read one step at a time."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from framework.autodiff import Tensor, as_tensor, get_default_dtype, ops
from framework.errors import ConfigError, ShapeError
from framework.nn import functional as F
from framework.nn import init
from framework.nn.functional.arguments import check_probability
from framework.nn.module import Module
from framework.nn.parameter import Parameter

State = tuple[Tensor, ...]


class _Recurrent(Module):
    """What the recurrent layers have in common: parameters, layers, directions, shapes.

    A layer and direction has `weight_ih_l0` (gates·hidden, input), `weight_hh_l0` (gates·hidden, hidden), the biases
    `bias_ih_l0` and `bias_hh_l0`, and with `proj_size` a `weight_hr_l0` (proj_size, hidden); `_l1` is the next layer,
    `_reverse` the direction from the end. All start uniform in ±1/√hidden.
    """

    gates: ClassVar[int] = 1
    """How many blocks of rows each weight has."""

    states: ClassVar[int] = 1
    """How many arrays are handed on from step to step."""

    def _prepare(
        self,
        sizes: tuple[int, int],
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        kind: dict[str, Any],
        proj_size: int = 0,
    ) -> None:
        """Check the arguments and draw the parameters."""
        name = type(self).__name__
        given = (("input_size", sizes[0]), ("hidden_size", sizes[1]), ("num_layers", num_layers))
        for what, n in given:
            if not isinstance(n, int) or isinstance(n, bool) or n < 1:
                raise ConfigError(f"{name}: {what} is a number from 1 on, got {n!r}")
        check_probability(dropout, name, "dropout")
        if not 0 <= proj_size < sizes[1]:
            raise ConfigError(f"{name}: proj_size is smaller than hidden_size {sizes[1]}, got {proj_size!r}")
        self.input_size, self.hidden_size = sizes
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        kind = {"dtype": kind["dtype"] or get_default_dtype(), "device": kind["device"]}
        rows, out, directions = self.gates * sizes[1], proj_size or sizes[1], 1 + bidirectional
        for layer in range(num_layers):
            width = sizes[0] if layer == 0 else out * directions
            for suffix in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {
                    f"weight_ih{suffix}": (rows, width),
                    f"weight_hh{suffix}": (rows, out),
                }
                if bias:
                    shapes |= {f"bias_ih{suffix}": (rows,), f"bias_hh{suffix}": (rows,)}
                if proj_size:
                    shapes[f"weight_hr{suffix}"] = (proj_size, sizes[1])
                for key, shape in shapes.items():
                    self.register_parameter(key, Parameter(ops.zeros(shape, **kind)))
        self.reset_parameters()

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}"] + [f"_l{layer}_reverse"] * self.bidirectional

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    # -- one step, which each kind defines ------------------------------------------------------------------

    def _step(self, inner: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        """The next state: of the input's part of the gates, and of the state by `weight` and `bias`."""
        raise NotImplementedError

    # -- a whole sequence --------------------------------------------------------------------------------------

    def _run(self, input: Any, start: Any) -> tuple[Tensor, State]:
        """Results (L, N, directions·out), and the last states, each (layers·directions, N, size)."""
        x = as_tensor(input, self.__dict__["weight_ih_l0"])
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise self._shape_error(x.shape)
        has_batch = x.ndim == 3
        if not has_batch:
            x = ops.expand_dims(x, axis=1)
        elif self.batch_first:
            x = ops.swapaxes(x, 0, 1)
        if not x.shape[0]:
            raise ShapeError(f"{type(self).__name__}: got a sequence of no steps, input of shape {x.shape}")
        first = self._first_states(x, start, has_batch)
        last: list[State] = []
        for layer in range(self.num_layers):
            found = [
                self._direction(x, suffix, tuple([s[len(last) + i] for s in first]))
                for i, suffix in enumerate(self._suffixes(layer))
            ]
            last += [state for _, state in found]
            x = found[0][0] if len(found) == 1 else ops.concat([out for out, _ in found], axis=-1)
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        states = tuple([ops.stack(parts) for parts in zip(*last)])
        if not has_batch:
            return ops.squeeze(x, axis=1), tuple([ops.squeeze(s, axis=1) for s in states])
        return (ops.swapaxes(x, 0, 1) if self.batch_first else x), states

    def _direction(self, x: Tensor, suffix: str, state: State) -> tuple[Tensor, State]:
        """One layer in one direction: results (L, N, out) and the last state."""
        own = self.__dict__
        w, b = own[f"weight_hh{suffix}"], own.get(f"bias_hh{suffix}")
        project = own.get(f"weight_hr{suffix}")
        inner = ops.unstack(ops.linear(x, own[f"weight_ih{suffix}"], own.get(f"bias_ih{suffix}")))
        backward = suffix.endswith("_reverse")
        outs = []
        for part in reversed(inner) if backward else inner:
            state = self._step(part, state, w, b)
            if project is not None:
                state = (ops.linear(state[0], project), *state[1:])
            outs.append(state[0])
        return ops.stack(outs[::-1] if backward else outs), state

    def _first_states(self, x: Tensor, start: Any, has_batch: bool) -> list[Any]:
        """The states before the first step, each (layers·directions, N, size); zeros where left out."""
        count, n = self.num_layers * (1 + self.bidirectional), x.shape[1]
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)[: self.states]
        if start is None:
            return [ops.zeros((count, n, size), dtype=x.dtype, device=x.device) for size in sizes]
        given = (start,) if self.states == 1 else tuple(start)
        if len(given) != self.states:
            raise ShapeError(f"{type(self).__name__}: the first state is a pair (h, c), got {len(given)} arrays")
        states = []
        for name, s, size in zip(("h_0", "c_0"), given, sizes):
            s = as_tensor(s, x)
            expected = (count, n, size) if has_batch else (count, size)
            if s.shape != expected:
                raise ShapeError(f"{type(self).__name__}: {name} has shape {expected} here, got {s.shape}")
            states.append(s if has_batch else ops.expand_dims(s, axis=1))
        return states

    def _shape_error(self, given: tuple[int, ...]) -> ShapeError:
        n = self.input_size
        order = f"(N, L, {n})" if self.batch_first else f"(L, N, {n})"
        hint = f" One number a step? x.reshape{(*given, 1)}" if n == 1 and len(given) in (1, 2) else ""
        return ShapeError(
            f"{type(self).__name__}({n}, {self.hidden_size}): got input of shape {given}; expected {order}, or "
            f"(L, {n}) of one sequence.{hint}"
        )

    def extra_repr(self) -> str:
        """The sizes, and the arguments that are not their defaults."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        if self.proj_size:
            parts.append(f"proj_size={self.proj_size}")
        if self.num_layers != 1:
            parts.append(f"num_layers={self.num_layers}")
        if not self.bias:
            parts.append("bias=False")
        if self.batch_first:
            parts.append("batch_first=True")
        if self.dropout:
            parts.append(f"dropout={self.dropout}")
        if self.bidirectional:
            parts.append("bidirectional=True")
        return ", ".join(parts)


class RNN(_Recurrent):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh) along sequences (Elman 1990).

    Takes (L, N, input_size), or (N, L, input_size) with `batch_first`, or (L, input_size) of one sequence, and
    optionally the first state (layers·directions, N, hidden_size). Returns the states of the last layer after each
    step, and the last states of all layers.

    Args:
        num_layers: so many on top of each other.
        nonlinearity: `"tanh"` or `"relu"`.
        bias: leaves out the biases where False.
        batch_first: whether the batch axis comes first in input and output.
        dropout: the probability of elements being dropped between layers, in training.
        bidirectional: also read from the end; the results of both directions stand side by side.

    Raises:
        ShapeError: another shape of input or state.

    Examples:
        >>> import framework as fw
        >>> out, last = fw.nn.RNN(3, 5)(fw.random.normal((7, 2, 3)))
        >>> out.shape, last.shape
        ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if nonlinearity not in ("tanh", "relu"):
            raise ConfigError(f"RNN: nonlinearity is 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        kind = {"device": device, "dtype": dtype}
        self._prepare((input_size, hidden_size), num_layers, bias, batch_first, dropout, bidirectional, kind)

    def forward(self, input: Any, hx: Any = None) -> tuple[Tensor, Tensor]:
        """The states after each step, and the last ones."""
        out, (last,) = self._run(input, hx)
        return out, last

    def _step(self, inner: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        z = inner + ops.linear(state[0], weight, bias)
        return (ops.tanh(z) if self.nonlinearity == "tanh" else ops.relu(z),)


class LSTM(_Recurrent):
    """Long short-term memory along sequences (Hochreiter & Schmidhuber 1997; forget gates: Gers et al. 2000).

    Input, output and arguments as of `RNN`; the state is a pair (h, c) of (layers·directions, N, hidden_size), and
    rows of the weights are of the input gate, the forget gate, the cell and the output gate.

    Args:
        proj_size: h is mapped to so many numbers (Sak et al. 2014); 0 for not at all.

    Raises:
        ShapeError: another shape of input or state.

    Examples:
        >>> import framework as fw
        >>> out, (h, c) = fw.nn.LSTM(3, 5, batch_first=True)(fw.random.normal((2, 7, 3)))
        >>> out.shape, h.shape, c.shape
        ((2, 7, 5), (1, 2, 5), (1, 2, 5))
    """

    gates = 4
    states = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        kind = {"device": device, "dtype": dtype}
        self._prepare((input_size, hidden_size), num_layers, bias, batch_first, dropout, bidirectional, kind, proj_size)

    def forward(self, input: Any, hx: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The outputs after each step, and the last h and c."""
        out, (h, c) = self._run(input, hx)
        return out, (h, c)

    def _step(self, inner: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        n = self.hidden_size
        z = inner + ops.linear(state[0], weight, bias)
        i, f, g, o = ops.split(z, [n, 2 * n, 3 * n], axis=-1)
        c = ops.sigmoid(f) * state[1] + ops.sigmoid(i) * ops.tanh(g)
        return ops.sigmoid(o) * ops.tanh(c), c


class GRU(_Recurrent):
    """Gated recurrent units along sequences (Cho et al. 2014).

    Input, output, state and arguments as of `RNN`; rows of the weights are of the reset gate, the update gate and the
    new state, whose part of the old one the reset gate multiplies after `bias_hh` is added.

    Raises:
        ShapeError: another shape of input or state.

    Examples:
        >>> import framework as fw
        >>> out, last = fw.nn.GRU(3, 5, num_layers=2, bidirectional=True)(fw.random.normal((7, 2, 3)))
        >>> out.shape, last.shape
        ((7, 2, 10), (4, 2, 5))
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        kind = {"device": device, "dtype": dtype}
        self._prepare((input_size, hidden_size), num_layers, bias, batch_first, dropout, bidirectional, kind)

    def forward(self, input: Any, hx: Any = None) -> tuple[Tensor, Tensor]:
        """The states after each step, and the last ones."""
        out, (last,) = self._run(input, hx)
        return out, last

    def _step(self, inner: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        n, h = self.hidden_size, state[0]
        outer = ops.linear(h, weight, bias)
        gates_in, new_in = ops.split(inner, [2 * n], axis=-1)
        gates_out, new_out = ops.split(outer, [2 * n], axis=-1)
        r, z = ops.split(ops.sigmoid(gates_in + gates_out), [n], axis=-1)
        new = ops.tanh(new_in + r * new_out)
        return (new + z * (h - new),)
