"""The row above the board: play and pause, one step, reset, stop, learning rate, name; and the sentence below it.

Streamlit may report one click twice. So every command names its target (this run; step 41), and a command whose target
is reached does nothing.

A callback is bound to names only, never to settings: it reads the widgets when it runs (`forms.asked_for`), for a number
typed and the tap on Train after it come in one message.
"""

import math
from collections.abc import Callable

import streamlit as st

from playground import fields, keys, state
from playground.draft import Draft, changes_text
from playground.forms import asked_for, gather, why_not
from playground.i18n import _
from playground.pick import title
from playground.runs import states, store
from playground.runs.launcher import launcher
from playground.runs.store import ACTIVE, Run, Status
from playground.settings import words
from playground.text import plain
from playground.views.train import branch
from playground.views.train.begin import PACE, create, crowded, fresh, grow, refuse, telling
from playground.views.train.coach_view import LOOKS_EVERY, coach
from playground.views.train.intro import at_work

PACES = (0, 20, 5, 1)  # steps a second; 0: as fast as it can
FACTORS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10)  # offered learning rates, times the configured one


def toolbar(run: Run, draft: Draft, off: str) -> None:
    """off: why what the form holds cannot be trained, empty if it can."""
    status = run.status()
    now, own = status.state, not run.is_sample
    changed = (
        bool(draft.changes) or draft.branch is not None
    )  # what Train would make is another run than the one in view
    active = own and now in ACTIVE
    with st.container(key="toolbar", horizontal=True, vertical_alignment="center", gap="xsmall"):
        if active and now != "paused":
            button(
                "pause",
                _("Pause"),
                "pause",
                _("Stop after this step; go on whenever you like."),
                keys.TRAIN,
                _pause,
                run.id,
            )
        elif active and not changed:
            button("resume", _("Resume"), "play_arrow", _("Go on training."), keys.TRAIN, _resume, run.id, primary=True)
        elif own and now == "interrupted" and not changed:
            help_text = _("Go on exactly where this run was interrupted.")
            button("resume", _("Resume"), "play_arrow", help_text, keys.TRAIN, _resume, run.id, primary=True)
        else:
            help_text = _("Train a new model with the settings on the left.")
            button(
                "train",
                _("Train"),
                "play_arrow",
                help_text,
                keys.TRAIN,
                _start,
                run.id,
                primary=True,
                disabled=bool(off),
            )
        if own and now == "stopped" and not changed and run.goes_on():
            help_text = _("Go on with this run from where it was stopped.")
            button("resume", _("Resume"), "play_arrow", help_text, None, _resume, run.id)
        step_at = _step_target(run, status)
        steppable = not changed and own and now in ("paused", "interrupted", "draft")
        if steppable:
            button(
                "step", _("Step"), "skip_next", _("One training step, then pause."), keys.STEP, _step, run.id, step_at
            )
        else:
            wait = active and now != "paused"
            button(
                "step",
                _("Step"),
                "skip_next",
                _("A new run that pauses after one step.") if not wait else _("Pause first."),
                keys.STEP,
                _start,
                run.id,
                1,
                disabled=wait or bool(off),
            )
        button(
            "reset",
            _("Reset"),
            "replay",
            (
                _(
                    "A new run with the same settings, seed and start weights, paused at step {step}. This one is stopped, and kept in Runs."
                )
                if active
                else _(
                    "A new run with the same settings, seed and start weights, paused at step {step}. This one is kept in Runs."
                )
            ).format(step=run.parent.step if run.parent else 0),
            keys.RESET,
            _reset,
            run.id,
            disabled=not own,
        )
        button(
            "stop",
            _("Stop"),
            "stop",
            _("End this run. Its weights are saved."),
            None,
            _stop,
            run.id,
            disabled=not active,
        )
        if changed and active:
            button(
                "train",
                _("Train"),
                "play_arrow",
                _("Train a new model with the settings on the left; this run goes on."),
                keys.NEW,
                _start,
                run.id,
                primary=True,
                disabled=bool(off),
            )
        learning_rate(run, active)
        pace(run, active)
        name(run)
    with st.container(key="message", horizontal=True, vertical_alignment="center", gap="small"):
        message(run, status, draft, active, off)


