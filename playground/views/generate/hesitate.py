"""A trained model is sure of every token, and sampling and beam search have nothing to choose from: where to see it hesitate."""

import time
from collections.abc import Iterator, Sequence

import streamlit as st

from core.checkpoint import CheckpointError
from core.decode import DecodeOptions
from playground import estimate, fields, models, pick
from playground import generate_view as view
from playground.attention_view import AHEAD_BYTES
from playground.i18n import _
from playground.runs.store import Run
from playground.views.train.coach_view import facts

SURE, TORN = 0.99, 0.7  # probability of the likeliest token: at least, of every token; at most, of one at least
PATIENCE_S = 3.0  # then no more saved steps are looked at: what was found is kept, the next drawing of the page goes on


def offer(run: Run, step: int, src: Sequence[int], options: DecodeOptions, slot: str) -> None:
    """One sentence and one button, where chance or beams are chosen and this step leaves them nothing to do."""
    if options.method == "greedy":
        return
    with models.heavy(run.config.model):
        found = other_step(run, step, tuple(src), options.temperature)
    if found is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="hesitate"):
        sentence = _("At step {step} the likeliest token has a probability of {sure} or more at every position.")
        st.caption(sentence.format(step=step, sure=SURE), width="content")
        label = _("See it hesitate: step {step}").format(step=found)
        st.button(label, key=f"hesitate#{run.id}#{found}", on_click=fields.ask, args=(slot, found))


def other_step(run: Run, step: int, src: tuple[int, ...], temperature: float) -> int | None:
    """A saved step at which the model hesitates over this text; None where it does so at this one, or where none was found."""
    if (here := least(run, step, src, temperature)) is None or here < SURE:
        return None
    until = time.monotonic() + PATIENCE_S
    for other in candidates(run, step):
        probability = least(run, other, src, temperature)
        if probability is not None and probability <= TORN:
            return other
        if time.monotonic() > until:
            break
    return None


def candidates(run: Run, step: int) -> Iterator[int]:
    """The step of which the coach speaks, then those before this one, newest first: of a large model the coach's alone."""
    coach = facts(run, run.status()).hesitates
    if coach is not None:
        yield coach
    if estimate.weights(run.config.model) <= AHEAD_BYTES:
        yield from (s for s in reversed(run.saved_steps()) if s < step and s != coach)


def least(run: Run, step: int, src: tuple[int, ...], temperature: float) -> float | None:
    """The probability of the likeliest token where that is smallest, over what the model writes; None: no such weights."""
    try:
        written = run.weights_path(step).stat().st_mtime_ns
        return _least(run.id, step, written, src, temperature, run)
    except (OSError, CheckpointError):
        return None


@st.cache_data(max_entries=1024, show_spinner=False)
def _least(run_id: str, step: int, written: int, src: tuple[int, ...], temperature: float, _run: Run) -> float:
    model = pick.model_at(_run, step)
    layer = view.layer_of(model, len(src), view.most(model, src), None)
    tokens, places = view.write(model, src, (), DecodeOptions(), view.most(model, src), layer)
    # The last place is the one after the end, where nothing is written any more.
    return min((place.logits / temperature).softmax(-1).max().item() for place in places[: len(tokens)])
