"""Generation: one token at a time, each fed back as input. Greedy, sampling and beam search, with a key/value cache."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from core.config import ModelConfig
from core.model import DecoderCache, Transformer
from core.tokens import BOS, EOS, PAD, until_end
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


class Written(NamedTuple):
    """What one pass of the loop gives: the logits (B, V) of the next token, the token (B,), and the trace of the pass."""

    logits: Tensor
    token: Tensor
    trace: Trace | None


@torch.no_grad()
def written(
    model: Transformer,
    src: Tensor,
    options: DecodeOptions,
    given: Sequence[int] = (),
    start: int = BOS,
    look: Callable[[], Trace | None] = lambda: None,
) -> Iterator[Written]:
    """The loop behind all writing: read the newest token, choose the next. src (B, S)

    `given` tokens are put in its mouth one by one, so that a model without causal mask sees them as it would have seen its
    own. The random numbers of a position are the same wherever one starts. `look` makes the trace of each pass.
    """
    memory, cache = model.encode(src, look()), DecoderCache(model.config.n_layers)
    generator = torch.Generator().manual_seed(options.seed)
    new = src.new_full((len(src), 1), start)
    for index in range(limit(model, src, options)):
        trace = look()
        logits = model.decode(new, memory, src, trace, cache)[:, -1]  # (B, V)
        token = choose(logits, options, generator)
        if index < len(given):
            token = torch.full_like(token, given[index])
        yield Written(logits, token, trace)
        new = token[:, None]


@torch.no_grad()
def generate(
    model: Transformer,
    src: Tensor,
    options: DecodeOptions | None = None,
    edits: Mapping[str, Edit] | None = None,
    start: int = BOS,
) -> Tensor:
    """Complete outputs for a batch of sources. src (B, S) -> ids (B, T) that end with EOS, then PAD.

    `edits` change what the model computes on the way; `start` is the first decoder input.
    """
    options = options or DecodeOptions()
    trace = Trace(edits) if edits else None
    if options.method == "beam":
        return best_beams(model, src, options, start, trace)
    done = torch.zeros(len(src), dtype=torch.bool, device=src.device)
    tokens = []
    for step in written(model, src, options, start=start, look=lambda: trace):
        tokens.append(step.token.where(~done, PAD))
        done = done | (step.token == EOS)
        if done.all():
            break
    return torch.stack(tokens, 1)


def choose(logits: Tensor, options: DecodeOptions, generator: torch.Generator) -> Tensor:
    """The next token of each row. logits (B, V) -> (B,)"""
    if options.method != "sample":
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
    cap, so_far = limit(model, src, options), list[int]()
    for index, step in enumerate(written(model, src, options, prefix)):
        token, logits = int(step.token), step.logits[0]  # (V,)
        if index >= len(prefix):
            capped = index == cap - 1 and token != EOS
            yield DecodeStep(index, tuple(so_far), token, logits, distribution(logits, options), capped, model, src)
            if token == EOS:
                return
        so_far.append(token)


class Hypotheses(NamedTuple):
    """Beam search after a step, best first: tokens (B, W, T) with PAD after the end, scores (B, W), whether each has ended
    (B, W), the beam of the step before from which each grew (B, W), and the logits (B, W before, V) that they were chosen from.
    A score of -inf is no hypothesis: there are fewer than W.
    """

    tokens: Tensor
    scores: Tensor
    ended: Tensor
    parents: Tensor
    logits: Tensor


@torch.no_grad()
def beam_search(
    model: Transformer,
    src: Tensor,
    options: DecodeOptions,
    prefix: Sequence[int] = (),
    start: int = BOS,
    trace: Trace | None = None,
) -> Iterator[Hypotheses]:
    """The `beams` best continuations of each source's hypotheses so far, by summed log probability, all sources at once.

    A hypothesis that has ended stays what it is: its only continuation is PAD, at no cost. src (B, S)
    """
    memory, cache = model.encode(src, trace), DecoderCache(model.config.n_layers)
    row = torch.arange(len(src), device=src.device)[:, None]  # (B, 1)
    new = src.new_tensor([start, *prefix]).expand(len(src), -1)  # (B · W, new tokens); W is 1 until the first choice
    tokens = src.new_tensor([*prefix]).expand(len(src), 1, -1)
    scores = torch.zeros(len(src), 1, dtype=torch.float64, device=src.device)
    ended = torch.zeros(len(src), 1, dtype=torch.bool, device=src.device)
    for _ in range(len(prefix), limit(model, src, options)):
        width = scores.shape[1]
        logits = model.decode(new, memory, src, trace, cache)[:, -1].unflatten(0, (-1, width))  # (B, W, V)
        log_p = (logits / options.temperature).log_softmax(-1).double()
        if ended.any():
            stays = torch.full_like(log_p[0, 0], float("-inf"))
            stays[PAD] = 0.0
            log_p = torch.where(ended[..., None], stays, log_p)
        total = (scores[..., None] + log_p).flatten(1)  # (B, W · V)
        scores, best = total.topk(min(options.beams, total.shape[1]))
        parents, token = best // logits.shape[-1], best % logits.shape[-1]  # (B, W)
        tokens = torch.cat((tokens[row, parents], token[..., None]), -1)
        ended = ended.gather(1, parents) | (token == EOS)
        yield Hypotheses(tokens, scores, ended, parents, logits)
        if (ended[:, 0] | ended.all(1)).all():
            return
        cache.reorder((row * width + parents).flatten())
        new = token.flatten()[:, None]


def best_beams(model: Transformer, src: Tensor, options: DecodeOptions, start: int, trace: Trace | None) -> Tensor:
    """The best hypothesis of each source when the search ends. src (B, S) -> ids (B, T), EOS, then PAD"""
    for last in beam_search(model, src, options, start=start, trace=trace):  # noqa: B007 - the last step holds the result
        pass
    tokens = last.tokens[:, 0]  # (B, T)
    after = (tokens == EOS).cumsum(1) - (tokens == EOS).long() > 0
    return tokens[:, : int((~after).sum(1).max())]


def beam_steps(
    model: Transformer, src: Tensor, options: DecodeOptions, prefix: Sequence[int] = ()
) -> Iterator[DecodeStep]:
    """Beam search for one source (1, S), one step at a time."""
    cap, before = limit(model, src, options), [tuple(prefix)]
    for index, step in enumerate(beam_search(model, src, options, prefix), len(prefix)):
        columns = (step.tokens[0].tolist(), step.scores[0].tolist(), step.parents[0].tolist(), step.ended[0].tolist())
        beams = []
        for ids, score, parent, ended in zip(*columns, strict=True):
            if score > float("-inf"):
                own = ids[len(prefix) :]
                whole = (*prefix, *until_end(own), EOS) if ended else tuple(ids)
                beams.append(Beam(whole, score, parent, ended))
        top = beams[0]
        logits = step.logits[0, top.parent]  # (V,)
        yield DecodeStep(
            index,
            before[top.parent],
            top.tokens[-1],
            logits,
            distribution(logits, options),
            index == cap - 1 and not top.finished,
            model,
            src,
            tuple(beams),
        )
        before = [beam.tokens for beam in beams]
