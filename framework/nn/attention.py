"""Attention with several heads, and the layer of a transformer that is made of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from framework.autodiff import Tensor, as_tensor, get_default_dtype, ops
from framework.errors import ConfigError, ShapeError
from framework.nn import functional as F
from framework.nn import init
from framework.nn.functional.arguments import check_probability
from framework.nn.functional.attention import attention_weights, hiding
from framework.nn.layers import Dropout, Linear
from framework.nn.module import Module
from framework.nn.norm import LayerNorm
from framework.nn.parameter import Parameter


class MultiheadAttention(Module):
    """Attention in `num_heads` parts of the features, each with projections of its own (Vaswani et al. 2017).

    Queries (L, N, embed_dim), keys (S, N, kdim) and values (S, N, vdim), or the batch first with `batch_first`, or no
    batch axis at all. The parameters are `in_proj_weight` (3·embed_dim, embed_dim), Xavier uniform, or `q_proj_weight`,
    `k_proj_weight`, `v_proj_weight` where `kdim` or `vdim` differ; `in_proj_bias`, zeros; and `out_proj`.

    Args:
        dropout: the probability that a weight of a value is dropped, in training.
        bias: leaves out all biases where False.
        add_bias_kv: adds a learnt key and value, `bias_k` and `bias_v`, to each sequence.
        add_zero_attn: adds a key and a value of zeros to each sequence.
        kdim: the features of keys; `embed_dim` where left out. Likewise `vdim`.

    Raises:
        ShapeError: shapes of inputs or masks do not fit.
        ConfigError: an argument is wrong.

    Examples:
        >>> import framework as fw
        >>> layer = fw.nn.MultiheadAttention(8, 2, batch_first=True)
        >>> x = fw.random.normal((3, 5, 8))
        >>> out, weights = layer(x, x, x)
        >>> out.shape, weights.shape
        ((3, 5, 8), (3, 5, 5))
    """

    shares_work = True

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        for name, n in (("embed_dim", embed_dim), ("num_heads", num_heads)):
            if not isinstance(n, int) or isinstance(n, bool) or n < 1:
                raise ConfigError(f"MultiheadAttention: {name} is a number from 1 on, got {n!r}")
        if embed_dim % num_heads:
            raise ConfigError(f"MultiheadAttention: {embed_dim} features do not make {num_heads} equal heads")
        check_probability(dropout, "MultiheadAttention", "dropout")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.add_zero_attn = add_zero_attn
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        kind = {"dtype": dtype or get_default_dtype(), "device": device}

        def made(*shape: int) -> Parameter:
            return Parameter(ops.zeros(shape, **kind))

        same = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = made(3 * embed_dim, embed_dim) if same else None
        self.q_proj_weight = None if same else made(embed_dim, embed_dim)
        self.k_proj_weight = None if same else made(embed_dim, self.kdim)
        self.v_proj_weight = None if same else made(embed_dim, self.vdim)
        self.in_proj_bias = made(3 * embed_dim) if bias else None
        self.bias_k = made(1, 1, embed_dim) if add_bias_kv else None
        self.bias_v = made(1, 1, embed_dim) if add_bias_kv else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections of queries, keys and values anew; biases zero."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """What each query found, of the query's shape, and the weights of the values if `need_weights`.

        Args:
            key_padding_mask: (N, S) or (S,): bools, True where a key is hidden; or numbers that are added to scores.
            need_weights: also return the weights (N, L, S); None without, which is faster.
            attn_mask: (L, S) or (N·heads, L, S): bools, True where a key is hidden from a query; or numbers.
            average_attn_weights: the mean of the heads' weights; each head's, (N, heads, L, S), where False.
            is_causal: says that `attn_mask` hides what comes later, so that it need not be looked at.
        """
        name = f"MultiheadAttention({self.embed_dim}, {self.num_heads})"
        if is_causal and attn_mask is None:
            raise ConfigError(f"{name}: is_causal=True is a hint about attn_mask; pass the mask, too")
        q, k, v = self._arrays(name, query, key, value)
        has_batch = q.ndim == 3
        (n, queries, _), keys = (q.shape if has_batch else (1, *q.shape)), k.shape[-2]
        q, k, v = self._projected(q, k, v, (query is key and key is value))
        q, k, v = (t if has_batch else ops.expand_dims(t, axis=0) for t in (q, k, v))
        masks = self._mask(name, attn_mask, key_padding_mask, q, (n, queries, keys), has_batch)
        k, v, masks = self._with_extras(k, v, masks)
        q, k, v = (self._in_heads(t) for t in (q, k, v))
        dropped = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = attention_weights(q, k, masks, 1.0 / math.sqrt(self.head_dim), False)
            weights = F.dropout(weights, dropped) if dropped else weights
            found = ops.matmul(weights, v)
        else:
            hides_later = is_causal and key_padding_mask is None and k.shape[-2] == keys
            found = F.scaled_dot_product_attention(
                q, k, v, None if hides_later else masks, dropped, is_causal=hides_later
            )
        out = ops.reshape(ops.swapaxes(found, 1, 2), (n, queries, self.embed_dim))
        out = self.out_proj(out)
        if weights is not None and average_attn_weights:
            weights = ops.mean(weights, axis=1)
        if not has_batch:
            return ops.squeeze(out, axis=0), None if weights is None else ops.squeeze(weights, axis=0)
        return (out if self.batch_first else ops.swapaxes(out, 0, 1)), weights

    def _arrays(self, name: str, query: Any, key: Any, value: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The inputs as Tensors, the batch first if there is one."""
        q = as_tensor(query, self.out_proj.weight)
        k = q if key is query else as_tensor(key, q)
        v = k if value is key else as_tensor(value, q)
        shapes = f"got query {q.shape}, key {k.shape}, value {v.shape}"
        if q.ndim not in (2, 3) or not q.ndim == k.ndim == v.ndim:
            raise ShapeError(f"{name}: query, key and value have three axes, or two without a batch; {shapes}")
        if (q.shape[-1], k.shape[-1], v.shape[-1]) != (self.embed_dim, self.kdim, self.vdim):
            raise ShapeError(
                f"{name}: the last axes are embed_dim {self.embed_dim}, kdim {self.kdim}, vdim {self.vdim}; {shapes}"
            )
        batch, steps = (0, 1) if self.batch_first else (1, 0)
        if q.ndim == 3 and q.shape[batch] != k.shape[batch]:
            raise ShapeError(f"{name}: query and key have one batch size on axis {batch}; {shapes}")
        if k.shape[:-1] != v.shape[:-1]:
            raise ShapeError(f"{name}: there are as many values as keys; {shapes}")
        if not k.shape[steps if k.ndim == 3 else 0]:
            raise ShapeError(f"{name}: there is no key to attend to; {shapes}")
        if q.ndim == 3 and not self.batch_first:
            turned = ops.swapaxes(q, 0, 1)
            k2 = turned if k is q else ops.swapaxes(k, 0, 1)
            return turned, k2, k2 if v is k else ops.swapaxes(v, 0, 1)
        return q, k, v

    def _projected(self, q: Tensor, k: Tensor, v: Tensor, same: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values by their projections, (..., embed_dim) each."""
        e, bias = self.embed_dim, self.in_proj_bias
        if self.in_proj_weight is not None:
            if same:
                return tuple(ops.split(ops.linear(q, self.in_proj_weight, bias), [e, 2 * e], axis=-1))
            weights = ops.split(self.in_proj_weight, [e, 2 * e], axis=0)
        else:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases = [None] * 3 if bias is None else ops.split(bias, [e, 2 * e], axis=0)
        return tuple([ops.linear(x, w, b) for x, w, b in zip((q, k, v), weights, biases)])

    def _mask(
        self, name: str, attn: Any, padding: Any, q: Tensor, sizes: tuple[int, int, int], has_batch: bool
    ) -> Tensor | None:
        """Both masks as one that is added to scores (N, heads, L, S), with axes of length one where it may."""
        n, queries, keys = sizes
        total = None
        if attn is not None:
            mask = hiding(attn, q)
            if mask.shape == (n * self.num_heads, queries, keys):
                mask = ops.reshape(mask, (n, self.num_heads, queries, keys))
            elif mask.shape != (queries, keys):
                raise ShapeError(
                    f"{name}: attn_mask has shape {(queries, keys)} or {(n * self.num_heads, queries, keys)}, "
                    f"got {mask.shape}"
                )
            total = mask
        if padding is not None:
            mask = hiding(padding, q)
            if mask.shape != ((n, keys) if has_batch else (keys,)):
                expected = (n, keys) if has_batch else (keys,)
                raise ShapeError(f"{name}: key_padding_mask has shape {expected}, got {mask.shape}")
            mask = ops.reshape(mask, (n, 1, 1, keys))
            total = mask if total is None else total + mask
        return total

    def _with_extras(self, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values (N, S, embed_dim) with those that are added, which no mask hides."""
        n, _, e = k.shape
        extras = []
        if self.bias_k is not None and self.bias_v is not None:
            extras.append((self.bias_k, self.bias_v))
        if self.add_zero_attn:
            zeros = ops.zeros((1, 1, e), dtype=k.dtype, device=k.device)
            extras.append((zeros, zeros))
        for more_k, more_v in extras:
            k = ops.concat([k, ops.broadcast_to(more_k, (n, 1, e))], axis=1)
            v = ops.concat([v, ops.broadcast_to(more_v, (n, 1, e))], axis=1)
            if mask is not None:
                seen = ops.zeros((*mask.shape[:-1], 1), dtype=mask.dtype, device=mask.device)
                mask = ops.concat([mask, seen], axis=-1)
        return k, v, mask

    def _in_heads(self, x: Tensor) -> Tensor:
        """(N, L, embed_dim) as (N, heads, L, head_dim)."""
        n, length, _ = x.shape
        return ops.swapaxes(ops.reshape(x, (n, length, self.num_heads, self.head_dim)), 1, 2)


_ACTIVATIONS: dict[str, Callable[[Any], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class TransformerEncoderLayer(Module):
    """Self-attention, then two linear layers, each with dropout, a residual and a normalisation (Vaswani et al. 2017).

    Takes (L, N, d_model), or (N, L, d_model) with `batch_first`, or (L, d_model) of one sequence.

    Args:
        d_model: the features of each step.
        nhead: the heads of the attention.
        dim_feedforward: the features between the linear layers.
        dropout: the probability in all its dropouts.
        activation: between the linear layers: `"relu"`, `"gelu"`, or a function.
        layer_norm_eps: added to variances.
        norm_first: normalise before attention and linear layers instead of after them (Xiong et al. 2020).
        bias: leaves out all biases where False.

    Raises:
        ShapeError: shapes of inputs or masks do not fit.

    Examples:
        >>> import framework as fw
        >>> layer = fw.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> layer(fw.random.normal((3, 5, 8))).shape
        (3, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Tensor] = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        kind: dict[str, Any] = {"device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **kind)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **kind)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **kind)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, **kind)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, **kind)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        if isinstance(activation, str):
            if activation not in _ACTIVATIONS:
                raise ConfigError(
                    f"TransformerEncoderLayer: activation is 'relu', 'gelu' or a function, got {activation!r}"
                )
            activation = _ACTIVATIONS[activation]
        self.activation = activation

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        """The same shape.

        Args:
            src_mask: (L, L) or (N·nhead, L, L): bools, True where a step is hidden from another; or numbers.
            src_key_padding_mask: (N, L) or (L,): bools, True where a step is hidden; or numbers.
            is_causal: says that `src_mask` hides what comes later.
        """
        x = as_tensor(src, self.linear1.weight)
        if self.norm_first:
            x = x + self._attended(self.norm1(x), src_mask, src_key_padding_mask, is_causal)
            return x + self._mapped(self.norm2(x))
        x = self.norm1(x + self._attended(x, src_mask, src_key_padding_mask, is_causal))
        out: Tensor = self.norm2(x + self._mapped(x))
        return out

    def _attended(self, x: Tensor, mask: Any, padding: Any, is_causal: bool) -> Tensor:
        found, _ = self.self_attn(x, x, x, padding, need_weights=False, attn_mask=mask, is_causal=is_causal)
        out: Tensor = self.dropout1(found)
        return out

    def _mapped(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))
        return out
