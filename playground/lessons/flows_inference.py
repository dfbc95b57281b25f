"""Lab 6: inference beside training, position by position; one pass against many on the clock."""

from typing import Any

import streamlit as st
import torch

from core.decode import DecodeOptions, limit
from core.lab.measure import two_flows
from core.tokens import BOS, PAD
from playground.i18n import _
from playground.lessons import flows
from playground.lessons.flows_shared import draw, example, names, number, obey, whole
from playground.lessons.frame import LabContext, PanelView, predict, reveal
from playground.look import palette


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
