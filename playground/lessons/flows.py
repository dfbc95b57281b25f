"""Lab 6, two data flows: the texts, and what its pictures are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from core.attention import MultiHeadAttention
from core.decode import DecodeOptions, generate, limit, written
from core.lab import by_hand, recompute, whole
from core.lab.flows import from_the_decoder, memory_experiment, memory_switches, written_from_the_decoder
from core.lab.measure import first_divergence, two_flows
from core.model import Transformer
from core.tasks import Batch, Data
from core.tokens import BOS, EOS, PAD
from core.trace import Edit, Trace
from core.train import Trainer, token_loss
from playground.i18n import N_
from playground.lessons.frame import Lab, Mistake, Panel

ROWS = 4  # strings in the frozen batch, the person's own among them
LOOPS = 10  # updates that can be made in a row
MANY = 2_000_000  # parameters: a larger model is not copied for practice
UNSEEN = 200  # strings generated for each memory
OPEN = "decoder"  # the wrong source of K and V

LAB = Lab(
    "flows",
    N_("Two data flows"),
    N_(
        "While it trains, the model is shown the right answer and predicts all of it at once. When it is used, it has only what it wrote itself. Same weights, two ways through them."
    ),
    (
        Panel(
            "training",
            N_("Training, stage by stage"),
            N_(
                "The encoder reads the source and leaves a memory. The decoder reads that memory and the right answer, moved one place to the right, and predicts every token of the answer in a single pass. How wrong it was becomes one number, the loss; every weight learns in which direction that number falls, and moves a little."
            ),
            r"\mathcal{L} = -\frac{1}{n}\sum_{b,t} \ln p_\theta(y_{b,t} \mid y_{b,<t},\, x_b) \qquad \theta \leftarrow \theta - \eta\, \frac{\hat m}{\sqrt{\hat v} + \varepsilon}",
            (
                (Transformer.forward, "def forward", "return"),
                (token_loss, "return"),
                (Trainer.advance, "train_batch", "loss =", "loss.backward()", "clip_grads", "optimizer.step()"),
            ),
            N_("Press the five buttons from left to right: encode, decode, loss, backward, update."),
        ),
        Panel(
            "loss",
            N_("What a loss value means"),
            N_(
                "The loss of a token says how surprised the model was by the right one: nothing if it was certain, more the less it expected it. It is no percentage and no count of mistakes. A model that knows nothing and spreads its bets evenly pays the same for every token: that is the guess line, and a loss means something only beside it."
            ),
            r"\ell_t = -\ln p(y_t) = \ln \sum_{v} e^{z_{t,v}} - z_{t,y_t} \qquad \ell_{\text{guess}} = \ln V",
            ((token_loss, "def token_loss", "A guess costs", "return"),),
            N_("Click a bar: see how the loss of that token comes out of its logits."),
        ),
        Panel(
            "inference",
            N_("Inference, token by token"),
            N_(
                "Nobody knows the answer now. The decoder starts with the start token alone, writes one token, reads it back, writes the next. The encoder still runs only once. As long as what was written is right, both ways give the very same numbers: the triangle mask kept the training pass from looking ahead."
            ),
            r"\hat y_t = \arg\max_v\, z_{t,v}(x,\, \hat y_{<t}) \qquad \hat y_{<t} = y_{<t} \;\Rightarrow\; z^{\text{inference}}_t = z^{\text{training}}_t",
            (
                (
                    written,
                    "memory, cache",
                    "new = src.new_full",
                    "logits = model.decode",
                    "token = choose(",
                    "new = token",
                ),
                (Transformer.forward, "def forward", "return"),
            ),
            N_("Press “Next token” until the end token comes, and compare the two rows."),
        ),
        Panel(
            "cost",
            N_("One pass against many"),
            N_(
                "In training all positions go through the decoder side by side, which is what hardware is good at. In use each token has to wait for the one before. Remembering keys and values saves work in each pass, but not a single pass."
            ),
            r"\text{training: } 1 \text{ pass} \qquad \text{inference: } T \text{ passes}",
            ((two_flows, "def sequential", "model.decode", "model(src, tgt)"),),
            N_("Say what you expect, then look at the clock."),
        ),
        Panel(
            "memory",
            N_("Where K and V come from"),
            N_(
                "In its second attention the decoder asks with its own hidden state at that position, and the encoder answers: keys and values are made from the output of the last encoder layer. All decoder layers read this one memory, each through weights of its own. It is all that the decoder ever learns of the source: give it another one and see what it writes."
            ),
            r"Q = \mathrm{LN}(h^{\text{dec}})\,W_Q \qquad K = M\,W_K \qquad V = M\,W_V \qquad M = \text{output of the last encoder layer}",
            (
                (Transformer.decode, "Every decoder layer", "for i, block", "x = block"),
                (MultiHeadAttention.forward, "else:", "F.linear"),
            ),
            N_("Say which memory will do, then try the switches one after the other and look at the pattern."),
        ),
        Panel(
            "trained",
            N_("The same on a fresh model"),
            N_(
                "One trained model may be an accident. Here a model with two encoder layers is trained from the start, and then its decoder is given the same other memories. What comes with the app was measured on three seeds; you can train yours beside it."
            ),
            r"M_1 = \text{output of encoder layer } 1 \qquad M_2 = \text{output of encoder layer } 2 \qquad K = M\,W_K \quad V = M\,W_V",
            (memory_switches,),
            N_("Say what you expect, then compare it with the result."),
        ),
        Panel(
            "wrong",
            N_("One wrong token"),
            N_(
                "In training a mistake at one position does not touch the next: the right token is put in its place. In use the model has to live with what it wrote. Put a wrong token into its mouth and see whether it finds back or loses its way."
            ),
            r"\hat y_t \neq y_t \;\Rightarrow\; z_{t+1}(x, \hat y_{\le t}) \neq z_{t+1}(x, y_{\le t})",
            ((written, "new = src.new_full", "logits = model.decode", "token = choose(", "given", "new = token"),),
            N_("Choose a position, then the token that shall stand there."),
        ),
    ),
)

LOSS_MISTAKES = (
    Mistake(
        "untrained",
        N_("Loss 2.5: good or bad?"),
        N_(
            "These are the first weights of this run, which know nothing. Look at the bars: they stand around the guess line ln V, on average somewhat above it, because betting at random is worse than betting evenly. Whether a loss is good can only be said beside that line."
        ),
    ),
)
START_MISTAKES = (
    Mistake(
        "pad",
        N_("Begin with the padding token"),
        N_(
            "Decoding begins with padding “·” in place of the start token ⟨s⟩. In training no decoder input ever began so. Compare both rows: the very first input differs, so every logit does, and what is written is up to chance: some tokens may still be right, the string as a whole rarely is."
        ),
    ),
)
MEMORY_MISTAKES = (
    Mistake(
        OPEN,
        N_("K and V from the decoder"),
        N_(
            "Cross-attention asks the decoder itself in place of the memory: a second self-attention. Nothing of the source reaches the output. Change the input on the left: the output stays the same."
        ),
    ),
)


@dataclass(frozen=True)
class Example:
    """The person's input and what shall come out. reads, writes: decoder input and target; known: the task's own answer,
    else the model's own output stands for it."""

    src: tuple[int, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    known: bool

    @property
    def source(self) -> Tensor:
        return torch.tensor([self.src])  # (1, S)

    @property
    def target(self) -> Tensor:
        return torch.tensor([self.reads])  # (1, T)


def example(model: Transformer, data: Data, ids: Sequence[int]) -> Example:
    """The input with its right answer."""
    answer = data.answer(data.vocab.decode(ids))
    if answer and len(answer) < model.config.max_len:
        writes = [*data.vocab.encode(answer), EOS]
    else:
        writes = generate(model, torch.tensor([list(ids)]))[0].tolist()
    return Example(tuple(ids), (BOS, *writes[:-1]), tuple(writes), bool(answer))


def frozen_batch(one: Example, data: Data, step: int) -> Batch:
    """The example and the first strings of the batch that this run trained on at that step."""
    other = data.train_batch(step)
    n = min(ROWS - 1, len(other.src))
    columns = zip((one.src, one.reads, one.writes), (other.src[:n], other.tgt_in[:n], other.tgt_out[:n]), strict=True)
    return Batch(*(padded([list(own), *rows.tolist()]) for own, rows in columns))


def padded(rows: Sequence[list[int]]) -> Tensor:
    """Rows without their padding, filled up to the longest. -> (B, longest)"""
    rows = [row[: max((i + 1 for i, x in enumerate(row) if x != PAD), default=1)] for row in rows]
    width = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])


