"""Lab 5 on the page: the wishes, measured, and what becomes of strings that are longer than any seen."""

from collections.abc import Mapping, Sequence

import streamlit as st

from core.lab.experiments import EXPERIMENTS
from playground.i18n import _
from playground.lessons import experiment
from playground.lessons import positions_measure as measure
from playground.lessons.frame import LabContext, PanelView, ticks
from playground.lessons.positions_figures import DASHES, FINE, Figure, figures, line, names, row_of_controls, within
from playground.lessons.positions_measure import BEYOND, COLUMNS, LONG, SHORT, SOURCE
from playground.lessons.positions_wishes import column_texts, explained, shown
from playground.look import head_colour

EXPERIMENT = "lab.positions.experiment.length"


def wishes(ctx: LabContext, p: PanelView) -> None:
    config = ctx.model.config
    grid, error = measure.grid(config.d_model, config.d_k, config.n_heads)
    columns = column_texts(revealed())
    result = experiment.shipped("length")
    ids = [c for c in columns if c in COLUMNS or result is not None]
    r, c = ctx.url("wish", (0, 2), within(len(measure.ROWS), len(ids)))
    cells = {row: shown(row, grid[row], ids, result) for row in measure.ROWS}

    def pick(figure: int, row: int, column: int) -> None:
        row, column = min(row, len(measure.ROWS) - 1), min(column, len(ids) - 1)
        ctx.put("wish", f"{row},{column}")
        if cells[measure.ROWS[row]][column]["good"] is False:
            ticks("positions").add(p.id)

    known = names()
    one = _("{name}, one direction")
    figures(
        p,
        [
            {
                "kind": "wishes",
                "title": _("Encodings and wishes, at width {width}").format(width=config.d_model),
                "columns": [{"title": columns[c].title, "help": columns[c].help} for c in ids],
                "lines": [
                    {
                        "name": one.format(name=known[measure.base(row)]) if row.endswith("_one") else known[row],
                        "cells": cells[row],
                        "apart": row == BEYOND[0],
                    }
                    for row in measure.ROWS
                ],
                "picked": [r, c],
            }
        ],
        pick,
        below=110,
        least=350,
        most=390,
    )
    row, column = measure.ROWS[r], ids[c]
    st.markdown(explained(row, column, cells[row][c], known))
    p.numbers(wish_formula(row, column, cells[row][c]["value"]))
    p.checked(error, _("all cells"), FINE)


def wish_formula(row: str, column: str, value: float | None) -> str:
    """The chosen cell, as a formula with its number."""
    formula = {
        "distinct": rf"\min_{{s \ne t < {SHORT}}} \lVert PE_s - PE_t \rVert",
        "same_step": rf"\max_t \bigl| \lVert \Delta PE^{{({SHORT})}}_t \rVert - \lVert \Delta PE^{{({LONG})}}_t \rVert \bigr|",
        "bounded": rf"\frac{{\max |PE^{{({LONG})}}|}}{{\max |PE^{{({SHORT})}}|}}",
        "even": r"\frac{\max_t \lVert \Delta PE_t \rVert}{\min_t \lVert \Delta PE_t \rVert}",
        "kept": r"\frac{\lVert PE - \mu(PE) \rVert}{\lVert PE \rVert}",
        "beyond": rf"\max_{{t \ge {SHORT},\, i}} \mathrm{{dist}}\bigl(PE_{{t,i}},\, [\min_{{s<{SHORT}}} PE_{{s,i}},\, \max_{{s<{SHORT}}} PE_{{s,i}}]\bigr)",
    }.get(column, r"\text{exact match}")
    return formula + (f" = {value:.6g}" if value is not None else r" = \text{–}")


def length(ctx: LabContext, p: PanelView) -> None:
    sides = {"trained": _("all encodings, trained"), "curve": _("what came out"), "own": _("this run")}
    with row_of_controls():
        side = ctx.choose("length_side", _("Look at"), sides)
        ask = side == "own" and st.button(_("Measure this run"), type="primary", key="lab.positions.ask")
    if side == "own":
        own_lengths(ctx, p, ask)
    elif side == "trained":
        found = experiment.show("length", EXPERIMENT)
        st.session_state[f"{EXPERIMENT}.yours"] = found.yours
        if found.revealed:
            p.done()
    elif not revealed():
        st.info(_("First say what you expect, under “all encodings, trained”."))
    elif (result := experiment.shipped("length")) is None:
        st.info(_("No result ships with this experiment. Run it under “all encodings, trained”."))
    else:
        st.markdown(conclusion(result))
        figures(p, [lengths_figure(result, st.session_state.get(f"{EXPERIMENT}.yours", {}))], below=60, most=520)


def revealed() -> bool:
    """Has the person said what they expect of longer strings?"""
    return st.session_state.get(f"predict.{EXPERIMENT}") is not None


