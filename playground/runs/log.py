"""metrics.jsonl, read while it grows: complete lines only, damaged ones skipped and counted, nothing read twice."""

import json
import os
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from pathlib import Path
from threading import RLock
from typing import Any

KEYS = ("step", "loss", "lr", "grad_norm", "tokens_per_s", "token_accuracy", "exact_match", "seconds")
KEPT = 64  # logs that stay in memory


class Log:
    """The records of one run, one a step. A later record of a step replaces the earlier: a resumed run repeats some. And a
    learning rate that a person sets overrules what an earlier life of the run had made of that step and all after it.

    Lines are kept as the bytes they are, so that many viewers cost no parsing. `rewinds` counts the times when something
    changed that a reader may already hold.
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
        self.damaged = 0
        self._offset, self._inode = 0, -1

    def update(self) -> "Log":
        """Read what was appended since the last time."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    stat = os.fstat(file.fileno())
                    if stat.st_size < self._offset or self._inode not in (-1, stat.st_ino):
                        self._clear()
                    self._inode = stat.st_ino
                    if stat.st_size == self._offset:
                        return self
                    file.seek(self._offset)
                    data = file.read()
            except OSError:
                return self
            end = data.rfind(b"\n") + 1  # the rest is a line that is still being written
            self._offset += end
            for line in data[:end].split(b"\n"):
                self._add(line)
            return self

    def _add(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            record = json.loads(line, parse_constant=_refuse)
            if not isinstance(record, dict):
                raise ValueError
            if isinstance(record.get("event"), str):
                if record["event"] == "lr" and type(record.get("step")) is int:
                    self._overrule(record["step"])
                self.events.append(record)
                return
            step = record["step"]
            if type(step) is not int or step < 0 or not all(_is_number(record[key]) for key in KEYS[1:5]):
                raise ValueError
            if tuple(record) != KEYS:
                record = {key: record.get(key) for key in KEYS}
                line = json.dumps(record, separators=(",", ":")).encode()
            if not all(_is_number(value) for value in record.values()):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            self.damaged += 1
            return
        if not self.steps or step > self.steps[-1]:
            self.steps.append(step)
            self.lines.append(line)
            return
        place = bisect_left(self.steps, step)
        self.rewinds += self.lines[place] != line
        if self.steps[place] == step:
            self.lines[place] = line
        else:
            self.steps.insert(place, step)
            self.lines.insert(place, line)

    def _overrule(self, step: int) -> None:
        """The run takes another way from this step on."""
        beyond = bisect_right(self.steps, step)
        self.rewinds += beyond < len(self.steps)
        del self.steps[beyond:], self.lines[beyond:]
        self.events = [
            e for e in self.events if type(e.get("step")) is not int or e["step"] + (e["event"] == "lr") <= step
        ]

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
            record: dict[str, Any] = json.loads(self.lines[-1]) if self.lines else {}
        return record


def _is_number(value: object) -> bool:
    return value is None or (type(value) in (int, float) and value - value == 0)  # type: ignore[operator]


def _refuse(name: str) -> float:
    raise ValueError(name)


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


def number(x: float | None) -> str:
    """Seven digits hold a float32; what is no finite number becomes null, for JSON has no other word."""
    return "null" if x is None or x - x != 0 else f"{x:.7g}"
