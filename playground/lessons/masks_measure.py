"""Lab 4, masks and leaks: what its panels measure, as pure functions on a model and an example.

A mask is boolean, True = may attend. The painted one takes the place of the decoder's self-attention mask in every layer.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from core.attention import causal_mask, padding_mask
from core.decode import DecodeOptions, generate, limit
from core.lab import measure, recompute, whole
from core.model import Transformer
from core.tasks import Batch, Data
from core.tokens import BOS, EOS, PAD
from core.trace import Edit, Trace

MOST = 16  # positions of a mask that can be painted: more cells are too small to hit
MODES = ("infinity", "zero", "after")  # what takes the place of a blocked score
PRESETS = ("causal", "open", "padding", "upper", "strict")


@dataclass(frozen=True)
class Example:
    """A source with the target the decoder reads (BOS first, PADs last) and the one it should write (EOS, then PADs)."""

    src: tuple[int, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]

    @property
    def real(self) -> int:
        """Target positions that are no padding."""
        return len(self.reads) - self.reads.count(PAD)

    def tensors(self, dtype: torch.dtype = torch.int64) -> tuple[Tensor, Tensor]:
        return torch.tensor([self.src], dtype=dtype), torch.tensor([self.reads], dtype=dtype)


def example(model: Transformer, data: Data, ids: Sequence[int], pads: int = 0, most: int = MOST) -> Example:
    """The person's input with the right answer, or, where that is unknown, with what the model writes."""
    text = data.answer(data.vocab.decode(ids))
    writes = [*data.vocab.encode(text), EOS] if text else generate(model, torch.tensor([list(ids)]))[0].tolist()
    most = min(most, model.config.max_len)
    writes = writes[:most]  # without its end where there is no room for all of it
    pads = min(pads, most - len(writes))
    return Example(tuple(ids), (BOS, *writes[:-1], *[PAD] * pads), (*writes, *[PAD] * pads))


def preset(name: str, reads: Sequence[int]) -> Tensor:
    """A mask by name. upper: the triangle upside down; strict: without the diagonal. -> (T, T) bool"""
    n = len(reads)
    real = padding_mask(torch.tensor([list(reads)]))[0, 0].expand(n, n)
    full = torch.ones(n, n, dtype=torch.bool)
    return {
        "causal": causal_mask(n, n),
        "open": full,
        "padding": real,
        "upper": full.triu(),
        "strict": full.tril(-1),
    }[name].clone()


def write_mask(mask: Tensor) -> str:
    """Rows of 0 and 1, as hexadecimal numbers: short enough for a URL."""
    return ".".join(f"{int(''.join(str(int(cell)) for cell in row), 2):x}" for row in mask)


def read_mask(text: str, reads: Sequence[int]) -> Tensor:
    """A preset's name, or what `write_mask` wrote for as many positions. Raises ValueError."""
    if text in PRESETS:
        return preset(text, reads)
    n, rows = len(reads), text[:1000].split(".")
    if len(rows) != n or not all(0 < len(row) <= 16 and set(row) <= set("0123456789abcdef") for row in rows):
        raise ValueError("no mask for these positions")
    numbers = [int(row, 16) for row in rows]
    if max(numbers) >= 2**n:
        raise ValueError("no mask for these positions")
    return torch.tensor([[number >> n - 1 - j & 1 for j in range(n)] for number in numbers], dtype=torch.bool)


def name_of(mask: Tensor, reads: Sequence[int]) -> str:
    """The preset that a mask is, or the mask itself as text."""
    return next((name for name in PRESETS if torch.equal(preset(name, reads), mask)), write_mask(mask))


def painted(model: Transformer, mask: Tensor) -> dict[str, Edit]:
    """Edits that put this mask into the decoder's self-attention, in every layer."""
    return {f"decoder.{i}.self.mask": lambda _: mask for i in range(model.config.n_layers)}


@dataclass(frozen=True)
class Painted:
    """What a painted mask does. pattern (L, H, T, T) of decoder self-attention; probabilities (T, V); influence (T, T), float64.

    change (T,): how far the logits of each position moved against the causal mask, at most. empty: rows that allow nothing.
    errors: largest differences to the independent route, by what is shown.
    """

    pattern: Tensor
    probabilities: Tensor
    influence: Tensor
    change: Tensor
    empty: tuple[int, ...]
    errors: Mapping[str, float]


def paint(model: Transformer, this: Example, mask: Tensor, layer: int = 0, head: int = 0) -> Painted:
    """One pass with this mask, and everything that is shown of it; the pattern is checked for one layer and head."""
    src, tgt = this.tensors()
    edits, trace = painted(model, mask), Trace(painted(model, mask))
    with torch.no_grad():
        logits = model(src, tgt, trace)[0]  # (T, V)
        causal = model(src, tgt, Trace(painted(model, preset("causal", this.reads))))[0]
    influence, again, error = influences(model, this, edits)
    errors = {
        "pattern": recompute.largest_errors(model, trace, f"decoder.{layer}.self", head)["pattern"],
        "output": (again.softmax(-1) - logits.softmax(-1)).abs().max().item(),
        "influence": error,
    }
    pattern = torch.stack([trace[f"decoder.{i}.self.pattern"][0] for i in range(model.config.n_layers)])
    empty = tuple((~mask.any(1)).nonzero()[:, 0].tolist())
    return Painted(pattern, logits.softmax(-1), influence, (logits - causal).abs().amax(-1), empty, errors)


