"""The same numbers by an independent route: sums of products in float64, row by row, with none of the model's code.

Whatever a lab shows is held against this. Nothing here calls attention.py, model.py or a matrix product.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.model import Embedding, Transformer
from core.tokens import PAD
from core.trace import Trace


@dataclass(frozen=True)
class Head:
    """One head on one example, step by step, float64: q (Tq, D), k and v (Tk, D), products and scores (Tq, Tk), pattern, z (Tq, D)."""

    q: Tensor
    k: Tensor
    v: Tensor
    products: Tensor
    scores: Tensor
    pattern: Tensor
    z: Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each output feature is the sum of products of x with one row of the weight. x (T, d) -> (T, len(weight))"""
    x, weight, bias = x.double(), weight.double(), bias.double()
    return torch.stack([(x * row).sum(-1) + b for row, b in zip(weight, bias, strict=True)], -1)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    x = x.double()
    centred = x - x.sum(-1, keepdim=True) / x.shape[-1]
    variance = (centred * centred).sum(-1, keepdim=True) / x.shape[-1]
    return centred / (variance + 1e-5).sqrt() * weight.double() + bias.double()


def divisor(scale: str, d_model: int, n_heads: int) -> float:
    """What a product q·k is divided by."""
    return {"sqrt_d_k": math.sqrt(d_model // n_heads), "sqrt_d_model": math.sqrt(d_model), "none": 1.0}[scale]


def head(model: Transformer, trace: Trace, place: str, index: int, row: int = 0) -> Head:
    """Head `index` of the attention at `place` ("decoder.0.cross") for example `row` of a traced pass.

    It starts from the traced residual stream and memory and from the mask that was used.
    """
    config = model.config
    stack, layer, kind = place.split(".")
    attention = model.attention(place)
    d, width = config.d_model, config.d_k
    stream = trace[f"{stack}.{layer}.{'resid_pre' if kind == 'self' else 'resid_self'}"][row].detach()  # (Tq, d_model)
    norm = model.block(stack, int(layer)).norms[0 if kind == "self" else 1]
    assert isinstance(norm, nn.LayerNorm)
    x = layer_norm(stream, norm.weight.detach(), norm.bias.detach()) if config.norm == "pre" else stream.double()
    other = x if kind == "self" else trace["memory"][row].detach().double()
    weight, bias = attention.qkv.weight.detach(), attention.qkv.bias.detach()
    rows = [slice(part * d + index * width, part * d + (index + 1) * width) for part in range(3)]
    q, k, v = (
        linear(source, weight[r], bias[r]) for source, r in zip((x, other, other), rows, strict=True)
    )  # (Tq, D), (Tk, D), (Tk, D)
    if config.positions == "rotary" and kind == "self":
        q, k = turned(q), turned(k)
    products = torch.stack([torch.stack([(qi * kj).sum() for kj in k]) for qi in q])  # (Tq, Tk)
    scores = products / divisor(config.scale, d, config.n_heads)
    if config.positions == "alibi" and kind == "self":
        slope = 2.0 ** (-8.0 * (index + 1) / config.n_heads)
        scores = scores - slope * torch.tensor([[abs(i - j) for j in range(len(k))] for i in range(len(q))])
    mask = trace[f"{place}.mask"].expand(trace[f"{place}.scores"].shape)[row, index]
    pattern = torch.stack([softmax(s, m) for s, m in zip(scores, mask, strict=True)])
    z = torch.stack(
        [sum((a * vj for a, vj in zip(weights, v, strict=True)), torch.zeros_like(v[0])) for weights in pattern]
    )
    return Head(q, k, v, products, scores, pattern, z)


def turned(x: Tensor) -> Tensor:
    """Rotary positions as complex numbers: pair i at position t is multiplied by e^{i t ω}. x (T, D)"""
    pairs = torch.complex(x[:, 0::2].contiguous(), x[:, 1::2].contiguous())
    omega = [10_000.0 ** (-2 * i / x.shape[1]) for i in range(pairs.shape[1])]
    angle = torch.tensor([[t * w for w in omega] for t in range(len(x))], dtype=torch.float64)
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(1)


def allowed(model: Transformer, place: str, n_queries: int, keys: Sequence[int]) -> Tensor:
    """Who may look at whom, cell by cell from the rules (§3.2.3): not ahead in the decoder, never at padding. -> (Tq, Tk)

    keys: token ids. Padding comes last in a target, so under the causal mask no real token sees any of it.
    """
    config, causal = model.config, place.startswith("decoder") and place.endswith("self")

    def may(i: int, j: int) -> bool:
        if causal and config.causal_mask:
            return j <= i
        return keys[j] != PAD or not config.padding_mask

    return torch.tensor([[may(i, j) for j in range(len(keys))] for i in range(n_queries)])


def softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """One row by the definition, over the allowed keys; zeros where nothing is allowed."""
    allowed = [float(s) for s, m in zip(scores, mask, strict=True) if m]
    if not allowed:
        return torch.zeros_like(scores)
    top = max(allowed)
    total = math.fsum(math.exp(s - top) for s in allowed)
    weights = [math.exp(float(s) - top) / total if m else 0.0 for s, m in zip(scores, mask, strict=True)]
    return torch.tensor(weights, dtype=torch.float64)


def largest_errors(model: Transformer, trace: Trace, place: str, index: int, row: int = 0) -> dict[str, float]:
    """Largest difference between the trace and the independent route, for q, k, v, scores, pattern and z."""
    mine = head(model, trace, place, index, row)
    return {
        name: (trace[f"{place}.{name}"][row, index].double() - getattr(mine, name)).abs().max().item()
        for name in ("q", "k", "v", "scores", "pattern", "z")
    }


def embedding(model: Transformer, ids: Sequence[int], side: str, last: int | None = None) -> Tensor:
    """Rows of the embedding table times √d_model plus the position, in float64. -> (T, d_model)

    last: the position at which the unit encoding reaches 1 (the others need none): the last token of a source; for a
    target, the length of its source.
    """
    config = model.config
    part = model.src_embedding if side == "src" else model.tgt_embedding
    rows = []
    for t, i in enumerate(ids):
        token = part.token.weight[i].detach().double() * math.sqrt(config.d_model)
        rows.append(token + position(model, part, t, last))
    return torch.stack(rows)


def position(model: Transformer, part: Embedding, t: int, last: int | None = None) -> Tensor:
    """The encoding of position t by its formula. `last` as in `embedding`."""
    d, kind = model.config.d_model, model.config.positions
    encoding = part.position
    if kind in ("none", "rotary", "alibi"):
        return torch.zeros(d, dtype=torch.float64)
    if kind == "learned":
        return encoding.weight[t].detach().double()
    formula: dict[str, Callable[[int], float]] = {
        "integer": lambda i: float(t),
        "unit": lambda i: t / max(last if last is not None else len(encoding.table) - 1, 1),
        "binary": lambda i: float(t >> min(i, 62) & 1),
        "sine": lambda i: math.sin(t / 10_000 ** (i / d)),
        "sincos": lambda i: (math.sin if i % 2 == 0 else math.cos)(t / 10_000 ** (i // 2 * 2 / d)),
    }
    values = torch.tensor([formula[kind](i) for i in range(d)], dtype=torch.float64)
    return (
        values * encoding.direction.detach().double() if model.config.position_placement == "one_direction" else values
    )
