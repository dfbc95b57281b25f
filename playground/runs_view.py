"""The Runs page: search, import, and the table. What can be done with a run is in run_actions, comparing in compare_view."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO, Any

import streamlit as st

from playground import estimate, runs_list, state
from playground.i18n import _, ngettext
from playground.runs import archive, store
from playground.runs.launcher import launcher
from playground.runs.store import ACTIVE, Run, RunError
from playground.runs_list import PAGE_SIZE, PIN
from playground.settings import words
from playground.text import plain

ROOT = Path(__file__).resolve().parents[1]
SELECTED = "runs.selected"  # ids of the ticked rows, in the order in which they were ticked
JUST_NOW = "runs.deleted"  # ids that this person deleted on this visit of the page
CAME_IN = "runs.imported"  # id of the run that this person imported on this visit of the page
ROW_HEIGHT, ROWS = 32, 8  # pixels; rows that are seen at once, whole ones
MOST_WEIGHED = 300  # runs whose bytes on the disk are added up
AT_ONCE = 2  # imports
PATIENCE = 30.0  # seconds that a third one waits
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


def head(runs: list[Run], more: Callable[[], None]) -> str:
    """Search, import, resume all, and what `more` adds to the row. Returns what is searched for."""
    broken = runs_list.interrupted(runs)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        search: str = st.text_input(
            _("Search"),
            key="runs.search",
            placeholder=_("name, tag, note, task or setting"),
            max_chars=100,
            width=280,
            help=_("Shows the runs that hold all these words, for example: reverse heads 8"),
        )
        st.selectbox(
            _("Order"),
            list(runs_list.ORDERS),
            key="runs.order",
            format_func=lambda order: _(runs_list.ORDERS[order]),
            width=150,
            help=_("Best first: by exact match at the last test, over all pages of the list. Pinned runs stand first."),
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
        more()
        if st.button(f"＋ {_('New run')}", key="runs.new", help=_("Choose settings and train on the Train page.")):
            st.switch_page(ROOT / "pages" / "train.py")
    return search


_importing = BoundedSemaphore(AT_ONCE)


def upload_limit() -> int:
    """Megabytes of a file that the server takes: the one number that the server, the uploader and our sentences go by.

    The uploader counts millions of bytes, the server 2**20 of them and the request around the file: the uploader decides.
    """
    return int(st.get_option("server.maxUploadSize"))


def upload() -> None:
    """The uploader, which gives the file back as soon as it was looked at: nobody's 64 MB stay in the server."""
    if state.page_changed():
        st.session_state.pop("runs.import_trouble", None)
    generation = st.session_state.setdefault("runs.uploads", 0)
    file = st.file_uploader(_("Archive of a run (.zip)"), "zip", key=f"runs.upload#{generation}")
    st.caption(
        _("Up to {limit} MB. A larger one comes in by the command: {command}").format(
            limit=upload_limit(), command="`python -m playground import FILE.zip`"
        )
    )
    if file is not None:
        run, st.session_state["runs.import_trouble"] = bring_in(file)
        st.session_state["runs.uploads"] = generation + 1  # an empty uploader
        if run is not None:
            select([run.id])
            st.session_state.pop(JUST_NOW, None)  # its Undo would read as undoing this
            st.session_state[CAME_IN] = run.id
        st.rerun()
    if trouble := st.session_state.get("runs.import_trouble"):
        st.error(plain(trouble))


def imported() -> None:
    """What the import made, until the page is left or something is deleted."""
    run = store.find(st.session_state.get(CAME_IN, ""))
    if state.page_changed() or JUST_NOW in st.session_state or run is None:
        st.session_state.pop(CAME_IN, None)
        return
    text = _("Imported. It is a new run: {title}, id {id}. “Made” is the time of the import.")
    st.caption(f"✓ {plain(text.format(title=runs_list.title(run), id=run.id))}")


