"""Lab 6, two data flows: one drawing function a panel."""

import contextlib
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st
import torch
from torch import Tensor

from core.decode import DecodeOptions, limit
from core.lab import by_hand
from core.lab.flows import STAGES, Practice, Step, gradient_by_differences, strangers
from core.lab.measure import two_flows
from core.model import BOS, PAD, Transformer
from playground.components import component
from playground.i18n import _
from playground.lessons import flows
from playground.lessons.flows import Example
from playground.lessons.frame import LabContext, PanelView, predict, reveal
from playground.look import palette
from playground.pick import model_at

RATES = (0.0003, 0.001, 0.003, 0.01)
SHOWN_ROWS, SHOWN_FEATURES = 40, 64  # of a large tensor
SCRIPTS = ("heads.js", "flows_train.js", "flows_twin.js", "flows_cross.js", "flows_loss.js")


def draw(p: PanelView, view: str, data: dict[str, Any]) -> None:
    """Mount the component; its next command is for `obey`."""
    key = f"lab.flows.{p.id}.view"

    def take() -> None:
        st.session_state[f"{key}.command"] = st.session_state[key].act

    component("flows", *SCRIPTS)(key=key, data={"view": view, "look": palette(), **data}, on_act_change=take)


def obey(p: PanelView, act: Callable[[dict[str, Any]], None]) -> bool:
    """Carry out the command of the click that led to this run of the page; was there one? The browser is outside: anything
    malformed is ignored. Commands say where to arrive, so one that comes twice changes nothing."""
    text = st.session_state.pop(f"lab.flows.{p.id}.view.command", None)
    with contextlib.suppress(ValueError, TypeError, KeyError, IndexError, OverflowError):
        command = json.loads(str(text))
        if isinstance(command, dict):
            act(command)
            return True
    return False


def weights_key(ctx: LabContext) -> tuple[str, int]:
    path = ctx.run.weights_path(ctx.step)
    return str(path), path.stat().st_mtime_ns


def example(ctx: LabContext) -> Example:
    one = flows.example(ctx.model, ctx.data, ctx.ids)
    if not one.known:
        st.caption(_("The right answer to this text is not known: what the model writes itself stands for it."))
    return one


def names(ctx: LabContext, ids: Sequence[int]) -> list[str]:
    return [ctx.data.vocab.name(i) for i in ids]


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from the URL. ValueError: not one from low to high."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not low <= int(text) <= high:
            raise ValueError(text)
        return int(text)

    return read


def number(value: float) -> str:
    return f"{value:.3g}"


# ---------------------------------------------------------------------------------------------------------- training


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
            _("Learning rate"),
            RATES,
            0.001,
            _(
                "How far an update may move a weight. AdamW begins anew here: its first update moves each by about this."
            ),
        )
    key, loop = weights_key(ctx), max(0, n - 1) // len(STAGES) + 1
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


# -------------------------------------------------------------------------------------------------------------- loss


