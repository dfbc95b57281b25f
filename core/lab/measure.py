"""Measurements on a model: who influences whom, what padding changes, what each layer would say, what parallel training saves."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.lab.heads import exactly_right
from core.model import DecoderCache, Transformer
from core.tasks import Batch
from core.tokens import PAD
from core.trace import Edit, Trace


def influence(model: Transformer, src: Tensor, tgt: Tensor, edits: dict[str, Edit] | None = None) -> Tensor:
    """How strongly target token j moves what is predicted at t: ‖∂ logit_t / ∂ embedding_j‖ of the winning logit.

    src (1, S), tgt (1, T) -> (T, T). With a causal mask exactly 0 above the diagonal.
    """
    leaf: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        leaf.append(x.detach().requires_grad_())
        return leaf[0]

    logits = model(src, tgt, Trace({**(edits or {}), "embed.tgt": keep}))[0]  # (T, V)
    each = torch.eye(len(logits), dtype=logits.dtype, device=logits.device)  # one gradient a prediction, all in one go
    (gradients,) = torch.autograd.grad(
        logits.max(-1).values, leaf[0], each, is_grads_batched=True
    )  # (T, 1, T, d_model)
    return gradients[:, 0].norm(dim=-1).detach()


@torch.no_grad()
def padding_difference(model: Transformer, src: Tensor, tgt: Tensor, pads: int) -> float:
    """Largest change of any logit when `pads` fillers are added to the source. src (B, S), tgt (B, T)"""
    return (model(src, tgt) - model(F.pad(src, (0, pads)), tgt)).abs().max().item()


def padded(batch: Batch, pads: int) -> Batch:
    return Batch(F.pad(batch.src, (0, pads), value=PAD), batch.tgt_in, batch.tgt_out)


@dataclass(frozen=True)
class ScoreStatistics:
    """Of random scores (rows, keys): their standard deviation, and of softmax over the keys of each row the mean entropy
    (bits), the mean gradient, and the gradients (rows,): Frobenius norms of ∂ softmax / ∂ scores."""

    std: float
    entropy: float
    gradient: float
    scores: Tensor
    gradients: Tensor


def random_vectors(d_k: int, rows: int = 512, keys: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Queries (rows, 1, d_k) and keys (rows, keys, d_k) of independent standard normal features, in float64."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(rows, 1, d_k, generator=generator, dtype=torch.float64)
    k = torch.randn(rows, keys, d_k, generator=generator, dtype=torch.float64)
    return q, k


def score_statistics(d_k: int, scale: float, rows: int = 512, keys: int = 16, seed: int = 0) -> ScoreStatistics:
    """Of random vectors, as Vaswani et al. 2017, footnote 4, suppose them: std of q·k is √d_k."""
    q, k = random_vectors(d_k, rows, keys, seed)
    return statistics_of((q * k).sum(-1) * scale)


def statistics_of(scores: Tensor) -> ScoreStatistics:
    """scores (rows, keys), float64."""
    p = scores.softmax(-1)
    jacobian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]  # (rows, keys, keys)
    gradients = jacobian.flatten(1).norm(dim=1)
    bits = -torch.special.xlogy(p, p).sum(-1).mean() / math.log(2)
    return ScoreStatistics(scores.std().item(), bits.item(), gradients.mean().item(), scores, gradients)


def instead(x: Tensor) -> Edit:
    """An edit that puts x in the place of whatever was there."""
    return lambda _: x


@torch.no_grad()
def logit_lens(model: Transformer, src: Tensor, tgt: Tensor) -> Tensor:
    """What each decoder layer would predict if it were the last (nostalgebraist 2020): probabilities (n_layers + 1, T, V).

    Row 0 reads the embedding alone. src (1, S), tgt (1, T).
    """
    trace = Trace()
    model(src, tgt, trace)
    stream = [trace["embed.tgt"]] + [trace[f"decoder.{i}.resid_post"] for i in range(model.config.n_layers)]
    return torch.stack([model.output(model.decoder_norm(x))[0].softmax(-1) for x in stream])


@dataclass(frozen=True)
class TwoFlows:
    """Logits (T, V) of one parallel pass and of T passes that each add a token, and the seconds of each, with a cache too."""

    parallel: Tensor
    sequential: Tensor
    parallel_s: float
    sequential_s: float
    cached_s: float


@torch.no_grad()
def two_flows(model: Transformer, src: Tensor, tgt: Tensor, rounds: int = 5) -> TwoFlows:
    """Teacher forcing against one token at a time, on the same prefixes. src (1, S), tgt (1, T) -> logits of both (S10, S13)."""

    def sequential() -> Tensor:
        memory = model.encode(src)
        return torch.stack([model.decode(tgt[:, : t + 1], memory, src)[0, -1] for t in range(tgt.shape[1])])

    def cached() -> Tensor:
        memory, cache = model.encode(src), DecoderCache(model.config.n_layers)
        return torch.stack(
            [model.decode(tgt[:, t : t + 1], memory, src, cache=cache)[0, -1] for t in range(tgt.shape[1])]
        )

    ways: tuple[Callable[[], Tensor], ...] = (lambda: model(src, tgt), sequential, cached)
    times: list[list[float]] = [[], [], []]
    for _ in range(rounds):  # in turn, so that whatever else the machine does hits all three alike
        for f, taken in zip(ways, times, strict=True):
            start = time.perf_counter()
            f()
            if src.is_cuda:
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    parallel_s, sequential_s, cached_s = map(min, times)  # of the same work, what took longer was disturbed
    return TwoFlows(model(src, tgt)[0], sequential(), parallel_s, sequential_s, cached_s)


@torch.no_grad()
def length_curve(model: Transformer, batches: dict[int, Batch]) -> dict[int, float]:
    """Generated exact match by source length."""
    return {n: exactly_right(model, batch).float().mean().item() for n, batch in batches.items()}


def first_divergence(a: list[int], b: list[int]) -> int | None:
    """The first position at which two sequences differ, or None."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return None if len(a) == len(b) else min(len(a), len(b))
