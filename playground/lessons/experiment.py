"""An experiment inside a lab: the prediction, the shipped result at once, the person's own runs live beside it, both measured."""

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
import streamlit as st

from core.checkpoint import CheckpointError
from core.lab.experiments import EXPERIMENTS, Experiment, Variant
from core.tasks import Data
from playground import api, look, pick, state
from playground.components import component
from playground.i18n import _, language
from playground.lessons import frame
from playground.runs import changes, states, store
from playground.runs.launcher import launcher
from playground.runs.store import Run
from playground.settings import words

FOLDER = Path(__file__).parents[1] / "samples" / "experiments"
OWN_SEED = 4  # another one than those of the shipped results
SEEDS = range(2**31)
MOST = 16  # runs of one trial

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Shipped:
    """A result that comes with the app. metrics: variant -> one dict a seed; curves: variant -> records of the first seed."""

    made: str
    steps: int
    seeds: tuple[int, ...]
    versions: Mapping[str, str]
    metrics: Mapping[str, tuple[Metrics, ...]]
    curves: Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Shown:
    """What an experiment has shown: was it revealed, the shipped result, and the person's own metrics by variant."""

    revealed: bool = False
    shipped: Shipped | None = None
    yours: Mapping[str, Metrics] = field(default_factory=dict)


@cache
def shipped(experiment_id: str) -> Shipped | None:
    """The shipped result of an experiment; None where there is none."""
    try:
        data = json.loads((FOLDER / f"{experiment_id}.json").read_text(encoding="utf-8"))
    except OSError:
        return None
    metrics: dict[str, list[Metrics]] = {}
    for result in data["results"]:
        metrics.setdefault(result["variant"], []).append(result["metrics"])
    known = [v.id for v in EXPERIMENTS[experiment_id].variants if v.id in metrics]
    return Shipped(
        data["made"],
        data["steps"],
        tuple(data["seeds"]),
        data["versions"],
        {v: tuple(metrics[v]) for v in known},
        {v: data["curves"][v] for v in known},
    )


def show(experiment_id: str, key: str, height: int = 175) -> Shown:
    """Draw an experiment. Before the person has chosen what they expect nothing of the outcome is on the page."""
    experiment, result = EXPERIMENTS[experiment_id], shipped(experiment_id)
    options = {name: _(text) for name, text in experiment.options.items()}
    guess = frame.predict(key, _(experiment.question), options)
    if guess is None:
        return Shown()
    frame.guesses(here())[key] = guess  # runs are started with it: a reload does not ask again, a link does
    frame.reveal(key, experiment.outcome, _(experiment.expect), options)
    runs = trial(experiment)
    buttons(experiment, runs, key)
    curves(experiment, runs, result, key, height)
    yours = {}
    for run in runs:
        variant = variant_of(experiment, run)
        if variant is not None and run.written_status().state == "finished":
            with st.spinner(_("Measuring your run …")):
                found = measured(run.id, experiment_id)
            if found:
                yours[variant.id] = found
    table(experiment, result, yours)
    return Shown(True, result, yours)


def buttons(experiment: Experiment, runs: list[Run], key: str) -> None:
    """Choose what to run, and run it."""
    labels = {v.id: _(v.label) for v in experiment.variants}
    nonce = st.session_state.setdefault(f"{key}.nonce", 0)
    alive = [run for run in runs if not run.status().ended]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = list(labels)
        if len(labels) > 2:
            chosen = st.pills(
                _("Variants to run"),
                list(labels),
                format_func=lambda v: labels[v],
                selection_mode="multi",
                default=list(labels)[:2],
                key=f"{key}.variants",
                disabled=bool(alive),
            )
        seed = st.number_input(  # no bounds: the browser would keep a number outside them to itself
            words.label("train.seed"),
            value=OWN_SEED,
            key=f"{key}.seed",
            width=110,
            disabled=bool(alive),
            help=_(
                "Fixes the start weights and the strings. Another seed is another training; the outcome should stay."
            ),
        )
        if alive:
            st.button(
                _("Stop"),
                key=f"{key}.stop",
                on_click=stop,
                args=([run.id for run in alive],),
                help=_("Ends these runs."),
            )
        else:
            st.button(
                _("Run the experiment"),
                key=f"{key}.run#{nonce}",
                type="primary",
                disabled=not chosen or int(seed) not in SEEDS,
                on_click=start,
                args=(experiment.id, key, nonce),
                help=_("Trains these models for real, here and now. They appear on the Runs page."),
            )
    if int(seed) not in SEEDS:
        st.error(_("A seed is a whole number from 0 to {most}.").format(most=SEEDS[-1]))
    if trouble := st.session_state.pop(f"{key}.trouble", ""):
        st.error(trouble)


