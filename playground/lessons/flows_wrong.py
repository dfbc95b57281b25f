"""Lab 6: one wrong token, and what becomes of those after it."""

from typing import Any

import torch

from core.decode import DecodeOptions, limit
from core.tokens import BOS, PAD
from playground.i18n import _
from playground.lessons import flows
from playground.lessons.flows_shared import draw, example, names, number, obey, verdict, whole
from playground.lessons.frame import LabContext, PanelView


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