def loss(ctx: LabContext, p: PanelView) -> None:
    blind = ctx.mistakes(flows.LOSS_MISTAKES, "loss_mistake") == "untrained"
    step = ctx.run.saved_steps()[0] if blind else ctx.step
    model = model_at(ctx.run, step) if blind else ctx.model
    one = example(ctx)

    def act(command: dict[str, Any]) -> None:
        ctx.put("token", min(max(int(command["at"]), 0), len(one.writes) - 1))
        p.done()

    obey(p, act)
    with torch.no_grad():
        logits = model(one.source, one.target)[0]  # (T, V)
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(one.writes), reduction="none")
    again = [by_hand.token_loss(row, y) for row, y in zip(logits.tolist(), one.writes, strict=True)]
    p.checked(max(abs(a - b) for a, b in zip(losses.tolist(), again, strict=True)), _("loss of each token"))
    vocab, v = ctx.data.vocab, len(ctx.data.vocab)
    at = ctx.url("token", -1, lambda text: -1 if text == "-1" else whole(0, len(one.writes) - 1)(text))
    at = at if at < len(one.writes) else -1
    mean, guess, tokens = losses.mean().item(), math.log(v), names(ctx, one.writes)

    details = None
    if at >= 0:
        row, y = logits[at].tolist(), one.writes[at]
        total = math.fsum(math.exp(z) for z in row)
        order = sorted(range(v), key=lambda i: -row[i])
        details = {
            "title": _("Position {i}: the right token is {token}").format(i=at + 1, token=tokens[at]),
            "rows": [
                {
                    "name": vocab.name(i),
                    "right": i == y,
                    "values": [f"{row[i]:.3f}", f"{math.exp(row[i]):.4g}", f"{math.exp(row[i]) / total:.5f}"],
                }
                for i in order
            ],
            "lines": [
                f"ln {total:.7g} − ({row[y]:.5f}) = {losses[at].item():.3g}",
                f"−ln {math.exp(row[y]) / total:.7f} = {losses[at].item():.3g}",
            ],
        }
        p.numbers(
            rf"\ell_{{{at + 1}}} = \ln {total:.7g} - ({row[y]:.5f}) = {losses[at].item():.3g} \qquad \ln V = \ln {v} = {guess:.3f}"
        )
    overall = _(
        "Mean loss {loss} at step {step}: on average the model is as unsure as if it had to pick among {k} equally likely tokens. Guessing blindly among all {v} costs {guess}."
    )
    draw(
        p,
        "loss",
        {
            "tokens": [
                {"name": name, "loss": x, "p": math.exp(-x)} for name, x in zip(tokens, losses.tolist(), strict=True)
            ],
            "mean": mean,
            "guess": guess,
            "guess_text": _("guess: ln {v}").format(v=v),
            "mean_text": _("mean: {x}").format(x=number(mean)),
            "at": at,
            "overall": overall.format(loss=number(mean), step=step, k=number(math.exp(mean)), v=v, guess=number(guess)),
            "text": _("Loss of each token, the guess line and the mean"),
            "sum": details,
            "t": {
                "bar": _("Position {i}, right token {token}: loss {loss}, probability {p}"),
                "empty": _("Click a bar to see where its number comes from."),
                "token": _("token"),
                "logit": _("logit z"),
                "exp": "e^z",
                "p": _("probability"),
            },
        },
    )


# --------------------------------------------------------------------------------------------------------- inference


