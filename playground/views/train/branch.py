"""Branch from step n: a link that any page may offer, the row that says what will be, and the click that does it."""

from pathlib import Path

import streamlit as st

from core.config import RunConfig
from core.messages import ConfigError
from core.train import REWARM
from playground import state
from playground.draft import Draft
from playground.i18n import _
from playground.runs import branches, store
from playground.runs.store import Run, RunError
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
            _("Its training state of that step was not kept: the branch warms up anew over {n} steps.").format(n=REWARM)
        )
    elif not draft.changes:
        said.append(_("Without a change it ends, on the CPU, with the very weights of its parent."))
    st.markdown(f":orange[⑂ {' '.join(said)}]")
    st.button(_("No branch"), key="branch.none", type="tertiary", on_click=_leave)


def _leave() -> None:
    draft: Draft = st.session_state["draft"]
    draft.branch = None
    draft.load(draft.base)


def grow(draft: Draft, config: RunConfig) -> Run | None:
    """The branch that the draft asks for, not yet trained; None, with the reason below the toolbar, where there can be none.
    Raises OSError.
    """
    parent = store.find(draft.run_id)
    if parent is None or draft.branch is None:
        return None
    try:
        return branches.branch(parent, draft.branch, config, state.owner())
    except (ConfigError, RunError) as error:
        problem = error.problems[0] if isinstance(error, ConfigError) else error
        reason = _(problem.template).format(**problem.values)
        st.session_state["trouble"] = _("Nothing was started. {reason}").format(reason=reason)
        return None
