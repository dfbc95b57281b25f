"""Lab 7, the stack: texts and computations."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.lab import measure, recompute, stream, whole
from core.lab.stream import Part
from core.model import Block, FeedForward, Transformer, WithoutMemory, parameter_counts
from core.tasks import Batch
from core.tokens import PAD
from core.trace import Trace
from playground.i18n import N_
from playground.lessons.frame import Lab, Panel
from playground.lessons.heads import Example, largest

PAPER = {"n_layers": 6, "d_model": 512, "n_heads": 8, "d_ff": 2048}  # Vaswani et al. 2017, table 3, base
PAPER_VOCABULARY = 37_000  # §5.1: about 37,000 byte pairs, one table for both sides and the output (§3.4)

LAB = Lab(
    "stack",
    N_("The stack"),
    N_(
        "Encoder and decoder are stacks of equal blocks, six each in the paper. Follow a token through them, ask every layer for "
        "its answer, count the parameters."
    ),
    (
        Panel(
            "stream",
            N_("One stream through all blocks"),
            N_(
                "A block takes one vector for every token and hands on one vector of the same width: that is why blocks can be "
                "stacked. Nothing is replaced on the way. Each part reads the stream and adds its own vector to it; what the "
                "output layer reads is the sum of them all. (In the paper's variant the sum is normalised after every part.)"
            ),
            r"x \leftarrow x + \text{self}(x), \quad x \leftarrow x + \text{cross}(x, \text{memory}), \quad x \leftarrow x + "
            r"\text{ffn}(x) \qquad \lVert x \rVert = \sqrt{\textstyle\sum_i x_i^2}",
            (Block.residual, (Block.forward, "self.residual(", "lambda y")),
            N_("Click the part that adds most to the token you have chosen: the longest coloured bar."),
        ),
        Panel(
            "lens",
            N_("If this layer were the last"),
            N_(
                "All layers of the decoder write into the same stream, so the output layer can read it early: after the "
                "embedding, after the first block, after the second. What it would predict there shows how the answer comes "
                "about. This is known as the logit lens."
            ),
            r"p^{(\ell)}_t = \text{softmax}\big(W\, \text{LN}(x^{(\ell)}_t) + b\big), \qquad \ell = 0, \dots, N",
            (measure.logit_lens,),
            N_("Click a cell in which the right token wins for the first time."),
        ),
        Panel(
            "without",
            N_("Leave a block out"),
            N_(
                "Because every part only adds to the stream, a block can be left out without anything else having to change: "
                "its input goes on as its output. What the model then still can do tells what the block was for."
            ),
            r"\text{left out:}\quad x^{(\ell)} = x^{(\ell - 1)} \qquad \text{instead of}\quad x^{(\ell)} = \text{block}_\ell(x^{(\ell - 1)})",
            (stream.without_block, (Transformer.encode, "for i, block", "x = block(")),
            N_("Leave one block out, then another: which one is missed most?"),
        ),
        Panel(
            "parameters",
            N_("Where the parameters are"),
            N_(
                "Every number that training may change is a parameter. Their count follows from a handful of sizes, and "
                "stacking more blocks multiplies it. The number of heads does not appear in it: heads share out the same "
                "width."
            ),
            r"\text{encoder} = N\,(\underbrace{4d^2 + 4d}_{\text{attention}} + \underbrace{2\,d\,d_\text{ff} + d_\text{ff} + "
            r"d}_{\text{feed-forward}} + \underbrace{2 \cdot 2d}_{\text{LayerNorm}}) \qquad \text{decoder} = N\,(2 \cdot (4d^2 + "
            r"4d) + 2\,d\,d_\text{ff} + d_\text{ff} + d + 3 \cdot 2d)",
            (parameter_counts, (FeedForward.__init__, "nn.Linear")),
            N_(
                "Move the sliders until they describe the model of the paper: 512 wide, 8 heads, 6 layers, 2048 hidden."
            ),
        ),
    ),
)


def parts(model: Transformer, seen: Example) -> dict[str, list[Part]]:
    """Every part of both stacks on the person's input."""
    return {stack: stream.parts(model, seen.trace, stack) for stack in ("encoder", "decoder")}


@torch.no_grad()
def parts_error(model: Transformer, seen: Example, shown: Mapping[str, Sequence[Part]]) -> float:
    """Largest difference of anything added, of the stream and of their norms, to every block again in float64.

    Each block starts from the stream that reached it: over a whole stack rounding in float32 adds up.
    """
    errors, trace, masks = [], seen.trace, whole.masks_of(seen.trace)
    for stack, every in shown.items():
        memory = trace["memory"][0].double() if stack == "decoder" else None
        again: list[tuple[str, Tensor, Tensor]] = []
        for i in range(model.config.n_layers):
            again += whole.parts(model, f"{stack}.{i}", trace[f"{stack}.{i}.resid_pre"][0].double(), masks, memory)
        for part, (_place, added, after) in zip(every, again, strict=True):
            for mine, theirs in ((part.added, added), (part.after, after)):
                errors.append((mine.double() - theirs).abs().max().item())
                errors.append((mine.norm(dim=-1).double() - (theirs * theirs).sum(-1).sqrt()).abs().max().item())
    return largest(errors)


