"""What a person changed while a run trained, found in its log without reading the records around it."""

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from core.files import open_plain
from playground.runs.bounds import LARGEST
from playground.runs.log import LONGEST_EVENT, MOST_EVENTS, MOST_ODD

MARK = b'"event"'  # stands in the lines of the log that are no records
OURS = (b'"event":"lr"', b'"event": "lr"')  # as training writes them, now and before
MOST_STEPS, MOST_RATE = 10**9, 1e6
CHUNK = 1 << 20
ENDLESS = MOST_ODD // 8  # odd lines that a block without an end of line counts as: after eight such this is no log
KEPT = 20_000  # logs that are remembered

Changes = tuple[tuple[int, float], ...]  # (step, learning rate), in the order of steps


@dataclass
class _Seen:
    """How far a log was read, and what was found up to there."""

    inode: int
    offset: int = 0
    odd: int = 0  # lines that are no records; after MOST_ODD nothing more is read
    found: list[tuple[int, float]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)


_seen: dict[Path, _Seen] = {}
_lock = Lock()


def rates(path: Path) -> Changes:
    """The learning rates that were set by hand, from `metrics.jsonl`. Empty where it cannot be read.

    What is appended is read once: a list may ask for every run that it shows. A later line overrules what lies
    at its step or after it: the run was resumed before that. Who asks for one log waits for no reader of another.
    """
    try:
        now = os.lstat(path)
        if not stat.S_ISREG(now.st_mode):
            return ()
        with _lock:
            known = _seen.get(path)
            if known is None or known.inode != now.st_ino or now.st_size < known.offset:
                if len(_seen) > KEPT:
                    _seen.clear()
                known = _seen[path] = _Seen(now.st_ino)
        with known.lock:
            if now.st_size > known.offset and known.offset < LARGEST["metrics.jsonl"] and known.odd <= MOST_ODD:
                with open_plain(path) as file:
                    _read(file, known)
            return tuple(known.found)
    except OSError:
        return ()


def _read(file: BinaryIO, known: _Seen) -> None:
    file.seek(known.offset)
    rest = b""
    while known.offset < LARGEST["metrics.jsonl"] and known.odd <= MOST_ODD and (block := file.read(CHUNK)):
        data = rest + block
        end = data.rfind(b"\n") + 1  # the rest is a line that is still being written, or goes on in the next block
        at = data.find(MARK, 0, end)
        while at >= 0 and known.odd <= MOST_ODD:
            known.odd += 1
            begin, stop = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
            if stop - begin <= LONGEST_EVENT and data.startswith(OURS, at):
                _take(data[begin:stop], known.found)
            at = data.find(MARK, stop, end)
        known.offset += end
        rest = data[end:]
        if len(rest) > CHUNK:  # no line of ours is that long
            known.offset += len(rest)
            known.odd += ENDLESS
            rest = b""


def _take(line: bytes, found: list[tuple[int, float]]) -> None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return
    if not isinstance(event, dict) or event.get("event") != "lr":
        return
    step, lr = event.get("step"), event.get("lr")
    if type(step) is not int or not isinstance(lr, int | float) or isinstance(lr, bool):
        return
    if not (0 <= step <= MOST_STEPS and 0 < lr <= MOST_RATE):
        return
    while found and found[-1][0] >= step:
        found.pop()
    if len(found) < MOST_EVENTS:
        found.append((step, float(lr)))
