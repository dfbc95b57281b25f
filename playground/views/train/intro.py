"""The first minute: what this is in one sentence, and three steps that can be clicked away. Only for who has no run yet."""

from pathlib import Path

import streamlit as st

from playground import state
from playground.i18n import _, ngettext
from playground.runs.launcher import launcher

ROOT = Path(__file__).resolve().parents[3]
SIGNS = ("", "①", "②", "③")
SHOWN = "intro"  # in the session: decided at the first visit, until the person closes it


def intro() -> None:
    """One row below the toolbar, which the keyboard reaches first."""
    if SHOWN not in st.session_state:
        st.session_state[SHOWN] = state.latest_own() is None
    if not st.session_state[SHOWN]:
        return
    with st.container(key="intro", horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown("**Transformer Playground**", width="content")
        sentence = _("Train a real Transformer in seconds and look at every number inside.")
        st.markdown(sentence)
        first = "✓" if state.latest_own() else SIGNS[1]
        st.markdown(f"{first} {_('Train a model')}", width="content")
        for n, page, text in ((2, "attention", _("Click a head")), (3, "generate", _("Type your word"))):
            st.page_link(ROOT / "pages" / f"{page}.py", label=f"{SIGNS[n]} {text}")
        st.button("✕", key="intro.close", type="tertiary", help=_("Close these steps."), on_click=_close)


def _close() -> None:
    st.session_state[SHOWN] = False


def at_work() -> str:
    """What of this person trains and what waits, in one line; empty where there is nothing beside the run in view."""
    mine = [run.id for run, who in launcher().everything() if who == state.owner()]
    others = [run_id for run_id in mine if run_id != st.session_state.get("run")]
    if not others:
        return ""
    waiting = sum(launcher().place(run_id) is not None for run_id in others)
    training = len(others) - waiting
    parts = []
    if training:
        parts.append(ngettext("{n} run of yours trains", "{n} runs of yours train", training).format(n=training))
    if waiting:
        parts.append(ngettext("{n} waits", "{n} wait", waiting).format(n=waiting))
    return _("Elsewhere: {what}.").format(what=", ".join(parts))
