"""Deleted runs on the Runs page: Undo for what was deleted just now, the trash for what was deleted within a day, by anyone."""

import time

import streamlit as st

from playground import runs_list, state
from playground.i18n import _, ngettext
from playground.runs import store, trash
from playground.runs_view import JUST_NOW, select, telling
from playground.text import plain

MOST = 50  # listed


def undo() -> None:
    """What was deleted a moment ago, until the page is left."""
    if state.page_changed():
        st.session_state.pop(JUST_NOW, None)
    ids = [run_id for run_id in st.session_state.get(JUST_NOW, ()) if trash.find(run_id)]
    if not ids:
        return
    text = ngettext("{n} run is in the trash.", "{n} runs are in the trash.", len(ids)).format(n=len(ids))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f":material/delete: {text}", width="content")
        st.button(_("Undo"), key="runs.undo", on_click=bring_back, args=(ids,), help=_("Bring them back as they were."))


def popover() -> None:
    """The trash, where something is in it."""
    deleted = trash.listed()
    if not deleted:
        return
    with st.popover(
        f":material/delete: {_('Trash')} · {len(deleted)}", help=_("Runs deleted within the last day, by anyone here.")
    ):
        text = ngettext("{n} run, {size} MB on the disk.", "{n} runs, {size} MB on the disk.", len(deleted))
        total, whole = trash.size()
        size = ("" if whole else "> ") + (f"{total / 1e6:,.3g}" if total < 1e9 else f"{total / 1e6:,.0f}")
        st.caption(f"{text.format(n=len(deleted), size=size)} {_('Each goes for good a day after it was deleted.')}")
        shown: set[str] = set()
        for entry in deleted[:MOST]:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.text(f"{name(entry)} · {since(entry.at)}", width="stretch")
                ids = [entry.name]
                # Put back by hand and deleted again, a run lies here twice.
                key = f"runs.restore#{entry.name if entry.id in shown else entry.id}"
                shown.add(entry.id)
                st.button(_("Restore"), key=key, on_click=bring_back, args=(ids,))
        if len(deleted) > MOST:
            st.caption(_("… and {n} more.").format(n=len(deleted) - MOST))
        with st.container(horizontal=True, gap="small"):
            ids = [entry.name for entry in deleted]
            st.button(_("Restore all"), key="runs.restore_all", on_click=bring_back, args=(ids,))
            help_text = _("Frees the disk. These runs cannot be brought back after that.")
            st.button(_("Delete for good"), key="runs.empty_trash", on_click=empty, help=help_text)


def empty() -> None:
    trash.empty()


def bring_back(names: list[str]) -> None:
    """By their ids, or by the names of their folders in the trash."""
    back = []
    for name in names:
        with telling():  # and the others still come
            try:
                if trash.restore(name):
                    match = store.TRASH.fullmatch(name)
                    back.append(match[1] if match else name)
            except store.RunError as error:
                st.toast(plain(_(error.template).format(**error.values)))
    if len(back) == 1 and store.find(back[0]):
        select(back)


def name(entry: trash.Deleted) -> str:
    """As the list called it; one that cannot be read, by its id."""
    try:
        return runs_list.title(entry.run)
    except ValueError:
        return entry.id


def since(at: float) -> str:
    minutes = max(0, round((time.time() - at) / 60))
    return _("{n} min ago").format(n=minutes) if minutes < 90 else _("{n} h ago").format(n=round(minutes / 60))
