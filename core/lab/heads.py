"""What a head does: how sharp it looks, how near it is to the pattern its task asks for, and what is lost without it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from core.decode import DecodeOptions, generate
from core.model import Transformer
from core.tasks import Batch
from core.tokens import BOS
from core.trace import Edit, zero_head


def entropy(pattern: Tensor) -> Tensor:
    """How spread out each row of attention is: 0 bits on one key, log2(n) over n keys alike. (…, Tk) -> (…)"""
    return -(torch.special.xlogy(pattern, pattern)).sum(-1) / torch.log(torch.tensor(2.0, dtype=pattern.dtype))


def ideal_pattern(task: str, n_queries: int, n_keys: int) -> Tensor | None:
    """Where cross-attention must look to copy or reverse n_keys symbols, or None for other tasks. -> (Tq, Tk)

    Query t is about to predict the target's token t: source token t for copy, n_keys - 1 - t for reverse. The query that
    predicts the end token has no right key; its row is zero.
    """
    t = torch.arange(n_queries)[:, None]
    key = {"copy": t, "reverse": n_keys - 1 - t}.get(task)
    return None if key is None else (torch.arange(n_keys) == key).float()


def distance_to_ideal(pattern: Tensor, ideal: Tensor) -> Tensor:
    """Mean total-variation distance over the rows that have a right key: 0 the ideal, 1 elsewhere. (…, Tq, Tk) -> (…)"""
    rows = ideal.sum(-1) > 0
    return (pattern[..., rows, :] - ideal[rows]).abs().sum(-1).mean(-1) / 2


def exactly_right(model: Transformer, batch: Batch, edits: dict[str, Edit] | None = None, start: int = BOS) -> Tensor:
    """Which strings the model generates without a mistake, with edits inside it. -> (B,) bool"""
    width = batch.tgt_out.shape[1]
    ids = generate(model, batch.src, DecodeOptions(max_len=width), edits, start)
    return (torch.nn.functional.pad(ids, (0, width - ids.shape[1])) == batch.tgt_out).all(1)


def without_heads(place: str, heads: Sequence[int]) -> dict[str, Edit]:
    """Edits that silence heads of one attention, e.g. ("decoder.0.cross", [2])."""

    def edit(z: Tensor) -> Tensor:
        for head in heads:
            z = zero_head(head)(z)
        return z

    return {f"{place}.z": edit}


def skipping(model: Transformer, place: str) -> dict[str, Edit]:
    """An edit that skips one attention: it adds its output bias to the residual stream and nothing of any token."""
    bias = model.attention(place).out.bias.detach()
    return {f"{place}.out": bias.expand_as}


def attention_places(model: Transformer) -> list[str]:
    """Every attention of the model by its trace name: "encoder.0.self", …, "decoder.0.self", "decoder.0.cross", …"""
    n = model.config.n_layers
    return [f"encoder.{i}.self" for i in range(n)] + [f"decoder.{i}.{k}" for i in range(n) for k in ("self", "cross")]


def value_output_maps(model: Transformer, place: str) -> Tensor:
    """W_V W_O of each head: what a head writes for what it reads (Elhage et al. 2021). -> (H, d_model, d_model)"""
    attention = model.attention(place)
    d, h = model.config.d_model, model.config.n_heads
    value = attention.qkv.weight[2 * d :].reshape(h, d // h, d)  # (H, D, d_model)
    out = attention.out.weight.reshape(d, h, d // h).transpose(0, 1)  # (H, d_model, D)
    return (out @ value).detach()


def subspace_overlap(maps: Tensor, rank: int) -> Tensor:
    """How much two heads write into the same directions: 1 the same subspace, rank / d_model by chance. (H, d, d) -> (H, H)

    Mean squared cosine of the principal angles between the `rank` leading left singular subspaces.
    """
    basis = torch.linalg.svd(maps.double()).U[..., :rank]  # (H, d, rank)
    inner = torch.einsum("hdr,gds->hgrs", basis, basis)
    return inner.square().sum((-2, -1)) / rank
