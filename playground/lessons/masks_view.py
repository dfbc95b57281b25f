"""Lab 4 on the page: what its panels share."""

import math
from collections.abc import Sequence

import streamlit as st
from torch import Tensor

from core.model import Transformer
from core.tasks import Vocab
from core.tokens import EOS
from playground.fields import field
from playground.i18n import _
from playground.lessons import masks_measure as lab
from playground.lessons.frame import LabContext

KEY = "lab.masks"


def view(ctx: LabContext) -> str:
    return ctx.choose("look", _("Look at"), {"model": _("The model"), "experiment": _("The experiment")})


def example(ctx: LabContext, pads: int = 0) -> lab.Example:
    """The input with its answer, as many positions of it as these panels can show; says so where that is not all."""
    this = lab.example(ctx.model, ctx.data, ctx.ids, pads)
    if EOS not in this.writes:
        sentence = _("The output is longer than this panel can show: these are its first {n} positions.")
        st.caption(sentence.format(n=this.real))
    return this


def head_of(ctx: LabContext) -> tuple[int, int]:
    """Layer and head whose weights are shown, from 0; in the URL from 1."""
    config = ctx.model.config
    every = [f"{i + 1},{h + 1}" for i in range(config.n_layers) for h in range(config.n_heads)]
    layer, head = ctx.url("head", every[0], every).split(",")
    return int(layer) - 1, int(head) - 1


def put_head(ctx: LabContext, text: object) -> None:
    if text in [head["id"] for head in heads(ctx.model)]:
        layer, head = str(text).split(",")
        ctx.put("head", f"{int(layer) + 1},{int(head) + 1}")


def select_head(ctx: LabContext, layer: int, head: int) -> None:
    """A box for the panels whose component has none of its own."""
    names = {h["id"]: h["name"] for h in heads(ctx.model)}
    box = field(f"{KEY}.head_box.{ctx.run.id}", f"{layer},{head}")

    def chosen() -> None:
        box.told = st.session_state[box.key]
        put_head(ctx, box.told)

    st.selectbox(
        _("Head"),
        list(names),
        list(names).index(box.start),
        format_func=lambda i: names[i],
        key=box.key,
        width=170,
        on_change=chosen,
    )


def heads(model: Transformer) -> list[dict[str, str]]:
    config = model.config
    return [
        {"id": f"{i},{h}", "name": _("layer {layer}, head {head}").format(layer=i + 1, head=h + 1)}
        for i in range(config.n_layers)
        for h in range(config.n_heads)
    ]


def cell_texts() -> dict[str, str]:
    return {
        "may": _("query {t} (read {reads}) may look at key {j} ({token})"),
        "may_not": _("query {t} (read {reads}) may not look at key {j} ({token})"),
    }


def tokens(vocab: Vocab, ids: Sequence[int]) -> list[str]:
    return [vocab.name(i) for i in ids]


def numbers(matrix: Tensor) -> list[list[float]]:
    """For the browser: eight significant digits are more than a float32 has; NaN would be no JSON."""
    return [[float(f"{x:.8g}") if math.isfinite(x) else 0.0 for x in row] for row in matrix.tolist()]


def blocked_as_null(weights: Tensor, mask: Tensor) -> list[list[float | None]]:
    return [
        [x if seen else None for x, seen in zip(row, allowed, strict=True)]
        for row, allowed in zip(numbers(weights), mask.tolist(), strict=True)
    ]


def small(x: float) -> str:
    """Two digits: 0, 17, 9.3e-6."""
    return f"{x:.2g}".replace("e-0", "e-")


def latex(x: float) -> str:
    if x == 0 or x >= 1e-3:
        return f"{x:.3g}"
    mantissa, exponent = f"{x:.1e}".split("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}"