def lens(model: Transformer, seen: Example) -> Tensor:
    """Probabilities (n_layers + 1, T, V) on the person's input: after the embedding, then after each decoder layer."""
    return measure.logit_lens(model, torch.tensor([seen.src]), torch.tensor([seen.reads]))


@torch.no_grad()
def lens_again(model: Transformer, seen: Example) -> Tensor:
    """The same in float64, with none of the model's code."""
    trace = seen.trace
    embedded = trace["embed.tgt"][0].double()
    every = whole.stages(model, trace, "decoder", embedded, whole.memory(model, trace))
    streams = [embedded, *(after for place, _added, after in every if place.endswith("ffn"))]
    rows = []
    for x in streams:
        if isinstance(norm := model.decoder_norm, nn.LayerNorm):
            x = recompute.layer_norm(x, norm.weight.detach(), norm.bias.detach())
        e = whole.product(x, model.output.weight, model.output.bias)
        e = (e - e.amax(-1, keepdim=True)).exp()
        rows.append(e / e.sum(-1, keepdim=True))
    return torch.stack(rows)


def first_wins(found: Tensor, wanted: Sequence[int]) -> list[int | None]:
    """For each position the first row in which the right token wins, or None. found (N + 1, T, V)"""
    winners = found.argmax(-1)  # (N + 1, T)
    rows = [(winners[:, t] == token).nonzero()[:, 0].tolist() for t, token in enumerate(wanted)]
    return [row[0] if row else None for row in rows]


def shallow(model: Transformer, stack: str, blocks: Sequence[nn.Module]) -> Transformer:
    """The same model with other blocks in a stack; the weights are shared, nothing is copied."""
    other = copy.copy(model)
    other._modules = {**model._modules, stack: nn.ModuleList(blocks)}
    return other


@torch.no_grad()
def lens_accuracy_again(model: Transformer, batch: Batch) -> list[float]:
    """`stream.lens_accuracy` with models that really end after 0, 1, … blocks."""
    real, blocks, found = batch.tgt_out != PAD, list(model.decoder), []
    for n in range(len(blocks) + 1):
        winners = shallow(model, "decoder", blocks[:n])(batch.src, batch.tgt_in).argmax(-1)
        found.append((winners == batch.tgt_out)[real].float().mean().item())
    return found


def shortened(model: Transformer, name: str) -> Transformer:
    """A model that was built without a block ("encoder.0")."""
    stack, layer = name.split(".")
    blocks = list(model.encoder if stack == "encoder" else model.decoder)
    return shallow(model, stack, [block for i, block in enumerate(blocks) if i != int(layer)])


@torch.no_grad()
def shortened_error(model: Transformer, seen: Example, name: str) -> float:
    """The model that leaves a block out, on the person's input, against float64 with none of the model's code."""
    edited = model(torch.tensor([seen.src]), torch.tensor([seen.reads]), Trace(stream.without_block(name)))[0]
    return (edited.double() - whole.logits(model, seen.trace, without=name)).abs().max().item()


def resized(config: ModelConfig, **sizes: int) -> ModelConfig:
    """The same model in another size."""
    data: dict[str, Any] = config.model_dump()
    return ModelConfig.model_validate({**data, **sizes})


def by_kind(config: ModelConfig) -> dict[str, int]:
    """Parameters by what they do, in closed form: embedding, attention, feed-forward, norm, output."""
    d, ff, n = config.d_model, config.d_ff, config.n_layers
    counts = parameter_counts(config)
    return {
        "embedding": counts["source embedding"] + counts["target embedding"],
        "attention": 3 * n * (4 * d * d + 4 * d),
        "feed-forward": 2 * n * (2 * d * ff + ff + d),
        "norm": 5 * n * 2 * d + (4 * d if config.norm == "pre" else 0),
        "output": counts["output"],
    }


def counted(config: ModelConfig) -> tuple[dict[str, int], dict[str, int]]:
    """Parameters counted one by one on a model that is really built: by part, by kind."""
    with WithoutMemory():
        model = Transformer(config)
    names = {"src_embedding": "source embedding", "tgt_embedding": "target embedding"}
    names |= {"encoder_norm": "encoder", "decoder_norm": "decoder"}
    by_part: dict[str, int] = dict.fromkeys(parameter_counts(config), 0)
    kinds = dict.fromkeys(by_kind(config), 0)
    for name, p in model.named_parameters():
        top = name.partition(".")[0]
        by_part[names.get(top, top)] += p.numel()
        words = name.split(".")
        kind = next((k for k, word in WORDS if any(w.endswith(word) for w in words)), "output")
        kinds[kind] += p.numel()
    return by_part, kinds


# What the name of a parameter tells about it, in this order.
WORDS = (
    ("embedding", "embedding"),
    ("norm", "norms"),
    ("norm", "norm"),
    ("attention", "attention"),
    ("attention", "cross"),
    ("feed-forward", "ffn"),
)


def count_error(config: ModelConfig, by_part: Mapping[str, int], kinds: Mapping[str, int]) -> int:
    """Largest difference between the closed form and a count."""
    pairs = [(parameter_counts(config), by_part), (by_kind(config), kinds)]
    return max(abs(a[name] - b[name]) for a, b in pairs for name in a)
