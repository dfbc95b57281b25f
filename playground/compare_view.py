"""Curves of one to eight runs over each other, and what sets their settings and results apart."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from core.model import parameter_counts
from playground import address, charts, differences, fields, runs_list, runs_view, state
from playground.charts import Line
from playground.fields import field
from playground.history import history, line, side_by_side
from playground.i18n import N_, _
from playground.runs import store
from playground.runs_list import Row
from playground.settings import names
from playground.text import plain

METRICS = {"loss": N_("Loss"), "token_accuracy": N_("Token accuracy"), "exact_match": N_("Exact match")}
MOST_NAMED, SHOWN = 8, 40  # ids in a notice, characters of each
USUAL: tuple[tuple[str, Any], ...] = (("smoothing", 0.0), ("x", "step"), ("log_y", False))
ALONE = {"loss": 0, "token_accuracy": 0, "exact_match": 2}  # slots: a run by itself has the colours of the Train page
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


def from_address() -> None:
    """Tick the runs of `?compare=a,b,c`, if that came from outside. Those that are not here are named."""
    asked, wrote = st.query_params.get("compare", ""), address.wrote("runs").get("compare", "")
    if asked == wrote or not (asked or not state.page_changed()):  # a new page has an empty address, which says nothing
        return
    ids = list(dict.fromkeys(asked[: address.LONGEST].split(","))) if asked else []
    here = [run_id for run_id in ids if store.find(run_id)]
    chosen = here[: runs_list.MOST_COMPARED]
    runs_view.select(chosen)
    address.claim("runs", {"compare": asked})
    missing = [run_id[:SHOWN] for run_id in ids if run_id not in here]
    more = _("… and {n} more.").format(n=len(missing) - MOST_NAMED) if len(missing) > MOST_NAMED else ""
    beyond = len(here) - runs_list.MOST_COMPARED
    said = []
    if missing:
        names = ", ".join(missing[:MOST_NAMED])
        said.append(_("The link asks for runs that are not here: {names}").format(names=plain(names)) + f" {more}")
    if beyond > 0:
        said.append(
            _("At most {n} runs are compared; the others of the link are left out.").format(n=runs_list.MOST_COMPARED)
        )
    st.session_state["compare.notice"] = (chosen, said)


def notice(ticked: list[str]) -> None:
    """What of the link could not be followed, until something else is ticked."""
    chosen, said = st.session_state.get("compare.notice", ([], []))
    for sentence in said if chosen == ticked else []:
        st.warning(sentence)


def to_address(ticked: list[str]) -> None:
    """Two to eight ticked runs stand in the address."""
    text = ",".join(ticked) if 2 <= len(ticked) <= runs_list.MOST_COMPARED else ""
    address.write("runs", {"compare": text})


def controls() -> View:
    smoothing, along, logarithmic = (field(f"runs.{name}", fields.kept(f"runs.{name}", usual)) for name, usual in USUAL)
    weight: float = st.slider(
        _("Smoothing"),
        0.0,
        0.999,
        smoothing.start,
        0.001,
        format="%.3f",
        key=smoothing.key,
        width=240,
        help=_(
            "Each point becomes a mean that weighs the point before by this much, the one before that by its square, "
            "and so on. The measured line stays, faint."
        ),
    )
    x = st.segmented_control(
        _("Along"),
        ["step", "seconds"],
        default=along.start,
        required=True,
        key=along.key,
        format_func=lambda name: {"step": _("steps"), "seconds": _("seconds")}[name],
        help=_("Seconds of training, without pauses."),
    )
    log_y = st.toggle(
        _("Logarithmic loss"),
        logarithmic.start,
        key=logarithmic.key,
        help=_("Equal distances are equal factors: small differences near 0 become visible."),
    )
    for found, value in ((smoothing, weight), (along, x), (logarithmic, log_y)):
        fields.keep(found, value)
    return View(weight, bool(log_y), str(x))


def curves(rows: list[Row], view: View) -> None:
    """One chart for each metric, side by side, with text alternative and the data as a table."""
    weight, log_y, x = view.weight, view.log_y, view.x
    x_title = _("training step") if x == "step" else _("seconds of training")
    slots = runs_list.slots(st.session_state.get("runs.slots", {}), [row.run.id for row in rows])
    st.session_state["runs.slots"] = st.session_state.get("runs.slots", {}) | slots
    names = labels(rows)
    frames = [history(row.run.metrics()) for row in rows]

    def colours_of(metric: str) -> list[int]:
        return [slots[row.run.id] for row in rows] if len(rows) > 1 else [ALONE[metric]]

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
                tuple(Line(name, colour) for name, colour in zip(names, colours_of(metric), strict=True)),
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
    return runs_list.unique([*taken, *names.among([row.run for row in rows])])[len(taken) :]


def apart(rows: list[Row]) -> None:
    """The settings that differ between the runs, and their results."""
    names = labels(rows)
    found = differences.between([row.config for row in rows], [row.rates for row in rows])
    table = {
        differences.short(name): [differences.shown(name, value) for value in values] for name, values in found.items()
    }
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
