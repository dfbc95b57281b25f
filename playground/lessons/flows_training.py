"""Lab 6: one training step in five stages, on a copy of the model and one frozen batch."""

import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st
from torch import Tensor

from core.lab import by_hand
from core.lab.flows import STAGES, Practice, Step, gradient_by_differences
from core.model import Transformer
from core.tokens import PAD
from playground.i18n import _
from playground.lessons import flows
from playground.lessons.flows import Example
from playground.lessons.flows_shared import draw, example, names, number, obey, whole
from playground.lessons.frame import LabContext, PanelView
from playground.look import palette
from playground.settings import words

RATES = (0.0003, 0.001, 0.003, 0.01)
SHOWN_ROWS, SHOWN_FEATURES = 40, 64  # of a large tensor


@st.cache_resource(max_entries=2, show_spinner=False)
def practice_of(
    weights: tuple[str, int], src: tuple[int, ...], lr: float, _ctx: LabContext, _one: Example
) -> tuple[Practice, threading.Lock]:
    train = _ctx.run.config.train
    batch = flows.frozen_batch(_one, _ctx.data, _ctx.step)
    return Practice(_ctx.model, batch, lr, train.clip, train.weight_decay), threading.Lock()


@st.cache_data(max_entries=64, show_spinner=False)
def step_checks(
    weights: tuple[str, int], src: tuple[int, ...], lr: float, number: int, _practice: Practice, _model: Transformer
) -> tuple[float, float, tuple[float, ...]]:
    """Errors of the forward pass and the loss, and the gradients of the watched weights by finite differences."""
    step, batch = _practice.step(number), _practice.batch
    now = Transformer(_model.config).eval()
    now.load_state_dict({**now.state_dict(), **step.weights})
    forward = flows.first_step_error(now, batch, step.trace)
    loss = abs(step.loss - by_hand.mean_loss(step.trace["logits"].tolist(), batch.tgt_out.tolist()))
    slow = tuple(gradient_by_differences(_model, step.weights, batch, w.name, w.index) for w in step.watched)
    return forward, loss, slow


def training(ctx: LabContext, p: PanelView) -> None:
    if sum(x.numel() for x in ctx.model.parameters()) > flows.MANY:
        st.info(_("This model is too large to be copied for practice here. Choose a smaller run on the left."))
        return

    def act(command: dict[str, Any]) -> None:
        if "to" in command:
            to = min(max(int(command["to"]), 0), len(STAGES) * flows.LOOPS)
            ctx.put("stage", to)
            ctx.put("at", max(0, to - 1) % len(STAGES))
            if to >= len(STAGES):
                p.done()
        elif "at" in command:
            ctx.put("at", min(max(int(command["at"]), 0), 4))

    obey(p, act)
    one = example(ctx)
    n = ctx.url("stage", 0, whole(0, len(STAGES) * flows.LOOPS))
    with st.sidebar:
        lr = ctx.slide(
            "lr",
            words.label("train.lr"),
            RATES,
            0.001,
            _(
                "How far an update may move a weight. AdamW begins anew here: its first update moves each by about this."
            ),
        )
    key, loop = ctx.stamp, max(0, n - 1) // len(STAGES) + 1
    practice, lock = practice_of(key, one.src, lr, ctx, one)
    with lock:
        step = practice.step(loop)
        checks = step_checks(key, one.src, lr, loop, practice, ctx.model)
    reached = n - (loop - 1) * len(STAGES)  # stages done in this loop
    at = min(ctx.url("at", 0, whole(0, 4)), max(reached - 1, 0))

    forward, loss_error, slow = checks
    if reached >= 1:
        p.checked(forward, _("every number of the forward pass"))
    if reached >= 3:
        p.checked(loss_error, _("loss"))
        p.numbers(
            rf"\mathcal{{L}} = {step.loss:.4g} \qquad n = {int((practice.batch.tgt_out != PAD).sum())} \qquad \ln V = \ln {ctx.model.config.n_vocab} = {math.log(ctx.model.config.n_vocab):.3f}"
        )
    if reached >= 4:
        p.checked(max(abs(w.gradient - s) for w, s in zip(step.watched, slow, strict=True)), _("gradients"))
    if reached >= 5:
        p.checked(step.update_error, _("update"))
        w = step.watched[-1]
        p.numbers(rf"{w.before:.5f} \;\rightarrow\; {w.after:.5f} \qquad \eta = {lr:g} \qquad g = {w.used:.3g}")
    draw(
        p,
        "train",
        {
            "n": n,
            "boxes": boxes(ctx, step, reached, at),
            "buttons": [
                {
                    "id": "again",
                    "text": _("↻ Another step on the same batch"),
                    "to": n + 1,
                    "off": reached < 5 or loop >= flows.LOOPS,
                },
                {"id": "restart", "text": _("↺ Back to the beginning"), "to": 0, "off": n == 0},
            ],
            "say": said(step, reached, practice),
            "tensors": tensors(ctx, practice, step, slow, at) if reached else [],
            "t": {
                "empty": _("Nothing has run yet. Press “1 · Encode”."),
                "symbols": _(
                    "B strings, S source tokens, T target tokens, d features, H heads with d_k features each, V tokens in the vocabulary. Drawn: the first string, first head."
                ),
            },
        },
    )


