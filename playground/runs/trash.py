"""Deleted runs lie in the folder of runs under another name, and can be brought back for a day."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from playground.i18n import N_
from playground.runs import files, store
from playground.runs.store import Run, RunError

SECONDS = 24 * 3600.0
MOST_COUNTED = 100_000  # files whose size is asked for: half a second

THERE_AGAIN = N_("There is a run {id} again, so the deleted one stays in the trash.")


class Deleted(NamedTuple):
    """id: of the run it was; run: its folder as it lies in the trash; at: when it was deleted, seconds since 1970."""

    id: str
    run: Run
    at: float

    @property
    def name(self) -> str:
        """Of its folder: no two in the trash have the same, also where a run was deleted, put back by hand and deleted again."""
        return self.run.path.name


def listed() -> list[Deleted]:
    """What can be brought back, deleted last first."""
    return sorted(_all(), key=lambda deleted: (-deleted.at, deleted.id))


def find(run_id: str) -> Deleted | None:
    """The run with this id, if it was deleted and can be brought back."""
    return next((deleted for deleted in listed() if deleted.id == run_id), None)


def restore(name: str) -> bool:
    """Bring a deleted run back, whole: by its id the one deleted last, or by the name of its folder. False where it is not in
    the trash. Raises RunError where a run has this id again, OSError.
    """
    deleted = next((deleted for deleted in listed() if name in (deleted.id, deleted.name)), None)
    if deleted is None:
        return False
    target = store.root() / deleted.id
    if os.path.lexists(target):
        raise RunError(THERE_AGAIN, id=deleted.id)
    os.rename(deleted.run.path, target)
    return True


def empty(older: float | None = None) -> int:
    """Delete for good everything, or what has lain here for so many seconds; how many those were."""
    now, gone = time.time(), 0
    for deleted in _all():
        if older is None or deleted.at <= now - older:
            half = deleted.run.path.with_name(f".trash-{secrets.token_hex(8)}")  # nobody restores half a run
            with suppress(OSError):
                os.rename(deleted.run.path, half)
                gone += 1
            files.remove(half)
        elif deleted.at > now:  # the clock was set back: its day begins now
            with suppress(OSError):
                os.utime(deleted.run.path)
    return gone


def size() -> tuple[int, bool]:
    """Bytes on the disk, and whether that is all: of very many files the rest is not counted."""
    total, left = 0, MOST_COUNTED
    for deleted in _all():
        found, seen = files.size(deleted.run.path, left)
        total, left = total + found, left - seen
        if left <= 0:
            return total, False
    return total, True


def _all() -> Iterator[Deleted]:
    with suppress(OSError):
        for entry in list(os.scandir(store.root())):
            if (match := store.TRASH.fullmatch(entry.name)) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    yield Deleted(match[1], Run(Path(entry.path)), entry.stat().st_mtime)
