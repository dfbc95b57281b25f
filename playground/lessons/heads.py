"""Lab 3, many heads: texts and computations."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from core import tokens
from core.attention import MultiHeadAttention, attend
from core.decode import DecodeOptions, generate
from core.lab import heads as lab
from core.lab import recompute, whole
from core.model import Transformer
from core.tasks import Batch, Data, SymbolError
from core.tokens import BOS, EOS, PAD
from core.trace import Edit, Trace, zero_head
from playground.i18n import N_
from playground.lessons.frame import Lab, Panel

STRINGS = 100  # unseen strings that a knock-out is measured on: enough to see 1 %, few enough to answer at once
CELLS = 20_000  # more cells of attention than this are checked for the chosen head only: the plain loops are slow

LAB = Lab(
    "heads",
    N_("Many heads"),
    N_(
        "One attention is cut into heads that look at the same tokens, each in its own way. See what each looks at, and what is "
        "lost without it."
    ),
    (
        Panel(
            "grid",
            N_("Several looks at once"),
            N_(
                "A head gives every token one set of weights that add up to one: it can look sharply at one place, or spread "
                "itself over many, but not both. Several heads side by side can look at different positions at the same time. "
                "The maps below are all heads of one attention, on your input."
            ),
            r"z_h = A_h V_h \qquad \text{diagonal}_h = \frac1n \sum_{t} A_h[t, t] \qquad "
            r"\text{bits}_h = -\frac1n \sum_{t,j} A_h[t, j] \log_2 A_h[t, j]",
            ((attend, "scores = q", "pattern = scores"), lab.ideal_pattern, lab.entropy),
            N_("Click the head that looks most sharply: the one with the fewest bits."),
        ),
        Panel(
            "knockout",
            N_("Knock a head out"),
            N_(
                "A head that does something is missed when it is gone. Silence it and let the model write strings it has "
                "never seen: those that break tell what the head was for. If nothing breaks, another head did the same work, "
                "or nobody needed it."
            ),
            r"\text{out} = \sum_{h=1}^{H} z_h W_O^{(h)} + b_O \qquad \text{silenced: } z_h = 0",
            (zero_head, lab.without_heads, (lab.exactly_right, "ids = generate", "return")),
            N_("Click a head to silence it; click it again to let it speak."),
        ),
        Panel(
            "skip",
            N_("All heads out"),
            N_(
                "The output of an attention is nothing but the sum of what its heads write, plus one constant vector. With all "
                "heads silent only that constant is left: the same for every token, and independent of all of them. That is "
                "what skipping the attention means."
            ),
            r"z_1 = \dots = z_H = 0 \;\Rightarrow\; \text{out} = \text{Concat}(0, \dots, 0)\, W_O + b_O = b_O",
            (lab.skipping, (MultiHeadAttention.forward, "self.out("), (lab.without_heads, "zero_head")),
            N_("Look at both: all heads silenced, and the attention skipped."),
        ),
        Panel(
            "subspaces",
            N_("A subspace for each head"),
            N_(
                "A head does not see the whole vector of a token: it reads a few directions of it and writes into a few "
                "others. Those are its representation subspaces. Heads whose subspaces hardly overlap work side by side "
                "without getting in each other's way; training decides how much they share."
            ),
            r"\text{overlap}(g, h) = \frac{1}{d_k} \sum_{i,j} (u_i^{(g)} \cdot u_j^{(h)})^2 = \frac{1}{d_k} \sum_i \cos^2 "
            r"\theta_i, \qquad u^{(h)}: \text{basis of the column space of } W_O^{(h)} W_V^{(h)}",
            (lab.value_output_maps, lab.subspace_overlap),
            N_("Click the two heads that share the most directions."),
        ),
        Panel(
            "experiment",
            N_("One, four, eight heads"),
            N_(
                "The width is the same, only the number of heads differs: one wide head, four of a quarter, eight of an "
                "eighth. All three are trained on the same strings; afterwards heads are silenced in each."
            ),
            r"d_k = \frac{d_\text{model}}{H}: \qquad 64 = 1 \cdot 64 = 4 \cdot 16 = 8 \cdot 8",
            ((MultiHeadAttention.__init__, "self.qkv", "self.out"), MultiHeadAttention.split),
            N_("Say what you expect, then compare it with the result."),
        ),
    ),
)


@dataclass(frozen=True)
class Example:
    """The person's input with the right answer before it (or, where none is known, what the model writes itself).

    Decoder query t reads token reads[t] and is about to predict writes[t].
    """

    src: tuple[int, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    trace: Trace
    known: bool


@torch.no_grad()
def example(model: Transformer, data: Data, ids: Sequence[int]) -> Example:
    source = torch.tensor([list(ids)])
    try:
        answer = data.vocab.encode(data.answer(data.vocab.decode(ids)))[: model.config.max_len - 1]
    except SymbolError:
        answer = []
    written = [*answer, EOS] if answer else generate(model, source)[0].tolist()
    reads = [BOS, *written[:-1]]
    trace = Trace()
    model(source, torch.tensor([reads]), trace)
    return Example(tuple(ids), tuple(reads), tuple(written), trace, bool(answer))


@dataclass(frozen=True)
class Look:
    """Where a head looks: mean weight on the diagonal and on the anti-diagonal (0 to 1), and its spread in bits.

    anti is None where the causal mask forbids most of it.
    """

    diagonal: float
    anti: float | None
    bits: float


def looks(pattern: Tensor, place: str) -> list[Look]:
    """Every head of an attention. pattern (H, Tq, Tk). The weight on the right cells is 1 - the distance to the ideal."""
    near = []
    for task in ("copy", "reverse"):
        ideal = lab.ideal_pattern(task, *pattern.shape[-2:])
        assert ideal is not None
        near.append(1 - lab.distance_to_ideal(pattern, ideal.to(pattern.dtype)))
    bits = lab.entropy(pattern).mean(-1)
    own = is_decoder_self(place)
    return [
        Look(float(near[0][h]), None if own else float(near[1][h]), float(bits[h])) for h in range(pattern.shape[0])
    ]


def looks_again(pattern: Sequence[Sequence[float]], place: str) -> Look:
    """One head by plain sums over its rows."""
    n, keys = len(pattern), len(pattern[0])
    rows = range(min(n, keys))
    diagonal = math.fsum(pattern[t][t] for t in rows) / len(rows)
    anti = math.fsum(pattern[t][keys - 1 - t] for t in rows) / len(rows)
    bits = -math.fsum(p * math.log2(p) for row in pattern for p in row if p > 0) / n
    return Look(diagonal, None if is_decoder_self(place) else anti, bits)


def is_decoder_self(place: str) -> bool:
    return place.startswith("decoder") and place.endswith("self")


def looks_error(model: Transformer, seen: Example, place: str, shown: Sequence[Look], chosen: int) -> float:
    """Largest difference of patterns and numbers to the independent route: of all heads, or of the chosen one if there are many."""
    pattern = seen.trace[f"{place}.pattern"][0]
    every = range(len(pattern)) if pattern.numel() <= CELLS else [chosen]
    worst = 0.0
    for h in every:
        mine = recompute.head(model, seen.trace, place, h).pattern
        again = looks_again(mine.tolist(), place)
        pairs = [(shown[h].diagonal, again.diagonal), (shown[h].bits, again.bits)]
        if shown[h].anti is not None and again.anti is not None:
            pairs.append((float(shown[h].anti or 0), float(again.anti)))
        worst = largest([worst, (pattern[h].double() - mine).abs().max().item(), *(abs(a - b) for a, b in pairs)])
    return worst


def largest(values: Iterable[float]) -> float:
    """The maximum; NaN if one of them is."""
    values = list(values)
    return math.nan if any(math.isnan(v) for v in values) else max(values, default=0.0)


@dataclass(frozen=True)
class Outcome:
    """What a model makes of strings: which it gets right (B,), logits with the right prefix (B, T, V), written ids (B, T).

    The ids are written when first asked for. With a causal mask `right` needs none: a string is written right exactly when
    each of its tokens is the first choice after the right ones before it, and one pass tells that for all.
    """

    right: Tensor
    logits: Tensor
    write: Callable[[], Tensor]

    @property
    def exact(self) -> float:
        return self.right.float().mean().item()

    @cached_property
    def written(self) -> Tensor:
        return self.write()


@torch.inference_mode()
def outcome(model: Transformer, batch: Batch, edits: Mapping[str, Edit] | None = None) -> Outcome:
    width, target = batch.tgt_out.shape[1], batch.tgt_out
    edits = dict(edits or {})

    @torch.inference_mode()
    def write() -> Tensor:
        ids = generate(model, batch.src, DecodeOptions(max_len=width), edits)
        return pad(ids, (0, width - ids.shape[1]))

    logits = model(batch.src, batch.tgt_in, Trace(edits) if edits else None)
    if model.config.causal_mask:
        return Outcome(((logits.argmax(-1) == target) | (target == PAD)).all(1), logits, write)
    ids = write()
    return Outcome((ids == target).all(1), logits, lambda: ids)


@torch.no_grad()
def own_output(model: Transformer, seen: Example, edits: Mapping[str, Edit]) -> list[int]:
    """What the model writes for the person's input, with edits; no longer than the right answer and one more."""
    ids = generate(model, torch.tensor([seen.src]), DecodeOptions(max_len=len(seen.writes) + 1), dict(edits))
    found: list[int] = ids[0].tolist()
    return found


