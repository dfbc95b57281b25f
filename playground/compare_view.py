"""Curves of one to eight runs over each other, and what sets their settings and results apart."""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from core.model import parameter_counts
from playground import charts, differences, runs_list
from playground.charts import Line
from playground.history import history, line, side_by_side
from playground.i18n import N_, _
from playground.runs_list import Row

METRICS = {"loss": N_("Loss"), "token_accuracy": N_("Token accuracy"), "exact_match": N_("Exact match")}
HELP = {
    "loss": N_("Cross-entropy in nats a token on the training strings: 0 is perfect, ln V is a guess."),
    "token_accuracy": N_(
        "Share of right tokens on unseen strings when the right beginning is given (teacher forcing)."
    ),
    "exact_match": N_("Share of unseen strings that the model writes itself without a single mistake."),
}


@dataclass(frozen=True)
class View:
    """How the curves are drawn: smoothing weight, logarithmic loss, and "step" or "seconds" along x."""

    weight: float
    log_y: bool
    x: str


def controls() -> View:
    weight: float = st.slider(
        _("Smoothing"),
        0.0,
        0.999,
        0.0,
        0.001,
        format="%.3f",
        key="runs.smoothing",
        persist_state="session",
        width=240,
        help=_(
            "Each point becomes a mean that weighs the point before by this much, the one before that by its square, "
            "and so on. The measured line stays, faint."
        ),
    )
    x = st.segmented_control(
        _("Along"),
        ["step", "seconds"],
        default="step",
        required=True,
        key="runs.x",
        persist_state="session",
        format_func=lambda name: {"step": _("steps"), "seconds": _("seconds")}[name],
        help=_("Seconds of training, without pauses."),
    )
    log_y = st.toggle(
        _("Logarithmic loss"),
        key="runs.log_y",
        persist_state="session",
        help=_("Equal distances are equal factors: small differences near 0 become visible."),
    )
    return View(weight, bool(log_y), str(x))


def curves(rows: list[Row], view: View) -> None:
    """One chart for each metric, side by side, with text alternative and the data as a table."""
    weight, log_y, x = view.weight, view.log_y, view.x
    x_title = _("training step") if x == "step" else _("seconds of training")
    slots = runs_list.slots(st.session_state.get("runs.slots", {}), [row.run.id for row in rows])
    st.session_state["runs.slots"] = st.session_state.get("runs.slots", {}) | slots
    names = labels(rows)
    lines = tuple(Line(name, slots[row.run.id]) for name, row in zip(names, rows, strict=True))
    frames = [history(row.run.metrics()) for row in rows]
    for place, (metric, word) in zip(st.columns(len(METRICS)), METRICS.items(), strict=True):
        log = log_y and metric == "loss"
        data = [line(f, metric, n, x=x, weight=weight, log_y=log) for f, n in zip(frames, names, strict=True)]
        drawn = pd.concat(data, ignore_index=True)
        with place:
            st.markdown(f"**{_(word)}**", help=_(HELP[metric]))
            if drawn.empty:
                st.caption(_("Nothing is measured yet. It appears while the run trains."))
                continue
            spec = charts.curves(
                lines,
                x_title=x_title,
                y_title=_("nats a token") if metric == "loss" else _("share"),
                log_y=log,
                share=metric != "loss",
                raw=bool(weight),
                legend=len(rows) > 1,
            )
            last = [f"{n}: {rows_.raw.iloc[-1]:.3g}" for n, rows_ in zip(names, data, strict=True) if len(rows_)]
            text = _("{metric} along {x}. Last values: {values}").format(
                metric=_(word), x=x_title, values="; ".join(last)
            )
            st.vega_lite_chart(drawn, spec, alt=text)
            as_table = st.expander(_("As a table"), key=f"runs.data#{metric}", on_change="rerun")
            if as_table.open:
                as_table.dataframe(side_by_side(data, x_title), hide_index=True, height=220)


def labels(rows: list[Row]) -> list[str]:
    taken = (_("training step"), _("seconds of training"))  # columns of the table; a run may be called so
    return runs_list.unique([*taken, *(runs_list.title(row.run, row.label) for row in rows)])[len(taken) :]


def apart(rows: list[Row]) -> None:
    """The settings that differ between the runs, and their results."""
    names = labels(rows)
    found = differences.between([row.config for row in rows])
    table = {differences.short(field): list(map(differences.shown, values)) for field, values in found.items()}
    st.markdown(f"**{_('What sets them apart')}**")
    if not found:
        st.caption(_("These runs have the same settings."))
    newest = [row.run.log().last() for row in rows]
    table |= {
        _("parameters"): [f"{sum(parameter_counts(row.config.model).values()):,}" for row in rows],
        _("steps done"): [f"{row.status.step:,}" for row in rows],
        _("last loss"): [number(record.get("loss"), ".3g") for record in newest],
        _("exact match"): [number(row.exact_match, ".1%") for row in rows],
        _("training time, s"): [number(row.status.seconds or None, ".1f") for row in rows],
    }
    frame = pd.DataFrame.from_dict(table, orient="index", columns=names)
    st.dataframe(frame, height="content", alt=_("Settings that differ between the chosen runs, and their results."))


def number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
