"""Shared pickers of the pages that look inside: which run, which saved step, which input. And their caches."""

import unicodedata
from itertools import islice
from pathlib import Path
from typing import Any

import streamlit as st

from core.checkpoint import CheckpointError, load_weights
from core.config import ModelConfig, RunConfig
from core.model import Transformer
from core.tasks import TASKS, Data, SymbolError
from playground import fields, state
from playground.components import component
from playground.fields import field
from playground.i18n import _
from playground.runs import changes, store
from playground.runs.store import Run
from playground.text import plain

MOST_LISTED = 200  # runs in the select box: each costs a few looks at the disk, and nobody scrolls further
PLAY_MS = 500  # between two saved steps while they play


def choose_run(label: str | None = None) -> Run:
    """A select box of the runs that have weights, newest first, the sample last; the choice goes to the URL."""
    now, sample = state.current_run(), state.sample()
    listed = [run for run in store.list_runs() if run.id != sample.id]
    with_weights = islice((run for run in listed if run.id == now.id or run.saved_steps()), MOST_LISTED)
    runs = {run.id: run for run in with_weights} | {sample.id: sample}
    runs = runs if now.id in runs else {now.id: now} | runs
    key = f"run#{now.id}"  # a run chosen elsewhere makes another box, which starts with it
    chosen = st.selectbox(
        label or _("Run"),
        list(runs),
        index=list(runs).index(now.id),
        format_func=lambda run_id: title(runs[run_id]),
        key=key,
        on_change=lambda: state.set_run(st.session_state.get(key, now.id)),  # gone if another page was just chosen
        help=_("A run is one training of one model; the newest stands first.")
        + (" " + _("The Runs page has the older ones.") if len(listed) > MOST_LISTED else ""),
    )
    return runs[chosen]


def title(run: Run) -> str:
    """What lists show for a run: its name, else its task, and when it was made; the sample is labelled."""
    name = run.label().name
    if run.is_sample:
        return f"{_('Sample run')} · {_(TASKS[run.config.task.name].title)}"
    by_hand = changes.rates(run.path / "metrics.jsonl")
    rate = " · " + _("rate → {lr}").format(lr=f"{by_hand[-1][1]:g}") if by_hand else ""
    return f"{name or run.config.task.name} · {run.created.astimezone():%m-%d %H:%M:%S}{rate}"


def choose_step(run: Run, key: str) -> int:
    """A slider over the saved steps of a run, with a button that plays them. Says so and stops the page if there are none."""
    steps = run.saved_steps()
    if not steps:
        st.info(_("No weights are saved yet. Train this run for a moment, or choose another one."))
        st.stop()
    if len(steps) == 1:
        st.caption(_("Only step {step} is saved so far.").format(step=steps[0]))
        return steps[0]
    slot, playing = f"{key}.step.{run.id}", f"{key}.playing"
    chosen = fields.kept(slot)
    found = field(slot, chosen if chosen in steps else steps[-1], steps)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        if st.session_state.get(playing):
            st.button("⏸", key=f"{key}.stop", help=_("Stop playing"), on_click=_put, args=(playing, False))
        else:
            st.button(
                "▶", key=f"{key}.play", help=_("Play through training"), on_click=_play, args=(playing, slot, steps)
            )
        help_text = _("Shows the model as it was after this many training steps.")
        step = int(st.select_slider(_("Training step"), steps, found.start, key=found.key, help=help_text))
        fields.keep(found, step)
        if st.session_state.get(playing):
            if step == steps[-1]:
                st.session_state[playing] = False
            ticker = f"{key}.ticker"
            # The browser keeps the time: the next step is asked for only after this one is shown.
            component("ticker")(
                key=ticker,
                data={"now": step, "ms": PLAY_MS},
                width=1,
                height=1,
                on_tick_change=lambda: _advance(ticker, playing, slot, steps),
            )
    return step


def _put(key: str, value: object) -> None:
    st.session_state[key] = value


def _play(playing: str, slot: str, steps: list[int]) -> None:
    st.session_state[playing] = True
    if fields.kept(slot) == steps[-1]:  # from the beginning, as any player does
        fields.ask(slot, steps[0])


def _advance(ticker: str, playing: str, slot: str, steps: list[int]) -> None:
    """The browser saw step `tick`: go to the one after it. A tick that comes twice changes nothing."""
    seen = st.session_state[ticker].tick
    if st.session_state.get(playing):
        fields.ask(slot, next((step for step in steps if step > seen), steps[-1]))


