"""Small files that others read while we write them, and locks that say who is alive."""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core.files import is_plain
from playground.runs import bounds


def replace(path: Path, data: bytes) -> None:
    """Write beside the target, then rename: a reader sees the old file or the new one. Never creates the folder.

    Not flushed to the disk itself: these files are small and written several times a second. Raises OSError.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        beside.write_bytes(data)
        rename(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def rename(source: Path, target: Path) -> None:
    """`os.replace`. Windows refuses while a reader has the target open, so it tries again for a moment."""
    for attempt in range(20):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if sys.platform != "win32" or attempt == 19:
                raise
            time.sleep(0.01)


def write_json(path: Path, data: object) -> None:
    """Raises OSError, and ValueError for NaN or infinity, which JSON does not know."""
    replace(path, json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())


def read_json(path: Path, strict: bool = False) -> dict[str, Any]:
    """The object in a small JSON file of a run; empty where the file is missing or damaged. `strict` is for those who will
    replace the file: one that is there and cannot be read just now raises OSError.
    """
    try:
        return bounds.read_object(path)
    except OSError as error:
        if strict and not isinstance(error, FileNotFoundError):
            raise
        return {}
    except bounds.Damaged:
        return {}


def lock(path: Path) -> FileLock:
    """A lock that belongs to the process, whichever of its threads asks. It goes when the process goes, however it goes."""
    return FileLock(path, timeout=0, thread_local=False)


def held(path: Path, patience: float = 0.0) -> bool:
    """Does a living process hold this lock? The sure way to know is to take it; so others who ask at the same moment look
    like holders. Give some seconds of patience where that would matter.
    """
    if not is_plain(path):  # a link may lead to a file that taking the lock would empty
        return False
    probe = lock(path)
    try:
        probe.acquire(timeout=patience, poll_interval=0.002)
    except Timeout:
        return True
    except OSError:  # a read-only disk: nobody trains there
        return False
    probe.release()
    return False
