"""The ladder of positional encodings: from a plain integer to sine and cosine, and three that came later.

`none`, `rotary` and `alibi` add nothing to the embedding; the last two act inside self-attention.
"""

import math

import torch
from torch import Tensor, nn

from core.config import Placement, Positions


def table(kind: Positions, length: int, d_model: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The fixed encodings as a table, one row a position. -> (length, d_model).

    integer: t. unit: t / (length - 1). binary: bit i of t in feature i. sine: sin(t ω_i). sincos: sine and cosine in pairs
    (Vaswani et al. 2017, §3.5). Raises ValueError for a kind that is learned or acts inside attention.
    """
    t = torch.arange(length, dtype=dtype)[:, None]  # (length, 1)
    if kind == "none":
        return torch.zeros(length, d_model, dtype=dtype)
    if kind == "integer":
        return t.expand(length, d_model).clone()
    if kind == "unit":
        return (t / max(length - 1, 1)).expand(length, d_model).clone()
    if kind == "binary":
        bits = torch.arange(d_model).clamp(max=62)
        return (t.long() >> bits & 1).to(dtype)
    if kind == "sine":
        return torch.sin(t * wavenumbers(d_model, d_model, dtype))
    if kind == "sincos":
        angle = t * wavenumbers(d_model // 2, d_model, dtype, step=2)  # (length, d_model / 2)
        return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)
    raise ValueError(f"{kind} positions are no fixed table")


def wavenumbers(
    n: int, d_model: int, dtype: torch.dtype = torch.float32, step: int = 1, base: float = 10_000.0
) -> Tensor:
    """ω_i = base^(-i·step / d_model), i = 0 … n-1: wavelengths from 2π up to base · 2π. -> (n,)"""
    return torch.exp(torch.arange(n, dtype=dtype) * (-math.log(base) * step / d_model))


def rotate(x: Tensor, start: int = 0) -> Tensor:
    """Rotary positions (Su et al. 2021, §3.2): turn each pair of features by an angle that grows with the position.

    x (B, H, T, D), D even; the first token stands at position `start`. -> (B, H, T, D)
    """
    t = torch.arange(start, start + x.shape[-2], dtype=x.dtype, device=x.device)[:, None]
    angle = t * wavenumbers(x.shape[-1] // 2, x.shape[-1], x.dtype, step=2).to(x.device)  # (T, D / 2)
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def alibi_bias(n_heads: int, n_queries: int, n_keys: int, like: Tensor) -> Tensor:
    """ALiBi (Press et al. 2022, §3): scores fall with distance, at a slope of its own for each head.

    Queries are the last of the keys. Slopes are 2^(-8 (h+1) / H). -> (1, H, Tq, Tk)
    """
    slopes = 2.0 ** (-8.0 * torch.arange(1, n_heads + 1, dtype=like.dtype, device=like.device) / n_heads)
    q = torch.arange(n_keys - n_queries, n_keys, device=like.device)
    k = torch.arange(n_keys, device=like.device)
    return (-slopes[:, None, None] * (q[:, None] - k).abs())[None]


class PositionalEncoding(nn.Module):
    """What is added to the token embeddings of one stack; None of it for rotary and alibi."""

    table: Tensor

    def __init__(self, kind: Positions, placement: Placement, d_model: int, max_len: int) -> None:
        super().__init__()
        self.kind, self.placement = kind, placement
        if kind == "learned":
            self.weight = nn.Parameter(torch.randn(max_len, d_model) * 0.3)
        elif kind not in ("none", "rotary", "alibi"):
            # In no file of weights. The unit encoding is t here and divided by the length of each sequence below.
            fixed = table("integer" if kind == "unit" else kind, max_len, d_model)
            self.register_buffer("table", fixed, persistent=False)
        if placement == "one_direction":
            self.direction = nn.Parameter(torch.randn(d_model) / d_model**0.5)

    def forward(self, start: int, length: int, last: Tensor) -> Tensor | None:
        """Encodings of positions start … start+length-1. `last` (B,): position of the last token of each sequence.

        -> (length, d_model), (B, length, d_model) for unit, or None.
        """
        if self.kind in ("none", "rotary", "alibi"):
            return None
        rows = (self.weight if self.kind == "learned" else self.table)[start : start + length]  # (T, d_model)
        if self.kind == "unit":
            rows = rows / last.clamp(min=1)[:, None, None]  # (B, T, d_model)
        return rows * self.direction if self.placement == "one_direction" else rows