def button(
    key: str, label: str, icon: str, help_text: str, shortcut: str | None, act: Callable[..., None], run_id: str,
    *args: int, primary: bool = False, disabled: bool = False,
) -> None:  # fmt: skip
    st.button(
        label,
        icon=f":material/{icon}:",
        key=f"{key}#{run_id}",  # after Train or Reset another run is in view, and these are other buttons
        help=help_text,
        shortcut=shortcut,
        type="primary" if primary else "secondary",
        disabled=disabled,
        on_click=act,
        args=(run_id, *args),
    )


def _start(run_id: str, paused_at: int | None = None) -> None:
    """A new run with what the widgets hold now, if the run that was in view still is: the second report of a click finds
    another one in view.
    """
    if st.session_state.get("run") != run_id or crowded():
        return
    config = asked_for(st.session_state["draft"])
    if config is None:
        st.session_state["trouble"] = _("Nothing was started. {reason}").format(
            reason=why_not(st.session_state["draft"])
        )
        return
    draft: Draft = st.session_state["draft"]
    if draft.branch is None:
        create(config, paused_at)
    elif (parent := store.find(draft.run_id)) is not None:
        grow(parent, draft.branch, config, paused_at, config.train.lr)  # the form shows the rate in force there


def _pause(run_id: str) -> None:
    with telling():
        launcher().pause(run_id)


def _resume(run_id: str) -> None:
    if crowded(run_id):
        return
    with telling():
        launcher().resume(run_id, state.owner())


def _stop(run_id: str) -> None:
    with telling():
        launcher().stop(run_id)


def _step_target(run: Run, status: Status) -> int:
    """One more than the run has, or was last asked for: the status on disk may lag behind a click."""
    asked: dict[str, int] = st.session_state.setdefault("step_asked", {})
    return max(status.step, asked.get(run.id, 0)) + 1


def _step(run_id: str, target: int) -> None:
    draft: Draft = st.session_state["draft"]
    gather(draft)
    if draft.changes or draft.branch is not None:  # typed in the same moment: what Step is then, see `toolbar`
        _start(run_id, 1)
        return
    if crowded(run_id):
        return
    st.session_state["step_asked"][run_id] = target
    with telling():
        launcher().step_to(run_id, target, state.owner())


def _reset(run_id: str) -> None:
    run = store.find(run_id)
    if run is None or st.session_state.get("run") != run_id:
        return
    if run.status().state in ACTIVE:
        _stop(run_id)  # its place goes to the new run
    elif crowded():
        return
    if run.parent is None:
        create(run.config, 0)
    else:  # its start weights are those of its parent, and it holds them itself
        grow(run, run.parent.step, run.config, 0)
    st.session_state["reset"] = st.session_state.get("run")  # said while it waits at step 0


def learning_rate(run: Run, active: bool) -> None:
    """The peak rate; the schedule of the run goes on from it. The log knows what was set in another tab or session."""
    set_to: dict[str, tuple[float, int]] = st.session_state.setdefault("lr", {})  # and how many the log held by then
    base = run.config.train.lr
    logged = [event.get("lr") for event in run.log().events if event.get("event") == "lr"]
    told, known = set_to.get(run.id, (base, -1))
    now = told if known == len(logged) else logged[-1] if logged and isinstance(logged[-1], float) else base
    options = sorted({float(f"{base * factor:.2g}") for factor in FACTORS} | {now})
    key = fresh(f"lr#{run.id}#{now:g}")

    def change() -> None:
        try:
            lr = float(st.session_state[key])
        except (TypeError, ValueError):
            lr = math.nan
        if not 0 < lr <= 1e6:
            st.session_state["trouble"] = _("A learning rate is a number above 0, such as 0.003.")
            refuse(key)
            return
        with telling(key):
            launcher().set_lr(run.id, lr)
            set_to[run.id] = lr, len(logged)

    st.selectbox(
        words.label("train.lr"),
        options,
        options.index(now),
        key=key,
        format_func=lambda lr: _("rate {lr}").format(lr=words.number(lr) if isinstance(lr, float) else lr),
        accept_new_options=True,
        disabled=not active,
        on_change=change,
        label_visibility="collapsed",
        width=116,
        help=_("Learning rate while training: choose one or type any number."),
    )


