"""Shared pickers of the pages that look inside: which run, which saved step, which input. And their caches."""

import unicodedata
from contextlib import suppress
from itertools import islice
from typing import Any

import streamlit as st

from core.checkpoint import CheckpointError
from core.config import RunConfig
from core.decode import cap_of
from core.model import Transformer
from core.tasks import Data, SymbolError
from playground import estimate, fields, state
from playground.components import component
from playground.fields import field
from playground.i18n import _
from playground.models import TOO_LARGE, models
from playground.runs import store
from playground.runs.store import ACTIVE, Run, RunError
from playground.settings import names
from playground.text import plain

MOST_LISTED = 200  # runs in the select box: each costs a few looks at the disk, and nobody scrolls further
LOOKS_EVERY = "1s"  # at a run that trains, for a step that was saved
PLAY_MS = 500  # between two saved steps while they play


def choose_run(label: str | None = None) -> Run:
    """A select box of the runs that have weights, newest first, the samples last; the choice goes to the URL."""
    now, every = state.current_run(), store.list_runs()
    listed = [run for run in every if not run.is_sample]
    with_weights = islice((run for run in listed if run.id == now.id or run.saved_steps()), MOST_LISTED)
    runs = {run.id: run for run in (*with_weights, *(run for run in every if run.is_sample))}
    runs = runs if now.id in runs else {now.id: now} | runs
    titles = {}
    for run in runs.values():
        with suppress(RunError):  # one that was changed or deleted just now leaves the list; the others stand
            titles[run.id] = title(run)
    runs = {run_id: run for run_id, run in runs.items() if run_id in titles or run_id == now.id}
    key = f"run#{now.id}"  # a run chosen elsewhere makes another box, which starts with it
    chosen = st.selectbox(
        label or _("Run"),
        list(runs),
        index=list(runs).index(now.id),
        format_func=lambda run_id: titles.get(run_id, run_id),
        key=key,
        on_change=lambda: state.set_run(st.session_state.get(key, now.id)),  # gone if another page was just chosen
        help=_("A run is one training of one model; the newest stands first.")
        + (" " + _("The Runs page has the older ones.") if len(listed) > MOST_LISTED else ""),
    )
    return runs[chosen]


def nearest_step(run: Run, asked: str) -> int | None:
    """The saved step that an address asks for, or the nearest one, with a notice; None (with one, too) for no number."""
    steps = run.saved_steps()
    if not steps:
        return None
    if not (asked.isascii() and asked.isdigit() and len(asked) < 10):
        state.notice_bad_url("step")
        return None
    step = min(steps, key=lambda saved: (abs(saved - int(asked)), saved))
    if step != int(asked) and not state.instead():  # a step of a run that is not here says nothing about this one
        sentence = _("Step {asked} is not saved: the page opened at step {step}, the nearest that is.")
        state.notice_bad_url("step", sentence.format(asked=asked, step=step))
    return step


def notices(page: str, run: Run) -> None:
    """What of the address could not be followed, until another run or page is chosen: a page may redraw itself at once."""
    slot = "notices"
    about = (page, run.id)
    if ignored := state.pop_bad_url():
        general = _("“{name}” in the address was not understood and is ignored.")  # a name of ours
        said = [why or general.format(name=name) for name, why in ignored.items()]
        if "run" in ignored:
            said.append(_("Shown instead: {title}.").format(title=plain(title(run))))
        st.session_state[slot] = about, said
    if st.session_state.get(slot, ((), ()))[0] == about:
        st.warning(" ".join(st.session_state[slot][1]))