def start(experiment_id: str, key: str, nonce: int) -> None:
    """Create and submit the runs that the widgets ask for now: what the last run of the script had found may be a seed
    before. The nonce makes a click that is reported twice start once.
    """
    if st.session_state.get(f"{key}.nonce") != nonce:
        return
    experiment = EXPERIMENTS[experiment_id]
    variants = st.session_state.get(f"{key}.variants", [v.id for v in experiment.variants])
    seed = int(st.session_state[f"{key}.seed"])
    if not variants or seed not in SEEDS:  # changed in the same moment
        return
    if sentence := state.too_many():  # an experiment counts as one: its runs take turns with everybody's
        st.session_state[f"{key}.trouble"] = sentence
        return
    st.session_state[f"{key}.nonce"] = nonce + 1
    started = []
    try:
        for variant in experiment.variants:
            if variant.id in variants:
                run = store.create(experiment.config(variant.id, seed), state.owner())
                started.append(run.id)
                run.set_label(name=f"{_(experiment.title)}: {_(variant.label)}", tags=(_("lab"), experiment.id))
                launcher().submit(run.id, state.owner())
    except OSError as error:
        st.session_state[f"{key}.trouble"] = _("The run folder cannot be written: {reason}").format(
            reason=error.strerror or type(error).__name__
        )
    frame.put(here(), slot(experiment), ".".join(started))


def stop(run_ids: Iterable[str]) -> None:
    for run_id in run_ids:
        with suppress(OSError, KeyError):
            launcher().stop(run_id)


def trial(experiment: Experiment) -> list[Run]:
    """The person's own runs of this experiment: their ids stand in the URL."""

    def read(text: str) -> str:
        ids = text.split(".") if text else []
        if len(ids) > MOST or not all(store.RUN_ID.fullmatch(run_id) for run_id in ids):
            raise ValueError(text)
        return text

    text = frame.value(here(), slot(experiment), "", read)
    return [run for run_id in text.split(".") if (run := store.find(run_id))]


def slot(experiment: Experiment) -> str:
    return f"{experiment.id}_runs"


def here() -> str:
    """The lab that is open."""
    return str(st.session_state.get("page", "")).removeprefix("lab_")


def variant_of(experiment: Experiment, run: Run) -> Variant | None:
    """Which variant a run is; None for one that was configured otherwise, or whose learning rate was changed by hand."""
    config = run.config
    if changes.rates(run.path / "metrics.jsonl"):
        return None
    for variant in experiment.variants:
        if experiment.config(variant.id, config.train.seed) == config:
            return variant
    return None


