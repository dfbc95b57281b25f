"""Runs: every run in one table; choose one to look after it, two to eight to compare them."""

import streamlit as st

from playground import compare_view, run_actions, runs_list, runs_view, state, trash_view
from playground.i18n import _
from playground.runs import store

runs = store.list_runs()
in_view = state.current_run()
search = runs_view.head(runs, trash_view.popover)
trash_view.undo()
runs_view.imported()
if all(run.is_sample for run in runs):
    st.info(
        _(
            "You have no runs of your own yet. Press New run, choose settings and press Train: the run then stands here. "
            "Until then, look at the sample below."
        )
    )
compare_view.from_address()
runs_view.ticked()
ticked = runs_view.choose(runs, search)
compare_view.to_address(ticked)
compare_view.notice(ticked)
runs_view.weight(runs)
runs_view.broken_folders(runs, run_actions.delete_folder_button)
if not ticked:
    st.caption(_("Tick a run on the left edge of the table to look after it, or two to eight to compare them."))
chosen = runs_list.rows(map(store.find, ticked or [in_view.id]))
left, right = st.columns([2, 5], gap="large") if len(chosen) == 1 else (None, st.container())
if left:
    with left:
        run_actions.manage(chosen[0])
with right:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        if len(chosen) > 1:
            run_actions.bulk(chosen)
        view = compare_view.controls()
    compared = chosen[: runs_list.MOST_COMPARED]
    compare_view.curves(compared, view)
    if len(chosen) > 1:
        compare_view.apart(compared)
