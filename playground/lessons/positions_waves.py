"""Lab 5 on the page: one wave and many, sine and cosine as a turn."""

import math

import streamlit as st

from playground.i18n import _
from playground.lessons import positions_measure as measure
from playground.lessons.frame import LabContext, PanelView
from playground.lessons.positions_figures import (
    FINE,
    Figure,
    bar,
    figures,
    heat,
    line,
    power,
    row_of_controls,
    seen,
    tiny,
)
from playground.lessons.positions_measure import LONG
from playground.look import DECODER, KEY, QUERY

CORNER = 8  # features of the turning matrix that are shown with their numbers


def sine(ctx: LabContext, p: PanelView) -> None:
    width = ctx.model.config.d_model
    with row_of_controls():
        alone = (
            ctx.choose("waves", _("Compare positions by"), {"one": _("this wave"), "all": _("all waves together")})
            == "one"
        )
        i = ctx.slide(
            "wave",
            _("Feature i: short waves left, long waves right"),
            list(range(width)),
            0,
            _(
                "Feature i has frequency 10000^(−i/d): the lower it is, the longer the wave and the less a step changes."
            ),
        )
    found = measure.wave(i, width, LONG)
    if found.step <= 0.01:
        seen(p).add("long")
    if not alone:
        seen(p).add("all")
    if seen(p) >= {"long", "all"}:
        p.done()
    together, error = measure.all_waves(width, LONG)
    dense = [n / 20 for n in range(20 * (LONG - 1) + 1)]
    a, b = found.twins
    nearest = together + 1e9 * together.new_ones(LONG).diag()
    if alone:
        sentence = _("Most alike: positions {a} and {b}, which differ by {gap}.").format(
            a=a, b=b, gap=f"{found.apart[a, b]:.2g}"
        )
    else:
        sentence = _("The two most alike are {gap} apart: every position can be told from every other.").format(
            gap=f"{nearest.min():.3g}"
        )
    figures(
        p,
        [
            {
                "kind": "plot",
                "title": _("sin(t ω) for ω = {omega}").format(omega=f"{found.omega:.4g}"),
                "x": list(range(LONG)),
                "lines": [
                    line("sine", [math.sin(x * found.omega) for x in dense], x=dense)
                    | {"name": _("the wave"), "dash": []},
                    line("sine", found.values.tolist(), dots="only")
                    | {"name": _("its value at each position"), "dash": [1, 5]},
                ],
                "min": -1.1,
                "max": 1.1,
                "x_title": _("position t"),
                "y_title": _("value of the feature"),
                "under": _("Wavelength {length} positions. Neighbours differ by {step} at most.").format(
                    length=f"{found.wavelength:.4g}", step=f"{found.step:.2g}"
                ),
                "flex": 1.4,
            },
            heat(
                _("How far apart are two positions?"),
                found.apart if alone else together,
                _("positions {row} and {column}: {value}"),
                _("position"),
                _("position"),
                square=True,
                under=sentence,
                picked=[a, b] if alone else None,
                help=_("A cell off the diagonal in the colour of 0 means: these two look the same."),
            ),
        ],
    )
    p.numbers(
        rf"\omega_{{{i}}} = 10000^{{-{i}/{width}}} = {found.omega:.4g} \qquad \lambda_{{{i}}} = \frac{{2\pi}}{{{found.omega:.4g}}} = {found.wavelength:.4g}"
    )
    p.checked(max(found.error, error), _("values and distances"), FINE)


def turn(ctx: LabContext, p: PanelView) -> None:
    width = measure.even(ctx.model.config.d_model)
    with row_of_controls():
        k = ctx.slide("k", _("Go on by k places"), list(range(0, 11)), 1)
        t = ctx.slide("from", _("Start at position t"), list(range(0, LONG + 1)), 0)
    seen(p).update({name for name, moved in (("k", k != 1), ("t", t != 0)) if moved})
    if seen(p) >= {"k", "t"}:
        p.done()
    found = measure.turn(k, t, width)
    corner, pairs = min(width, CORNER), min(width // 2, CORNER // 2)
    angles = [1 / 10_000 ** (2 * i / width) for i in range(pairs)]
    three = [(f"PE({t})", found.start, QUERY), (f"M · PE({t})", found.moved, DECODER), (f"PE({t + k})", found.end, KEY)]
    figures(
        p,
        [
            heat(
                _("M for k = {k}: features 0 to {last} of {width}").format(k=k, last=corner - 1, width=width),
                found.matrix[:corner, :corner],
                _("row {row}, column {column}: {value}"),
                _("feature of PE(t)"),
                _("feature of PE(t + k)"),
                limit=1.0,
                square=True,
                help=_("Outside the 2 × 2 blocks along the diagonal everything is 0: each pair turns for itself."),
            )
            | {"min": -1.0},
            {
                "kind": "clock",
                "title": _("The same pairs as hands"),
                "help": _("Sine is how far right a hand points, cosine how far up."),
                "clocks": [clock(i, w, t, k) for i, w in enumerate(angles)],
                "names": ["t", "t + k"],
                "colours": [QUERY, KEY],
                "flex": 0.85,
            },
            {
                "kind": "bars",
                "title": _("Is M · PE(t) the same as PE(t + k)?"),
                "rows": [bar(name, values, 1.0, colour) for name, values, colour in three],
                "x_title": _("feature"),
                "tip": _("feature {column}"),
            },
        ],
        below=88,
    )
    st.markdown(
        _(
            "‖M·PE(t) − PE(t+k)‖ is **{here}** here and at most **{worst}** for all t from 0 to {reach}: one matrix serves them "
            "all."
        ).format(here=tiny(found.error), worst=tiny(found.worst), reach=found.reach - 1)
        + " "
        + _("With the sine alone the factor would have to be another one each time: {factors} at t = 1, 2, 3.").format(
            factors=", ".join(f"{f:.2f}" for f in measure.factors(k, 1.0, (1, 2, 3)))
        )
    )
    last = pairs - 1
    p.numbers(
        rf"k = {k}:\;\; R({k} \cdot {angles[last]:.4g}) = \begin{{pmatrix}} {found.matrix[2 * last, 2 * last]:.4f} & {found.matrix[2 * last, 2 * last + 1]:.4f} \\ "
        rf"{found.matrix[2 * last + 1, 2 * last]:.4f} & {found.matrix[2 * last + 1, 2 * last + 1]:.4f} \end{{pmatrix}} \qquad "
        rf"\max_t \lVert M_{{{k}}} PE_t - PE_{{t+{k}}} \rVert = {power(found.worst)}"
    )
    p.checked(max(found.worst, found.hand), _("all t from 0 to {reach}").format(reach=found.reach - 1), FINE)


def clock(i: int, omega: float, t: int, k: int) -> Figure:
    return {
        "title": _("features {a}, {b}").format(a=2 * i, b=2 * i + 1),
        "from": t * omega,
        "turn": k * omega,
        "text": _("turn {angle}°").format(angle=f"{math.degrees(k * omega):.4g}"),
        "tip": _("wavelength {length} positions").format(length=f"{2 * math.pi / omega:.4g}"),
    }