def model_at(run: Run, step: int) -> Transformer:
    """The model of a run at a saved step, in evaluation mode. Shared: never change its weights. Raises CheckpointError."""
    path = run.weights_path(step)
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        raise CheckpointError(template="These weights are gone.") from None
    return _model(str(path), changed, run.config.model)


def readable(run: Run, step: int) -> tuple[int, Transformer]:
    """The model of this step. Where its weights are damaged, that of the nearest one that can be read, with a notice; where
    there is none, the page ends with the reason.
    """
    reason = ""
    for other in sorted(run.saved_steps(), key=lambda saved: abs(saved - step)):
        try:
            model = model_at(run, other)
        except CheckpointError as error:
            reason = reason or plain(_(error.template).format(**error.values))
            continue
        if other != step:
            sentence = _("The weights of step {step} cannot be read, so this is step {other}. {reason}")
            st.warning(sentence.format(step=step, other=other, reason=reason))
        return other, model
    st.error(_("The weights of this run cannot be read: {reason}").format(reason=reason))
    st.stop()


@st.cache_resource(max_entries=16, show_spinner=False)
def _model(path: str, changed: int, _config: ModelConfig) -> Transformer:
    return load_weights(Path(path), _config)


def data_of(run: Run) -> Data:
    """The strings and the vocabulary of a run."""
    return _data(run.id, run.config)


@st.cache_resource(max_entries=16, show_spinner=False)
def _data(run_id: str, _config: RunConfig) -> Data:
    return Data(_config)


def example(run: Run) -> str:
    """A source string this run was not trained on: the probe's, or the first unseen one."""
    probe: dict[str, Any] = run.probe() or {}
    if probe.get("src"):
        return "".join(probe["src"])
    data = data_of(run)
    return data.vocab.decode(data.unseen(1).src[0])


def source_text(run: Run, key: str, label: str | None = None) -> list[int] | None:
    """A text field for the input; its ids, or None with a hint of what is wrong. Checked before any model sees it."""
    data, slot = data_of(run), f"{key}.source.{run.id}"
    found = field(slot, fields.kept(slot) or example(run))
    text = st.text_input(
        label or _("Input"),
        found.start,
        key=found.key,
        help=_("Any string over this run's symbols: {symbols}").format(symbols=plain(shown(data.vocab.symbols))),
    )
    fields.keep(found, text)
    ids, hint = check_source(run, text)
    if ids is None:
        st.warning(hint)
    elif hint:
        st.caption(hint)
    return ids


def check_source(run: Run, text: str) -> tuple[list[int] | None, str]:
    """Ids and perhaps a remark; or None and why not."""
    data, limit = data_of(run), run.config.model.max_len - 1
    text = (
        unicodedata.normalize("NFC", text[: 20 * limit])
        if len(text) > 20 * limit
        else unicodedata.normalize("NFC", text)
    )
    if not text.strip() and not (text and " " in data.vocab.symbols):
        return None, _("Type a string over these symbols: {symbols}").format(symbols=plain(shown(data.vocab.symbols)))
    if len(text) > limit:
        return None, _("At most {limit} symbols: this model accepts no more.").format(limit=limit)
    try:
        ids = data.vocab.encode(text)
    except SymbolError as error:
        known = plain(shown(data.vocab.symbols))
        sentence = _("{symbol} at position {position} is not one of this run's symbols: {symbols}")
        return None, sentence.format(symbol=plain(named(error.symbol)), position=error.position + 1, symbols=known)
    task = run.config.task
    if task.name == "add" and not data.answer(text):
        return None, _("Type two numbers with one plus sign between them, such as 27+85.")
    if task.name not in ("add", "pairs") and not task.min_len <= len(text) <= task.max_len:
        remark = _("Trained on {low} to {high} symbols; this has {n}.")
        return ids, remark.format(low=task.min_len, high=task.max_len, n=len(text))
    return ids, ""


def shown(symbols: tuple[str, ...], most: int = 60) -> str:
    return " ".join(symbols[:most]) + (" …" if len(symbols) > most else "")


def named(symbol: str) -> str:
    """A symbol as one can recognise it: itself, or its name if it cannot be seen."""
    if symbol.isprintable() and not symbol.isspace() and not unicodedata.combining(symbol):
        return f"“{symbol}”"
    return unicodedata.name(symbol, f"U+{ord(symbol):04X}")
