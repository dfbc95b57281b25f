"""Attention, step by step: one head on one example, every number between the tokens and what the head says (S1 to S6, S15).

The numbers are the model's own: its trace, its weights, its modules. `errors` holds each against core/lab/recompute.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.decode import DecodeOptions, generate
from core.lab import recompute
from core.model import Transformer
from core.positions import alibi_bias
from core.tokens import BOS
from core.trace import Trace

# Which attention: the name of its tensors in a trace, by layer.
PLACES = {"encoder": "encoder.{}.self", "decoder": "decoder.{}.self", "cross": "decoder.{}.cross"}
LONGEST = 64  # tokens: a matrix of 64 by 64 cells is the most one can still click
UNKNOWN_ANSWER = 12  # tokens the model may write, at least, where the task's answer is not known


@dataclass(frozen=True)
class Embedded:
    """How tokens become input vectors: row of the table, row × √d_model, position, and their sum. Each (T, d_model)."""

    row: Tensor
    token: Tensor
    position: Tensor
    input: Tensor


@dataclass(frozen=True)
class Steps:
    """One head, as the model computed it. Queries are rows, keys columns; D = d_k features a head.

    x_q (Tq, d_model) and x_k (Tk, d_model) go into the projection; weight and bias: those of q, k, v, (D, d_model) and
    (D,); raw_q, raw_k: before rotary positions turn them (else q and k); bias_ij: what ALiBi adds to the scores (else 0).
    """

    place: str
    head: int
    queries: tuple[int, ...]
    keys: tuple[int, ...]
    divisor: float
    embedded_q: Embedded
    embedded_k: Embedded
    x_q: Tensor
    x_k: Tensor
    weight: tuple[Tensor, Tensor, Tensor]
    bias: tuple[Tensor, Tensor, Tensor]
    raw_q: Tensor
    raw_k: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    products: Tensor
    bias_ij: Tensor
    scores: Tensor
    mask: Tensor
    pattern: Tensor
    z: Tensor

    def contributions(self, i: int) -> Tensor:
        """a_ij · v_j, one row a key; their sum over the keys is z_i. -> (Tk, D)"""
        return self.pattern[i][:, None] * self.v


def target_of(model: Transformer, src: Sequence[int], answer: Sequence[int]) -> tuple[int, ...]:
    """What the decoder reads: the start token and the right answer, as in training; or, where that is not known, what the
    model itself writes."""
    if answer:
        return (BOS, *answer)
    options = DecodeOptions(max_len=max(UNKNOWN_ANSWER, model.longest_target))
    return (BOS, *generate(model, torch.tensor([list(src)]), options)[0].tolist()[:-1])


@torch.no_grad()
def traced(model: Transformer, src: Sequence[int], tgt: Sequence[int]) -> Trace:
    trace = Trace()
    model(torch.tensor([list(src)]), torch.tensor([list(tgt)]), trace)
    return trace


@torch.no_grad()
def embedded(model: Transformer, trace: Trace, ids: Sequence[int], side: str) -> Embedded:
    part = model.src_embedding if side == "src" else model.tgt_embedding
    total = trace[f"embed.{side}"][0]
    position = trace.get(f"embed.{side}.position")  # rotary, ALiBi and none add nothing here
    added = torch.zeros_like(total) if position is None else position[0].detach()
    return Embedded(part.token.weight[list(ids)].detach(), trace[f"embed.{side}.token"][0], added, total)


@torch.no_grad()
def steps_of(model: Transformer, src: Sequence[int], tgt: Sequence[int], where: str, layer: int, head: int) -> Steps:
    """Every step of one head. where: a name of PLACES; layer and head count from 0."""
    trace, place, config = traced(model, src, tgt), PLACES[where].format(layer), model.config
    stack, cross = place.split(".")[0], where == "cross"
    block, attention = model.block(stack, layer), model.attention(place)
    stream = trace[f"{stack}.{layer}.{'resid_self' if cross else 'resid_pre'}"]
    norm = block.norms[1 if cross else 0]
    assert isinstance(norm, nn.LayerNorm)
    x_q = (norm(stream) if block.pre else stream)[0]
    x_k = trace["memory"][0] if cross else x_q
    d, width = config.d_model, config.d_k
    rows = [slice(part * d + head * width, part * d + (head + 1) * width) for part in range(3)]
    wq, wk, wv = (attention.qkv.weight[r].detach() for r in rows)
    bq, bk, bv = (attention.qkv.bias[r].detach() for r in rows)
    q, k, v = (trace[f"{place}.{name}"][0, head] for name in ("q", "k", "v"))
    scores = trace[f"{place}.scores"]
    alibi = config.positions == "alibi" and not cross
    bias_ij = (
        alibi_bias(config.n_heads, len(q), len(k), scores)[0, head] if alibi else torch.zeros_like(scores[0, head])
    )
    source = embedded(model, trace, src, "src")
    target = source if where == "encoder" else embedded(model, trace, tgt, "tgt")
    return Steps(
        place=place,
        head=head,
        queries=tuple(src if where == "encoder" else tgt),
        keys=tuple(tgt if where == "decoder" else src),
        divisor=1 / config.score_scale,
        embedded_q=target,
        embedded_k=source if cross else target,
        x_q=x_q,
        x_k=x_k,
        weight=(wq, wk, wv),
        bias=(bq, bk, bv),
        raw_q=F.linear(x_q, wq, bq),
        raw_k=F.linear(x_k, wk, bk),
        q=q,
        k=k,
        v=v,
        products=q @ k.T,
        bias_ij=bias_ij,
        scores=scores[0, head],
        mask=trace[f"{place}.mask"].expand(scores.shape)[0, head],
        pattern=trace[f"{place}.pattern"][0, head],
        z=trace[f"{place}.z"][0, head],
    )


def errors(model: Transformer, steps: Steps, src: Sequence[int], tgt: Sequence[int]) -> dict[str, float]:
    """Largest difference to the independent route in float64, panel by panel."""
    trace = traced(model, src, tgt)
    again = recompute.head(model, trace, steps.place, steps.head)
    stack, layer, kind = steps.place.split(".")

    def far(a: Tensor, b: Tensor) -> float:
        return (a.detach().double() - b.double()).abs().max().item()

    # What goes into the projection, and q and k before anything turns them.
    stream = trace[f"{stack}.{layer}.{'resid_pre' if kind == 'self' else 'resid_self'}"][0].detach()
    norm = model.block(stack, int(layer)).norms[0 if kind == "self" else 1]
    assert isinstance(norm, nn.LayerNorm)
    x_q = (
        recompute.layer_norm(stream, norm.weight.detach(), norm.bias.detach()) if model.config.norm == "pre" else stream
    )
    x_k = x_q if kind == "self" else trace["memory"][0]
    raw = [
        recompute.linear(x.detach(), w.detach(), b.detach())
        for x, w, b in zip((x_q, x_k), steps.weight, steps.bias, strict=False)
    ]
    mixed = torch.stack([torch.stack([a * v for a, v in zip(row, again.v, strict=True)]) for row in again.pattern])
    ours = torch.stack([steps.contributions(i) for i in range(len(steps.queries))])
    return {
        "embed": max(
            embedding_error(model, steps.embedded_q, steps.queries, "src" if stack == "encoder" else "tgt", len(src)),
            embedding_error(
                model, steps.embedded_k, steps.keys, "tgt" if stack + kind == "decoderself" else "src", len(src)
            ),
        ),
        "project": max(
            *(far(steps.x_q, x_q), far(steps.x_k, x_k), far(steps.raw_q, raw[0]), far(steps.raw_k, raw[1])),
            *(far(steps.q, again.q), far(steps.k, again.k), far(steps.v, again.v)),
        ),
        "score": far(steps.products, again.products),
        "scale": max(
            far(steps.scores, again.scores),
            abs(steps.divisor - recompute.divisor(model.config.scale, model.config.d_model, model.config.n_heads)),
        ),
        "mask": far(steps.mask, recompute.allowed(model, steps.place, len(steps.queries), steps.keys)),
        "softmax": max(far(steps.pattern, again.pattern), blocked_weight(steps), far_from_one(steps)),
        "weigh": max(far(ours, mixed), far(steps.z, again.z)),
    }


def embedding_error(model: Transformer, mine: Embedded, ids: Sequence[int], side: str, n_source: int) -> float:
    part = model.src_embedding if side == "src" else model.tgt_embedding
    last = n_source - 1 if side == "src" else n_source
    total = recompute.embedding(model, ids, side, last)
    position = torch.stack([recompute.position(model, part, t, last) for t in range(len(ids))])
    token = mine.row.detach().double() * math.sqrt(model.config.d_model)
    pairs = ((mine.input, total), (mine.position, position), (mine.token, token))
    return max((a.detach().double() - b).abs().max().item() for a, b in pairs)


def blocked_weight(steps: Steps) -> float:
    """The largest weight on a blocked key: exactly 0."""
    return steps.pattern.masked_fill(steps.mask, 0.0).abs().max().item()


def far_from_one(steps: Steps) -> float:
    """How far a row that may look anywhere is from adding up to 1."""
    sums = steps.pattern.sum(-1)[steps.mask.any(-1)]
    return (sums - 1).abs().max().item() if len(sums) else 0.0


@dataclass(frozen=True)
class Dropped:
    """Weights after dropout, as a framework hands them out in training: kept (Tq, Tk) bool, after (Tq, Tk)."""

    share: float
    kept: Tensor
    after: Tensor


def dropped(pattern: Tensor, share: float, seed: int = 3) -> Dropped:
    """Dropout with F.dropout on a head's weights: some become 0, the rest are divided by 1 - share.

    This seed keeps the first cell: under the causal mask all of the first query's weight lies there.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        after = F.dropout(pattern, share)
        torch.manual_seed(seed)
        kept = (
            F.dropout(torch.ones_like(pattern), share) > 0
        )  # the same draws, so that a weight of 0 counts as kept too
    return Dropped(share, kept, after)


def dropped_error(pattern: Tensor, mine: Dropped) -> float:
    """Against the definition, cell by cell in float64."""
    again = [
        [float(a) / (1 - mine.share) if keep else 0.0 for a, keep in zip(row, keeps, strict=True)]
        for row, keeps in zip(pattern.double(), mine.kept, strict=True)
    ]
    return (mine.after.double() - torch.tensor(again, dtype=torch.float64)).abs().max().item()


def largest_after_dropout(
    model: Transformer, src: Sequence[int], tgt: Sequence[int], share: float
) -> tuple[tuple[str, int, int], tuple[int, int]]:
    """Where in the whole model a weight is largest after dropout. -> (where, layer, head), (query, key), all from 0"""
    trace = traced(model, src, tgt)
    found = []
    for where, name in PLACES.items():
        for layer in range(model.config.n_layers):
            for head, pattern in enumerate(trace[f"{name.format(layer)}.pattern"][0]):
                after = dropped(pattern, share).after
                best = int(after.argmax())
                found.append((float(after.max()), (where, layer, head), divmod(best, after.shape[1])))
    _size, place, cell = max(found)
    return place, cell