def influences(
    model: Transformer, this: Example, edits: Mapping[str, Edit] | None = None
) -> tuple[Tensor, Tensor, float]:
    """`measure.influence` (T, T) in float64, as gradients can be large; by the independent route the logits (T, V), and the
    largest difference of its influence."""
    exact, trace = in_float64(model), Trace(edits)
    src, tgt = this.tensors()
    with torch.no_grad():
        exact(src, tgt, trace)
    found = measure.influence(exact, src, tgt, dict(edits or {}))
    logits, again = whole.logits_and_influence(exact, trace)
    if (found[again == 0] != 0).any():  # "exactly 0" is a claim of its own
        return found, logits, math.inf
    return found, logits, (again - found).abs().max().item()


FLOAT64: WeakKeyDictionary[Transformer, Transformer] = WeakKeyDictionary()


def in_float64(model: Transformer) -> Transformer:
    """A copy in double precision, kept as long as the model: a stroke of paint should not wait for it."""
    if model not in FLOAT64:
        FLOAT64[model] = copy.deepcopy(model).double()
    return FLOAT64[model]


@dataclass(frozen=True)
class Row:
    """One query's way through softmax, float64: score, what the mask made of it, e to that (less the largest), weight.

    total: sum of the exponentials; bare: what softmax alone gives, NaN where nothing is allowed; error: largest difference
    of the weights to the definition, written out.
    """

    scores: tuple[float, ...]
    masked: tuple[float, ...]
    exponentials: tuple[float, ...]
    weights: tuple[float, ...]
    allowed: tuple[bool, ...]
    total: float
    error: float


def row(scores: Tensor, allowed: Sequence[bool], mode: str = "infinity") -> Row:
    """Softmax of one row of scores (Tk,) with some keys blocked: by -inf, by a score of 0, or by zeroing the weight after it."""
    scores, seen = scores.double(), torch.tensor(list(allowed))
    masked = scores if mode == "after" else scores.masked_fill(~seen, -math.inf if mode == "infinity" else 0.0)
    top = masked.max() if masked.isfinite().any() else torch.tensor(0.0).double()
    e = (masked - top).exp()
    weights = masked.softmax(-1)
    if mode != "zero":
        weights = weights.masked_fill(~seen, 0.0)  # also turns the NaN of an empty row into 0
    again = by_definition(masked.tolist(), list(allowed), mode)
    error = max(abs(a - b) for a, b in zip(weights.tolist(), again, strict=True))
    a, b, c, d = (tuple(x.tolist()) for x in (scores, masked, e, weights))
    return Row(a, b, c, d, tuple(allowed), e.sum().item(), error)


def by_definition(masked: Sequence[float], allowed: Sequence[bool], mode: str) -> list[float]:
    """The same weights with `math.exp` alone."""
    exponentials = [0.0 if s == -math.inf else math.exp(s - max(masked)) for s in masked]
    total = math.fsum(exponentials)
    weights = [e / total if total else 0.0 for e in exponentials]
    return [0.0 if mode == "after" and not a else w for w, a in zip(weights, allowed, strict=True)]


@dataclass(frozen=True)
class Padded:
    """The same example with fillers behind its source, with and without the padding mask.

    cross: weights of the decoder on the padded source (L, H, T, S + pads); difference: largest change of any logit against
    no fillers, and the same in float64; change (T,): by position; on_pads: share of all cross-attention that goes to fillers;
    generated: what the model then writes; error to the independent route.
    """

    cross: Tensor
    difference: float
    difference64: float
    change: Tensor
    on_pads: float
    predicted: tuple[int, ...]
    generated: tuple[int, ...]
    error: float


def source_mask(model: Transformer, src: Tensor, on: bool) -> dict[str, Edit]:
    """Edits that switch the padding mask on or off wherever the source is a key, whatever the model was trained with."""
    mask = padding_mask(src) if on else torch.ones(1, 1, 1, src.shape[1], dtype=torch.bool)
    n = model.config.n_layers
    return {f"{place}.mask": lambda _: mask for i in range(n) for place in (f"encoder.{i}.self", f"decoder.{i}.cross")}


