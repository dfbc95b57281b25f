"""What can be done with a run on the Runs page: open, duplicate, take away, stop, resume, pin, name, delete."""

import math
from functools import partial
from itertools import islice

import streamlit as st

from core.model import parameter_counts
from playground import draft, estimate, runs_list, state
from playground.exports import metrics_csv, zipped
from playground.i18n import _, ngettext
from playground.runs import archive, bounds, states, store
from playground.runs.launcher import launcher
from playground.runs.store import ACTIVE, Run
from playground.runs_list import MOST_COMPARED, PIN, Row
from playground.runs_view import JUST_NOW, ROOT, SELECTED, TICK, select, telling, upload_limit
from playground.settings import names
from playground.text import plain

MOST_KIN = 500  # runs, from the newest on, among which branches are looked for
MEGA = 10**6  # as the uploader counts


def manage(row: Row) -> None:
    """Everything that can be done with one run."""
    run, status = row.run, row.status
    active = status.state in ACTIVE and not run.is_sample
    st.fragment(summary, run_every=TICK if active else None)(run.id)  # the table above it does not stand still either
    notes = [_(status.template).format(**status.values)] if status.template else []
    if files := runs_list.damage(run):
        notes.append(_(store.PARTLY).format(files=", ".join(files)))
    damaged = run.log().damaged
    if damaged:
        text = ngettext(
            "{n} damaged line of its history is left out.", "{n} damaged lines of its history are left out.", damaged
        )
        notes.append(text.format(n=damaged))
    if run.is_sample:
        notes.append(_("It came with the app and stays as it is. Duplicate it to train your own."))
    if notes:
        st.caption(plain(" ".join(notes)))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(_("Open in"), width="content")
        for page, text in (("train", _("Train")), ("attention", _("Attention")), ("generate", _("Generate"))):
            st.page_link(ROOT / "pages" / f"{page}.py", label=f"→ {text}", query_params={"run": run.id})
    with st.container(horizontal=True, gap="small"):
        if st.button(
            _("Duplicate"),
            key=f"runs.duplicate#{run.id}",
            help=_("A new draft with the same settings, on the Train page."),
        ):
            duplicate(run)
        with st.popover(_("Download")):
            downloads(run)
        if active:
            help_text = _("End this run. Its weights are saved.")
            st.button(f"■ {_('Stop')}", key=f"runs.stop#{run.id}", help=help_text, on_click=stop, args=(run.id,))
        elif status.state in ("interrupted", "stopped", "failed") and not run.is_sample:
            st.button(
                f"▶ {_('Resume')}",
                key=f"runs.resume#{run.id}",
                help=_("Go on from the last saved state."),
                on_click=resume,
                args=(run.id,),
            )
        if not run.is_sample:
            pinned = row.label.pinned
            st.button(
                _("Unpin") if pinned else f"{PIN} {_('Pin')}",
                key=f"runs.pin#{run.id}#{pinned}",
                help=_("Pinned runs stand first."),
                on_click=relabel,
                args=(run,),
                kwargs={"pinned": not pinned},
            )
            delete_button([run])
    if not run.is_sample:
        with st.form(f"runs.label#{run.id}", border=False):
            name = st.text_input(_("Name"), row.label.name, max_chars=80, placeholder=_("Name this run"))
            tags = st.text_input(_("Tags, with commas between"), ", ".join(row.label.tags), max_chars=400)
            note = st.text_area(_("Note"), row.label.notes, max_chars=10_000, height=100)
            if st.form_submit_button(_("Save")):
                relabel(run, name=name, tags=tuple(tags.replace("，", ",").split(",")), notes=note)
                st.rerun()


def summary(run_id: str) -> None:
    """What the run is and how far it has come."""
    for row in runs_list.rows([store.find(run_id)]):
        st.markdown(f"**{plain(runs_list.title(row.run, row.label))}** · {states.word(row.status.state)}")
        made = _("Step {step} of {steps} · {n} parameters · {differs}").format(
            step=f"{row.status.step:,}",
            steps=f"{row.run.target_steps:,}",
            n=f"{sum(parameter_counts(row.config.model).values()):,}",
            differs=row.differs,
        )
        st.caption(plain(f"{made} · {estimate.size(store.disk(row.run))}"))
        family(row.run)


def family(run: Run) -> None:
    """Where a branch comes from, and what grew from the run."""
    if (parent := run.parent) is not None:
        grown = store.find(parent.run)
        text = _("⑂ from step {step} of {run}")
        if grown is None:
            st.caption(text.format(step=parent.step, run=_("a run that is no longer here")))
        else:
            label = text.format(step=parent.step, run=plain(names.own(grown)))
            query = {"run": grown.id, "step": str(parent.step)}
            st.page_link(ROOT / "pages" / "attention.py", label=label, query_params=query)
    children = [other for other in islice(store.list_runs(), MOST_KIN) if other.parent and other.parent.run == run.id]
    if children:
        listed = "; ".join(f"{names.own(other)} ({other.parent.step})" for other in children[:6] if other.parent)
        more = " …" if len(children) > 6 else ""
        st.caption(plain(_("Branches, with the step they grew from: {runs}").format(runs=listed + more)))


