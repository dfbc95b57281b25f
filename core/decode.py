"""Generation: one token at a time, each fed back as input. Greedy, sampling and beam search, with a key/value cache."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from core.config import ModelConfig
from core.model import BOS, EOS, PAD, DecoderCache, Transformer
from core.trace import Edit, Trace


@dataclass(frozen=True)
class DecodeOptions:
    """How the next token is chosen. temperature > 0; top_k 0 and top_p 1 mean no limit; max_len counts generated tokens."""

    method: Literal["greedy", "sample", "beam"] = "greedy"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    beams: int = 4
    max_len: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0 or self.top_k < 0 or not 0 < self.top_p <= 1 or self.beams < 1:
            raise ValueError("temperature and top_p must be above 0, top_p at most 1, top_k 0 or more, beams 1 or more")


@dataclass(frozen=True)
class Beam:
    """One hypothesis: its tokens without BOS, the sum of their log probabilities, and which beam of the step before it grew from."""

    tokens: tuple[int, ...]
    score: float
    parent: int
    finished: bool


@dataclass(frozen=True)
class DecodeStep:
    """One generated token. `prefix` are the tokens before it, without BOS; logits and probabilities are (V,).

    `capped` marks the last step of a generation that never ended. For beam search the token is that of the best beam and
    `beams` holds all of them, best first.
    """

    index: int
    prefix: tuple[int, ...]
    token: int
    logits: Tensor
    probabilities: Tensor
    capped: bool
    model: Transformer
    src: Tensor
    beams: tuple[Beam, ...] = ()

    @torch.no_grad()
    def trace(self) -> Trace:
        """Everything inside the model as it chose this token: a full pass over the prefix."""
        trace = Trace()
        self.model(self.src, torch.tensor([[BOS, *self.prefix]], device=self.src.device), trace)
        return trace


def distribution(logits: Tensor, options: DecodeOptions) -> Tensor:
    """Logits (…, V) -> probabilities (…, V) after temperature, then top-k, then top-p (Holtzman et al. 2020, §3.1)."""
    logits = logits / options.temperature
    if options.top_k:
        least = logits.topk(min(options.top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if options.top_p < 1:
        ordered, order = logits.sort(-1, descending=True)
        probabilities = ordered.softmax(-1)
        beyond = probabilities.cumsum(-1) - probabilities >= options.top_p  # the first token is always kept
        logits = logits.masked_fill(beyond.gather(-1, order.argsort(-1)), float("-inf"))
    return logits.softmax(-1)


def cap_of(config: ModelConfig, n_source: int, longest_target: int) -> int:
    """How many tokens a model may write for a source: BOS and all but the last token must fit the model.

    The one place that decides it: twice the source and two more, so that a model can go wrong in its own way, and never less
    than the longest answer of its task.
    """
    return max(1, min(max(2 * n_source + 2, longest_target), config.max_len))


def limit(model: Transformer, src: Tensor, options: DecodeOptions) -> int:
    """How many tokens may be generated: what the options say, else `cap_of`. src (B, S)"""
    cap = cap_of(model.config, src.shape[1], model.longest_target)
    return max(1, min(options.max_len or cap, model.config.max_len))


@torch.no_grad()
def generate(
    model: Transformer,
    src: Tensor,
    options: DecodeOptions | None = None,
    edits: Mapping[str, Edit] | None = None,
    start: int = BOS,
) -> Tensor:
    """Complete outputs for a batch of sources. src (B, S) -> ids (B, T) that end with EOS, then PAD.

    `edits` change what the model computes on the way (not for beam search); `start` is the first decoder input.
    """
    options = options or DecodeOptions()
    trace = Trace(edits) if edits else None
    if options.method == "beam":
        rows = [torch.tensor(final_beam(model, row[None], options).tokens) for row in src]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD).to(src.device)
    memory = model.encode(src, trace)
    cache = DecoderCache(model.config.n_layers)
    generator = torch.Generator().manual_seed(options.seed)
    token = src.new_full((len(src),), start)
    done = torch.zeros_like(token, dtype=torch.bool)
    tokens = []
    for _ in range(limit(model, src, options)):
        logits = model.decode(token[:, None], memory, src, trace, cache)[:, -1]  # (B, V)
        token = choose(logits, options, generator).where(~done, PAD)
        tokens.append(token)
        done = done | (token == EOS)
        if done.all():
            break
    return torch.stack(tokens, 1)


def choose(logits: Tensor, options: DecodeOptions, generator: torch.Generator) -> Tensor:
    """The next token of each row. logits (B, V) -> (B,)"""
    if options.method == "greedy":
        return logits.argmax(-1)
    return torch.multinomial(distribution(logits, options).cpu(), 1, generator=generator)[:, 0].to(logits.device)


def generate_steps(
    model: Transformer, src: Tensor, options: DecodeOptions | None = None, prefix: Sequence[int] = ()
) -> Iterator[DecodeStep]:
    """The same, for one source (1, S), token by token; `prefix` are tokens already written, without BOS."""
    options = options or DecodeOptions()
    if options.method == "beam":
        yield from beam_steps(model, src, options, prefix)
        return
    with torch.no_grad():
        memory = model.encode(src)
    cache = DecoderCache(model.config.n_layers)
    generator = torch.Generator().manual_seed(options.seed)
    written = [*prefix]
    new = [BOS, *prefix]
    cap = limit(model, src, options)
    for index in range(len(written), cap):
        with torch.no_grad():
            logits = model.decode(torch.tensor([new], device=src.device), memory, src, cache=cache)[0, -1]  # (V,)
        token = int(choose(logits[None], options, generator))
        capped = index == cap - 1 and token != EOS
        yield DecodeStep(index, tuple(written), token, logits, distribution(logits, options), capped, model, src)
        if token == EOS:
            return
        written.append(token)
        new = [token]


def beam_steps(
    model: Transformer, src: Tensor, options: DecodeOptions, prefix: Sequence[int] = ()
) -> Iterator[DecodeStep]:
    """Beam search, one step at a time: the `beams` best continuations of all hypotheses so far, by summed log probability."""
    width, cap = options.beams, limit(model, src, options)
    with torch.no_grad():
        memory = model.encode(src)
    cache = DecoderCache(model.config.n_layers)
    new = torch.tensor([[BOS, *prefix]], device=src.device)  # (live beams, new tokens)
    beams = [Beam(tuple(prefix), 0.0, 0, False)]
    for index in range(len(prefix), cap):
        live = [i for i, beam in enumerate(beams) if not beam.finished]
        with torch.no_grad():
            n = len(live)
            logits = model.decode(new, memory.expand(n, -1, -1), src.expand(n, -1), cache=cache)[:, -1]  # (live, V)
        log_p = (logits / options.temperature).log_softmax(-1)
        total = log_p.double() + torch.tensor([[beams[i].score] for i in live], dtype=torch.float64, device=src.device)
        best = total.flatten().topk(min(width, total.numel()))
        grown = [
            Beam(
                (*beams[live[c // total.shape[1]]].tokens, c % total.shape[1]),
                score,
                live[c // total.shape[1]],
                c % total.shape[1] == EOS,
            )
            for score, c in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        ended = [Beam(b.tokens, b.score, i, True) for i, b in enumerate(beams) if b.finished]
        before = beams
        beams = sorted(ended + grown, key=lambda beam: -beam.score)[:width]
        top, row = beams[0], 0
        if top.parent in live:
            row = live.index(top.parent)
        over = all(beam.finished for beam in beams) or top.finished
        yield DecodeStep(
            index,
            before[top.parent].tokens,
            top.tokens[-1],
            logits[row],
            distribution(logits[row], options),
            index == cap - 1 and not top.finished,
            model,
            src,
            tuple(beams),
        )
        if over:
            return
        kept = [beam for beam in beams if not beam.finished]
        cache.reorder(torch.tensor([live.index(beam.parent) for beam in kept], device=src.device))
        new = torch.tensor([[beam.tokens[-1]] for beam in kept], device=src.device)


def final_beam(model: Transformer, src: Tensor, options: DecodeOptions) -> Beam:
    """The best hypothesis when beam search ends."""
    last = None
    for last in beam_steps(model, src, options):  # noqa: B007 - the last step holds the result
        pass
    assert last is not None
    return last.beams[0]