@torch.no_grad()
def pad(model: Transformer, this: Example, pads: int, on: bool) -> Padded:
    """Put fillers behind the source. The target stays as it is."""
    src, tgt = this.tensors()
    longer = F.pad(src, (0, pads), value=PAD)
    plain, trace = Trace(source_mask(model, src, on)), Trace(source_mask(model, longer, on))
    before, after = model(src, tgt, plain)[0], model(longer, tgt, trace)[0]
    before64, after64 = whole.logits(model, plain), whole.logits(model, trace)
    error = max((before64 - before).abs().max().item(), (after64 - after).abs().max().item())
    cross = torch.stack([trace[f"decoder.{i}.cross.pattern"][0] for i in range(model.config.n_layers)])
    cap = limit(model, src, DecodeOptions())  # that of the source alone: fillers are nothing to write about
    written = generate(model, longer, DecodeOptions(max_len=cap), source_mask(model, longer, on))[0]
    change = (after - before).abs().amax(-1)
    on_pads = cross[..., src.shape[1] :].sum(-1).mean().item()
    generated = tuple(written.tolist())
    finer = (after64 - before64).abs().max().item()
    best = tuple(after.argmax(-1).tolist())
    return Padded(cross, change.max().item(), finer, change, on_pads, best, generated, error)


@dataclass(frozen=True)
class TwoScores:
    """A model measured twice on the same unseen strings: reading the right answer, and writing on its own.

    loss (nats a token) and token share teacher forced, string share generated; guess: the loss of guessing, ln V; error of the
    loss and the shares to the independent route.
    """

    loss: float
    tokens: float
    strings: float
    guess: float
    error: float


@torch.no_grad()
def two_scores(model: Transformer, batch: Batch) -> TwoScores:
    """Teacher forced and generated, side by side: far apart where the model has read its answers."""
    logits = model(batch.src, batch.tgt_in)  # (B, T, V)
    real = batch.tgt_out != PAD
    loss = F.cross_entropy(logits[real], batch.tgt_out[real]).item()
    tokens = (logits.argmax(-1) == batch.tgt_out)[real].float().mean().item()
    width = batch.tgt_out.shape[1]
    ids = generate(model, batch.src, DecodeOptions(max_len=width))
    right = (F.pad(ids, (0, width - ids.shape[1])) == batch.tgt_out).all(1)
    strings = right.float().mean().item()
    # By the definition: minus the log of the softmax at the right token; strings one at a time without a cache.
    shares = logits[real].double().exp() / logits[real].double().exp().sum(-1, keepdim=True)
    by_hand = -shares.gather(-1, batch.tgt_out[real][:, None]).log().mean().item()
    alone = [write_alone(model, src, width) for src in batch.src[:4]]
    differ = sum(a != [i for i in b.tolist() if i != PAD] for a, b in zip(alone, ids, strict=False))
    return TwoScores(loss, tokens, strings, math.log(model.config.n_vocab), max(abs(loss - by_hand), float(differ)))


def write_alone(model: Transformer, src: Tensor, limit: int) -> list[int]:
    """Greedy generation without a cache: the whole prefix again for each token. src (S,)"""
    written: list[int] = []
    while len(written) < limit and (not written or written[-1] != EOS):
        written.append(int(model(src[None], torch.tensor([[BOS, *written]]))[0, -1].argmax()))
    return written


@dataclass(frozen=True)
class Twins:
    """One pass against T passes over the same target. Seconds; difference: largest between their logits, with the triangular
    mask and with all cells open; error to the independent route."""

    length: int
    one_s: float
    many_s: float
    cached_s: float
    difference: float
    difference_open: float
    error: float


@torch.no_grad()
def twins(model: Transformer, this: Example, rounds: int = 5) -> Twins:
    """Teacher forcing in one pass, and one token at a time."""
    src, tgt = this.tensors()
    length, n = tgt.shape[1], range(tgt.shape[1])

    def passes(name: str) -> tuple[Tensor, Tensor]:
        """Logits (T, V) of one pass and of T passes, with a mask in both."""
        edits = [Trace(painted(model, preset(name, this.reads[: t + 1]))) for t in n]
        return model(src, tgt, edits[-1])[0], torch.stack([model(src, tgt[:, : t + 1], edits[t])[0, -1] for t in n])

    trace = Trace(painted(model, preset("causal", this.reads)))
    model(src, tgt, trace)
    (one, many), (one_open, many_open) = passes("causal"), passes("open")
    flows = measure.two_flows(model, src, tgt, rounds)
    return Twins(
        length,
        flows.parallel_s,
        flows.sequential_s,
        flows.cached_s,
        (one - many).abs().max().item(),
        (one_open - many_open).abs().max().item(),
        (whole.logits(model, trace) - one).abs().max().item(),
    )


def long_example(model: Transformer, data: Data, ids: Sequence[int], length: int) -> Example:
    """A target of `length` positions: the answer to the input, again and again. Only for measuring time."""
    answer = example(model, data, ids, most=model.config.max_len).reads[1:] or (3,)
    reads = (BOS, *(answer[i % len(answer)] for i in range(min(length, model.config.max_len) - 1)))
    return Example(tuple(ids), reads, (*reads[1:], EOS))
