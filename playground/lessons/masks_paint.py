"""Panel 2: the mask to paint, with its weights, its influence and its outputs beside it."""

import json
from collections.abc import Callable
from typing import Any

import streamlit as st
import torch
from torch import Tensor

from core.tasks import Vocab
from core.tokens import PAD
from playground.components import component
from playground.i18n import _
from playground.lessons import masks_measure as lab
from playground.lessons.frame import LabContext, PanelView
from playground.lessons.masks import PAINT_MISTAKES
from playground.lessons.masks_view import (
    KEY,
    blocked_as_null,
    cell_texts,
    example,
    head_of,
    heads,
    numbers,
    put_head,
    tokens,
)
from playground.look import palette


def paint(ctx: LabContext, p: PanelView) -> None:
    """Panel 2: the mask to paint, with its weights, its influence and its outputs beside it."""
    chosen = ctx.mistakes(PAINT_MISTAKES)
    pads = ctx.url("pads", 0, (0, 1, 2, 3))
    this = example(ctx, pads)
    layer, head = head_of(ctx)
    mask = lab.preset("causal", this.reads)
    text = ctx.url("mask", "causal", mask_text)
    try:
        mask = lab.read_mask(text, this.reads)
    except ValueError:  # painted for another input
        ctx.put("mask", "causal")
    if chosen == "empty":
        mask = lab.preset("causal", this.reads)
        mask[min(2, len(mask) - 1)] = False
    elif chosen:
        mask = lab.preset(chosen, this.reads)
    if mask.triu(1).any():
        p.done()
    found = lab.paint(ctx.model, this, mask, layer, head)
    p.checked(max(found.errors["pattern"], found.errors["output"]), _("weights and outputs"))
    p.checked(found.errors["influence"], _("influence"))
    p.numbers(influence_numbers(found))
    component("maskgrid", "gridmap.js")(
        key=f"{KEY}.paint",
        data={
            "seq": st.session_state.get(f"{KEY}.seq", 0),
            "mask": rows_of(mask),
            "reads": tokens(ctx.data.vocab, this.reads),
            "writes": tokens(ctx.data.vocab, this.writes),
            "real": this.real,
            "presets": presets(this),
            "preset": lab.name_of(mask, this.reads),
            "weights": blocked_as_null(found.pattern[layer, head], mask),
            "influence": numbers(found.influence),
            "outputs": outputs(ctx.data.vocab, this, found),
            "heads": heads(ctx.model),
            "head": f"{layer},{head}",
            "notes": paint_notes(this, found, mask),
            "look": palette(),
            "t": paint_texts(),
        },
        on_paint_change=follow_paint(ctx, this),
        on_head_change=lambda: put_head(ctx, st.session_state[f"{KEY}.paint"].head),
    )


def follow_paint(ctx: LabContext, this: lab.Example) -> Callable[[], None]:
    """What the person painted, checked like anything from outside, goes to the URL."""

    def follow() -> None:
        n = len(this.reads)
        try:
            told = json.loads(st.session_state[f"{KEY}.paint"].paint)
            seq, name, rows = int(told["seq"]), str(told["preset"]), [str(row) for row in told["rows"]]
        except (ValueError, KeyError, TypeError):
            return
        if name in lab.PRESETS:
            ctx.put("mask", name)
            if name == "padding" and this.real == len(this.reads):
                ctx.put("pads", 2)
        elif name == "pads":
            ctx.put("pads", 0 if this.real < len(this.reads) else 2)
            ctx.put("mask", "causal")
        elif len(rows) == n and all(len(row) == n and set(row) <= {"0", "1"} for row in rows):
            ctx.put("mask", lab.name_of(torch.tensor([[c == "1" for c in row] for row in rows]), this.reads))
        else:
            return
        st.session_state[f"{KEY}.seq"] = seq
        ctx.put("mistake", "")

    return follow