def inference(ctx: LabContext, p: PanelView) -> None:
    one, most = example(ctx), limit(ctx.model, torch.tensor([ctx.ids]), DecodeOptions())

    clicked = obey(p, lambda command: ctx.put("n", min(max(int(command["to"]), 0), most)))
    n = ctx.url("n", 0, whole(0, 10_000))
    pad = ctx.mistakes(flows.START_MISTAKES, "start") == "pad"
    start = PAD if pad else BOS
    now = flows.twin(ctx.model, one, min(n, most), start)
    n = len(now.tokens)
    if clicked and now.over:
        p.done()
    p.checked(flows.twin_error(ctx.model, one, now, start), _("logits of both rows"))
    equal = [d for d, same in zip(now.difference, now.same, strict=True) if same]
    if equal:
        p.numbers(
            rf"\max_{{t \le {len(equal)}}} \left| z^{{\text{{inference}}}}_t - z^{{\text{{training}}}}_t \right| = {max(equal):.1e}"
        )

    known, tokens = names(ctx, one.writes), names(ctx, now.tokens)
    trained, written = now.parallel.softmax(-1), now.logits.softmax(-1)
    reads = names(ctx, [start, *now.tokens])
    columns = []
    for t in range(max(len(one.writes), n)):
        column: dict[str, Any] = {}
        if t < len(one.writes):
            best = int(now.parallel[t].argmax())
            column["reads"] = {"token": ctx.data.vocab.name(one.reads[t])}
            column["predicts"] = {
                "token": ctx.data.vocab.name(best),
                "mark": "right" if best == one.writes[t] else "wrong",
                "title": _("right: {token}").format(token=known[t]),
            }
            column["p"] = {"text": f"{trained[t].max():.3f}", "title": f"{trained[t].max():.7f}"}
        if t <= n and not (now.over and t == n):
            column["ireads"] = {"token": reads[t]}
        if t < n:
            right = t < len(known) and now.tokens[t] == one.writes[t]
            column["writes"] = {"token": tokens[t], "mark": "right" if right else "wrong"}
            column["ip"] = {"text": f"{written[t].max():.3f}", "title": f"{written[t].max():.7f}"}
        if t < len(now.same):
            size = f"{now.difference[t]:.0e}"
            column["diff"] = (
                {
                    "text": size,
                    "mark": "same" if now.difference[t] <= 1e-4 else "differs",
                    "title": f"{now.difference[t]}",
                }
                if now.same[t]
                else {"text": size, "mark": "differs", "title": _("The two rows have read different tokens here.")}
            )
        columns.append(column)
    encode, once = _("Encoder, once"), _("{n} source tokens").format(n=len(one.src))
    roles = palette()["roles"]
    training_row = {
        "label": _("Training"),
        "under": _("1 decoder pass"),
        "small": True,
        "boxes": [
            {"title": encode, "parts": [once], "lit": True, "role": roles["encoder"]},
            {
                "title": _("Decoder, once"),
                "parts": [_("reads the right answer: {n} positions side by side").format(n=len(one.writes))],
                "lit": True,
                "role": roles["decoder"],
            },
            {
                "title": _("All {n} predictions").format(n=len(one.writes)),
                "parts": [_("each with its own loss")],
                "lit": True,
                "role": roles["key"],
            },
        ],
    }
    inference_row = {
        "label": _("Inference"),
        "under": _("decoder passes: {n}").format(n=n),
        "small": True,
        "boxes": [
            {"title": encode, "parts": [once], "lit": True, "role": roles["encoder"]},
            {
                "title": _("Decoder, pass {n}").format(n=n) if n else _("Decoder"),
                "parts": [_("has read its own output: {text}").format(text=" ".join(reads[max(0, n - 7) : max(n, 1)]))],
                "lit": n > 0,
                "now": n > 0 and not now.over,
                "role": roles["decoder"],
            },
            {
                "title": _("One prediction: {token}").format(token=tokens[-1]) if n else _("One prediction"),
                "parts": [
                    _("⟲ is read back as the next input") if not now.over else _("the end: nothing is read back")
                ],
                "lit": n > 0,
                "role": roles["key"],
            },
        ],
    }
    over = now.over
    mark = "" if not over else "right" if now.divergence is None and n == len(one.writes) else "wrong"
    say = [] if n else [_("Nothing is written yet: inference has only the start token.")]
    if pad and n:
        say.append(_("Inference began with padding: the logits differ from position 1 on."))
    elif equal:
        line = _("Both have read the same up to position {n}: the logits differ by {x} at most.")
        say.append(line.format(n=len(equal), x=f"{max(equal):.0e}"))
        if max(equal) > 1e-4:
            say.append(_("This model has no causal mask: in training it saw the future, so the numbers differ."))
    if now.divergence is not None:
        say.append(_("First wrong token: position {i} (≠).").format(i=now.divergence + 1))
    draw(
        p,
        "twin",
        {
            "flows": [training_row, inference_row],
            "buttons": [
                {"id": "next", "text": _("Next token") + " ›", "to": n + 1, "off": over, "main": True},
                {"id": "back", "text": "‹ " + _("Back"), "to": max(n - 1, 0), "off": n == 0},
                {"id": "finish", "text": _("To the end") + " »", "to": most, "off": over},
                {"id": "restart", "text": "↺ " + _("Restart"), "to": 0, "off": n == 0},
            ],
            "say": " ".join(say),
            "mark": mark,
            "divergence": now.divergence,
            "columns": columns,
            "rows": [
                {"side": _("Training: the right prefix is given")},
                {"id": "reads", "name": _("the decoder reads")},
                {"id": "predicts", "name": _("and predicts")},
                {"id": "p", "name": _("with probability"), "kind": "number"},
                {"side": _("Inference: it reads what it wrote")},
                {"id": "ireads", "name": _("the decoder reads")},
                {"id": "writes", "name": _("and writes")},
                {"id": "ip", "name": _("with probability"), "kind": "number"},
                {
                    "id": "diff",
                    "name": _("largest difference of a logit"),
                    "kind": "number",
                    "help": _("Of all logits of a position, training against inference. Rounding leaves about 1e-6."),
                },
            ],
            "t": {"position": _("position")},
        },
    )


# -------------------------------------------------------------------------------------------------------------- cost