def bring_in(file: IO[bytes]) -> tuple[Run | None, str]:
    """The imported run, or why it cannot be imported."""
    if not _importing.acquire(timeout=PATIENCE):
        return None, _("Other people are importing runs just now. Try again in a minute.")
    try:
        return archive.import_(file, state.owner()), ""
    except RunError as error:
        return None, _(error.template).format(**error.values)
    except OSError as error:
        return None, _("The run cannot be saved: {reason}").format(reason=error.strerror or error)
    finally:
        _importing.release()


def choose(runs: list[Run], search: str) -> list[str]:
    """The table, a page at a time. Returns the chosen ids; drawn anew every two seconds while something trains."""
    height = table_height(len(runs))
    runs = runs_list.ordered(search, runs, st.session_state.get("runs.order") or "newest")
    if not runs:
        with st.container(height=height, border=False):  # the place of the table: nothing below it jumps
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


def table_height(n: int) -> int:
    """Pixels of a table of n runs, of which eight are seen at once, and its head."""
    return (min(n, ROWS) + 1) * ROW_HEIGHT + 2


def table(ids: list[str]) -> None:
    rows = runs_list.rows(map(store.find, ids))
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
        height=table_height(len(ids)),
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
        "name": c.TextColumn(_("Name"), width=265),
        "task": c.TextColumn(words.label("task.name"), width=90),
        "differs": c.TextColumn(
            _("Differs from the default in"),
            width=260,
            help=_("Every setting that is not the default one of its task."),
        ),
        "steps": c.NumberColumn(_("Steps"), width=60, help=_("Training steps done.")),
        "exact_match": c.ProgressColumn(
            _("Exact match"),
            width=105,
            min_value=0.0,
            max_value=100.0,
            format="%.3g%%",
            help=_("Share of unseen strings that the model writes without a single mistake, at the last test."),
        ),
        "seconds": c.NumberColumn(
            _("Time, s"), width=70, format="%.1f", help=_("Seconds of training, without pauses.")
        ),
        "state": c.TextColumn(_("State"), width=105),
        "tags": c.ListColumn(_("Tags"), width=70),
        "created": c.DatetimeColumn(_("Made"), width=130, format="YYYY-MM-DD HH:mm"),
    }


def weight(runs: list[Run]) -> None:
    """What the runs take on the disk, where there are not too many to look."""
    own = [run for run in runs if not run.is_sample]
    if own and len(own) <= MOST_WEIGHED:
        n, size = len(own), run_sizes(tuple(run.id for run in own))
        text = ngettext("{n} run, {size} on the disk", "{n} runs, {size} on the disk", n)
        st.caption(text.format(n=n, size=estimate.size(size)))


@st.cache_data(ttl=30, max_entries=16, show_spinner=False)
def run_sizes(ids: tuple[str, ...]) -> int:
    return sum(store.disk(run) for run in map(store.find, ids) if run is not None)


def broken_folders(runs: list[Run], delete: Callable[[str], None]) -> None:
    """Folders that cannot be read are named, with the reason; `delete` draws the button to be rid of one. Runs of which a part
    is damaged are in the table; that part is named here.
    """
    own = [run for run in runs if not run.is_sample]
    if runs_list.folders() != len(own):
        bad = store.unreadable()
        if bad:
            text = ngettext("{n} run cannot be shown", "{n} runs cannot be shown", len(bad)).format(n=len(bad))
            with st.expander(f"⚠ {text}"):
                for name, error in list(bad.items())[:PAGE_SIZE]:
                    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                        st.text(f"{name}: {_(error.template).format(**error.values)}", width="content")
                        delete(name)
    partly = {run: files for run in own[:PAGE_SIZE] if (files := runs_list.damage(run))}
    if partly:
        text = ngettext("{n} run is damaged in part", "{n} runs are damaged in part", len(partly)).format(n=len(partly))
        with st.expander(f"⚠ {text}"):
            for run, files in partly.items():
                st.text(f"{runs_list.title(run)} ({run.id}): {_(store.PARTLY).format(files=', '.join(files))}")


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