def paint_notes(this: lab.Example, found: lab.Painted, mask: Tensor) -> list[str]:
    ahead = found.influence.triu(1)
    n = int((ahead > 0).sum())
    if n:
        sentence = _(
            "⚠ {n} predictions × tokens above the diagonal: the strongest influence of a token that is not written yet is {most:.3g}."
        )
        notes = [sentence.format(n=n, most=ahead.max().item())]
    else:
        notes = [_("✓ Above the diagonal every influence is exactly 0: no prediction depends on a later token.")]
    if found.empty:
        bare = torch.full((3,), -torch.inf).softmax(-1)[0].item()
        sentence = _(
            "Row {rows} may look at nobody. Softmax of a row of −∞ gives {bare}; here it gives zeros, and the position takes nothing from the others."
        )
        notes.append(sentence.format(rows=", ".join(str(i + 1) for i in found.empty), bare=bare))
    wrong = [t for t in range(this.real) if found.change[t] > 1e-3]
    if wrong:
        sentence = _("Against the causal mask the logits of {n} of {all} positions moved, by {most:.3g} at most.")
        notes.append(sentence.format(n=len(wrong), all=this.real, most=found.change[: this.real].max().item()))
    return notes


def influence_numbers(found: lab.Painted) -> str:
    ahead = found.influence.triu(1).max().item()
    return rf"\max_{{j > t}} I_{{tj}} = {ahead:.4g} \qquad \max_{{j \le t}} I_{{tj}} = {found.influence.tril().max().item():.4g}"


def presets(this: lab.Example) -> list[dict[str, Any]]:
    """The buttons above the grid; rows are sent so that a click shows at once."""
    texts = {
        "causal": (_("Causal"), _("The lower triangle, diagonal included: what the decoder is trained with.")),
        "open": (_("All open"), _("No mask at all: everybody sees everybody.")),
        "padding": (_("Padding columns"), _("Blocks the columns of the filler tokens at the end, and nothing else.")),
        "upper": (_("Upper triangle, by mistake"), _("The triangle upside down.")),
    }
    more = this.real < len(this.reads)
    found: list[dict[str, Any]] = []
    for name, (title, help_text) in texts.items():
        rows = rows_of(lab.preset(name, this.reads)) if name != "padding" or more else None
        found.append({"id": name, "name": title, "help": help_text, "rows": rows})
    help_text = _("Fillers, as behind a short target of a batch. A causal mask hides them from every real position.")
    return [*found, {"id": "pads", "name": _("− Fillers") if more else _("+ Fillers"), "help": help_text, "rows": None}]


def outputs(vocab: Vocab, this: lab.Example, found: lab.Painted) -> list[dict[str, Any]]:
    """What each position predicts: the most probable token, and whether it is the one to come."""
    best = found.probabilities.max(-1)
    return [
        {
            "token": vocab.name(int(best.indices[t])),
            "p": float(best.values[t]),
            "expected": vocab.name(want),
            "right": None if want == PAD else int(best.indices[t]) == want,
            "change": float(found.change[t]),
        }
        for t, want in enumerate(this.writes)
    ]


def paint_texts() -> dict[str, str]:
    return {
        "presets": _("Masks to start from"),
        "head": _("Weights of"),
        "hint": _("Click or drag to paint; arrow keys and space; a label paints its row or column."),
        "labels": _("Query"),
        "labels_axes": _("query t: has just read"),
        "paint": _("Mask: may t look at j?"),
        "paint_axes": _("down: query t, the position that looks; across: key j, the position looked at"),
        "weights": _("Weights"),
        "weights_axes": _("how much query t takes from key j; a row adds up to 1"),
        "influence": _("Future influence"),
        "influence_axes": _("how far token j moves the winning logit of prediction t, through all layers"),
        "outputs": _("Predicts next"),
        "outputs_axes": _("most probable token, its probability; Δ: logits against the causal mask"),
        "weights_alt": _("Attention weights as a heat map: queries down, keys across."),
        "influence_alt": _("Influence of each token on each prediction: predictions down, tokens across."),
        "hatched": _("exactly 0"),
        "ahead": _("sees the future"),
        "scale": _("Left number: weights. Right number: influence."),
        "instead": _("not"),
        "change": _("The logits of this position moved by {change} at most, against the causal mask."),
        "row": _("Click: block or open the whole row"),
        "column": _("Click: block or open the whole column"),
        "query_name": _("query {t}, has just read {token}"),
        "key_name": _("key {j}: {token}"),
        "weight": _("weight {weight}"),
        "effect": _("influence on prediction {t}: {effect}"),
        "none": _("influence on prediction {t}: exactly 0"),
        **cell_texts(),
    }


def mask_text(text: str) -> str:
    """A mask of the URL, as text: whether it fits the input is seen later."""
    if text not in lab.PRESETS and not (len(text) <= 200 and set(text) <= set("0123456789abcdef.")):
        raise ValueError(text)
    return text


def rows_of(mask: Tensor) -> list[str]:
    return ["".join(str(int(cell)) for cell in row) for row in mask]