def cost(ctx: LabContext, p: PanelView) -> None:
    one = example(ctx)
    n = len(one.writes)
    options = {
        "same": _("about as long as one pass"),
        "some": _("a few times as long, but less than {n} times").format(n=n),
        "all": _("{n} times as long or more").format(n=n),
    }
    key = f"flows.cost.{ctx.run.id}"
    chosen = predict(
        key,
        _("Training needs 1 pass for these {n} positions, inference {n}. How long do the {n} passes take?").format(n=n),
        options,
    )
    if chosen is None:
        return
    slot, about = "lab.flows.measured", (ctx.run.id, ctx.step, one.src)
    again = st.button(_("Measure again"), key="lab.flows.measure")
    if again or st.session_state.get(slot, (None,))[0] != about:
        st.session_state[slot] = (about, two_flows(ctx.model, one.source, one.target, rounds=9))
    found = st.session_state[slot][1]
    p.done()
    p.checked(
        (found.parallel - found.sequential).abs().max().item() if ctx.model.config.causal_mask else 0.0,
        _("same logits"),
    )
    ratio = found.sequential_s / found.parallel_s
    p.numbers(
        rf"\frac{{{found.sequential_s * 1e3:.2f}\text{{ ms}}}}{{{found.parallel_s * 1e3:.2f}\text{{ ms}}}} = {ratio:.1f}"
    )
    outcome = "same" if ratio < 1.5 else "some" if ratio < n else "all"
    text = _(
        "Measured here and now: {ratio} times as long (with remembered keys and values {cached} times). A training step on {n} positions would cost that much more if they had to be made one after the other."
    )
    roles = palette()["roles"]
    rows = [
        (_("Training: 1 pass over {n} positions").format(n=n), found.parallel_s, roles["encoder"]),
        (_("Inference: {n} passes").format(n=n), found.sequential_s, roles["decoder"]),
        (_("Inference: {n} passes, keys and values remembered").format(n=n), found.cached_s, roles["decoder"]),
    ]
    draw(
        p,
        "cost",
        {
            "items": [{"name": name, "value": s, "role": role, "text": f"{s * 1e3:.2f} ms"} for name, s, role in rows],
            "say": _("Fastest of 9 rounds, encoder included. Longer targets and wider models: {command}").format(
                command="python -m tests.benchmarks.parallel_training"
            ),
            "t": {},
        },
    )
    reveal(
        key,
        outcome,
        text.format(ratio=number(ratio), cached=number(found.cached_s / found.parallel_s), n=n),
        options,
    )


# ------------------------------------------------------------------------------------------------------------ memory


@st.cache_data(max_entries=32, show_spinner=False)
def measured(weights: tuple[str, int], n: int, _ctx: LabContext) -> dict[str, float]:
    return flows.exact_match_by_memory(_ctx.model, _ctx.data.unseen(n))


@st.cache_resource(max_entries=128, show_spinner=False)
def cross_of(
    weights: tuple[str, int], src: tuple[int, ...], which: str, _model: Transformer, _one: Example
) -> flows.Cross:
    return flows.cross(_model, _one, which)


def memory_names(n_layers: int) -> dict[str, str]:
    layers = {f"layer {i}": _("output of encoder layer {i}").format(i=i) for i in range(1, n_layers)}
    last = {f"layer {n_layers}": _("output of encoder layer {i}, the last: as trained").format(i=n_layers)}
    return (
        last
        | layers
        | {
            "shuffled": _("as trained, but positions shuffled"),
            "another": _("memory of another string: {text}"),
            "zeros": _("nothing but zeros"),
        }
    )


