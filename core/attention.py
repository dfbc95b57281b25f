"""Scaled dot-product attention with several heads (Vaswani et al. 2017, §3.2). The only attention in the house.

A mask is a boolean tensor with one convention: True = may attend. It broadcasts to (B, H, Tq, Tk).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.positions import rotate
from core.trace import AnyTrace, put


def padding_mask(ids: Tensor, pad: int = 0) -> Tensor:
    """Which keys are real tokens. ids (B, Tk) -> (B, 1, 1, Tk)."""
    return (ids != pad)[:, None, None, :]


def causal_mask(n_queries: int, n_keys: int, device: torch.device | None = None) -> Tensor:
    """Query i may see keys up to itself: a lower triangle of ones, diagonal included. Queries are the last of the keys.

    -> (Tq, Tk). §3.2.3.
    """
    return torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril(n_keys - n_queries)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    scale: float,
    dropout: float = 0.0,
    bias: Tensor | None = None,
    triangle: bool = False,
    trace: AnyTrace = None,
) -> Tensor:
    """softmax(q kᵀ · scale + bias, blocked where mask is False) v. q (B, H, Tq, D), k and v (B, H, Tk, D) -> (B, H, Tq, D).

    The output always comes from `F.scaled_dot_product_attention`. With a trace, scores and pattern are computed beside it.
    A query that may attend to nothing gets zeros. `triangle` says that mask is just the causal one, which is faster.
    """
    if trace is not None:
        given = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device) if mask is None else mask
        seen = put(trace, "mask", given)
        if seen is not given:
            mask, triangle = seen, False
        if trace.wants("scores") or trace.wants("pattern"):
            scores = q @ k.transpose(-2, -1) * scale  # (B, H, Tq, Tk)
            scores = scores if bias is None else scores + bias
            put(trace, "scores", scores)
            pattern = scores.masked_fill(~seen, float("-inf")).softmax(-1)
            put(trace, "pattern", pattern.masked_fill(~seen, 0.0))  # a fully blocked row is 0 / 0: zeros, not NaN
    if bias is not None:
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
        triangle = False
    if triangle:
        mask = None
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=triangle, scale=scale)


class Cache:
    """Keys and values of one attention that need not be computed again while a target grows token by token.

    They lie in room for some tokens more, so that a new token is written beside the others and does not move them.
    """

    ROOM = 32  # tokens

    def __init__(self) -> None:
        self.length = 0
        self.kept: list[Tensor] = []  # keys and values, (B, H, length and room, D) each

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v (B, H, T, D): those of the new tokens. -> those of all of them"""
        if not self.kept:
            self.kept = [k, v]
        else:
            end = self.length + k.shape[2]
            for i, new in enumerate((k, v)):
                if end > self.kept[i].shape[2]:
                    roomy = new.new_empty(*new.shape[:2], end + self.ROOM, new.shape[3])
                    roomy[:, :, : self.length] = self.kept[i][:, :, : self.length]
                    self.kept[i] = roomy
                self.kept[i][:, :, self.length : end] = new
        self.length += k.shape[2]
        return self.all()

    def all(self) -> tuple[Tensor, Tensor]:
        k, v = (x[:, :, : self.length] for x in self.kept)
        return k, v

    def reorder(self, rows: Tensor) -> None:
        """Row b becomes what row rows[b] was: beams change places."""
        self.kept = [x.index_select(0, rows) for x in self.kept]


class MultiHeadAttention(nn.Module):
    """Project to queries, keys, values; split into heads; attend; merge; project (§3.2.2).

    One d_model-wide projection followed by a split does the work of n_heads narrow projections. Query, key and value
    weights lie in one matrix, in this order: self-attention then needs a single product.
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float, scale: float, rotary: bool = False) -> None:
        super().__init__()
        self.n_heads, self.dropout, self.scale, self.rotary = n_heads, dropout, scale, rotary
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        memory: Tensor | None = None,
        bias: Tensor | None = None,
        cache: Cache | None = None,
        triangle: bool = False,
        trace: AnyTrace = None,
    ) -> Tensor:
        """x (B, Tq, d_model) asks; memory (B, Tk, d_model), or x itself, answers. -> (B, Tq, d_model)."""
        if memory is None:
            q, k, v = self.split(self.qkv(x), 3)  # each (B, H, T, D)
            if self.rotary:
                start = 0 if cache is None else cache.length
                q, k = rotate(q, start), rotate(k, start)
            if cache is not None:
                k, v = cache.extend(k, v)
        else:
            d = x.shape[-1]
            (w_q, w_kv), (b_q, b_kv) = self.qkv.weight.split((d, 2 * d)), self.qkv.bias.split((d, 2 * d))
            (q,) = self.split(F.linear(x, w_q, b_q), 1)
            if cache is not None and cache.length:
                k, v = cache.all()  # the memory does not change while the target grows
            else:
                k, v = self.split(F.linear(memory, w_kv, b_kv), 2)
                if cache is not None:
                    cache.extend(k, v)
        q, k, v = put(trace, "q", q), put(trace, "k", k), put(trace, "v", v)
        dropout = self.dropout if self.training else 0.0
        beams = len(q) // len(k)  # of one source: they share its keys and values, as so many queries of it
        if beams > 1:
            q = (
                q.unflatten(0, (-1, beams)).transpose(1, 2).flatten(2, 3)
            )  # (B · beams, H, Tq, D) -> (B, H, beams · Tq, D)
        z = attend(q, k, v, mask, scale=self.scale, dropout=dropout, bias=bias, triangle=triangle, trace=trace)
        if beams > 1:
            z = z.unflatten(2, (beams, -1)).transpose(1, 2).flatten(0, 1)  # (B · beams, H, Tq, D)
        z = put(trace, "z", z)  # (B, H, Tq, D)
        return put(trace, "out", self.out(z.transpose(1, 2).flatten(2)))  # (B, Tq, d_model)

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Cut features into `parts` times heads: (B, T, parts · d_model) -> parts of (B, H, T, D)"""
        return x.unflatten(-1, (parts, self.n_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