def said(step: Step, reached: int, practice: Practice) -> str:
    """The line beside the buttons."""
    if reached < 5:
        return _("Step {step} on this batch.").format(step=step.number)
    losses = [practice.steps[0].loss, *(s.loss_after for s in practice.steps[: step.number])]
    return _("Loss on this batch: {losses}").format(losses=" → ".join(number(x) for x in losses[-5:]))


def stage_titles() -> dict[str, str]:
    return {
        "encode": _("Encode"),
        "decode": _("Decode"),
        "loss": _("Loss"),
        "backward": _("Backward"),
        "update": _("Update"),
    }


def boxes(ctx: LabContext, step: Step, reached: int, at: int) -> list[dict[str, Any]]:
    """The five stages: what passes through each."""
    config, roles = ctx.model.config, palette()["roles"]
    layers = config.n_layers
    parts = {
        "encode": [
            _("source tokens + positions"),
            _("encoder × {layers}").format(layers=layers),
            _("memory, for K and V"),
        ],
        "decode": [
            _("target shifted right + positions"),
            _("decoder × {layers}").format(layers=layers),
            _("logits of all positions at once"),
        ],
        "loss": [_("softmax: probabilities"), _("surprise at each right token"), _("mean over the batch")],
        "backward": [_("from the loss back to every weight"), _("output, decoder, encoder, embeddings")],
        "update": [
            _("AdamW moves {n} weights").format(n=f"{sum(x.numel() for x in ctx.model.parameters()):,}"),
            _("on a copy: your run stays as it is"),
        ],
    }
    colours = {"encode": roles["encoder"], "decode": roles["decoder"], "loss": roles["key"]}
    return [
        {
            "id": name,
            "title": stage_titles()[name],
            "parts": parts[name],
            "lit": i < reached,
            "now": i == at and reached > 0,
            "open": i == reached,
            "role": colours.get(name),
            "arrow": "←" if name == "backward" else "→",
        }
        for i, name in enumerate(STAGES)
    ]


def view(
    id: str, name: str, symbol: str, x: Tensor, rows: Sequence[str], columns: Sequence[str] | None = None, **more: Any
) -> dict[str, Any]:
    """A tensor for the component: its shape, and the values of the first example, (…, rows, features)."""
    matrix = x
    while matrix.dim() > 2:
        matrix = matrix[0]
    cut = matrix[:SHOWN_ROWS, :SHOWN_FEATURES]
    note = more.pop("note", "")
    if cut.shape != matrix.shape:
        note = " ".join((note, _("The first {a} × {b} are drawn.").format(a=cut.shape[0], b=cut.shape[1]))).strip()
    return {
        "id": id,
        "kind": "map",
        "name": name,
        "symbol": symbol,
        "shape": str(tuple(x.shape)),
        "matrix": [[float(f"{v:.6g}") for v in row] for row in cut.tolist()],
        "names": list(rows)[: len(cut)],
        "columns": None if columns is None else list(columns)[: cut.shape[1]],
        "feature": _("feature {i}"),
        "note": note,
        **more,
    }


