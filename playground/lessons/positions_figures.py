"""What the panels of lab 5 share: figures for the browser, names of encodings, controls."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st
from torch import Tensor

from playground.components import component
from playground.i18n import _
from playground.lessons.frame import LabContext, PanelView, pair
from playground.look import head_colour, palette

DASHES: tuple[list[int], ...] = ([], [7, 3], [2, 3], [10, 3, 2, 3], [4, 2])
FINE = 1e-9  # largest error of what is computed in float64
BELOW = 40  # pixels kept free under the figures
SEEN = "lab.positions.seen."

Figure = dict[str, Any]
Pick = Callable[[int, int, int], None]


def names() -> dict[str, str]:
    """What the encodings are called."""
    return {
        "integer": _("Integer"),
        "unit": _("[0, 1]"),
        "binary": _("Binary"),
        "sine": _("Sine"),
        "sincos": _("Sine + cosine"),
        "none": _("None"),
        "learned": _("Learned"),
        "rotary": _("Rotary"),
        "alibi": "ALiBi",
    }


def figures(p: PanelView, specs: Sequence[Figure], pick: Pick | None = None, below: int = BELOW, **sizes: int) -> None:
    """Draw figures side by side. pick(figure, row, column) is called for a click."""
    key = f"lab.positions.{p.id}"

    def told() -> None:
        try:
            said = json.loads(str(st.session_state[key].pick))
            where = tuple(int(said[name]) for name in ("figure", "row", "column"))
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        if pick and all(0 <= n < 1000 for n in where):
            pick(*where)

    component("positions", "positions_figures.js")(
        key=key,
        data={
            "panel": p.id,
            "figures": list(specs),
            "below": below,
            **sizes,
            "look": palette(),
            "t": {"table": _("table"), "numbers": _("Show the numbers as a table")},
        },
        on_pick_change=told,
    )


def heat(title: str, rows: Tensor, tip: str, x: str, y: str, limit: float | None = None, **more: Any) -> Figure:
    """A heat map: around 0 where there are negative numbers, else from 0 up."""
    top = limit or max(rows.abs().max().item(), 1e-9)
    low = -top if rows.min() < 0 else 0.0
    axes = {"x": {"title": x}, "y": {"title": y}}
    return {"kind": "map", "title": title, "rows": rows.tolist(), "tip": tip, "min": low, "max": top, **axes, **more}


def line(kind: str, values: Sequence[float], **more: Any) -> Figure:
    """A curve of an encoding: its colour and dash are the same everywhere in this lab."""
    slot = list(names()).index(kind)
    return {
        "name": names()[kind],
        "values": list(values),
        "colour": head_colour(slot),
        "dash": DASHES[slot % len(DASHES)],
        **more,
    }


def bar(name: str, values: Tensor, limit: float, colour: str) -> Figure:
    return {"name": name, "values": values.double().tolist(), "limit": limit, "colour": colour}


def within(rows: int, columns: int) -> Callable[[str], tuple[int, int]]:
    """Reads a cell "2,3" of the URL, both from 0. ValueError outside."""

    def read(text: str) -> tuple[int, int]:
        row, column = pair(text)
        if not (0 <= row < rows and 0 <= column < columns):
            raise ValueError(text)
        return row, column

    return read


def power(x: float) -> str:
    """A very small number for LaTeX."""
    if x == 0:
        return "0"
    digits, exponent = f"{x:.1e}".split("e")
    return rf"{digits} \cdot 10^{{{int(exponent)}}}"


def tiny(x: float) -> str:
    """A very small number for a sentence."""
    return f"{x:.1e}".replace("e-0", "e-") if x else "0"


def seen(p: PanelView) -> set[str]:
    """What the person has tried on this panel."""
    tried: set[str] = st.session_state.setdefault(SEEN + p.id, set())
    return tried


def side(ctx: LabContext, p: PanelView) -> bool:
    """On paper, or in training? -> in training"""
    options = {"paper": _("On paper"), "training": _("In training")}
    return ctx.choose(f"{p.id}_side", _("Look at it"), options) == "training"


def row_of_controls() -> Any:
    return st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
