"""Lab 6: the loss of each token beside the guess line, and how it comes out of its logits."""

import math
from typing import Any

import torch

from core.lab import by_hand
from playground.i18n import _
from playground.lessons import flows
from playground.lessons.flows_shared import draw, example, names, number, obey, whole
from playground.lessons.frame import LabContext, PanelView
from playground.pick import readable


def loss(ctx: LabContext, p: PanelView) -> None:
    blind = ctx.mistakes(flows.LOSS_MISTAKES, "loss_mistake") == "untrained"
    step = ctx.run.saved_steps()[0] if blind else ctx.step
    step, model = readable(ctx.run, step) if blind else (step, ctx.model)
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
