"""Where a click on the board leads: an example to the Generate page, a head to the Attention page, at the step in view."""

from pathlib import Path
from typing import Any

import streamlit as st

from playground.runs.store import Run

ROOT = Path(__file__).resolve().parents[3]
LONGEST = 300  # characters of an example


def step_seen(run: Run) -> int | None:
    """The saved step that the board looks back at; None where it shows the newest."""
    step = getattr(st.session_state.get("board"), "step", None)
    return step if type(step) is int and step in run.saved_steps() else None


def lead(run: Run, clicked: Any) -> None:
    """Go where a click on the board leads: what the component sent is not trusted."""
    if not isinstance(clicked, dict):
        return
    page, step = clicked.get("page"), step_seen(run)
    if page == "branch":
        step = clicked.get("step")
        if type(step) is not int or step not in run.saved_steps():
            return
    query = {"run": run.id} | ({} if step is None else {"step": str(step)})
    if page == "branch":
        page, query = "train", {"run": run.id, "branch": str(step)}
    elif page == "generate":
        query["text"] = str(clicked.get("text", ""))[:LONGEST]
    elif page == "attention":
        query |= {name: str(clicked.get(name, ""))[:20] for name in ("where", "layer", "head")}
    else:
        return
    st.switch_page(ROOT / "pages" / f"{page}.py", query_params=query)
