"""The Runs page: search, import, and the table. What can be done with a run is in run_actions, comparing in compare_view."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import streamlit as st

from playground import runs_list, state
from playground.i18n import _, ngettext
from playground.runs import archive, store
from playground.runs.launcher import launcher
from playground.runs.store import ACTIVE, Run, RunError
from playground.runs_list import PAGE_SIZE, PIN
from playground.text import plain

ROOT = Path(__file__).resolve().parents[1]
SELECTED = "runs.selected"  # ids of the ticked rows, in the order in which they were ticked
ROW_HEIGHT = 32  # pixels
UPLOAD_LIMIT = 200  # MB
TICK = 2.0  # seconds between looks at runs that are training


def ticked() -> list[str]:
    """The runs that are ticked in the table, as far as they still are there."""
    before: list[str] = st.session_state.get(SELECTED, [])
    now = [run_id for run_id in before if store.find(run_id)]
    if now != before or SELECTED not in st.session_state:
        select(now)
    return now


def select(ids: list[str]) -> None:
    """Choose from outside the table, which keeps its own ticks: a new table is told the new choice."""
    st.session_state["runs.tables"] = st.session_state.get("runs.tables", 0) + 1
    keep(ids)


def keep(ids: list[str]) -> None:
    st.session_state[SELECTED] = ids
    if len(ids) == 1:
        state.set_run(ids[0])  # the other pages follow


def head(runs: list[Run]) -> str:
    """Search, import, resume all. Returns what is searched for."""
    broken = runs_list.interrupted(runs)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        search: str = st.text_input(
            _("Search"),
            key="runs.search",
            placeholder=_("name, tag, note, task or setting"),
            max_chars=100,
            width=320,
            help=_("Shows the runs that hold all these words, for example: reverse heads 8"),
        )
        if broken:
            text = ngettext("Resume {n} interrupted run", "Resume all {n} interrupted runs", len(broken))
            st.button(
                f"▶ {text.format(n=len(broken))}",
                key="runs.resume_all",
                type="primary",
                help=_("Each goes on exactly where it was interrupted, from its last saved state."),
                on_click=resume_all,
            )
        st.button(f"↻ {_('Refresh')}", key="runs.refresh", help=_("Look again at what is on the disk."))
        with st.popover(_("Import"), help=_("Bring in a run that was downloaded as an archive.")):
            upload()
        if st.button(f"＋ {_('New run')}", key="runs.new", help=_("Choose settings and train on the Train page.")):
            st.switch_page(ROOT / "pages" / "train.py")
    return search


def upload() -> None:
    generation = st.session_state.setdefault("runs.uploads", 0)
    file = st.file_uploader(
        _("Archive of a run (.zip)"), "zip", key=f"runs.upload#{generation}", max_upload_size=UPLOAD_LIMIT
    )
    if file is None:
        return
    trouble: dict[str, str] = st.session_state.setdefault("runs.import_trouble", {})
    if file.file_id not in trouble:
        try:
            run = archive.import_(file, state.owner())
        except RunError as error:
            trouble[file.file_id] = _(error.template).format(**error.values)
        except OSError as error:
            trouble[file.file_id] = _("The run cannot be saved: {reason}").format(reason=error.strerror or error)
        else:
            st.session_state["runs.uploads"] = generation + 1  # an empty uploader
            select([run.id])
            st.toast(_("Imported."))
            st.rerun()
    st.error(plain(trouble[file.file_id]))


def choose(runs: list[Run], search: str) -> list[str]:
    """The table, a page at a time. Returns the chosen ids; drawn anew every two seconds while something trains."""
    runs = runs_list.ordered(search, runs)
    if not runs:
        st.info(_("No run holds all these words. Search for less, or empty the search."))
        return ticked()
    pages = -(-len(runs) // PAGE_SIZE)
    page = min(st.session_state.get("runs.page", 1), pages)
    shown = runs[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    busy = any(run.status().state in ACTIVE for run in shown if not run.is_sample)
    st.session_state["runs.whole"] = True  # the whole page is being drawn, not the table alone
    st.fragment(table, run_every=TICK if busy else None)([run.id for run in shown])
    st.session_state["runs.whole"] = False
    if pages > 1:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.pagination(pages, key="runs.page")
            st.caption(_("{n} runs").format(n=len(runs)))
    return list(st.session_state[SELECTED])


def table(ids: list[str]) -> None:
    rows = [runs_list.row(run) for run_id in ids if (run := store.find(run_id))]
    before: list[str] = st.session_state[SELECTED]
    ids = [row.run.id for row in rows]
    # A selection is a list of row numbers: another list of runs is another table, told what is chosen.
    event = st.dataframe(
        runs_list.table(rows),
        key=f"runs.table#{st.session_state['runs.tables']}#{hash(tuple(ids))}",
        on_select="rerun",
        selection_mode="multi-row",
        selection_default={"selection": {"rows": [ids.index(run_id) for run_id in before if run_id in ids]}},
        hide_index=True,
        row_height=ROW_HEIGHT,
        height=int((min(len(ids), 8.5) + 1) * ROW_HEIGHT) + 2,
        column_config=columns(),
        placeholder="–",
        alt=_("The list of runs: what each was, what came out, what it does now."),
    )
    picked = [ids[row] for row in event["selection"]["rows"] if row < len(ids)]
    now = [run_id for run_id in before if run_id not in ids or run_id in picked]
    now += [run_id for run_id in picked if run_id not in now]
    states = [(row.run.id, row.status.state) for row in rows]
    changed = now != before or states != st.session_state.get("runs.states", states)
    st.session_state["runs.states"] = states
    if now != before:
        keep(now)
    if changed and not st.session_state["runs.whole"]:
        st.rerun()


def columns() -> dict[str, Any]:
    c = st.column_config
    return {
        "pin": c.TextColumn(PIN, width=36, help=_("Pinned runs stand first.")),
        "name": c.TextColumn(_("Name"), width=170),
        "task": c.TextColumn(_("Task"), width=90),
        "differs": c.TextColumn(
            _("Differs from the default in"),
            width=330,
            help=_("Every setting that is not the default one of its task."),
        ),
        "steps": c.NumberColumn(_("Steps"), width=60, help=_("Training steps done.")),
        "exact_match": c.ProgressColumn(
            _("Exact match"),
            width=110,
            min_value=0.0,
            max_value=100.0,
            format="%.3g%%",
            help=_("Share of unseen strings that the model writes without a single mistake, at the last test."),
        ),
        "seconds": c.NumberColumn(
            _("Time, s"), width=70, format="%.1f", help=_("Seconds of training, without pauses.")
        ),
        "state": c.TextColumn(_("State"), width=105),
        "tags": c.ListColumn(_("Tags"), width=90),
        "created": c.DatetimeColumn(_("Made"), width=130, format="YYYY-MM-DD HH:mm"),
    }


def broken_folders(runs: list[Run]) -> None:
    """Folders that cannot be read are named, with the reason, and left alone."""
    if runs_list.folders() == sum(not run.is_sample for run in runs):
        return
    bad = store.unreadable()
    if bad:
        text = ngettext("{n} run cannot be shown", "{n} runs cannot be shown", len(bad)).format(n=len(bad))
        with st.expander(f"⚠ {text}"):
            for name, error in bad.items():
                st.text(f"{name}: {_(error.template).format(**error.values)}")


def resume_all() -> None:
    with telling():
        launcher().resume_all(state.owner())


@contextmanager
def telling() -> Iterator[None]:
    """A disk that refuses becomes a sentence."""
    try:
        yield
    except OSError as error:
        st.toast(_("The run cannot be saved: {reason}").format(reason=plain(error.strerror or str(error))))