def curves(experiment: Experiment, runs: list[Run], result: Shipped | None, key: str, height: int) -> None:
    """Shipped curves dashed, the person's own solid and live."""
    colour = {v.id: look.head_colour(i) for i, v in enumerate(experiment.variants)}
    lines: list[dict[str, Any]] = []
    for variant in experiment.variants:
        mine = [run for run in runs if (own := variant_of(experiment, run)) and own.id == variant.id]
        line = {"label": _(variant.label), "colour": colour[variant.id]}
        lines += [
            {
                **line,
                "id": run.id,
                "shipped": False,
                "api": f"{api.path(run.id, st.get_option('server.baseUrlPath'))}/live",
                "state": run.status().state,
            }
            for run in mine
        ]
        if result and variant.id in result.curves:
            records = result.curves[variant.id]
            lines.append({**line, "id": f"shipped {variant.id}", "shipped": True, "records": records})
    if not lines:
        st.caption(_("No result ships with this experiment. Run it."))
        return
    config = experiment.config(experiment.variants[0].id, OWN_SEED)
    component("compare", "poll.js", "curves.js")(
        key=f"{key}.compare",
        data={
            "lines": lines,
            "steps": config.train.steps,
            "guess": math.log(config.model.n_vocab),
            "height": height,
            "language": language(),
            "look": look.palette(),
            "t": texts(),
        },
        on_ended_change=lambda: None,
    )
    if result:
        st.caption(
            _("Dashed: shipped, seed {seed} of {seeds}, {steps} steps, {date}, PyTorch {torch}. Solid: yours.").format(
                seed=result.seeds[0],
                seeds=", ".join(map(str, result.seeds)),
                steps=result.steps,
                date=result.made,
                torch=result.versions.get("torch", "?"),
            )
        )


def texts() -> dict[str, Any]:
    """Everything the curves say."""
    return {
        "label": _("Curves of the experiment"),
        "loss": _("Loss"),
        "loss_unit": _("nats per token, on the training strings"),
        "exact_match": _("Exact match"),
        "exact_unit": _("share of unseen strings generated without a mistake"),
        "guess": _("guessing, ln V"),
        "step": _("Step"),
        "step_axis": _("step"),
        "shipped": _("shipped"),
        "progress": _("step {step}"),
        "toggle": _("Click to hide or show this line"),
        "states": states.board_words(),
    }


def table(experiment: Experiment, result: Shipped | None, yours: Mapping[str, Metrics]) -> None:
    """Every metric of every variant: shipped (the mean of the seeds, and from where to where) and yours."""
    rows, labels = [], {"variant": _("Variant")}
    for variant in experiment.variants:
        seeds = result.metrics.get(variant.id, ()) if result else ()
        if not seeds and variant.id not in yours:
            continue
        row = {"variant": _(variant.label)}
        for metric, text in experiment.metrics.items():
            row[metric] = spread([m[metric] for m in seeds if metric in m])
            labels[metric] = _(text)
            if yours:
                mine = yours.get(variant.id, {}).get(metric)
                row[f"{metric} yours"] = "–" if mine is None else number(mine)
                labels[f"{metric} yours"] = _("yours")
        rows.append(row)
    if rows:
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            height="content",
            column_config={name: st.column_config.TextColumn(label) for name, label in labels.items()},
            alt=_("Results of the experiment by variant: shipped and yours."),
        )
        if result and len(result.seeds) > 1:
            st.caption(
                _("Shipped: the mean over {n} seeds, and from where to where. Yours: one seed.").format(
                    n=len(result.seeds)
                )
            )


def number(value: float) -> str:
    """A measurement to read at a glance."""
    if value == 0:
        return "0"
    return f"{value:.0e}".replace("e-0", "e-") if abs(value) < 0.001 else f"{value:.3f}"


def spread(values: list[float]) -> str:
    """Mean, smallest and largest."""
    if not values:
        return "–"
    low, middle, high = (number(v) for v in (min(values), mean(values), max(values)))
    return middle if low == high else f"{middle}  ({low} … {high})"


def measured(run_id: str, experiment_id: str) -> Metrics | None:
    """What the experiment measures, on the last weights of a finished run; None where they cannot be read."""
    run = store.find(run_id)
    if run is None or not run.saved_steps():
        return None
    try:
        return _measured(run_id, experiment_id, run.saved_steps()[-1])
    except CheckpointError:
        return None


@st.cache_data(max_entries=64, show_spinner=False)
def _measured(run_id: str, experiment_id: str, step: int) -> dict[str, float]:
    run = store.find(run_id)
    assert run is not None
    model = pick.model_at(run, step)
    return EXPERIMENTS[experiment_id].measure(model, Data(run.config))