def title(run: Run) -> str:
    """What lists show for a run: its name, and when it was made."""
    return names.listed(run)


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
    newest = f"{slot}.newest"  # the last step that was there when it was chosen: who stands at the end stays there
    chosen = fields.kept(slot)
    if chosen is not None and chosen == st.session_state.get(newest):
        chosen = steps[-1]
    if chosen is not None and chosen not in steps:  # thinned out while the run went on
        chosen = nearest_step(run, str(chosen))
    found = field(slot, chosen if chosen in steps else steps[-1], steps)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        if st.session_state.get(playing):
            st.button("⏸", key=f"{key}.stop", help=_("Stop playing"), on_click=_put, args=(playing, False))
        else:
            st.button(
                "▶", key=f"{key}.play", help=_("Play through training"), on_click=_play, args=(playing, slot, steps)
            )
        help_text = _(
            "Shows the model as it was after this many training steps. The right end is the newest, also while the run trains."
        )
        label = _("Training step, of {n}").format(n=f"{run.target_steps:,}")
        step = int(st.select_slider(label, steps, found.start, key=found.key, help=help_text))
        st.session_state[newest] = steps[-1]
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
    if step == steps[-1]:
        follow(run, steps[-1])
    return step


def follow(run: Run, newest: int) -> None:
    """Draw the page anew as soon as a run that trains has saved another step than the newest in view."""
    if not run.is_sample and run.status().state in ACTIVE:
        _watch(run.id, newest)


@st.fragment(run_every=LOOKS_EVERY)
def _watch(run_id: str, newest: int) -> None:
    run = store.find(run_id)
    if run is None or run.status().state not in ACTIVE or run.saved_steps()[-1:] != [newest]:
        st.rerun()


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
    return models().get(run.weights_path(step), run.config.model, run.config.task.longest_target)


def refuse_large(run: Run) -> None:
    """A model whose weights are too large to look at: the page says so and ends, before anything is read."""
    size = estimate.weights(run.config.model)
    if size > estimate.LARGEST_WEIGHTS:
        st.info(_(TOO_LARGE).format(size=estimate.size(size), most=estimate.size(estimate.LARGEST_WEIGHTS)))
        st.stop()


def refuse_in_labs(run: Run, ids: list[int]) -> None:
    """A model that is too large for a lab, on this input: the page says so and ends, before anything is computed."""
    config = run.config.model
    refuse_large(run)
    data = data_of(run)
    answer = data.answer(data.vocab.decode(ids))
    n_target = len(answer) + 1 if answer else cap_of(config, len(ids), run.config.task.longest_target)
    if not estimate.lab_too_large(config, len(ids), n_target):
        return
    if estimate.lab_too_large(config, 1, 2):
        st.info(
            _(
                "This model is too large for a lab, which computes everything twice and shows every number: {layers} layers, "
                "{heads} heads, {size} of weights. Choose a smaller run on the left, or the sample; the Attention page can show it."
            ).format(layers=config.n_layers, heads=config.n_heads, size=estimate.size(estimate.weights(config)))
        )
    else:
        st.info(
            _(
                "This input is too long for a lab with this model ({layers} layers, {heads} heads), which computes everything "
                "twice and shows every number. Type a shorter one on the left, or choose a smaller run or the sample."
            ).format(layers=config.n_layers, heads=config.n_heads)
        )
    st.stop()


def readable(run: Run, step: int) -> tuple[int, Transformer]:
    """The model of this step. Where its weights are damaged, that of the nearest one that can be read, with a notice; where
    there is none, the page ends with the reason.
    """
    refuse_large(run)
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
    left = fields.kept(slot)  # as it was left, also empty
    found = field(slot, example(run) if left is None else left)
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
    if text != text.strip() and (" " not in data.vocab.symbols or (text.strip() and _known(data, text.strip()))):
        text = text.strip()  # a blank that was typed with it
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


def _known(data: Data, text: str) -> bool:
    """Is there a pair for exactly this text?"""
    with suppress(SymbolError):
        return bool(data.answer(text))
    return False


def shown(symbols: tuple[str, ...], most: int = 60) -> str:
    return " ".join(symbols[:most]) + (" …" if len(symbols) > most else "")


def named(symbol: str) -> str:
    """A symbol as one can recognise it: itself, or its name if it cannot be seen."""
    if symbol.isprintable() and not symbol.isspace() and not unicodedata.combining(symbol):
        return f"“{symbol}”"
    return unicodedata.name(symbol, f"U+{ord(symbol):04X}")