def first_step_error(model: Transformer, batch: Batch, trace: Trace) -> float:
    """Embeddings and logits of the first row of a traced batch against sums of products in float64."""
    src, tgt = batch.src[0].tolist(), batch.tgt_in[0].tolist()
    real = sum(i != PAD for i in src)
    pairs = [
        (trace["embed.src"][0], recompute.embedding(model, src, "src", real - 1)),
        (trace["embed.tgt"][0], recompute.embedding(model, tgt, "tgt", real)),
        (trace["memory"][0], whole.memory(model, trace)),
        (trace["logits"][0], whole.logits(model, trace)),
    ]
    return max((a.double() - b).abs().max().item() for a, b in pairs)


@torch.no_grad()
def write(
    model: Transformer, src: Tensor, n: int, start: int = BOS, given: Sequence[int] = ()
) -> tuple[tuple[int, ...], Tensor]:
    """Greedy inference up to n tokens: each is read back, keys and values are remembered. `given` tokens are put in its mouth.

    src (1, S) -> the tokens, up to the end token, and the logits (n, V) from which each was, or would have been, taken.
    """
    tokens: list[int] = []
    logits = []
    for step in islice(written(model, src, DecodeOptions(), given, start), n):
        logits.append(step.logits[0])  # (V,)
        tokens.append(int(step.token))
        if tokens[-1] == EOS:
            break
    return tuple(tokens), torch.stack(logits) if logits else torch.zeros(0, model.config.n_vocab)


