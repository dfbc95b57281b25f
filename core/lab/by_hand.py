"""Loss, update and the wrong cross-attention once more, in float64 and by their definitions: what the lab of data flows is held against."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.lab import recompute, whole
from core.model import Block, Transformer
from core.tokens import PAD
from core.trace import Trace


def token_loss(row: Sequence[float], target: int) -> float:
    """-ln of the probability of the right token: ln Σ e^logit minus its own logit, by plain loops."""
    top = max(row)
    return top + math.log(math.fsum(math.exp(v - top) for v in row)) - row[target]


def mean_loss(rows: Sequence[Sequence[Sequence[float]]], targets: Sequence[Sequence[int]]) -> float:
    """Mean over the real tokens of a batch: logits (B, T, V) and targets (B, T), both as lists."""
    losses = [
        token_loss(row, target)
        for example, wanted in zip(rows, targets, strict=True)
        for row, target in zip(example, wanted, strict=True)
        if target != PAD
    ]
    return math.fsum(losses) / len(losses)


def adamw(
    weight: Tensor,
    gradient: Tensor,
    m: Tensor,
    v: Tensor,
    t: int,
    lr: float,
    decay: float,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight and both moments after update t = 1, 2, … (Loshchilov and Hutter 2019, algorithm 2)."""
    weight, gradient, m, v = (x.detach().double() for x in (weight, gradient, m, v))
    m = betas[0] * m + (1 - betas[0]) * gradient
    v = betas[1] * v + (1 - betas[1]) * gradient * gradient
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return weight - lr * decay * weight - lr * m_hat / (v_hat.sqrt() + eps), m, v


def decoded(model: Transformer, trace: Trace, memory: Tensor, row: int = 0) -> Tensor:
    """The logits of a traced pass whose decoder was given this memory (S, d). -> (T, V)"""
    stream = whole.through(model, trace, "decoder", trace["embed.tgt"][row].detach(), memory.detach().double(), row)
    return whole.product(stream, model.output.weight, model.output.bias)


def decoded_from_itself(model: Transformer, trace: Trace, row: int = 0) -> Tensor:
    """The logits when cross-attention takes K and V from the decoder, each position from itself and those before. -> (T, V)"""
    x = trace["embed.tgt"][row].detach().double()
    mask = recompute.allowed(model, "decoder.0.self", len(x), [PAD + 1] * len(x))

    def normed(y: Tensor, norm: nn.Module) -> Tensor:
        return (
            recompute.layer_norm(y, norm.weight.detach(), norm.bias.detach()) if isinstance(norm, nn.LayerNorm) else y
        )

    for i in range(model.config.n_layers):
        block = model.block("decoder", i)

        def ffn(y: Tensor, block: Block = block) -> Tensor:
            hidden = whole.product(y, block.ffn.up.weight, block.ffn.up.bias)
            relu = model.config.activation == "relu"
            hidden = hidden.clamp(min=0) if relu else hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
            return whole.product(hidden, block.ffn.down.weight, block.ffn.down.bias)

        def attention(y: Tensor, place: str) -> Tensor:
            return whole.attention(model, place, y, y, mask)

        for part, norm in zip((f"decoder.{i}.self", f"decoder.{i}.cross", ""), block.norms, strict=True):
            y = normed(x, norm) if block.pre else x
            x = x + (attention(y, part) if part else ffn(y))
            x = x if block.pre else normed(x, norm)
    return whole.product(normed(x, model.decoder_norm), model.output.weight, model.output.bias)
