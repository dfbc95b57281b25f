"""Panel 1: one row of one head, before and after softmax."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st
import torch

from core.lab import recompute
from core.trace import Trace
from playground.components import component
from playground.i18n import _
from playground.lessons import masks_measure as lab
from playground.lessons.frame import LabContext, PanelView
from playground.lessons.masks_view import KEY, cell_texts, example, head_of, select_head, tokens
from playground.look import palette


def infinity(ctx: LabContext, p: PanelView) -> None:
    """Panel 1: one row of one head, before and after softmax."""
    this = example(ctx)
    n, names = len(this.reads), tokens(ctx.data.vocab, this.reads)
    layer, head = head_of(ctx)
    modes = {"infinity": "−∞", "zero": _("a score of 0"), "after": _("weight × 0, after softmax")}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        mode = ctx.choose(
            "instead",
            _("A blocked score becomes"),
            modes,
            help=_("The mask needs something that leaves a weight of exactly 0, in a row that still adds up to 1."),
        )
        select_head(ctx, layer, head)
    if mode != "infinity":
        p.done()
    t = ctx.url("row", min(2, n - 1), tuple(range(n)))
    blocked = ctx.url("blocked", later(t, n), cells_of(n))
    allowed = [j not in blocked for j in range(n)]
    mask = lab.preset("causal", this.reads)
    mask[t] = torch.tensor(allowed)
    trace = Trace(lab.painted(ctx.model, mask))
    with torch.no_grad():
        ctx.model(*this.tensors(), trace)
    place = f"decoder.{layer}.self"
    scores = trace[f"{place}.scores"][0, head, t]
    row = lab.row(scores, allowed, mode)
    p.checked(row.error, _("weights"))
    p.checked(recompute.largest_errors(ctx.model, trace, place, head)["scores"], _("scores"))
    p.numbers(softmax_numbers(row))

    def choose_row() -> None:
        chosen = st.session_state[f"{KEY}.row"].row
        if chosen in range(n):
            ctx.put("row", chosen)
            ctx.put("blocked", ",".join(map(str, later(int(chosen), n))) or "none")

    def toggle() -> None:
        j = st.session_state[f"{KEY}.row"].toggle
        if j in range(n):
            now = ctx.url(
                "blocked", later(t, n), cells_of(n)
            )  # as it is now: the click before may not have been drawn yet
            ctx.put("blocked", ",".join(str(k) for k in range(n) if (k in now) != (k == j)) or "none")

    component("maskrow")(
        key=f"{KEY}.row",
        data={
            "reads": names,
            "row": t,
            "allowed": allowed,
            "lines": softmax_lines(row, mode),
            "notes": softmax_notes(row, mode),
            "look": palette(),
            "t": {
                "query": _("Query: the position that looks"),
                "query_name": _("query {t}, has just read {token}"),
                "keys": _("Key: the positions it looks at"),
                "toggle": _("Click to block or to open this key"),
                **cell_texts(),
            },
        },
        on_row_change=choose_row,
        on_toggle_change=toggle,
    )


def softmax_lines(row: lab.Row, mode: str) -> list[dict[str, Any]]:
    """The lines of the table, top to bottom. −∞ travels as null."""
    added: dict[str, list[Any]] = {
        "infinity": [0.0 if a else None for a in row.allowed],
        "zero": ["" if a else "→ 0" for a in row.allowed],
    }
    texts = {
        "infinity": (_("the mask adds"), _("0 where it may look, −∞ where it may not")),
        "zero": (_("the mask puts"), _("0 in the place of the score")),
        "after": (_("the mask waits"), _("blocked weights are set to 0 afterwards")),
    }
    lines: list[tuple[str, str, str, Sequence[Any], float | None]] = []
    lines.append(("score", _("score"), _("query · key, scaled"), list(row.scores), None))
    lines.append(("mask", *texts[mode], added.get(mode, [""] * len(row.allowed)), None))
    lines.append(("masked", _("what softmax gets"), "", [None if x == -math.inf else x for x in row.masked], None))
    lines.append(
        ("exp", _("exponential"), _("e to the score, less the largest of the row"), list(row.exponentials), row.total)
    )
    lines.append(("weight", _("weight"), _("exponential ÷ sum"), list(row.weights), math.fsum(row.weights)))
    return [{"id": i, "name": n, "help": h, "values": v, "sum": s} for i, n, h, v, s in lines]


def softmax_notes(row: lab.Row, mode: str) -> list[str]:
    lost = math.fsum(w for w, a in zip(row.weights, row.allowed, strict=True) if not a)
    if not any(row.allowed) and mode == "infinity":
        return [
            _(
                "This query may look at nobody: 0 / 0. Softmax alone gives NaN, and NaN spreads; this model gives zeros instead."
            )
        ]
    if mode == "zero" and lost:
        return [
            _(
                "{share:.0%} of the weight goes to blocked tokens. A score of 0 is an ordinary score: its exponential is not 0."
            ).format(share=lost)
        ]
    if mode == "after":
        return [
            _(
                "The blocked tokens get nothing, but the row adds up to {total:.3f}: they had their part in the sum."
            ).format(total=math.fsum(row.weights))
        ]
    return [_("Blocked tokens get exactly 0, and the row adds up to {total:.3f}.").format(total=math.fsum(row.weights))]


def softmax_numbers(row: lab.Row) -> str:
    """The largest weight of the row, filled in."""
    j = max(range(len(row.weights)), key=lambda j: row.weights[j])
    terms = [f"e^{{{m:.2f}}}" if math.isfinite(m) else r"e^{-\infty}" for m in row.masked]
    shown = terms if len(terms) <= 6 else [*terms[:3], r"\dots", *terms[-2:]]
    return rf"a_{{{j + 1}}} = \frac{{{terms[j]}}}{{{' + '.join(shown)}}} = {row.weights[j]:.4f}"


def later(t: int, n: int) -> tuple[int, ...]:
    """The positions after t: what a causal mask blocks."""
    return tuple(range(t + 1, n))


def cells_of(n: int) -> Callable[[str], tuple[int, ...]]:
    """Reads "3,4": positions below n, or "none"."""

    def read(text: str) -> tuple[int, ...]:
        if text in ("none", ""):
            return ()
        if len(text) > 200:
            raise ValueError(text)
        return tuple(sorted({int(x) for x in text.split(",") if 0 <= int(x) < n}))

    return read