@torch.no_grad()
def write_error(model: Transformer, src: Tensor, tokens: Sequence[int], logits: Tensor, start: int = BOS) -> float:
    """The logits of `write` against one pass over all of its tokens by sums of products in float64."""
    if not tokens:
        return 0.0
    # With a cache a token sees those before it and no others, whatever mask the model was trained with.
    triangle = {f"decoder.{i}.self.mask": lower_triangle for i in range(model.config.n_layers)}
    trace = Trace(triangle)
    model(src, torch.tensor([[start, *tokens[:-1]]]), trace)
    return (logits.double() - whole.logits(model, trace)).abs().max().item()


def lower_triangle(mask: Tensor) -> Tensor:
    return torch.ones(mask.shape[-1], mask.shape[-1], dtype=torch.bool).tril()


@dataclass(frozen=True)
class Twin:
    """Both flows over one example. parallel (T, V): the training pass; tokens and logits (n, V): what inference wrote so far.

    same[t]: inference had read the very tokens that the training pass had; difference[t]: the largest difference of any
    logit there. divergence: the first position at which the written token is not the target's.
    """

    parallel: Tensor
    tokens: tuple[int, ...]
    logits: Tensor
    same: tuple[bool, ...]
    difference: tuple[float, ...]
    divergence: int | None
    over: bool


@torch.no_grad()
def twin(model: Transformer, one: Example, n: int, start: int = BOS) -> Twin:
    """The training pass, and inference up to n tokens."""
    parallel = model(one.source, one.target)[0]  # (T, V)
    tokens, logits = write(model, one.source, n, start)
    common = range(min(len(tokens), len(one.writes)))
    return Twin(
        parallel,
        tokens,
        logits,
        tuple((start, *tokens[:t]) == one.reads[: t + 1] for t in common),
        tuple((parallel[t] - logits[t]).abs().max().item() for t in common),
        first_divergence(list(tokens), list(one.writes[: len(tokens)])),
        EOS in tokens or len(tokens) == limit(model, one.source, DecodeOptions()),
    )


