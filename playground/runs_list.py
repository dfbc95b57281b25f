"""The list of runs: which, in what order, and what a row says. Cheap, so that ten thousand of them list within a second."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import pandas as pd

from core.config import RunConfig
from core.tasks import TASKS
from playground import differences, look, pick
from playground.i18n import N_, _, language
from playground.runs import changes, store
from playground.runs.changes import Changes
from playground.runs.store import Label, Run, Status

PAGE_SIZE = 100
MOST_COMPARED = 8
PIN = "★"
TAIL = 2**14  # bytes read from the end of a metrics file; holds about 90 records
# A sign beside each word: nobody has to tell states by a colour.
STATES = {
    "draft": ("✎", N_("draft")),
    "queued": ("…", N_("queued")),
    "running": ("▶", N_("running")),
    "paused": ("⏸", N_("paused")),
    "finished": ("✓", N_("finished")),
    "stopped": ("■", N_("stopped")),
    "failed": ("✗", N_("failed")),
    "interrupted": ("⚡", N_("interrupted")),
}
NO_LABEL = Label()


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
        sign, word = STATES[self.status.state]
        return {
            "pin": PIN if self.label.pinned else "",
            "name": title(self.run, self.label),
            "task": _(TASKS[self.config.task.name].title),
            "differs": self.differs,
            "steps": self.status.step,
            "exact_match": None if self.exact_match is None else self.exact_match * 100,
            "seconds": self.status.seconds or None,
            "state": f"{sign} {_(word)}",
            "tags": list(self.label.tags),
            "created": self.created,
        }


def title(run: Run, label: Label | None = None) -> str:
    """The name a person gave, else the words by which the other pages list the run."""
    name = (label or run.label()).name
    return name if name and not run.is_sample else pick.title(run)


def ordered(search: str = "", listed: Sequence[Run] | None = None) -> list[Run]:
    """The runs that fit the search: pinned first, then newest first, the shipped samples last."""
    runs = [(run, _label(run)) for run in (store.list_runs() if listed is None else listed)]
    words, spoken = search.casefold().split(), language()
    if words:
        runs = [pair for pair in runs if all(word in _searched(*pair, spoken) for word in words)]
    return [run for run, label in sorted(runs, key=lambda pair: not pair[1].pinned)]


def row(run: Run) -> Row:
    return Row(run, _label(run), run.status(), last_exact_match(run.path / "metrics.jsonl"))


def table(rows: Sequence[Row]) -> pd.DataFrame:
    return pd.DataFrame([row.cells() for row in rows])


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


def last_exact_match(path: Path) -> float | None:
    """The newest exact match in a metrics file, from its end: the file itself may hold a million lines."""
    size = TAIL
    try:
        with path.open("rb") as file:
            length = file.seek(0, os.SEEK_END)
            while True:
                file.seek(max(0, length - size))
                for line in reversed(file.read(size).split(b"\n")):
                    if b'"exact_match":' in line and b'"exact_match":null' not in line and line.endswith(b"}"):
                        try:
                            value = json.loads(line)["exact_match"]
                        except (ValueError, KeyError, TypeError):
                            continue  # a damaged line, or one that the window cuts
                        if isinstance(value, (int, float)):
                            return float(value)
                if size >= min(length, TAIL * 256):
                    return None
                size *= 16
    except OSError:
        return None


# What was read from a run's small files, kept until the file changes. Bounded by starting anew.
_labels: dict[Path, tuple[int, Label]] = {}
_states: dict[Path, tuple[int, str]] = {}
_texts: dict[tuple[Path, str], tuple[Label, str]] = {}
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
        config = run.config
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