def own_lengths(ctx: LabContext, p: PanelView, ask: bool) -> None:
    """The person's model, asked for strings of every length."""
    kept: dict[tuple[str, int], tuple[dict[int, float], float]] = st.session_state.setdefault(
        "lab.positions.by_length", {}
    )
    slot = (ctx.run.id, ctx.step)
    possible = measure.measurable(ctx.model, ctx.data)
    if not possible:
        st.info(_("This task has no strings of every length. Choose a run of another task."))
        return
    if ask and slot not in kept:
        with st.spinner(_("The model writes {n} strings of each length …").format(n=measure.STRINGS)):
            found = measure.by_length(ctx.model, ctx.data)
            kept[slot] = found, measure.by_length_error(ctx.model, ctx.data, found)
    if slot not in kept:
        st.info(_("Press “Measure this run”: its curve appears here, from 2 to {n} symbols.").format(n=possible[-1]))
        return
    p.done()
    (curve, error), task = kept[slot], ctx.run.config.task
    wide = measure.even(ctx.model.config.d_model)
    beyond = {kind: measure.beyond_by_length(kind, wide) for kind in SOURCE if kind != "integer"}
    inside = {n: v for n, v in curve.items() if task.min_len <= n <= task.max_len}
    own = lengths_plot(
        _("This run at step {step}: strings without a mistake").format(step=ctx.step),
        list(curve),
        [line(ctx.model.config.positions, list(curve.values()), dots=True)],
        (min(inside), max(inside)) if inside else None,
    )
    ranges = {
        "kind": "plot",
        "title": _("How far does a feature leave the range it had up to length {n}?").format(n=SHORT),
        "help": _("0: nothing new. Integers leave it by 1 more for every position and do not fit this picture."),
        "x": list(range(SHORT, LONG + 1)),
        "lines": [line(kind, values) for kind, values in beyond.items()],
        "min": 0,
        "max": 1.1,
        "x_title": _("length of the sequence"),
        "y_title": _("outside the range"),
    }
    figures(p, [own | {"flex": 1.2}, ranges], below=110, most=430)
    ranges_error = max(measure.beyond_error(kind, wide, values) for kind, values in beyond.items())
    p.checked(max(error, ranges_error), _("exact match and ranges"), FINE)
    after = [n for n in curve if n > task.max_len]
    if not inside or not after:
        return
    two = min(after, key=lambda n: abs(n - task.max_len - 2))
    st.markdown(
        _("Trained lengths: **{inside}** right on average. Length {n}: **{after}**.").format(
            inside=f"{sum(inside.values()) / len(inside):.0%}", n=two, after=f"{curve[two]:.0%}"
        )
        + " "
        + _(
            "New values are one reason, not all of it: binary stays in its range up to position 15 and fails as well, because "
            "the model never saw those rows."
        )
    )
    share = rf"\frac{{{round(curve[two] * measure.STRINGS)}}}{{{measure.STRINGS}}}"
    p.numbers(rf"\text{{exact match}}({two}) = {share} = {curve[two]:.3g}")


def lengths_plot(title: str, x: list[int], lines: list[Figure], trained: tuple[int, int] | None) -> Figure:
    """Exact match by length; trained: from where to where the training strings went."""
    shade = {"from": trained[0], "to": trained[1], "text": _("trained on these")} if trained else None
    axes = {"x_title": _("length of the string"), "y_title": _("exact match"), "min": 0, "max": 1.15}
    return {"kind": "plot", "title": title, "x": x, "lines": lines, "shade": shade, **axes}


def lengths_figure(result: experiment.Shipped, yours: Mapping[str, experiment.Metrics]) -> Figure:
    """The curves of the experiment: shipped (mean of the seeds), and the person's own."""
    lines: list[Figure] = []
    for i, variant in enumerate(EXPERIMENTS["length"].variants):
        look = {"colour": head_colour(i), "dots": True}
        if variant.id in result.metrics:
            curve = by_length(result.metrics[variant.id])
            dash = DASHES[(i // 8 + i) % len(DASHES)]
            lines.append({"name": _(variant.label), "values": list(curve.values()), "dash": dash, **look})
        if variant.id in yours:
            name = f"{_(variant.label)} · {_('yours')}"
            lines.append({"name": name, "values": list(by_length([yours[variant.id]]).values()), **look})
    title = _("Strings without a mistake, by length ({steps} steps, seed {seeds}, {date})").format(
        steps=result.steps, seeds=", ".join(map(str, result.seeds)), date=result.made
    )
    lengths = list(by_length(next(iter(result.metrics.values()))))
    return lengths_plot(title, lengths, lines, (min(lengths), SHORT))


def by_length(rows: Sequence[experiment.Metrics]) -> dict[int, float]:
    """Exact match by length, mean of the seeds."""
    found = sorted(int(name.removeprefix("length_")) for name in rows[0] if name.startswith("length_"))
    return {n: sum(r[f"length_{n}"] for r in rows) / len(rows) for n in found}


def conclusion(result: experiment.Shipped) -> str:
    """What the measurements say, in plain words; the numbers are those of the shipped result."""
    at = {variant: by_length(rows) for variant, rows in result.metrics.items()}
    source = [v for v in at if v.removesuffix("_every").removesuffix("_one") in SOURCE and v != "unit_one"]
    worst = max((at[v][12] for v in source), default=0.0)
    text = _(
        "**Bounded does not mean that it generalises.** Trained on 3 to 10 symbols, all encodings up to the paper's but one "
        "write at most **{worst}** of the strings of length 12 without a mistake."
    ).format(worst=f"{worst:.0%}")
    if "unit_one" in at:
        text += " " + _(
            "The one is [0, 1] along one direction, with **{near}**: reversing needs only the relative place, the first from the last, "
            "and our decoder divides by the length of the source, so every number it meets lies in the range it knows. That is no "
            "general cure: the step between neighbours shrinks as strings grow, until the model cannot tell them apart (**{far}** "
            "at length 16, **{end}** at 20), and “one place to the left” is another number at every length."
        ).format(**{name: f"{at['unit_one'][n]:.0%}" for name, n in (("near", 12), ("far", 16), ("end", 20))})
    if "rotary" in at:
        text += " " + _("Rotary, which came later and knows distances only, gets {share} at length 12.").format(
            share=f"{at['rotary'][12]:.0%}"
        )
    return text