@torch.no_grad()
def twin_error(model: Transformer, one: Example, now: Twin, start: int = BOS) -> float:
    """Both rows of the twin view by sums of products in float64."""
    trace = Trace()
    model(one.source, one.target, trace)
    training = (now.parallel.double() - whole.logits(model, trace)).abs().max().item()
    return max(training, write_error(model, one.source, now.tokens, now.logits, start))


@dataclass(frozen=True)
class Injection:
    """Inference by itself and after a wrong token at position `at`: tokens of both, logits of both (n, V).

    shift[t]: largest change of any logit at t. kept: how many of the tokens after the wrong one are still right, of `after`.
    """

    at: int
    token: int
    alone: tuple[int, ...]
    changed: tuple[int, ...]
    logits: Tensor
    shift: tuple[float, ...]
    divergence: int | None
    kept: int
    after: int


def inject(model: Transformer, one: Example, at: int, token: int) -> Injection:
    """Let the model write by itself up to `at`, put a token there, and let it go on."""
    most = limit(model, one.source, DecodeOptions())
    alone, own = write(model, one.source, most)
    changed, logits = write(model, one.source, most, given=(*alone[:at], token))
    common = range(min(len(alone), len(changed)))
    rest = range(at + 1, len(one.writes))
    return Injection(
        at,
        token,
        alone,
        changed,
        logits,
        tuple((own[t] - logits[t]).abs().max().item() for t in common),
        first_divergence(list(alone), list(changed)),
        sum(t < len(changed) and changed[t] == one.writes[t] for t in rest),
        len(rest),
    )


def memories(model: Transformer, src: Tensor) -> dict[str, dict[str, Edit]]:
    """The memory switches of core; OPEN stands for K and V from the decoder and needs another trace."""
    return memory_switches(model, src) | {OPEN: {}}


@dataclass(frozen=True)
class Cross:
    """Cross-attention on the right prefix with one memory: patterns (L, H, T, S or T), logits (T, V), what is generated."""

    patterns: Tensor
    logits: Tensor
    output: tuple[int, ...]
    error: float


@torch.no_grad()
def cross(model: Transformer, one: Example, which: str) -> Cross:
    """What cross-attention sees with this memory, and what the model then writes. `error` as in `by_hand` and `recompute`."""
    own = which == OPEN
    edits = memories(model, one.source)[which]
    trace = from_the_decoder(model) if own else Trace(edits)
    model(one.source, one.target, trace)
    layers = range(model.config.n_layers)
    if own:
        again = by_hand.decoded_from_itself(model, trace)
        ids = written_from_the_decoder(model, one.source, limit(model, one.source, DecodeOptions()))[0].tolist()
    else:
        again = by_hand.decoded(model, trace, trace["memory"][0])
        ids = generate(model, one.source, edits=edits)[0].tolist()
    error = (trace["logits"][0].double() - again).abs().max().item()
    if not own:
        heads = range(model.config.n_heads)
        errors = [
            recompute.largest_errors(model, trace, f"decoder.{i}.cross", h)["pattern"] for i in layers for h in heads
        ]
        error = max(error, *errors)
    patterns = torch.stack([trace[f"decoder.{i}.cross.pattern"][0] for i in layers])
    end = ids.index(EOS) + 1 if EOS in ids else len(ids)
    return Cross(patterns, trace["logits"][0], tuple(ids[:end]), error)


@torch.no_grad()
def exact_match_by_memory(model: Transformer, batch: Batch) -> dict[str, float]:
    """Share of strings that are generated without a mistake with each memory, and with OPEN."""
    found = memory_experiment(model, batch)
    width = batch.tgt_out.shape[1]
    ids = written_from_the_decoder(model, batch.src, width)
    ids = torch.nn.functional.pad(ids, (0, width - ids.shape[1]))
    return found | {OPEN: (ids == batch.tgt_out).all(1).float().mean().item()}