def memory(ctx: LabContext, p: PanelView) -> None:
    config, one, key = ctx.model.config, example(ctx), weights_key(ctx)
    switches = memory_names(config.n_layers)
    stranger = names(ctx, strangers(ctx.model, one.source)[0].tolist())
    switches["another"] = switches["another"].format(text=" ".join(stranger))
    trained = f"layer {config.n_layers}"
    question = f"flows.memory.{ctx.run.id}.{ctx.step}"
    options = {
        "strict": _("only the last encoder layer's output, in its order"),
        "order": _("the last encoder layer's output, also with its positions shuffled"),
        "layers": _("the output of any encoder layer"),
        "all": _("any of them, even zeros: the decoder also sees what it wrote"),
        "none": _("none of them, not even the right one"),
    }
    chosen = predict(question, _("With which memory will most answers still come out right?"), options)
    if chosen is None:
        return

    def act(command: dict[str, Any]) -> None:
        if "memory" in command and command["memory"] in switches and command["memory"] != flows.OPEN:
            ctx.put("memory", command["memory"])
            ctx.put("kv", "")
            st.session_state["lab.flows.kv"] = None  # the widget of the mistake is taken back, too
            if command["memory"] != trained:
                p.done()
        elif "head" in command:
            a, b = (int(x) for x in command["head"])
            if 0 <= a < config.n_layers and 0 <= b < config.n_heads:
                ctx.put("head", f"{a},{b}")

    obey(p, act)
    wrong = ctx.mistakes(flows.MEMORY_MISTAKES, "kv") == flows.OPEN
    if wrong:
        switches = {flows.OPEN: _("the decoder itself: a mistake")} | switches
    which = ctx.url("memory", trained, (*switches, flows.OPEN))
    which = flows.OPEN if wrong else trained if which == flows.OPEN else which
    layer, head = ctx.url("head", (config.n_layers - 1, 0), place(config.n_layers, config.n_heads))
    with st.spinner(_("Generating {n} unseen strings with each memory…").format(n=flows.UNSEEN)):
        exact = measured(key, flows.UNSEEN, ctx)
    shown = {name: cross_of(key, one.src, name, ctx.model, one) for name in switches}
    now = shown[which]
    p.checked(max(c.error for c in shown.values()), _("patterns and logits"))
    head_map = now.patterns[layer, head]
    best = int(head_map[0].argmax())
    p.numbers(
        rf"K, V \in \mathbb{{R}}^{{{head_map.shape[1]} \times {config.d_k}}} \qquad Q \in \mathbb{{R}}^{{{head_map.shape[0]} \times {config.d_k}}} \qquad a_{{1,{best + 1}}} = {head_map[0, best]:.3f}"
    )

    if wrong:
        p.done()
    keys = names(ctx, one.reads if which == flows.OPEN else one.src)
    draw(
        p,
        "cross",
        {
            "patterns": [
                [[[round(x, 4) for x in row] for row in h] for h in one_layer] for one_layer in now.patterns.tolist()
            ],
            "at": [layer, head],
            "thumb": 44 if config.n_layers * config.n_heads <= 24 else 24,
            "queries": [f"y{subscript(i)} = {name}" for i, name in enumerate(names(ctx, one.writes), 1)],
            "keys": keys,
            "key_axis": _("key: decoder inputs") if which == flows.OPEN else _("key: encoder memory"),
            "which": which,
            "switches": [
                {
                    "id": name,
                    "name": text,
                    "exact": exact[name],
                    "output": names(ctx, shown[name].output)[:24],
                    "marks": verdict(shown[name].output, one.writes)[:24],
                }
                for name, text in switches.items()
            ],
            "text": _("Cross-attention of one head: queries of the decoder against keys of the memory"),
            "t": {
                "layer": _("layer {layer}"),
                "head": _("head {head}"),
                "thumb": _("Cross-attention, layer {layer}, head {head}"),
                "title": _("Cross-attention, layer {layer}, head {head}, on the right prefix"),
                "title_help": _(
                    "Each row is a query of the decoder and adds up to 1. A row carries the token it is about to predict."
                ),
                "query": _("query: decoder, about to predict y_t"),
                "cell": _("{query} looks at key {k}, {key}: {value}"),
                "switches": _("Memory, and what the model then writes"),
                "switches_help": _(
                    "Percent: how many of {n} unseen strings are then generated without a mistake. Chips: what comes out for your input."
                ).format(n=flows.UNSEEN),
                "exact": _("{percent} % exact"),
                "unmeasured": "–",
            },
        },
    )
    outcome = came_out(exact, config.n_layers)
    text = _(
        "Exact match on {n} unseen strings: as trained {trained}, shuffled {shuffled}, of another string {another}, zeros {zeros}. Attention reads a set: when K and V change places together, the weights go with them and the sum stays. The order of the source is written inside the vectors, not in where they stand. Given another string's memory, the decoder answers that string."
    )
    values = {
        name: f"{100 * exact[id]:.1f} %"
        for name, id in (("trained", trained), *((x, x) for x in ("shuffled", "another", "zeros")))
    }
    reveal(question, outcome, text.format(n=flows.UNSEEN, **values), options)


def came_out(exact: Mapping[str, float], n_layers: int) -> str:
    """Which expectation came true: a memory "will do" if most strings come out right."""
    layers = [exact[f"layer {i}"] > 0.5 for i in range(1, n_layers + 1)]
    if not layers[-1]:
        return "none"
    if exact["zeros"] > 0.5:
        return "all"
    if n_layers > 1 and all(layers):
        return "layers"
    return "order" if exact["shuffled"] > 0.5 else "strict"


def subscript(i: int) -> str:
    return str(i).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def verdict(tokens: Sequence[int], answer: Sequence[int]) -> list[str]:
    return ["right" if i < len(answer) and token == answer[i] else "wrong" for i, token in enumerate(tokens)]


def place(n_layers: int, n_heads: int) -> Callable[[str], tuple[int, int]]:
    """A reader of "layer,head" from the URL, both from 0."""

    def read(text: str) -> tuple[int, int]:
        a, b = text.split(",")
        return whole(0, n_layers - 1)(a), whole(0, n_heads - 1)(b)

    return read