def pace(run: Run, active: bool) -> None:
    """How fast to train: at once for the run in view while it trains, and for what is started next."""
    told = (run.pace() or 0) if active else fields.kept(PACE, 0)
    paces = PACES if told in PACES else (*PACES, told)  # the command line and other tabs may set any
    found = fields.field(PACE, told)
    chosen = st.selectbox(
        _("Pace"),
        paces,
        paces.index(found.start) if found.start in paces else 0,
        key=found.key,
        format_func=lambda steps: _("{n} steps/s").format(n=f"{steps:g}") if steps else _("full speed"),
        label_visibility="collapsed",
        width=118,
        help=_("Train slowly enough to talk over it. While somebody else waits for a place it goes at full speed."),
    )
    fields.keep(found, chosen)
    if active and chosen != told:
        with telling():
            launcher().set_pace(run.id, chosen or None)


def name(run: Run) -> None:
    key = fresh(f"name#{run.id}")

    def rename() -> None:
        with telling(key):
            run.set_label(name=st.session_state[key])

    st.text_input(
        _("Name of this run"),
        title(run) if run.is_sample else run.label().name,
        key=key,
        max_chars=80,
        placeholder=_("Name this run"),
        disabled=run.is_sample,
        on_change=rename,
        label_visibility="collapsed",
        width="stretch",
    )


def message(run: Run, status: Status, draft: Draft, active: bool, off: str) -> None:
    """The one thing to know now. off: why Train is, empty if it is not."""
    trouble, ignored = st.session_state.pop("trouble", ""), state.pop_bad_url()
    if trouble:
        st.markdown(f":red[⚠ {plain(trouble)}]")
    elif ignored:
        sentence = _("Part of the address was not usable and is ignored: {names}.")
        why = dict.fromkeys(filter(None, ignored.values()))  # each once
        st.markdown(f":orange[⚠ {plain(' '.join((sentence.format(names=', '.join(ignored)), *why)))}]")
    elif draft.branch is not None:
        branch.row(draft, off)
    elif draft.changes:
        st.markdown(f":orange[✎ {plain(changed_text(draft, active, off))}]")
        st.button(
            _("Undo"),
            key="undo",
            type="tertiary",
            on_click=draft.load,
            args=(draft.base,),
            help=_("Back to the settings of the run in view."),
        )
    elif off:
        st.markdown(f":orange[⚠ {plain(_('Train is off for now. {reason}').format(reason=off))}]")
    elif st.session_state.get("reset") == run.id and status.step == 0 and status.state in ("queued", "paused"):
        st.caption(
            _("A new run from the beginning, paused at step 0. The one before is in Runs, with everything it learned.")
        )
    elif run.is_sample or status.state not in ACTIVE:
        standing(run, status)
    else:  # what waits may begin at any moment
        st.fragment(watched, run_every="1s" if status.state == "queued" else LOOKS_EVERY)(run.id)
    if others := at_work():
        st.caption(plain(others), width="content")


def standing(run: Run, status: Status, watching: bool = False) -> None:
    """What the coach says of the run; where it has nothing to say, what its state means."""
    if status.state == "failed":
        st.markdown(f":red[⚠ {plain(state_text(run, status))}]")
    spoke = not run.is_sample and coach(run, status, watching)
    if not spoke and status.state != "failed":
        st.caption(plain(state_text(run, status)))


def watched(run_id: str) -> None:
    """The same of a run that trains, looked at again and again: it may have stopped learning."""
    run = store.find(run_id)
    if run is not None:
        standing(run, run.status(), watching=True)


def changed_text(draft: Draft, active: bool, off: str) -> str:
    listed = changes_text(draft)
    if off:
        return _("Changed: {changes}. Train is off for now. {reason}").format(changes=listed, reason=off)
    if active:
        return _("Changed: {changes}. Press Train to start a new run; this one goes on.").format(changes=listed)
    return _("Changed: {changes}. Press Train to start a new run.").format(changes=listed)


def state_text(run: Run, status: Status) -> str:
    if run.is_sample:
        return _(
            "You see a sample run that came with the app. Press Train to train a model of your own, set up on the left."
        )
    reason = _(status.template).format(**status.values) if status.template else ""
    return f"{states.sentence(status.state)} {reason}".strip()
