"""Panel 4: fillers behind the source, with and without the padding mask."""

from typing import Any

import streamlit as st
import torch

from core.tasks import Vocab
from core.tokens import EOS, PAD
from playground.components import component
from playground.i18n import _
from playground.lessons import experiment
from playground.lessons import masks_measure as lab
from playground.lessons.frame import LabContext, PanelView
from playground.lessons.masks_view import (
    KEY,
    blocked_as_null,
    example,
    head_of,
    latex,
    select_head,
    small,
    tokens,
    view,
)
from playground.look import palette


def padding(ctx: LabContext, p: PanelView) -> None:
    """Panel 4: fillers behind the source, with and without the padding mask; then the experiment."""
    room = min(10, ctx.model.config.max_len - len(ctx.ids))
    layer, head = head_of(ctx)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        chosen = view(ctx)
        if chosen == "model":
            pads = ctx.slide(
                "fillers",
                _("Padding tokens behind the input"),
                range(room + 1),
                min(3, room),
                help=_("Token number 0, shown as a dot. In a batch every string is filled up to the longest."),
            )
            select_head(ctx, layer, head)
    if chosen == "experiment":
        if experiment.show("padding", f"{KEY}.padding", height=150).revealed:
            p.done()
        return
    if pads != min(3, room):
        p.done()
    this = example(ctx)
    both = {on: lab.pad(ctx.model, this, pads, on) for on in (True, False)}
    p.checked(max(found.error for found in both.values()), _("logits"))
    p.numbers(
        rf"\Delta_{{\text{{mask}}}} = {latex(both[True].difference)} \qquad \Delta_{{\text{{no mask}}}} = {latex(both[False].difference)}"
    )
    vocab = ctx.data.vocab
    names = {True: _("With the padding mask"), False: _("Without it")}
    component("padview", "gridmap.js")(
        key=f"{KEY}.pad",
        data={
            "src": tokens(vocab, [*this.src, *[PAD] * pads]),
            "real": len(this.src),
            "reads": tokens(vocab, this.reads),
            "sides": [pad_side(vocab, this, found, names[on], on, layer, head) for on, found in both.items()],
            "look": palette(),
            "t": {
                "difference": _("is the largest change of any logit"),
                "axes": _(
                    "cross-attention: queries (decoder, has just read) down, keys (source) across; then what is predicted"
                ),
                "writes": _("writes alone:"),
                "blocked": _("query {t} ({reads}), key {j} ({token}): blocked"),
                "weight": _("query {t} ({reads}), key {j} ({token}): weight {weight}"),
                "hatched": _("hatched: blocked, weight exactly 0. Δ: how far the logits of a position moved."),
            },
        },
    )
    st.markdown(pad_sentence(both, pads))


def pad_side(
    vocab: Vocab, this: lab.Example, found: lab.Padded, title: str, on: bool, layer: int, head: int
) -> dict[str, Any]:
    weights = found.cross[layer, head]
    mask = torch.ones_like(weights, dtype=torch.bool)
    mask[:, len(this.src) :] = not on
    written = list(found.generated)
    written = written[: written.index(EOS) + 1] if EOS in written else written
    return {
        "id": "on" if on else "off",
        "title": title,
        "difference": small(found.difference),
        "same": found.difference <= 1e-4,
        "weights": blocked_as_null(weights, mask),
        "outputs": [
            {"token": vocab.name(got), "right": got == want, "expected": vocab.name(want), "change": float(change)}
            for got, want, change in zip(found.predicted, this.writes, found.change, strict=True)
        ],
        "generated": {"tokens": tokens(vocab, written), "right": tuple(written) == this.writes},
    }


def pad_sentence(both: dict[bool, lab.Padded], pads: int) -> str:
    if not pads:
        return _("No padding yet: both sides are the same.")
    rounding = ""
    if both[True].difference:
        rounding = _(
            "What is left with the mask is rounding, the same sums in another order: in double precision it is {error}."
        ).format(error=small(both[True].difference64))
    share = _("Without the mask {share:.0%} of all cross-attention goes to fillers.").format(share=both[False].on_pads)
    return f"{rounding} {share}".strip()