# ------------------------------------------------------------------------------------------------------- wrong token


def wrong(ctx: LabContext, p: PanelView) -> None:
    one = example(ctx)
    alone = flows.write(ctx.model, one.source, limit(ctx.model, one.source, DecodeOptions()))[0]
    v = len(ctx.data.vocab)

    def act(command: dict[str, Any]) -> None:
        if "put" in command:
            i, new = (int(x) for x in command["put"])
            if 0 <= i < len(alone) and 0 <= new < v:
                ctx.put("where", i)
                ctx.put("put", new)
                p.done()
        elif "at" in command and 0 <= int(command["at"]) < len(alone):
            ctx.put("where", int(command["at"]))
            ctx.put("put", -1)

    obey(p, act)
    at = min(ctx.url("where", min(1, len(alone) - 1), whole(0, 10_000)), len(alone) - 1)
    token = ctx.url("put", -1, lambda text: -1 if text == "-1" else whole(0, v - 1)(text))
    injected = token >= 0 and token != alone[at]
    now = flows.inject(ctx.model, one, at, token if injected else alone[at])

    p.checked(flows.write_error(ctx.model, one.source, now.changed, now.logits), _("logits after the wrong token"))
    own, written, answer = names(ctx, alone), names(ctx, now.changed), names(ctx, one.writes)
    with torch.no_grad():
        forced = ctx.model(one.source, one.target)[0].argmax(-1).tolist()
    columns = []
    for t in range(max(len(own), len(written) if injected else 0, len(answer))):
        column: dict[str, Any] = {}
        if t < len(answer):
            column["answer"] = {"token": answer[t]}
            column["forced"] = {
                "token": ctx.data.vocab.name(forced[t]),
                "mark": "right" if forced[t] == one.writes[t] else "wrong",
            }
        if t < len(own):
            column["alone"] = {"token": own[t], "mark": verdict(alone, one.writes)[t]}
        if injected and t < len(written):
            mark = verdict(now.changed, one.writes)[t] + (" hand" if t == at else "")
            column["changed"] = {"token": written[t], "mark": mark}
        if injected and t < len(now.shift):
            column["shift"] = {
                "text": number(now.shift[t]) if t > at else "0",
                "mark": "differs" if t > at and now.shift[t] > 1e-4 else "",
                "title": str(now.shift[t]),
            }
        columns.append(column)
    say = _("Nothing is changed yet: click a position of “by itself”, then a token below.")
    if injected:
        moved = max((s for s in now.shift[at + 1 :]), default=0.0)
        say = _("At position {i} stands {token}. Of the {n} tokens that should follow, {kept} are still right.").format(
            i=at + 1, token=ctx.data.vocab.name(token), n=now.after, kept=now.kept
        )
        p.numbers(
            rf"\max_{{t > {at + 1}}} \left| z'_t - z_t \right| = {moved:.3g} \qquad \text{{still right: }} {now.kept} / {now.after}"
        )
    draw(
        p,
        "wrong",
        {
            "at": at,
            "token": token if injected else None,
            "divergence": now.divergence if injected else None,
            "say": say,
            "mark": "" if not injected else "right" if now.kept == now.after else "wrong",
            "columns": columns,
            "rows": [
                {"id": "answer", "name": _("right answer")},
                {
                    "id": "forced",
                    "name": _("training: predicts"),
                    "help": _("Each position with the right prefix given, whatever was predicted before it."),
                },
                {"id": "alone", "name": _("inference by itself")},
                *(
                    {"id": "changed", "name": _("inference after the wrong token")},
                    {
                        "id": "shift",
                        "name": _("largest change of a logit"),
                        "kind": "number",
                        "help": _("Inference by itself against inference after the wrong token."),
                    },
                )[: 2 if injected else 0],
            ],
            "options": [
                {"id": i, "name": ctx.data.vocab.name(i), "own": i == alone[at]}
                for i in range(v)
                if i not in (PAD, BOS)
            ],
            "t": {
                "position": _("position"),
                "choose_position": _("Put another token at position {i}"),
                "choose_token": _("Token to stand at position {i}:"),
                "own": _("The model's own choice"),
            },
        },
    )


PANELS = {
    "training": training,
    "loss": loss,
    "inference": inference,
    "cost": cost,
    "memory": memory,
    "wrong": wrong,
}
