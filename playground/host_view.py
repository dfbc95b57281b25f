"""The page of the host: how many people are here, who is training, who waits, and a Stop for any run.

It opens with the key that `python -m playground serve` prints.
"""

import logging

import streamlit as st
from streamlit.runtime import get_instance

from playground import host_key, run_actions, runs_list
from playground.i18n import _
from playground.runs import states
from playground.runs.launcher import launcher
from playground.runs.store import Run
from playground.text import plain

LOOK = 2.0  # seconds between two looks
WIDTHS = [0.6, 1, 1.4, 3, 2, 1]
MOST = 100  # rows


def is_host() -> bool:
    """The browser that once came with the key of `serve` (see host_key)."""
    return host_key.right(st.context.cookies.get(host_key.COOKIE))


def refuse() -> None:
    if host_key.served():
        sentence = _(
            "This page is for the host. It opens with the address that the command serve prints in its terminal."
        )
    else:
        sentence = _(
            "This page is for the host of a class. Here is none: the command serve starts the app for a class."
        )
    st.info(sentence)


def draw() -> None:
    st.fragment(overview, run_every=LOOK)()


def overview() -> None:
    crew = launcher()
    runs = crew.everything()
    columns = st.columns(4)
    columns[0].metric(_("Pages open"), sessions())
    columns[1].metric(
        _("Training"), f"{crew.training} / {crew.slots}", help=_("Runs in a slot, and how many slots there are.")
    )
    columns[2].metric(_("Waiting"), crew.waiting)
    limit = f"≤ {crew.per_person}" if crew.per_person else "∞"
    columns[3].metric(_("Runs per person"), limit, help=_("How many may train or wait at a time."))
    if not runs:
        st.info(_("Nobody trains now. Runs appear here as soon as somebody presses Train."))
        return
    with st.container(key="host.head"):
        texts = ("", _("Person"), _("State"), _("Run"), _("Steps"), "")
        for column, text in zip(st.columns(WIDTHS), texts, strict=True):
            column.caption(text)
    for run, owner in runs[:MOST]:
        try:
            row(run, owner)
        except Exception:  # deleted between two looks, most likely; the other rows stand
            logging.getLogger(__name__).info("run %s cannot be listed", run.id, exc_info=True)
    if len(runs) > MOST:
        st.caption(_("… and {n} more.").format(n=len(runs) - MOST))


def row(run: Run, owner: str) -> None:
    status, place = run.status(), launcher().place(run.id)
    cells = st.columns(WIDTHS, vertical_alignment="center")
    cells[0].markdown(str(place or "▶"))
    cells[1].markdown(f"`{plain(owner[:4])}`", help=_("The same four characters are the same browser."))
    cells[2].markdown(states.word(status.state))
    cells[3].markdown(plain(runs_list.title(run)))
    cells[4].markdown(f"{status.step:,} / {run.target_steps:,}")
    help_text = _("End this run. Its weights are saved.")
    cells[5].button(f"■ {_('Stop')}", key=f"host.stop#{run.id}", help=help_text, on_click=stop, args=(run.id,))


def stop(run_id: str) -> None:
    """Asked again: a button may be pressed long after the page was drawn."""
    if is_host():
        run_actions.stop(run_id)


def sessions() -> int:
    """Pages that are open now."""
    found = get_instance().stats_mgr.get_stats(family_names=["active_sessions"])
    return int(sum(getattr(stat, "value", 0) for stats in found.values() for stat in stats))