def change(before: Outcome, after: Outcome, batch: Batch) -> float:
    """Largest change of a logit over all real positions."""
    return (after.logits - before.logits).abs()[batch.tgt_out != PAD].max().item()


def altered(model: Transformer, place: str, heads: Sequence[int]) -> Transformer:
    """A copy whose output projection ignores these heads: the same by changed weights, with nothing edited on the way."""
    other = copy.deepcopy(model)
    weight, width = other.attention(place).out.weight, model.config.d_k
    with torch.no_grad():
        for h in heads:
            weight[:, h * width : (h + 1) * width] = 0
    return other


@torch.inference_mode()
def outcome_again(
    model: Transformer, batch: Batch, written: Tensor, edits: Mapping[str, Edit] | None = None
) -> Outcome:
    """`outcome` without writing: what somebody wrote, written (B, T), is read back to the model in one pass, without cache.

    If every token is the one the model would choose next, then, from the first token on, the model would have written the
    same. -> its choices at every position, which differ from `written` where that is not so.
    """
    if not model.config.causal_mask:  # then a complete pass is another computation than one token at a time
        return outcome(model, batch, edits)
    trace = Trace(dict(edits)) if edits else None
    memory = model.encode(batch.src, trace)
    begun = torch.cat((torch.full_like(written[:, :1], BOS), written[:, :-1]), 1)  # (B, T)
    ended = ((written == EOS).cumsum(1) - (written == EOS).long()) > 0  # after the end token
    ids = model.decode(begun, memory, batch.src, trace).argmax(-1).masked_fill(ended, PAD)
    logits = model.decode(batch.tgt_in, memory, batch.src, trace)
    return Outcome((ids == batch.tgt_out).all(1), logits, lambda: ids)


