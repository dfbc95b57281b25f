"""Deleted runs lie in the folder of runs under another name, and can be brought back for a day."""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from playground.runs import store
from playground.runs.store import Run

SECONDS = 24 * 3600.0


class Deleted(NamedTuple):
    """id: of the run it was; run: its folder as it lies in the trash; at: when it was deleted, seconds since 1970."""

    id: str
    run: Run
    at: float


def listed() -> list[Deleted]:
    """What can be brought back, deleted last first."""
    return sorted(_all(), key=lambda deleted: (-deleted.at, deleted.id))


def find(run_id: str) -> Deleted | None:
    """The run with this id, if it was deleted and can be brought back."""
    return next((deleted for deleted in listed() if deleted.id == run_id), None)


def restore(run_id: str) -> bool:
    """Bring a deleted run back, whole. False where it is not in the trash. Raises OSError."""
    deleted = find(run_id)
    target = store.root() / run_id
    if deleted is None or target.exists():
        return False
    os.rename(deleted.run.path, target)
    return True


def empty(older: float = 0.0) -> int:
    """Delete for good what has lain here for so many seconds; how many those were."""
    before, gone = time.time() - older, 0
    for deleted in _all():
        if deleted.at <= before:
            half = deleted.run.path.with_name(f".trash-{secrets.token_hex(8)}")  # nobody restores half a run
            with suppress(OSError):
                os.rename(deleted.run.path, half)
                gone += 1
            shutil.rmtree(half, ignore_errors=True)
    return gone


def size() -> int:
    """Bytes on the disk."""
    total = 0
    for deleted in _all():
        for folder, _folders, files in os.walk(deleted.run.path):
            for name in files:
                with suppress(OSError):
                    total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _all() -> Iterator[Deleted]:
    with suppress(OSError):
        for entry in list(os.scandir(store.root())):
            if (match := store.TRASH.fullmatch(entry.name)) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    yield Deleted(match[1], Run(Path(entry.path)), entry.stat().st_mtime)
