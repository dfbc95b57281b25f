"""Branch from step n: a link that any page may offer, and the row that says what Train then does."""

from pathlib import Path

import streamlit as st

from core.config import REWARM
from playground.draft import Draft
from playground.i18n import _
from playground.runs import branches, store
from playground.runs.store import Run
from playground.settings import names
from playground.text import plain

ROOT = Path(__file__).resolve().parents[3]


def offer(run: Run, step: int) -> None:
    """A button to the Train page, which then trains a new run with the weights of this saved step."""
    if st.button(
        _("Branch from step {step}").format(step=step),
        key=f"branch.offer#{run.id}#{step}",
        icon=":material/call_split:",
        type="tertiary",
        help=_("A new run that begins with the weights of this step, with settings of training that you choose."),
    ):
        st.switch_page(ROOT / "pages" / "train.py", query_params={"run": run.id, "branch": str(step)})


def row(draft: Draft, off: str) -> None:
    """Below the toolbar: what Train does now."""
    parent, step = store.find(draft.run_id), draft.branch
    if parent is None or step is None:
        return
    title = plain(names.own(parent))
    said = [_("Train makes a branch of {run} from step {step}.").format(run=title, step=step)]
    if off:
        said.append(_("Train is off for now. {reason}").format(reason=plain(off)))
    elif step not in parent.exact_steps():
        said.append(
            _("No whole training state of that step was kept: the branch warms up anew over {n} steps.").format(
                n=REWARM
            )
        )
    elif not draft.changes and branches.ends_alike(parent, step):
        said.append(_("Without a change it ends, on the CPU, with the very weights of its parent."))
    if parent.added and draft.get("train.steps") == parent.config.train.steps:
        said.append(
            _("With the steps that were added to its parent it ends at step {n}.").format(n=parent.target_steps)
        )
    st.markdown(f":orange[⑂ {' '.join(said)}]")
    st.button(_("No branch"), key="branch.none", type="tertiary", on_click=_leave)


def _leave() -> None:
    draft: Draft = st.session_state["draft"]
    draft.branch = None
    for name, value in draft.brought.items():  # what the branch brought goes with it, what was changed by hand stays
        if draft.get(name) == value:
            part, key = name.split(".")
            draft.data[part][key] = draft.base[part][key]
    draft.brought = {}
    draft.load(draft.data)