def tensors(ctx: LabContext, practice: Practice, step: Step, slow: Sequence[float], at: int) -> list[dict[str, Any]]:
    """What came out of a stage."""
    batch, trace, vocab = practice.batch, step.trace, ctx.data.vocab
    src, reads, writes = ([names(ctx, row) for row in x.tolist()] for x in (batch.src, batch.tgt_in, batch.tgt_out))
    last, roles = ctx.model.config.n_layers - 1, palette()["roles"]
    every = [vocab.name(i) for i in range(len(vocab))]
    yours = _("The first row is your input.")

    def tokens(id: str, name: str, symbol: str, x: Tensor, rows: list[list[str]], note: str = "") -> dict[str, Any]:
        cut = [row[:24] for row in rows]
        return {
            "id": id,
            "kind": "tokens",
            "name": name,
            "symbol": symbol,
            "shape": str(tuple(x.shape)),
            "rows": cut,
            "note": note,
        }

    def parts(values: Mapping[str, float]) -> list[dict[str, Any]]:
        shown = {
            "source embedding": _("source embedding"),
            "target embedding": _("target embedding"),
            "encoder": _("encoder"),
            "decoder": _("decoder"),
            "output": _("output layer"),
        }
        return [{"name": shown[k], "value": v, "role": roles.get(k), "text": number(v)} for k, v in values.items()]

    if STAGES[at] == "encode":
        return [
            tokens("src", _("Source tokens"), "(B, S)", batch.src, src, yours),
            view("embed", _("Embedding + position"), "(B, S, d)", trace["embed.src"], src[0]),
            view("memory", _("Memory: the last encoder layer"), "(B, S, d)", trace["memory"], src[0]),
            view(
                "k",
                _("K of cross-attention, layer {layer}").format(layer=last + 1),
                "(B, H, S, d_k)",
                trace[f"decoder.{last}.cross.k"],
                src[0],
                note=_("Made from the memory alone, so it is ready before the decoder begins. Head 1."),
            ),
        ]
    if STAGES[at] == "decode":
        return [
            tokens(
                "tgt_in",
                _("Target, shifted right"),
                "(B, T)",
                batch.tgt_in,
                reads,
                _("It begins with the start token."),
            ),
            view("embed", _("Embedding + position"), "(B, T, d)", trace["embed.tgt"], reads[0]),
            view(
                "pattern",
                _("Cross-attention, layer {layer}, head 1").format(layer=last + 1),
                "(B, H, T, S)",
                trace[f"decoder.{last}.cross.pattern"],
                reads[0],
                src[0],
                scale="weights",
            ),
            view("logits", _("Logits: every position at once"), "(B, T, V)", trace["logits"], reads[0], every),
        ]
    if STAGES[at] == "loss":
        guess = math.log(ctx.model.config.n_vocab)
        return [
            tokens(
                "tgt_out",
                _("Right tokens"),
                "(B, T)",
                batch.tgt_out,
                writes,
                _("It ends with the end token; padding “·” does not count."),
            ),
            view("p", _("Probabilities"), "(B, T, V)", trace["logits"].softmax(-1), writes[0], every, scale="weights"),
            view(
                "losses",
                _("Loss of each token"),
                "(B, T)",
                step.losses,
                [_("row {i}").format(i=i + 1) for i in range(len(writes))],
            ),
            {
                "id": "loss",
                "kind": "number",
                "name": _("Loss: their mean"),
                "symbol": "()",
                "shape": _("one number"),
                "value": number(step.loss),
                "note": _("Blind guessing costs ln V = ln {v} = {guess}.").format(v=len(vocab), guess=number(guess)),
            },
        ]
    risen = _(
        "It rose: the first update of AdamW moves each weight by about the learning rate, however small its gradient, which is too far for weights this good. Take an earlier training step, or a smaller rate."
    )
    head = [_("weight"), _("value"), _("gradient"), _("by differences")]
    if STAGES[at] == "backward":
        return [
            {
                "id": "norms",
                "kind": "bars",
                "name": _("Length of the gradient, by part"),
                "items": parts(step.norms),
                "note": _(
                    "All together {norm}; used for the update: {clipped} (longer ones are clipped to {clip})."
                ).format(norm=number(step.norm), clipped=number(step.clipped), clip=number(practice.clip))
                if practice.clip
                else _("All together {norm}.").format(norm=number(step.norm)),
            },
            {
                "id": "watched",
                "kind": "table",
                "name": _("One weight of each part"),
                "head": head,
                "body": [
                    [label(w.name, w.index), w.before, w.gradient, s] for w, s in zip(step.watched, slow, strict=True)
                ],
                "note": _(
                    "Each is the weight with the largest gradient. The last column nudges that weight up and down and looks at the loss: no backward pass at all."
                ),
            },
        ]
    return [
        {
            "id": "moved",
            "kind": "bars",
            "name": _("How far the weights moved, by part"),
            "items": parts(step.moved),
            "note": _("Loss on this batch before {before}, after {after}.").format(
                before=number(step.loss), after=number(step.loss_after)
            )
            + (" " + risen if step.loss_after > step.loss else ""),
        },
        {
            "id": "watched",
            "kind": "table",
            "name": _("The same weights"),
            "head": [_("weight"), _("before"), _("gradient used"), "m", "v", _("after")],
            "body": [[label(w.name, w.index), w.before, w.used, w.m, w.v, w.after] for w in step.watched],
            "note": _("m and v: AdamW's running means of the gradient and of its square."),
        },
    ]


def label(name: str, index: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, index))}]"