def bulk(rows: list[Row]) -> None:
    """How many, and what can be done with all of them."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content"):
        st.markdown(f"**{_('{n} runs compared').format(n=min(len(rows), MOST_COMPARED))}**", width="content")
        if len(rows) > MOST_COMPARED:
            st.caption(_("Only the first {n} that you chose are drawn.").format(n=MOST_COMPARED), width="content")
        st.button(_("Clear selection"), key="runs.clear", on_click=select, args=([],))
        delete_button([row.run for row in rows])


def resume(run_id: str) -> None:
    if sentence := state.too_many():
        st.toast(plain(sentence))
        return
    with telling():
        launcher().resume(run_id, state.owner())


def stop(run_id: str) -> None:
    with telling():
        launcher().stop(run_id)


def relabel(run: Run, **changes: object) -> None:
    with telling():
        run.set_label(**changes)


def duplicate(run: Run) -> None:
    """The settings as a draft that belongs to no run yet, so that all of them stand in the URL."""
    state.set_run(state.sample().id)
    draft.start(run.config)
    st.switch_page(ROOT / "pages" / "train.py")


def delete_button(runs: list[Run]) -> None:
    own = [run for run in runs if not run.is_sample]
    training = any(run.status().state in ACTIVE for run in own)
    help_text = _("Stop it first.") if training else _("Into the trash, from where it can be brought back for a day.")
    key = f"runs.delete#{len(own)}#{own[0].id if own else ''}"
    if st.button(f"{_('Delete')} …", key=key, help=help_text, disabled=training or not own):
        st.dialog(_("Delete?"))(confirm)([run.id for run in own])


def delete_folder_button(run_id: str) -> None:
    """For a run that cannot be read."""
    if st.button(
        f"{_('Delete')} …",
        key=f"runs.delete_folder#{run_id}",
        help=_("Into the trash, from where it can be brought back for a day."),
    ):
        st.dialog(_("Delete?"))(confirm)([run_id])


def confirm(ids: list[str]) -> None:
    for run in filter(None, map(store.folder_of, ids)):
        st.text(f"{runs_list.title(run)} ({run.id})" if store.find(run.id) else run.id)
    st.write(
        _("Settings, curves and weights go to the trash. For a day they can be brought back from there, on this page.")
    )
    with st.container(horizontal=True):
        if st.button(_("Delete"), key="runs.delete.yes", type="primary", on_click=erase, args=(ids,)):
            if not st.session_state["runs.refused"]:
                st.rerun()
            st.error(_("It is training. Stop it first."))
        if st.button(_("Keep"), key="runs.delete.no"):
            st.rerun()


def erase(ids: list[str]) -> None:
    """Deleting twice is deleting once. A run that was started meanwhile, in another tab, stays."""
    runs = [run for run_id in ids if (run := store.folder_of(run_id))]
    st.session_state["runs.refused"] = any(run.status().state in ACTIVE for run in runs)
    if not st.session_state["runs.refused"]:
        for run in runs:
            with telling():  # and the others still go
                launcher().delete(run.id)
        st.session_state[JUST_NOW] = ids
        select([run_id for run_id in st.session_state[SELECTED] if run_id not in ids])


def downloads(run: Run) -> None:
    """Files are made when they are asked for, not when the page is drawn."""
    steps = run.saved_steps()
    for label, kept, state_too, size in packages(run):
        st.download_button(
            f"{label} · {megabytes(size)}",
            partial(zipped, run, kept, state_too),
            names.file(run, ".zip"),
            "application/zip",
            on_click="ignore",
            key=f"runs.zip#{run.id}#{len(kept)}#{state_too}",
            help=_("Settings, curves and weights. Import it here or on another computer.")
            if size <= upload_limit() * MEGA
            else _("Too large to import in the app, which takes {limit} MB. The command takes it: {command}").format(
                limit=upload_limit(), command="`python -m playground import FILE.zip`"
            ),
        )
    st.download_button(
        _("Curves (.csv)"), partial(metrics_csv, run), names.file(run, ".csv"), "text/csv", on_click="ignore"
    )
    st.download_button(
        _("Settings (.json)"),
        partial(bounds.read, run.path / "run.json"),
        names.file(run, ".json"),
        "application/json",
        on_click="ignore",
    )
    if steps:
        step = st.selectbox(_("Weights at step"), steps[::-1], key=f"runs.weights#{run.id}")
        st.download_button(
            _("Weights (.safetensors)"),
            run.weights_path(step).read_bytes,
            names.file(run, f"-step-{step}.safetensors"),
            "application/octet-stream",
            on_click="ignore",
        )


def packages(run: Run) -> list[tuple[str, list[int], bool, int]]:
    """What can be taken away: label, steps, with the state to go on training, bytes. The whole; and where that is more than the
    app takes back, without that state, and with as few saved steps as fit.
    """
    limit = upload_limit() * MEGA
    try:
        whole = archive.steps_of(run)
        found = [(_("Whole run (.zip)"), whole, True, archive.size(run, whole))]
        if found[0][3] <= limit:
            return found
        state = bool(run.resumable_steps())
        if state:
            found.append((_("Without resume state (.zip)"), whole, False, archive.size(run, whole, state=False)))
        few = archive.steps_of(run, limit - archive.size(run, (), state=False) - len(whole) * archive.OVERHEAD)
        if len(few) < len(whole) and archive.size(run, few, state=False) <= limit:
            found.append((_("Fewer steps (.zip)"), few, False, archive.size(run, few, state=False)))
        return found
    except OSError:  # the folder goes just now, or cannot be read
        return []


def megabytes(size: int) -> str:
    """As people compare it with a limit: never less than it is."""
    return f"{math.ceil(size / MEGA * 10) / 10:g} MB"
