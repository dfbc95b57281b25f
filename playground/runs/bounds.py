"""Whatever a run folder says is bounded here, where it is read: sizes of files, digits, ranges, dates, texts.

A folder may come from anywhere. So readers get numbers in their range, texts that can be shown, printed and written again, or
the news that the file is damaged; they never get a value that breaks the page of somebody who looks at another run.
"""

import json
import math
import os
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Any

from core.files import open_plain
from core.read import crowded

# Bytes of each file of a run folder, at most. metrics.jsonl: a million records. run.json: 5,000 pairs of words fit.
# probe.json: 60,000 weights of attention take 0.5 MB at most.
LARGEST = {
    "run.json": 2 * 2**20,
    "status.json": 2**16,
    "label.json": 2**18,
    "added.json": 2**14,
    "probe.json": 2 * 2**20,
    "metrics.jsonl": 192 * 2**20,
}
VALUES = 150_000  # in a small file, at most: those 60,000, each in a list of its own, and their tokens
REQUEST = 100  # bytes of a request in control/
DIGITS = 20  # of a whole number in a small file; a 64-bit one has 20
YEARS = range(2000, 2101)  # the calendar's ends overflow in other time zones
STEPS, SECONDS, SPEED = 10**9, 1e9, 1e9
FLOAT = 1e39  # more than a float32 holds, which is what training computes in
STEERING = frozenset(map(chr, (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))))


class Damaged(ValueError):
    """A file that holds what no run of ours holds."""


def read(path: Path, name: str = "") -> bytes:
    """All of a run's file (`name`: as which it counts). Raises OSError where it is missing or cannot be read just now, Damaged
    where it is no regular file or larger than such a file can be.
    """
    most = LARGEST[name or path.name]
    try:
        file = open_plain(path)
    except OSError as error:
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise Damaged(path.name) from error
        raise
    with file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Damaged(path.name)
    return data


def read_object(path: Path, name: str = "") -> dict[str, Any]:
    """The object in a small JSON file. Raises OSError and Damaged, as `read`."""
    return parse(read(path, name))


def parse(data: bytes | str) -> dict[str, Any]:
    """A JSON object. More than VALUES in it, what is no JSON, a number with too many digits, NaN, and nesting without end raise Damaged."""
    if crowded(data, VALUES):
        raise Damaged
    try:
        found = json.loads(data, parse_int=_int, parse_float=_float, parse_constant=_refuse)
    except (ValueError, RecursionError, MemoryError):
        raise Damaged from None
    if not isinstance(found, dict):
        raise Damaged
    return found


def _int(digits: str) -> int:
    if len(digits) > DIGITS:
        raise Damaged
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits) if len(digits) <= 400 else math.inf
    if not math.isfinite(number):
        raise Damaged
    return number


def _refuse(name: str) -> float:
    raise Damaged


def whole(value: object, low: int, high: int) -> int:
    """A whole number from low to high. Raises Damaged."""
    if type(value) is not int or not low <= value <= high:
        raise Damaged
    return value


def real(value: object, low: float, high: float) -> float:
    """A number from low to high. Raises Damaged."""
    if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator]
        raise Damaged
    return float(value)  # type: ignore[arg-type]


def text(value: object, most: int, lines: bool = False) -> str:
    """A text of at most so many characters, none of which steers a terminal or is half a character. Raises Damaged."""
    if not isinstance(value, str) or len(value) > most or not harmless(value, lines):
        raise Damaged
    return value


def harmless(value: str, lines: bool = False) -> bool:
    """Only characters that can be shown, printed and encoded; line breaks and tabs where `lines` allows them."""
    return value.isprintable() or not any(_odd(c, lines) for c in value)


def cleaned(value: str, most: int, lines: bool = False) -> str:
    """The text with a space for everything that is not harmless, cut to so many characters."""
    return "".join(" " if _odd(c, lines) else c for c in value[:most])


def _odd(c: str, lines: bool) -> bool:
    if c in "\n\t\r":
        return not lines
    return c in STEERING or unicodedata.category(c) in ("Cc", "Cs")


def moment(value: object) -> datetime:
    """A date with its time zone, in a year of YEARS. Raises Damaged."""
    try:
        found = datetime.fromisoformat(text(value, 64))
    except ValueError:
        raise Damaged from None
    if found.tzinfo is None or found.year not in YEARS:
        raise Damaged
    try:
        found.astimezone()
    except (ValueError, OverflowError, OSError):
        raise Damaged from None
    return found


def scalar(value: object) -> bool:
    """A value that may fill a sentence of ours, or stand in an event of the log."""
    if isinstance(value, str):
        return len(value) <= 1000 and harmless(value)
    return value is None or isinstance(value, bool) or (isinstance(value, (int, float)) and -FLOAT <= value <= FLOAT)