@torch.no_grad()
def logits_error(other: Transformer, seen: Example, edits: Mapping[str, Edit], original: Transformer) -> float:
    """The edited model on the person's input against the altered copy in float64 with none of the model's code."""
    source, target = torch.tensor([seen.src]), torch.tensor([seen.reads])
    trace = Trace()
    other(source, target, trace)
    edited = original(source, target, Trace(edits))[0]
    return (edited.double() - whole.logits(other, trace)).abs().max().item()


def outcome_error(shown: Outcome, again: Outcome, batch: Batch) -> float:
    """How far two outcomes lie apart: exact match and every logit of a real position."""
    return largest([abs(shown.exact - again.exact), change(shown, again, batch)])


def ordered(before: Outcome, after: Outcome) -> list[tuple[int, str]]:
    """The strings worth looking at: (row, "broken" | "mended" | "wrong"), those that break first."""
    kinds = {"broken": before.right & ~after.right, "mended": ~before.right & after.right}
    kinds["wrong"] = ~before.right & ~after.right
    return [(i, kind) for kind, rows in kinds.items() for i in rows.nonzero()[:, 0].tolist()]


def marked(got: Sequence[int], want: Sequence[int]) -> tuple[list[int], list[str]]:
    """What was written, up to the end token or the end of what was wanted, and "" | "wrong" | "missing" for each token."""
    got, want = until_end(got), until_end(want)
    ids, marks = [], []
    for t in range(max(len(got), len(want))):
        if t < len(got):
            ids.append(got[t])
            marks.append("" if t < len(want) and got[t] == want[t] else "wrong")
        else:
            ids.append(want[t])
            marks.append("missing")
    return ids, marks


def until_end(ids: Sequence[int]) -> list[int]:
    """Ids before the end token, without filler."""
    return [i for i in tokens.until_end(ids) if i != PAD]


SIDES = ("writes", "reads")


def maps(model: Transformer, place: str, side: str) -> Tensor:
    """The value-output maps, turned so that their column space is what a head writes into or what it reads. -> (H, d, d)"""
    found = lab.value_output_maps(model, place)
    return found if side == "writes" else found.transpose(-2, -1)


def cosines(found: Tensor, rank: int, g: int, h: int) -> list[float]:
    """Cosines of the principal angles between two heads' subspaces, largest first."""
    basis = [torch.linalg.svd(found[i].double()).U[:, :rank] for i in (g, h)]
    values: list[float] = torch.linalg.svdvals(basis[0].T @ basis[1]).clamp(max=1).tolist()
    return values


def overlap_again(model: Transformer, place: str, side: str) -> Tensor:
    """The overlaps through projectors P = A A⁺ made from W_O or W_V alone: trace(P_g P_h) / d_k. -> (H, H)"""
    attention, d, n = model.attention(place), model.config.d_model, model.config.n_heads
    width = d // n
    out, value = attention.out.weight.detach().double(), attention.qkv.weight.detach().double()[2 * d :]
    projectors = []
    for h in range(n):
        part = slice(h * width, (h + 1) * width)
        a = out[:, part] if side == "writes" else value[part].T  # (d, D)
        projectors.append(a @ torch.linalg.pinv(a))
    rows = [[float((p * q).sum()) / width for q in projectors] for p in projectors]
    return torch.tensor(rows, dtype=torch.float64)


def most_alike(overlap: Tensor) -> tuple[int, int]:
    """The pair of different heads with the largest overlap, (0, 0) for a single head."""
    n = len(overlap)
    pairs = [(g, h) for g in range(n) for h in range(g)]
    return max(pairs, key=lambda p: float(overlap[p]), default=(0, 0))
