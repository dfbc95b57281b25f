"""Lab 1 on the page, panel 8: the shapes of a whole attention, stage by stage."""

from typing import Any

import streamlit as st

from playground.components import component
from playground.i18n import _
from playground.lessons.attention import LINES, SLICED
from playground.lessons.attention_shapes import PAPER, Shapes, paper, walk
from playground.lessons.attention_steps import steps_of
from playground.lessons.attention_view import code_line, decoder_input
from playground.lessons.frame import LabContext, PanelView
from playground.look import palette

STAGES = ("input", "projected", "split", "attend", "merge")


def draw_shapes(ctx: LabContext, p: PanelView) -> None:
    """Panel 8: the shapes of a whole attention, and one wide projection against many narrow ones."""
    config = ctx.model.config
    d, heads = PAPER
    sizes = {
        "paper": f"{d} · {heads} · {d // heads}",
        "own": _("this model: {d} · {heads} · {width}").format(
            d=config.d_model, heads=config.n_heads, width=config.d_k
        ),
    }
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        preset = ctx.choose(
            "size",
            _("d_model · heads · d_k"),
            sizes,
            help=_("The sizes of the paper (an untrained layer, random input), or those of your run on your input."),
        )
        mistake = ctx.mistakes([SLICED], "cut")
    shapes = walked(ctx, preset)
    stage = ctx.url("stage", STAGES[0], STAGES)
    seen = st.session_state.setdefault("lab.attention.stages", set())
    key = "lab.attention.shapes"

    def go() -> None:
        chosen = str(st.session_state[key].stage)
        if chosen in STAGES:
            ctx.put("stage", chosen)
            seen.add(chosen)
            if seen >= set(STAGES[1:]):
                p.done()

    component("shapes")(
        key=key,
        data={
            **{"d": shapes.d_model, "heads": shapes.heads, "width": shapes.d_k, "tokens": shapes.tokens},
            "shape": {name: list(shape) for name, shape in shapes.shape.items()},
            "stages": [stage_text(name, shapes) for name in STAGES],
            "stage": stage,
            "sliced": mistake == SLICED.id,
            "figures": figures(shapes, mistake == SLICED.id),
            "look": palette(),
            "t": {
                "next": _("Next stage"),
                "again": _("From the start"),
            },
        },
        on_stage_change=go,
    )
    p.numbers(
        rf"d_k = \frac{{{shapes.d_model}}}{{{shapes.heads}}} = {shapes.d_k} \qquad "
        rf"\max \bigl| \text{{wide, split}} - \text{{narrow}} \bigr| = \text{{{size(shapes.narrow)}}}"
    )
    p.checked(max(shapes.error, shapes.narrow))


def walked(ctx: LabContext, preset: str) -> Shapes:
    if preset == "paper":
        return _paper(len(ctx.ids))
    first = steps_of(ctx.model, ctx.ids, decoder_input(ctx), "encoder", 0, 0)
    return walk(ctx.model.attention("encoder.0.self"), first.x_q)


@st.cache_resource(max_entries=8, show_spinner=False)
def _paper(tokens: int) -> Shapes:
    return walk(*paper(tokens))


def stage_text(name: str, s: Shapes) -> dict[str, Any]:
    """A stage of the walk: its name, its shape in numbers, a sentence, its line of source."""
    title, sentence = {
        "input": (_("Input"), _("One row per token, {d} numbers wide. All heads read all of it.")),
        "projected": (
            _("Project"),
            _("One product with a matrix of {d} × {wide} makes queries, keys and values of all heads at once."),
        ),
        "split": (
            _("Split"),
            _(
                "The width is cut into {heads} slices of {width}: a query, key and value per head. No number changes, only the shape."
            ),
        ),
        "attend": (
            _("Attend"),
            _(
                "Each head scores, masks, weighs and adds on its own: {heads} maps of {tokens} × {tokens}, then z of width {width}."
            ),
        ),
        "merge": (
            _("Merge and project"),
            _(
                "The {heads} slices are laid side by side again, {d} wide, and one more matrix of {d} × {d} mixes what the heads found."
            ),
        ),
    }[name]
    values = {"d": s.d_model, "wide": 3 * s.d_model, "heads": s.heads, "width": s.d_k, "tokens": s.tokens}
    return {"id": name, "title": title, "text": sentence.format(**values), "code": code_line(*LINES[name])}


def figures(s: Shapes, sliced: bool) -> list[dict[str, Any]]:
    """Measured: is it the same, and how many weights does it take?"""
    wide = _("one wide projection, then split")
    narrow = _("{heads} narrow projections, one a head").format(heads=s.heads)
    rows = [(True, wide, narrow, s.narrow, s.weights, s.d_model)]
    if sliced:
        rows.append((False, _("x sliced first, then projected"), wide, s.sliced, s.weights_sliced, s.d_k))
    sentence = _("{title} against {against}: largest difference {difference}")
    count = _("{weights} weights in W_Q, W_K, W_V; each head sees {seen} of {d} numbers of a token")
    return [
        {
            "same": same,
            "text": sentence.format(title=title, against=against, difference=size(difference)),
            "count": count.format(weights=f"{weights:,}", seen=seen, d=s.d_model),
        }
        for same, title, against, difference, weights, seen in rows
    ]


def size(x: float) -> str:
    """A difference to read: 0, 6e-7, 2.54."""
    return "0" if x == 0 else f"{x:.3g}" if x >= 0.01 else f"{x:.0e}".replace("e-0", "e-")
