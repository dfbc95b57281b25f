"""The page of the host: how many people are here, who is training, who waits, and a Stop for any run.

It opens on the computer that serves, or with the token that `python -m playground serve` prints.
"""

import os
import secrets

import streamlit as st
from streamlit.runtime import get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core.messages import ConfigError
from playground import address, hosts, run_actions, runs_list
from playground.i18n import _
from playground.runs.launcher import launcher
from playground.runs.store import Run, RunError
from playground.text import plain

KNOWN = "host.known"
LOOK = 2.0  # seconds between two looks
WIDTHS = [0.6, 1, 1.4, 3, 2, 1]
MOST = 100  # rows


def is_host() -> bool:
    """From this computer, or with the token. It is taken out of the address, so that it stays off a projector."""
    given = st.query_params.get("token")
    if given is not None:
        address.put({"token": None})
        if right(given, os.environ.get("PLAYGROUND_HOST_TOKEN", "")):
            st.session_state[KNOWN] = True
    return bool(st.session_state.get(KNOWN)) or at_this_computer()


def right(given: str, token: str) -> bool:
    """Takes as long for a wrong token as for a right one. Without a token, none is right."""
    return bool(token) and secrets.compare_digest(given.encode(errors="replace"), token.encode())


def at_this_computer() -> bool:
    script = get_script_run_ctx()
    client = get_instance().get_client(script.session_id) if script is not None else None
    context = client.client_context if client is not None else None
    return context is not None and hosts.is_here(context.headers, context.remote_ip)


def refuse() -> None:
    st.info(
        _(
            "This page is for the host. It opens on the computer that serves the class, or with the address that the command "
            "serve prints in its terminal."
        )
    )


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
        except (RunError, ConfigError):  # deleted between two looks
            continue
    if len(runs) > MOST:
        st.caption(_("… and {n} more.").format(n=len(runs) - MOST))


def row(run: Run, owner: str) -> None:
    status, place, config = run.status(), launcher().place(run.id), run.config
    sign, word = runs_list.STATES[status.state]
    cells = st.columns(WIDTHS, vertical_alignment="center")
    cells[0].markdown(str(place or "▶"))
    cells[1].markdown(f"`{plain(owner[:4])}`", help=_("The same four characters are the same browser."))
    cells[2].markdown(f"{sign} {_(word)}")
    cells[3].markdown(plain(runs_list.title(run)))
    cells[4].markdown(f"{status.step:,} / {config.train.steps:,}")
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
