"""A fault at every store call in turn: the run list stays readable, what was shown stays, training can go on afterwards."""

import errno
import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core import checkpoint
from core.checkpoint import load_weights
from playground.runs import checkpoints, files, store, training
from tests.playground.small import (
    config,
    one_thread,
    same_bits,
    steps_shown,
    train_here,
    until,
    weights_after,
    weights_on_disk,
)

STEPS = 6


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLAYGROUND_RUNS", str(tmp_path))
    return tmp_path


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, nth: int, fault: int) -> Iterator[list[int]]:
    """The nth write to the run folder fails once. Yields a list whose length is the number of writes."""
    calls: list[int] = []

    def guarded(real: Any) -> Any:
        def write(*args: Any) -> Any:
            calls.append(1)
            if len(calls) == nth:
                raise OSError(fault, os.strerror(fault))
            return real(*args)

        return write

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace", guarded(files.replace))
        patch.setattr(checkpoints, "replace", files.replace)
        patch.setattr("playground.runs.probe.replace", files.replace)
        patch.setattr(checkpoint, "write_atomic", guarded(checkpoint.write_atomic))
        patch.setattr(training.Training, "_write", guarded(training.Training._write))
        yield calls


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_fault_at_every_write_in_turn(monkeypatch: pytest.MonkeyPatch, fault: int) -> None:
    expected, nth, failed = weights_after(config(STEPS, dropout=0.1)), 0, 0
    with one_thread():
        while True:
            nth += 1
            run = store.create(config(STEPS, dropout=0.1))
            with failing(monkeypatch, nth, fault) as calls:
                state = train_here(run)
            if len(calls) < nth:
                break
            shown = run.metrics()
            assert run in store.list_runs()
            assert run.status().state in ("failed", "interrupted", "finished"), nth
            if state == "failed" and run.status().state == "failed":
                failed += 1
                assert run.status().reason
            for step in run.saved_steps():
                load_weights(run.weights_path(step), run.config.model)
            if run.status().state != "finished":
                assert train_here(run) == "finished"
            assert steps_shown(run) == list(range(1, STEPS + 1))
            assert [(r["step"], r["loss"]) for r in shown] == [
                (r["step"], r["loss"]) for r in run.metrics()[: len(shown)]
            ]
            assert same_bits(weights_on_disk(run), expected)
            store.delete(run.id)
    assert state == "finished"
    print(f"\n{nth - 1} writes, each failed once; {failed} times the reason was on disk")
    assert nth > 15
    assert failed > 12


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    """The system may write a part of a line before it finds the disk full."""
    run = store.create(config(3))
    session = training.Training(run, threading.Event())

    class Short:
        def __init__(self, path: Path) -> None:
            self.file = path.open("a+b", buffering=0)

        def write(self, data: bytes) -> int:
            return self.file.write(data[:7]) or 0

        def seek(self, *args: int) -> int:
            return self.file.seek(*args)

        def truncate(self, size: int) -> int:
            return self.file.truncate(size)

    path = tmp_path / "log"
    path.write_bytes(b"whole\n")
    session.metrics = short = Short(path)  # type: ignore[assignment]
    with pytest.raises(OSError, match="space"):
        session._write(b'{"event":"x"}\n')
    short.file.close()
    assert path.read_bytes() == b"whole\n"


def test_a_torn_last_line_is_cut_before_going_on() -> None:
    run = store.create(config(5))
    leave = threading.Event()
    leave.set()
    assert train_here(run, leave) == "interrupted"
    assert train_here(run) == "finished"
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":6,"lo')
    run.set_status(store.Status("interrupted", 5))
    assert train_here(run) == "finished"
    assert (run.path / "metrics.jsonl").read_bytes().endswith(b"}\n")
    assert run.log().damaged == 0


def test_a_damaged_checkpoint_is_passed_over() -> None:
    run = store.create(config(5))
    assert train_here(run) == "finished"
    run.state_path(5).write_bytes(b"\xff" * 100)
    assert train_here(run) == "finished"  # from its seed, then
    assert same_bits(weights_on_disk(run), weights_after(run.config))
    assert steps_shown(run) == [1, 2, 3, 4, 5]


def test_ten_thousand_runs_are_listed_within_a_second(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its own config, the first time and again. The best of three: others may use this machine."""
    facts = json.loads((store.create(config()).path / "run.json").read_text())
    for i in range(9_999):
        folder = runs / f"20260101-000000000-{i:016x}"
        folder.mkdir()
        facts["config"]["train"]["seed"] = i
        (folder / "run.json").write_text(json.dumps(facts))
    first, again = [], []
    for _ in range(3):
        monkeypatch.setattr(store, "_cache", OrderedDict())
        first.append(until(lambda: len(store.list_runs()) >= 10_000))
        again.append(until(lambda: len(store.list_runs()) >= 10_000))
    print(f"\n10,000 runs: {min(first):.2f} s the first time, then {min(again):.2f} s")
    assert min(first) < 1.0
    assert min(again) < 1.0


BAD = {  # what to change in a whole run.json
    "empty": (rb".*", b""),
    "no json": (rb".*", b"{"),
    "no object": (rb".*", b"[]"),
    "deep": (rb".*", b"[" * 99_999),
    "a value out of bounds": (rb'"d_model":\d+', b'"d_model":-5'),
    "two values that do not fit": (rb'"n_heads":\d+', b'"n_heads":3'),
    "a wrong type": (rb'"lr":[^,]+', b'"lr":"1"'),
    "not a number": (rb'"lr":[^,]+', b'"lr":NaN'),
    "no config": (rb'"config":', b'"other":'),
    "no time": (rb'"created":"[^"]*"', b'"created":"yesterday"'),
    "a time without a zone": (rb'"created":"[^"]*"', b'"created":"2026-01-01T00:00:00"'),
    "newer": (rb'"schema":1', b'"schema":2'),
}


@pytest.mark.parametrize("what", BAD)
def test_one_bad_run_never_breaks_the_list(what: str) -> None:
    made = [store.create(config()) for _ in range(3)]
    path, (old, new) = made[1].path / "run.json", BAD[what]
    data, times = re.subn(old, new, path.read_bytes(), count=1, flags=re.DOTALL)
    assert times == 1
    path.write_bytes(data)
    assert {run.id for run in store.list_runs() if not run.is_sample} == {made[0].id, made[2].id}
    assert list(store.unreadable()) == [made[1].id]
    assert store.find(made[1].id) is None
    with pytest.raises(store.RunError, match="newer" if what == "newer" else "cannot be read"):
        _ = made[1].config
    assert store.delete(made[1].id)  # and a person can be rid of it
    assert store.unreadable() == {}
