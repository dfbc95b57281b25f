"""The coach below the toolbar: its sentence, at most two buttons, and the lab that explains it."""

import copy
from pathlib import Path

import streamlit as st

from playground import draft as drafts
from playground import state
from playground.forms import gather
from playground.i18n import _
from playground.runs import changes, store
from playground.runs.launcher import launcher
from playground.runs.store import Run, Status
from playground.text import plain
from playground.views.train.begin import crowded, grow, telling
from playground.views.train.coach import Action, Rule, values, verdict
from playground.views.train.facts import Facts, facts_of

ROOT = Path(__file__).resolve().parents[3]
LOOKS_EVERY = "8s"  # at a run that trains: it may have stopped learning


def facts(run: Run, status: Status) -> Facts:
    """Of a run as it is now; worked out once for each state of its log."""
    log = run.log()
    known = (log.rewinds, log.last().get("step"), len(log.events), run.target_steps, log.examined.get("step"))
    return _facts(run.id, known, status.state, status.step, run)


@st.cache_data(max_entries=64, show_spinner=False)
def _facts(run_id: str, log: object, status: str, step: int, _run: Run) -> Facts:
    found, rates = _run.log(), changes.rates(_run.path / "metrics.jsonl")
    saved, steps = _run.saved_steps(), _run.target_steps
    begun = _run.parent.step if _run.parent else 0
    return facts_of(
        _run.config, status, step, found.records(), found.events, rates, saved, steps, found.examined, begun
    )


def coach(run: Run, status: Status, watching: bool = False) -> bool:
    """Draw what the coach says of this run; False where it says nothing. watching: inside a fragment, which a click must leave."""
    now = facts(run, status)
    rule = verdict(now)
    if rule is None:
        return False
    with st.container(key="coach", horizontal=True, vertical_alignment="center", gap="small"):
        sign = "✓" if rule.name.startswith("solved") else "→"
        st.markdown(f"**{sign}** {plain(_(rule.sentence).format(**values(now)))}")
        for i, action in enumerate(rule.actions(now)):
            offer(run, rule, i, action, now, watching)
        if rule.lab:
            page, panel = rule.lab
            query = {"panel": panel} | ({} if run.is_sample else {"run": run.id})
            st.page_link(
                ROOT / "pages" / f"{page}.py", label=_("Why? The lab"), icon=":material/science:", query_params=query
            )
    return True


def offer(run: Run, rule: Rule, i: int, action: Action, now: Facts, watching: bool) -> None:
    label = _(action.label).format(**values(now))
    if action.do == "look":
        query = {"run": run.id, "step": str(action.step)}
        st.page_link(ROOT / "pages" / "attention.py", label=label, query_params=query)
        return
    key = f"coach.{rule.name}.{i}#{run.id}"
    if st.button(label, key=key, on_click=act, args=(run.id, rule.name, i, action.step)) and watching:
        st.rerun()


def act(run_id: str, rule_name: str, i: int, step: int) -> None:
    """Do what a button offered, if the coach still says the same of the run in view."""
    run = store.find(run_id)
    if run is None or st.session_state.get("run") != run_id:
        return
    now = facts(run, run.status())
    rule = verdict(now)
    if rule is None or rule.name != rule_name:
        return
    action = rule.actions(now)[i]
    if action.step != step:
        return
    if action.do == "draft":
        draft: drafts.Draft = st.session_state["draft"]
        gather(draft)  # what was typed in the same moment stays
        data = copy.deepcopy(draft.data)
        for part, fields in action.settings.items():
            data[part] |= fields
        draft.load(data)
        return
    if crowded(run_id):
        return
    if action.do == "branch":
        step = max((saved for saved in run.saved_steps() if saved <= action.step), default=action.step)
        train = run.config.train.model_copy(update={"lr": action.lr})
        grow(run, step, run.config.model_copy(update={"train": train}), lr=action.lr)
        return
    with telling():
        if action.do == "train_on":
            launcher().train_on(run.id, action.step, state.owner())
        else:
            launcher().resume(run.id, state.owner())
