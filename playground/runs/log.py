"""metrics.jsonl, read while it grows: complete lines only, damaged ones skipped and counted, nothing read twice."""

import json
import os
import re
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from operator import lt
from pathlib import Path
from threading import RLock
from typing import Any

from core.files import is_plain, open_plain
from playground.runs.bounds import FLOAT, LARGEST, SECONDS, STEPS, scalar

KEYS = ("step", "loss", "lr", "grad_norm", "tokens_per_s", "token_accuracy", "exact_match", "seconds")
# What training can write: a number outside is damage. `step` is a whole number, the others may be null.
RANGES = {
    "step": (0, STEPS),
    "loss": (-FLOAT, FLOAT),
    "lr": (0, FLOAT),
    "grad_norm": (0, FLOAT),
    "tokens_per_s": (0, FLOAT),
    "token_accuracy": (0, 100),  # shares; what is drawn beside others stays readable up to here
    "exact_match": (0, 100),
    "seconds": (0, SECONDS),
}
LIMITS, NUMBER, REQUIRED = tuple(RANGES.values()), (float, int), frozenset(KEYS[:5])
KEPT = 64  # logs that stay in memory
MOST = 20_000  # records of a log that are kept to be drawn; of a longer one every 2nd, 4th, 8th, …
MOST_EVENTS = 1_000  # that are kept
MOST_ODD = 100_000  # lines that are damaged, events, or written by others; what holds more of them is no log
UNTESTED = b'"exact_match":null'
BLOCK = 2**20  # bytes read at a time
LONGEST = 2**14  # bytes of a line; a record takes 160
LONGEST_RECORD = 300  # bytes of a record that is kept as it stands; a longer one is written anew
LONGEST_EVENT = 500  # bytes of a line that is no record; a longer one is not ours
USUAL = 150  # bytes of a record, to guess how many a file holds
MOST_TRIED = 1_000  # damaged lines there
TAIL = 2**14  # bytes first read from the end for the last exact match; they hold about 90 records


