"""How a run begins from the Train page, anew or as a branch; and what is said below the toolbar where none can."""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from core.config import RunConfig
from core.messages import ConfigError
from playground import address, fields, state
from playground.draft import BRANCH
from playground.i18n import _
from playground.runs import branches, store
from playground.runs.launcher import launcher
from playground.runs.store import Run, RunError

PACE = "toolbar.pace"  # steps a second at which what is started next trains; 0: as fast as it can


def create(config: RunConfig, paused_at: int | None = None) -> None:
    """A new run with these settings, which is then in view."""
    with telling():
        _submit(store.create(config, state.owner()), paused_at)


def grow(parent: Run, step: int, config: RunConfig, paused_at: int | None = None, lr: float | None = None) -> None:
    """A new run with the parent's weights of this step, which is then in view. paused_at: after so many steps of its own."""
    with telling():
        run = branches.branch(parent, step, config, state.owner(), lr)
        _submit(run, None if paused_at is None else step + paused_at)
        address.put({BRANCH: None})  # the next Train is a run of its own


def _submit(run: Run, paused_at: int | None) -> None:
    run.set_pace(fields.kept(PACE, 0) or None)
    launcher().submit(run.id, state.owner(), paused_at)
    state.set_run(run.id)


def crowded(run_id: str = "") -> bool:
    """No more runs for this person now: said below the toolbar. A run that has its place already may keep it."""
    sentence = state.too_many(run_id)
    if sentence:
        st.session_state["trouble"] = sentence
    return bool(sentence)


def fresh(key: str) -> str:
    """The key of a box that shows what is in force: after a refusal another one."""
    refused: dict[str, int] = st.session_state.setdefault("refused", {})
    return f"{key}#{refused[key]}" if key in refused else key


def refuse(key: str) -> None:
    """What stands in the box of this key was refused: it must not go on standing there as if it were in force."""
    base, _sign, n = key.rpartition("#")
    refused: dict[str, int] = st.session_state["refused"]
    known = base in refused and n == str(refused[base])
    refused[base if known else key] = int(n) + 1 if known else 1


@contextmanager
def telling(box: str = "") -> Iterator[None]:
    """A disk or a run that refuses becomes a sentence below the toolbar, and `box`, the key of one, is made anew."""
    try:
        yield
    except (ConfigError, RunError) as error:
        problem = error.problems[0] if isinstance(error, ConfigError) else error
        reason = _(problem.template).format(**problem.values)
        st.session_state["trouble"] = _("Nothing was started. {reason}").format(reason=reason)
    except OSError as error:
        if box:
            refuse(box)
        st.session_state["trouble"] = _("The run folder cannot be written: {reason}").format(
            reason=error.strerror or type(error).__name__
        )
