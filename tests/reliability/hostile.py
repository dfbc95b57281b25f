"""Every field of every file of a run folder, and forty values that no run of ours holds there."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playground.runs import store
from playground.runs.store import Run

ESC = "\x1b[31m\x1b]0;owned\x07"
# As JSON text: several are no value of Python's. "@" stands for a name too long to be written here.
VALUES: dict[str, str] = {
    "null": "null",
    "true": "true",
    "a negative number": "-1",
    "a very negative number": "-" + "9" * 30,
    "10^30": "1" + "0" * 30,
    "10^18": "1" + "0" * 18,
    "2^63": str(2**63),
    "400 digits": "7" * 400,
    "4,300 digits": "7" * 4300,
    "5,000 digits": "7" * 5000,
    "seconds of 10^400": "1e400",
    "10^308": "1e308",
    "-10^308": "-1e308",
    "10^-400": "1e-400",
    "a half": "0.5",
    "an exponent of a hundred digits": "1e" + "9" * 100,
    "a float of 100,000 digits": "0." + "3" * 100_000,
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "an empty text": '""',
    "a word": '"x"',
    "a number as a text": '"1"',
    "10 MB": '"' + "n" * 10_000_000 + '"',
    "300,000 characters": '"' + "n" * 300_000 + '"',
    "a lone surrogate": '"a\\ud800b"',
    "an escape": json.dumps(ESC),
    "a zero": '"a\\u0000b"',
    "turned text": '"a\\u202eb"',
    "line breaks": '"a\\n\\r\\u2028b"',
    "markup": '"<img src=x onerror=alert(1)>$x$ :red[x] **b**"',
    "a format of 300 MB": '"{step:>300000000}"',
    "a format that looks inside": '"{step.__class__.__mro__}{0}{"',
    "a path": '"../../../../etc/passwd"',
    "the year 1": '"0001-01-01T00:00:00+00:00"',
    "the year 9999": '"9999-12-31T23:59:59+00:00"',
    "a date without a zone": '"2026-01-01T00:00:00"',
    "a list": "[1, [2], {}]",
    "a deep list": "[" * 20_000 + "]" * 20_000,
    "an object": '{"step": {"a": 1}, "__class__": "x"}',
}
FILES = ("run.json", "status.json", "label.json", "probe.json", "added.json", "metrics.jsonl")
MARK = "\0hostile\0"


def fields(run: Run) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(file, keys down to a field) of every field that this run has; of a list its first entry, of the log its fifth line."""
    for name in FILES:
        if name == "added.json" and not (run.path / name).exists():  # most runs have none
            continue
        yield from ((name, keys) for keys in _paths(_data(run, name), ()) if keys)


def cases(run: Run) -> Iterator[tuple[str, tuple[Any, ...], str]]:
    """Each field with each value. The 10 MB stand in one field of each file: what counts is the size of the file."""
    seen = set()
    for name, keys in fields(run):
        for what, value in VALUES.items():
            if len(value) < 10**6 or name not in seen:
                yield name, keys, what
        seen.add(name)


def _data(run: Run, name: str) -> Any:
    text = (run.path / name).read_text()
    return json.loads(text.splitlines()[4] if name == "metrics.jsonl" else text)


def _paths(data: Any, keys: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield keys
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _paths(value, (*keys, key))
    elif isinstance(data, list) and data:
        yield from _paths(data[0], (*keys, 0))


def text(run: Run, name: str, keys: tuple[Any, ...], value: str) -> str:
    """The file with this JSON text as the value of the field."""
    data = _data(run, name)
    inside = data
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = MARK
    changed = json.dumps(data).replace(json.dumps(MARK), value)
    if name != "metrics.jsonl":
        return changed
    lines = (run.path / name).read_text().splitlines()
    return "\n".join([*lines[:4], changed, *lines[5:]]) + "\n"


def bad_run(good: Run, name: str, written: str) -> Run:
    """A copy of a run with one file replaced."""
    run = Run(store.root() / store.new_id())
    shutil.copytree(good.path, run.path, copy_function=_link)
    (run.path / name).unlink()
    (run.path / name).write_text(written, encoding="utf-8")
    return run


def _link(source: str, target: str) -> None:
    """Weights are never changed, so all copies share them."""
    if source.endswith(".safetensors"):
        Path(target).hardlink_to(source)
    else:
        shutil.copyfile(source, target)
