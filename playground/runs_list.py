"""The list of runs: which, in what order, and what a row says. Cheap, so that ten thousand of them list within a second."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import pandas as pd

from core.config import RunConfig
from core.tasks import TASKS
from playground import differences, look
from playground.i18n import N_, _, language
from playground.runs import changes, states, store
from playground.runs.changes import Changes
from playground.runs.log import last_exact_match
from playground.runs.store import Label, Run, Status
from playground.settings import names

PAGE_SIZE = 100
MOST_COMPARED = 8
PIN = "★"
NO_LABEL = Label()
ORDERS = {"newest": N_("Newest first"), "best": N_("Best first")}


@dataclass(frozen=True)
class Row:
    """What the table says about a run."""

    run: Run
    label: Label
    status: Status
    exact_match: float | None

    @property
    def config(self) -> RunConfig:
        return self.run.config

    @property
    def rates(self) -> Changes:
        return changes.rates(self.run.path / "metrics.jsonl")

    @property
    def differs(self) -> str:
        return differences.sentence(differences.from_default(self.config, self.rates)) or _("the default run")

    @property
    def created(self) -> datetime:
        return self.run.created.astimezone()

    def cells(self) -> dict[str, Any]:
        return {
            "pin": PIN if self.label.pinned else "",
            "name": title(self.run, self.label),
            "task": _(TASKS[self.config.task.name].title),
            "differs": self.differs,
            "steps": self.status.step,
            "exact_match": None if self.exact_match is None else self.exact_match * 100,
            "seconds": self.status.seconds or None,
            "state": states.word(self.status.state),
            "tags": list(self.label.tags),
            "created": self.created,
        }


def title(run: Run, label: Label | None = None) -> str:
    """What the run is called, by a person or by what sets it apart."""
    return names.own(run, label)


def ordered(search: str = "", listed: Sequence[Run] | None = None, order: str = "newest") -> list[Run]:
    """The runs that fit the search: pinned first, then newest first, the shipped samples last; or by what they write right."""
    runs = [(run, _label(run)) for run in (store.list_runs() if listed is None else listed)]
    words, spoken = search.casefold().split(), language()
    if words:
        runs = [pair for pair in runs if all(word in _searched(*pair, spoken) for word in words)]
    if order == "best":  # what was never tested comes last
        runs.sort(key=lambda pair: -1.0 if (found := _exact_match(pair[0])) is None else found, reverse=True)
    return [run for run, label in sorted(runs, key=lambda pair: not pair[1].pinned)]


def row(run: Run) -> Row:
    return Row(run, _label(run), run.status(), _exact_match(run))


def rows(runs: Iterable[Run | None]) -> list[Row]:
    """A row for each run that is still there. One that cannot be drawn is left out and logged; the others stand."""
    found = []
    for run in filter(None, runs):
        try:
            made = row(run)
            made.cells()
        except Exception:
            if run.path.is_dir():  # not one that was deleted just now
                logging.getLogger(__name__).exception("run %s cannot be listed", run.id)
            continue
        found.append(made)
    return found


def table(rows: Sequence[Row]) -> pd.DataFrame:
    return pd.DataFrame([row.cells() for row in rows])


def damage(run: Run) -> list[str]:
    """`Run.damage`, looked for again when one of the files changes."""
    marks: list[int] = []
    for name in ("status.json", "label.json", "probe.json"):
        try:
            stat = os.lstat(run.path / name)
        except OSError:
            marks += (0, 0)
        else:
            marks += (stat.st_mtime_ns, stat.st_size)
    known = _damaged.get(run.path)
    if known is None or known[0] != marks:
        try:
            known = _keep(_damaged, run.path, (marks, run.damage()))
        except store.RunError:
            return []
    return known[1]


def interrupted(runs: Sequence[Run]) -> list[Run]:
    """What one click can resume. Samples are read-only."""
    return [run for run in runs if not run.is_sample and not _over(run) and run.status().state == "interrupted"]


def folders() -> int:
    """How many folders look like runs, readable or not."""
    try:
        return sum(bool(store.RUN_ID.fullmatch(entry.name)) for entry in os.scandir(store.root()))
    except OSError:
        return 0


def slots(kept: dict[str, int], chosen: Sequence[str]) -> dict[str, int]:
    """A colour slot for each chosen run. One that has a slot keeps it; a new one gets its own favourite if that is free."""
    found = {run_id: kept[run_id] for run_id in chosen if run_id in kept}
    for run_id in chosen:
        if run_id not in found or list(found.values()).count(found[run_id]) > 1:
            favourite = crc32(run_id.encode())
            free = [s % len(look.HEADS) for s in range(favourite, favourite + len(look.HEADS))]
            taken = {slot for other, slot in found.items() if other != run_id}
            found[run_id] = next((slot for slot in free if slot not in taken), favourite % len(look.HEADS))
    return found


def unique(names: Sequence[str]) -> list[str]:
    """Names that can be told apart: "reverse", "reverse (2)", …"""
    found: list[str] = []
    for name in names:
        n, shown = 1, name
        while shown in found:
            n += 1
            shown = f"{name} ({n})"
        found.append(shown)
    return found


# What was read from a run's small files, kept until the file changes. Bounded by starting anew.
_labels: dict[Path, tuple[int, Label]] = {}
_states: dict[Path, tuple[int, str]] = {}
_exact: dict[Path, tuple[tuple[int, int], float | None]] = {}
_texts: dict[tuple[Path, str], tuple[Label, str]] = {}
_damaged: dict[Path, tuple[list[int], list[str]]] = {}
_KEPT = 20_000
K = TypeVar("K")
V = TypeVar("V")


def _label(run: Run) -> Label:
    """The label; most runs have none."""
    path = run.path / "label.json"
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError:
        return NO_LABEL
    known = _labels.get(path)
    if known is None or known[0] != changed:
        known = _keep(_labels, path, (changed, run.label()))
    return known[1]


def _exact_match(run: Run) -> float | None:
    """The last tested one; read again when the metrics grow."""
    path = run.path / "metrics.jsonl"
    try:
        stat = os.stat(path)
    except OSError:
        return None
    mark, known = (stat.st_mtime_ns, stat.st_size), _exact.get(path)
    if known is None or known[0] != mark:
        known = _keep(_exact, path, (mark, last_exact_match(path)))
    return known[1]


def _over(run: Run) -> bool:
    """Is the run beyond resuming? Such a run changes no more, so its status is not read at every look."""
    path = run.path / "status.json"
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError:
        return False
    known = _states.get(path)
    if known is None or known[0] != changed:
        known = _keep(_states, path, (changed, run.written_status().state))
    return known[1] in ("draft", "finished", "stopped", "failed")


def _searched(run: Run, label: Label, spoken: str) -> str:
    """All that a search looks at, in the reader's language and in English."""
    key = run.path, spoken
    known = _texts.get(key)
    if known is None or known[0] is not label:
        try:
            config = run.config
        except store.RunError:  # changed or deleted between two looks
            return ""
        parts = (label.name, label.notes, *label.tags, config.task.name, _(TASKS[config.task.name].title))
        kind = f"sample {_('Sample run')}" if run.is_sample else ""
        text = " ".join((*parts, kind, differences.sentence(differences.from_default(config)))).casefold()
        known = _keep(_texts, key, (label, text))
    return known[1]


def _keep(kept: dict[K, V], key: K, value: V) -> V:
    if len(kept) > _KEPT:
        kept.clear()
    kept[key] = value
    return value