class Log:
    """The records of one run, one a step. A later record of a step replaces the earlier: a resumed run repeats some. And a
    learning rate that a person sets overrules what an earlier life of the run had made of that step and all after it.

    Lines are kept as the bytes they are, so that many viewers cost no parsing. `rewinds` counts the times when something
    changed that a reader may already hold. A long log is thinned out: `every` says that only each so manieth record is kept,
    and those of the tests on unseen strings while there are few of them. `each` reads all records.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rewinds = path, -1
        self._lock = RLock()
        self._clear()

    def _clear(self) -> None:
        self.rewinds += 1
        self.lines: list[bytes] = []
        self.steps: list[int] = []
        self.events: list[dict[str, Any]] = []
        self.examined: dict[str, Any] = {}  # what the run was asked when it ended, see core.lab.examine
        self.damaged = 0
        self._odd = 0
        self.every, self._tests_every = 1, 1
        self._count = self._tests = 0  # records and tests that were seen, kept or not
        self._newest, self._before = b"", -1  # the last good line, and its step
        self._offset, self._inode = 0, -1
        self._skipping = False  # inside a line that is too long

    def update(self) -> "Log":
        """Read what was appended since the last time."""
        with self._lock:
            try:
                with open_plain(self.path) as file:
                    stat = os.fstat(file.fileno())
                    if stat.st_size < self._offset or self._inode not in (-1, stat.st_ino):
                        self._clear()
                    self._inode = stat.st_ino
                    if stat.st_size == self._offset:
                        return self
                    if self._offset == 0:
                        while stat.st_size > MOST * USUAL * self.every:
                            self.every *= 2
                    file.seek(self._offset)
                    most = LARGEST["metrics.jsonl"] if self._odd <= MOST_ODD else 0
                    while self._offset < most and (data := file.read(BLOCK)):
                        if not self._take(data, file.tell() >= stat.st_size):
                            break
                        file.seek(self._offset)
            except (OSError, ValueError):
                pass
            return self

    def _take(self, data: bytes, last: bool) -> bool:
        """The complete lines of a block. False where there was none: the rest is a line that is still being written. And where
        this is no log.
        """
        end = data.rfind(b"\n") + 1
        if not end:
            if len(data) <= LONGEST:
                return False
            self.damaged += not self._skipping
            self._skipping = True
            self._offset += len(data)
            return True
        self._offset += end
        data = data[: end - 1]
        while b"\n\n" in data:
            data = data.replace(b"\n\n", b"\n")
        lines = data.split(b"\n")
        if self._skipping:
            self._skipping = False
            del lines[0]
        if self.every == 1:
            for line in lines:
                if line and not line.isspace():
                    self._add(line)
                    if self._odd > MOST_ODD:
                        break
        else:
            self._sift(lines, last)
        return self._odd <= MOST_ODD

    def _sift(self, lines: list[bytes], last: bool) -> None:
        """Of a long log most lines are passed over and never parsed; tests, events and whatever else stands there are read."""
        chosen = set(range(-self._count % self.every, len(lines), self.every))
        self._count += len(lines)
        for i in [i for i, line in enumerate(lines) if UNTESTED not in line]:
            if lines[i].startswith(b'{"step":'):
                self._tests += 1
                if self._tests % self._tests_every:
                    chosen.discard(i)
                    continue
            chosen.add(i)
        for i in sorted(chosen):
            if lines[i] and not lines[i].isspace():
                self._add(lines[i])
                if self._odd > MOST_ODD:
                    return
        if last and lines and len(lines) - 1 not in chosen:
            self._add(lines[-1], keep=False)

    def _add(self, line: bytes, keep: bool = True) -> None:
        found, whole = _read(line)
        self._odd += _is_odd(line, found)
        if found is None:
            self.damaged += 1
            return
        if "event" in found:
            if found["event"] == "examined":
                self.examined = found
                return
            if found["event"] == "lr" and type(found.get("step")) is int:
                self._overrule(found["step"])
            self.events.append(found)
            if len(self.events) > MOST_EVENTS:
                del self.events[: MOST_EVENTS // 2]
            return
        step = found["step"]
        if not whole:
            line = json.dumps(found, separators=(",", ":")).encode()
        self._newest = line
        if not keep:
            return
        if self.every > 1 and self._before < step and self.steps and self.steps[-1] > self._before:
            # This life of the run went from `_before` to here: what an earlier life left between is no more.
            low, high = bisect_right(self.steps, self._before), bisect_left(self.steps, step)
            self.rewinds += high > low
            del self.steps[low:high], self.lines[low:high]
        self._before = step
        if not self.steps or step > self.steps[-1]:
            self.steps.append(step)
            self.lines.append(line)
            if len(self.lines) > MOST:
                self._thin()
            return
        place = bisect_left(self.steps, step)
        self.rewinds += self.lines[place] != line
        if self.steps[place] == step:
            self.lines[place] = line
        else:
            self.steps.insert(place, step)
            self.lines.insert(place, line)

    def _overrule(self, step: int) -> None:
        """A person set the learning rate here: the run takes another way from this step on."""
        while self.events and _beyond(self.events[-1], step):
            self.events.pop()
        beyond = bisect_right(self.steps, step)
        if beyond < len(self.steps):
            self.rewinds += 1
            del self.steps[beyond:], self.lines[beyond:]
            self._newest, self._before = self.lines[-1] if self.lines else b"", min(self._before, step)

    def _thin(self) -> None:
        """Every second record goes. Tests stay, unless they are the many."""
        self._count = self._count or len(self.lines)
        self.every *= 2
        tests = sum(map(_is_test, self.lines))
        if tests > MOST // 4:
            self._tests_every *= 2
        seen, kept = [0, 0], []
        for i, line in enumerate(self.lines):
            test = _is_test(line)
            seen[test] += 1
            if seen[test] % 2 == 0 or (test and tests <= MOST // 4):
                kept.append(i)
        self.steps, self.lines = [self.steps[i] for i in kept], [self.lines[i] for i in kept]
        self.rewinds += 1

    def since(self, n: int, most: int | None = None) -> tuple[int, list[bytes]]:
        """Lines from record n on, `most` of them, and how many records there are up to the last of them."""
        with self._lock:
            lines = self.lines[n : None if most is None else n + most]
            return n + len(lines), lines

    def records(self) -> list[dict[str, Any]]:
        with self._lock:
            text = b"[" + b",".join(self.lines) + b"]"
        records: list[dict[str, Any]] = json.loads(text)
        return records

    def last(self) -> dict[str, Any]:
        """The newest record; empty before the first step."""
        with self._lock:
            found: dict[str, Any] = json.loads(self._newest) if self._newest else {}
        return found


def _beyond(event: dict[str, Any], step: int) -> bool:
    """Is it overruled by a learning rate set at this step? One set at the same step is, a mark there is not."""
    at = event.get("step")
    return type(at) is int and at + (event["event"] == "lr") > step


def _refuse(name: str) -> float:
    raise ValueError(name)


def _is_odd(line: bytes, found: dict[str, Any] | None) -> bool:
    """Not a record as training writes it: of these a log has few."""
    return found is None or "event" in found or not line.startswith(b'{"step":')


DECODER = json.JSONDecoder(parse_constant=_refuse)  # making one for each line costs as much as the line


def record(line: bytes) -> dict[str, Any] | None:
    """A line of the log: a record with exactly KEYS, or an event; None for anything that training does not write."""
    found, _whole = _read(line)
    return found


def _read(line: bytes) -> tuple[dict[str, Any] | None, bool]:
    """What the line says, as `record`; and whether it may be passed on as it is."""
    if len(line) > LONGEST:
        return None, False
    try:
        found = DECODER.decode(line.decode())
        if not isinstance(found, dict):
            return None, False
        if "event" in found:
            usable = isinstance(found["event"], str) and len(line) <= LONGEST_EVENT
            return (found if usable and all(map(scalar, (*found, *found.values()))) else None), False
        if not found.keys() >= REQUIRED:
            return None, False
        whole = tuple(found) == KEYS and len(line) <= LONGEST_RECORD
        if not whole:
            found = {key: found.get(key) for key in KEYS}
        if type(found["step"]) is not int:
            return None, False
        for value, (low, high) in zip(found.values(), LIMITS, strict=True):
            if value is not None and not (type(value) in NUMBER and low <= value <= high):
                return None, False
    except (ValueError, RecursionError):
        return None, False
    return found, whole


def each(path: Path) -> Iterator[dict[str, Any]]:
    """Every record of a log in order of step, the later one where a step stands twice, without what a learning rate overruled.
    Reads twice, and keeps little.

    Raises OSError.
    """
    steps, places = array("q"), array("q")
    rates: list[tuple[int, int]] = []  # how many records came before a person set the learning rate, and at which step
    if not is_plain(path):  # none yet, or no run's file
        return
    odd = 0
    with open_plain(path) as file:
        for place, line in _lines(file):
            if match := BEGINNING.match(line):
                step = int(match[1])
            elif odd > MOST_ODD:
                break
            elif (found := record(line)) is not None and "event" not in found:
                step = found["step"]
                odd += _is_odd(line, found)
            else:
                odd += 1
                if found is not None and found["event"] == "lr" and type(found.get("step")) is int:
                    rates.append((len(steps), found["step"]))
                continue
            steps.append(step)
            places.append(place)
        if rates:
            steps, places = _in_force(steps, places, rates)
        order = places
        if not all(map(lt, steps, islice(steps, 1, None))):
            newest = dict(zip(steps, places, strict=True))
            order = array("q", (newest[step] for step in sorted(newest)))
        del steps
        for place in order:
            file.seek(place)
            if (found := record(file.readline(LONGEST + 1).strip())) is not None:
                yield found


def _in_force(
    steps: "array[int]", places: "array[int]", rates: list[tuple[int, int]]
) -> tuple["array[int]", "array[int]"]:
    """The records that no later learning rate overruled."""
    last, kept = 2**62, array("q")
    for i in range(len(steps) - 1, -1, -1):
        while rates and rates[-1][0] > i:
            last = min(last, rates.pop()[1])
        if steps[i] <= last:
            kept.append(i)
    kept.reverse()
    return array("q", (steps[i] for i in kept)), array("q", (places[i] for i in kept))


def _lines(file: Any) -> Iterator[tuple[int, bytes]]:
    """Where each complete line begins, and the line; one that is too long is cut, and so no record."""
    place, most = 0, LARGEST["metrics.jsonl"]
    while place < most and (line := file.readline(LONGEST + 1)):
        start, place = place, place + len(line)
        if not line.endswith(b"\n"):
            rest = line
            while place < most and not rest.endswith(b"\n") and (rest := file.readline(BLOCK)):
                place += len(rest)
            continue
        yield start, line.strip()


def last_exact_match(path: Path) -> float | None:
    """The newest exact match in a metrics file, from its end: the file itself may hold a million lines."""
    size, tried = TAIL, 0
    try:
        with open_plain(path) as file:
            length = file.seek(0, os.SEEK_END)
            while True:
                file.seek(max(0, length - size))
                for line in reversed(file.read(size).split(b"\n")):
                    if b'"exact_match":' in line and b'"exact_match":null' not in line and line.endswith(b"}"):
                        found = record(line)  # None for a damaged line, or one that the window cuts
                        tried += 1
                        if found is not None and found.get("exact_match") is not None:
                            return min(1.0, float(found["exact_match"]))
                        if tried > MOST_TRIED:
                            return None
                if size >= min(length, TAIL * 256):
                    return None
                size *= 16
    except OSError:
        return None


BEGINNING = re.compile(rb'\{"step":(0|[1-9][0-9]{0,8}),"loss":[^{}]*"seconds":[0-9.]+\}$')


def _is_test(line: bytes) -> bool:
    return UNTESTED not in line


_logs: OrderedDict[Path, Log] = OrderedDict()
_logs_lock = RLock()


def log(path: Path) -> Log:
    """The log at a path, up to date. The last few stay in memory, shared by everyone who looks."""
    with _logs_lock:
        found = _logs.get(path)
        if found is None:
            found = _logs[path] = Log(path)
        _logs.move_to_end(path)
        while len(_logs) > KEPT:
            _logs.popitem(last=False)
    return found.update()


def line(record: Any, seconds: float) -> bytes:
    """A StepRecord as one line, with the training seconds so far. By hand: this runs at every step. 3 µs."""
    r = record
    return (
        f'{{"step":{r.step},"loss":{number(r.loss)},"lr":{number(r.lr)},"grad_norm":{number(r.grad_norm)},'
        f'"tokens_per_s":{number(r.tokens_per_s)},"token_accuracy":{number(r.token_accuracy)},'
        f'"exact_match":{number(r.exact_match)},"seconds":{seconds:.3f}}}\n'
    ).encode()


def event(name: str, **values: float) -> bytes:
    """Something else that happened, as one line."""
    return json.dumps({"event": name, **values}).encode() + b"\n"


def number(x: float | None) -> str:
    """Seven digits hold a float32; what is no finite number becomes null, for JSON has no other word."""
    return "null" if x is None or x - x != 0 else f"{x:.7g}"
