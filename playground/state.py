"""What this session knows: which run it looks at, who it is, and what of that stands in the URL."""

import hashlib
import secrets
from itertools import islice

import streamlit as st

from playground import address
from playground.guard import PERSON
from playground.i18n import _, ngettext
from playground.runs import store, trash
from playground.runs.launcher import launcher
from playground.runs.store import Run

MAX_URL_VALUE = 64  # no setting of ours is longer
SAMPLE, LABS_SAMPLE = "sample-quick", "sample-reverse"  # what the pages open on, and what the labs do
MOST_LOOKED_AT = 500  # runs, from the newest on, among which a person's own are looked for


def owner() -> str:
    """A random name for this browser: the queue shares the slots out by it. It stays the same after a refresh and in other
    tabs. The cookie itself is written nowhere, so that nobody reads in a run what makes them somebody else.
    """
    if "owner" not in st.session_state:
        cookie = st.context.cookies.get(PERSON)
        known = hashlib.sha256(cookie.encode()).hexdigest()[:16] if isinstance(cookie, str) else secrets.token_hex(8)
        st.session_state["owner"] = known
    return str(st.session_state["owner"])


def too_many(run_id: str = "") -> str:
    """Why this person cannot start one more run (or this one) now; empty if they can. The host may have set a limit."""
    crew = launcher()
    if not crew.full(owner(), run_id):
        return ""
    return ngettext(
        "Here one person may have {n} run training or waiting at a time, and you have it. Stop it, or wait for its end.",
        "Here one person may have {n} runs training or waiting at a time, and you have them. Stop one, or wait for its end.",
        crew.per_person,
    ).format(n=crew.per_person)


def visit(page: str) -> None:
    """main.py tells which page this script run draws."""
    address.arrive(page)
    st.session_state["page_changed"] = st.session_state.get("page") != page
    st.session_state.setdefault("visited", set()).add(page)
    st.session_state["page"] = page


def page_changed() -> bool:
    """Streamlit empties the URL when another page is chosen; on the same page, an emptied URL is the back button."""
    return bool(st.session_state.get("page_changed", True))


def current_run() -> Run:
    """The run of `?run=`, else the one this session looked at last, else the sample of this page. Keeps it in the URL, which
    goes on asking for a run that is in the trash until another one is chosen.
    """
    asked = st.query_params.get("run")
    run = store.find(asked) if asked and len(asked) <= MAX_URL_VALUE else None
    missed = asked if asked and run is None else None
    if missed and (page_changed() or missed != st.session_state.get("missed")):  # once: the address keeps it
        notice_bad_url("run", gone(missed))
    st.session_state["missed"] = missed
    last = st.session_state.get("run") if st.session_state.get("run_chosen", True) else None
    if run is None and last and (asked or page_changed()):
        run = store.find(last)
        if run is None and not asked:
            notice_bad_url("run", gone(last))
    if run is None and not asked and "run" not in st.session_state and not _in_lab():
        run = latest_own()  # who comes back finds what they made last
    run = run or sample()
    if missed and len(missed) <= MAX_URL_VALUE and trash.find(missed):
        st.session_state["run"] = run.id  # its address stays, so that a reload shows it once it is brought back
    else:
        _remember(run)
    return run


def gone(run_id: str) -> str:
    """What to say to somebody who looks for this run."""
    if trash.find(run_id):
        return _("This run was deleted. For a day the trash on the Runs page can bring it back.")
    return _("The run of this address is not here: it was deleted, or never was on this computer.")


def set_run(run_id: str) -> None:
    """Look at this run from now on, here and after a refresh."""
    run = store.find(run_id)
    if run is not None:
        _remember(run)


def latest_own() -> Run | None:
    """The newest run of this person, looked for among the newest of all."""
    me = owner()
    newest = (run for run in islice(store.list_runs(), MOST_LOOKED_AT) if not run.is_sample)
    return next((run for run in newest if run.owner == me), None)


def sample() -> Run:
    """The trained run that this page opens on where no run was asked for: in the labs one with two layers, which they need."""
    wanted = LABS_SAMPLE if _in_lab() else SAMPLE
    shipped = (store.find(path.name) for path in sorted(store.samples().iterdir()))
    return store.find(wanted) or next(run for run in shipped if run is not None)


def _in_lab() -> bool:
    return str(st.session_state.get("page", "")).startswith("lab_")


def _remember(run: Run) -> None:
    """A page's own sample is no choice: it stands in no URL, and another page opens on its own."""
    chosen = run.id != sample().id
    st.session_state["run"], st.session_state["run_chosen"] = run.id, chosen
    address.put({"run": run.id if chosen else None})


def instead() -> bool:
    """Whether the run in view stands in for one that the address asks for and that is not here."""
    return "run" in st.session_state.get("bad_url", {})


def notice_bad_url(name: str, why: str = "") -> None:
    """Say once that a part of the URL was ignored. `pop_bad_url` tells the page."""
    st.session_state.setdefault("bad_url", {})[name[:MAX_URL_VALUE]] = why


def pop_bad_url() -> dict[str, str]:
    """The parts that were ignored, and why where there is more to say than that."""
    names: dict[str, str] = st.session_state.pop("bad_url", {})
    return dict(sorted(names.items()))
