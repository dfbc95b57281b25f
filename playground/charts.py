"""Vega-Lite specifications, built once with Altair and kept: data go beside them in `st.vega_lite_chart(data, spec)`.

Building an Altair chart costs 20 to 50 ms, handing over a finished specification 1 ms. So every function here is a pure function of a
few hashable options, is cached, and names only fixed fields; what people typed is only ever data.

    st.vega_lite_chart(frame, curves(lines, x_title=_("step"), y_title=_("loss")), alt=…)
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, ParamSpec

import altair as alt
import numpy as np
import pandas as pd

from playground import look

# Eight dashes beside the eight colours, so that no line is told by its colour alone.
DASHES = ((1, 0), (6, 3), (2, 2), (10, 3, 2, 3), (12, 4), (5, 2, 1, 2), (3, 5), (8, 2, 2, 2, 2, 2))
MOST_POINTS = 300  # per line: a chart is 300 to 450 pixels wide, and with twice as many the Runs page opens 0.1 s later
THEME = {
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelOverlap": True},
    "mark": {"aria": False},  # on a canvas nobody hears a sentence per point: `alt` speaks for the chart
}

ROWS = alt.NamedData(name="rows")  # a stand-in: the rows come with the call that draws

Spec = dict[str, Any]
P = ParamSpec("P")


def _built_once(build: Callable[P, alt.TopLevelMixin]) -> Callable[P, Spec]:
    """Build each variant once; hand out copies, since a caller may fit his own."""

    @lru_cache(64)  # run names are part of the options, so they are not kept for ever
    def kept(args: tuple[Any, ...], options: tuple[tuple[str, Any], ...]) -> Spec:
        made: Spec = build(*args, **dict(options)).to_dict()
        made["config"] = THEME
        made["usermeta"] = {"embedOptions": {"renderer": "canvas"}}  # as SVG, three curves are 4,000 elements: 0.3 s
        del made["data"]
        return made

    @wraps(build)
    def spec(*args: P.args, **kwargs: P.kwargs) -> Spec:
        return copy.deepcopy(kept(args, tuple(kwargs.items())))

    return spec


@dataclass(frozen=True)
class Line:
    """One line of a chart: the label its rows carry in the field `line`, and its slot, which fixes colour and dash."""

    label: str
    slot: int

    @property
    def colour(self) -> str:
        return look.head_colour(self.slot)

    @property
    def dash(self) -> tuple[int, ...]:
        return DASHES[self.slot % len(DASHES)]


@_built_once
def curves(
    lines: tuple[Line, ...],
    *,
    x_title: str,
    y_title: str,
    log_x: bool = False,
    log_y: bool = False,
    share: bool = False,
    raw: bool = False,
    legend: bool = True,
    height: int = 200,
) -> alt.TopLevelMixin:
    """Lines over x. Fields: x, y, line, and raw for the faint unsmoothed line. `share`: y runs from 0 to 1.

    `height` is that of the plot itself; Streamlit makes the legend a part of the whole, so its rows are added.
    """
    labels = [line.label for line in lines]
    widths = (sum(2 if char > "\u2e80" else 1 for char in label) for label in labels)
    columns = 2 if max(widths, default=0) <= 24 else 1  # a name's end may be all that tells two runs apart
    height += 45 + (12 + 22 * math.ceil(len(lines) / columns) if legend else 0)
    key = (
        alt.Legend(
            title=None,
            orient="bottom",
            columns=columns,
            labelLimit=150 if columns == 2 else 280,
            symbolType="stroke",
            symbolSize=700,
            symbolStrokeWidth=2.5,
            symbolOpacity=1,
            rowPadding=1,
            offset=4,
        )
        if legend
        else None
    )
    colour = alt.Color(
        "line:N", scale=alt.Scale(domain=labels, range=[line.colour for line in lines]), sort=labels, legend=key
    )
    dash = alt.StrokeDash(
        "line:N",
        scale=alt.Scale(domain=labels, range=[list(line.dash) for line in lines] if len(lines) > 1 else [[1, 0]]),
        sort=labels,
        legend=key,
    )
    x = alt.X("x:Q", title=x_title, scale=alt.Scale(type="log" if log_x else "linear", nice=False))
    scale = alt.Scale(type="log") if log_y else alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=False)
    y = alt.Y("y:Q", title=y_title, scale=scale)
    base = alt.Chart(ROWS, height=height).encode(x=x)
    layers: list[alt.Chart] = []
    if raw:
        layers.append(base.mark_line(opacity=0.25, strokeWidth=1).encode(y=alt.Y("raw:Q", title=y_title), color=colour))
    layers.append(base.mark_line(strokeWidth=2).encode(y=y, color=colour, strokeDash=dash))
    tooltip = [
        alt.Tooltip("line:N", title=" "),
        alt.Tooltip("x:Q", title=x_title, format=",.4~g"),
        alt.Tooltip("y:Q", title=y_title, format=".4~g"),
    ]
    near = alt.selection_point(
        name="near", on="pointerover", clear="pointerout", nearest=True, fields=["x", "line"], empty=False
    )
    seen = alt.when(near).then(alt.value(1.0)).otherwise(alt.value(0.0))
    layers.append(
        base.mark_point(filled=True, size=60).encode(y=y, color=colour, opacity=seen, tooltip=tooltip).add_params(near)
    )
    return alt.layer(*layers)


@_built_once
def bars(
    *, x_title: str, y_title: str, share: bool = False, chosen: str = look.HEADS[0], dark: bool = False
) -> alt.TopLevelMixin:
    """Lying bars in the order of the data. Fields: label (unique), value, text (what is written at the bar's end)."""
    scale = alt.Scale(domain=[0, 1]) if share else alt.Undefined
    base = alt.Chart(ROWS, height=alt.Step(24)).encode(
        y=alt.Y("label:N", sort=None, title=y_title),
        x=alt.X("value:Q", title=x_title, scale=scale),
        tooltip=[alt.Tooltip("label:N", title=y_title), alt.Tooltip("value:Q", title=x_title, format=".3f")],
    )
    return alt.layer(
        base.mark_bar(color=chosen),
        base.mark_text(align="left", dx=4, color="#fafafa" if dark else "#31333f").encode(text="text:N"),
    )


@_built_once
def heatmap(
    *, x_title: str, y_title: str, value_title: str, largest: float = 1.0, diverging: bool = False, dark: bool = False
) -> alt.TopLevelMixin:
    """Cells on one scale: 0 to `largest`, or -largest to largest around 0 when diverging.

    Fields: row and column (unique labels in the order of the data: see `positions`), value.
    """
    colours: tuple[str, ...]
    if diverging:
        colours = look.DIVERGING_DARK if dark else look.DIVERGING_LIGHT
    else:
        colours = look.SEQUENTIAL_DARK if dark else look.SEQUENTIAL_LIGHT
    low = -largest if diverging else 0.0
    scale = alt.Scale(domain=[low, largest], range=list(colours), clamp=True)
    axis = alt.Axis(orient="top", labelAngle=0, labelExpr="split(datum.label, ' ')")  # the place above the token
    chart: alt.Chart = (
        alt.Chart(ROWS, width=alt.Step(28), height=alt.Step(28))
        .mark_rect()
        .encode(
            x=alt.X("column:N", sort=None, title=x_title, axis=axis),
            y=alt.Y("row:N", sort=None, title=y_title),
            color=alt.Color("value:Q", title=value_title, scale=scale),
            tooltip=[
                alt.Tooltip("row:N", title=y_title),
                alt.Tooltip("column:N", title=x_title),
                alt.Tooltip("value:Q", title=value_title, format=".3f"),
            ],
        )
    )
    return chart


def positions(tokens: list[str]) -> list[str]:
    """Labels that stay apart when a token repeats: its position from 1, then the token."""
    return [f"{place} {token}" for place, token in enumerate(tokens, 1)]


def smooth(values: pd.Series, weight: float) -> pd.Series:
    """Exponential moving average without the pull towards the start: each value divided by the weights that it got.

    `adjust=True` is the bias correction of Adam (Kingma & Ba 2015, §3): Σ wⁱ·x / Σ wⁱ, so the first value is the first datum.
    """
    return values.ewm(alpha=1.0 - weight, adjust=True).mean() if weight else values


def thin(frame: pd.DataFrame, column: str = "raw", most: int = MOST_POINTS) -> pd.DataFrame:
    """At most `most` rows: of every stretch the lowest and the highest value stay, so that no spike is lost."""
    n = len(frame)
    if n <= most:
        return frame
    stretch = np.arange(n) * (most // 2) // n  # (n,) which stretch a row belongs to
    groups = frame[column].reset_index(drop=True).groupby(stretch)
    keep = sorted({0, n - 1, *groups.idxmin().dropna().astype(int), *groups.idxmax().dropna().astype(int)})
    return frame.iloc[keep]
