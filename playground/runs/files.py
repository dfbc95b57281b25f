"""Small files that others read while we write them, and locks that say who is alive."""

import json
import os
import secrets
import stat
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core.files import is_plain, open_plain
from playground.i18n import N_
from playground.runs import bounds

JUNCTION = 0xA0000003  # a link to a folder, on Windows
FOLDERS = ("weights", "optimizer", "control")

FOREIGN = N_(
    "This run is not trained: {files} in its folder should be a file or folder of its own and leads elsewhere. Put a copy in its place, then resume."
)
LINK = N_("its folder is a link to another folder")


def replace(path: Path, data: bytes) -> None:
    """Write beside the target, then rename: a reader sees the old file or the new one. Never creates the folder.

    Not flushed to the disk itself: these files are small and written several times a second. Raises OSError.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        beside.unlink(missing_ok=True)  # whatever lies there: a link would have its target written
        with beside.open("xb") as file:
            file.write(data)
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


def is_folder(path: Path | str) -> bool:
    """Is this a folder, and no link to one?"""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(found.st_mode) and getattr(found, "st_reparse_tag", 0) != JUNCTION


def foreign(run: Path) -> list[str]:
    """Names in a run folder ("." for itself) that are links, pipes or folders where a run of ours has files, or no folder
    where it has one. Who writes there writes to somewhere else, or waits for ever.
    """
    if not is_folder(run):
        return ["."]
    found = [name for name in FOLDERS if os.path.lexists(run / name) and not is_folder(run / name)]
    for name in (*bounds.LARGEST, "writer.lock"):
        if os.path.lexists(run / name) and not is_plain(run / name):
            found.append(name)
    return found


def number(path: Path) -> float | None:
    """The number in a request, or None where there is none. Never waits."""
    try:
        with open_plain(path) as file:
            return float(file.read(bounds.REQUEST + 1)[: bounds.REQUEST] or b"x")
    except (OSError, ValueError):
        return None


def remove(path: Path) -> bool:
    """Remove a file, a link (not what it leads to) or a folder with all that is in it; is it gone?

    Folders inside are first moved up into `path`, so that no depth is too deep for Python's stack or for the length of a path.
    What the disk refuses stays.
    """
    if not is_folder(path):
        with suppress(OSError):
            _unlink(path)
        return not os.path.lexists(path)
    mark, moved, left = secrets.token_hex(4), 0, [path]
    while left:
        folder = left.pop()
        with suppress(OSError):
            for name in os.listdir(folder):
                inside = folder / name
                with suppress(OSError):
                    if not is_folder(inside):
                        _unlink(inside)
                    elif folder == path:
                        left.append(inside)
                    else:
                        moved += 1
                        lifted = path / f".{mark}-{moved}"
                        os.rename(inside, lifted)
                        left.append(lifted)
            if folder != path:
                os.rmdir(folder)
    with suppress(OSError):
        os.rmdir(path)
    return not os.path.lexists(path)


def _unlink(path: Path) -> None:
    try:
        os.unlink(path)
    except PermissionError:
        if sys.platform != "win32":
            raise
        os.rmdir(path)  # a junction goes as a folder does, and its target stays


def size(path: Path, most: int) -> tuple[int, int]:
    """(bytes, entries) of the files in a folder, of so many entries at most. No link is followed."""
    total, seen, left = 0, 0, [str(path)]
    while left and seen < most:
        with suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in entries:
                seen += 1
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
                if seen >= most:
                    break
    return total, seen
