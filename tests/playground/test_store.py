"""The run folder: what is written is what is read, whatever happened in between."""

import io
import json
import os
import random
import shutil
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core.checkpoint import load_state, load_weights
from core.read import build
from core.train import Trainer
from playground.runs import archive, branches, files, log, store, stretches, trash
from playground.runs.checkpoints import STATE_CAP, schedule, state_schedule, thin
from playground.runs.probe import Prober
from playground.runs.store import Label, RunError, Status
from tests.playground import small
from tests.playground.small import config, train_here


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLAYGROUND_RUNS", str(tmp_path))
    return tmp_path


@pytest.fixture
def trained() -> store.Run:
    return small.trained(6)


def test_a_run_is_what_it_was_made_of() -> None:
    run = store.create(config(7), "ann")
    assert store.find(run.id) == run
    assert run.config == config(7)
    assert (run.owner, run.is_sample, run.status(), run.label()) == ("ann", False, Status(), Label())
    assert [r.id for r in store.list_runs() if not r.is_sample] == [run.id]
    facts = json.loads((run.path / "run.json").read_text())
    assert facts["schema"] == 1
    assert facts["seed"] == 1
    assert facts["versions"]["torch"]


def test_the_trash_knows_which_of_two_deletions_is_meant(trained: store.Run) -> None:
    """A copy put back and deleted again has the same id; the folders in the trash have names of their own."""
    before = {p.name for p in trained.path.iterdir()}
    copy = shutil.copytree(trained.path, trained.path.with_name("copy"))
    assert store.delete(trained.id)
    (copy / "label.json").write_text('{"name": "the second"}')
    copy.rename(trained.path)
    assert store.delete(trained.id)
    older, newer = sorted(trash.listed(), key=lambda deleted: (deleted.run.path / "label.json").exists())
    assert (older.id, newer.id) == (trained.id, trained.id)
    assert older.name != newer.name
    assert trash.restore(older.name)
    assert {p.name for p in trained.path.iterdir()} == before
    for name in (trained.id, newer.name):
        with pytest.raises(RunError, match=trained.id):
            trash.restore(name)
    assert len(trash.listed()) == 1
    (shutil.rmtree(trained.path), trained.path.symlink_to("nowhere"))
    with pytest.raises(RunError):
        trash.restore(trained.id)
    trained.path.unlink()
    assert trash.restore(trained.id)
    assert trained.label().name == "the second"


def test_a_clock_that_was_set_back_keeps_nothing_for_ever(runs: Path) -> None:
    """What was deleted, or left half made, in the future: the day begins when that is seen. "For good" is now."""
    run = store.create(config())
    assert store.delete(run.id)
    left = runs / ".new-x"
    left.mkdir()
    lying = trash.listed()[0].run.path
    for look in (lambda: trash.empty(trash.SECONDS), store.sweep):
        for path in (lying, left):
            os.utime(path, (time.time() + 10**8, time.time() + 10**8))
        assert not look()
        assert lying.stat().st_mtime <= time.time()
    assert left.stat().st_mtime <= time.time()
    os.utime(lying, (time.time() + 10**8, time.time() + 10**8))
    assert trash.empty() == 1
    assert trash.listed() == []


def test_half_a_run_cannot_be_brought_back_also_when_it_was_swept(
    runs: Path, monkeypatch: pytest.MonkeyPatch, trained: store.Run
) -> None:
    assert store.delete(trained.id)
    os.utime(trash.listed()[0].run.path, (1e9, 1e9))
    monkeypatch.setattr(files, "remove", lambda path: False)  # killed at its first step
    store.sweep()
    assert trash.listed() == []


@pytest.mark.parametrize(
    "bad", ["", "..", "../x", "a/b", "20260101-000000000-" + "g" * 16, "x" * 100_000, None, 3, "\0"]
)
def test_ids_from_outside_are_matched_before_use(bad: object) -> None:
    assert store.find(bad) is None


def test_newest_first_and_a_bad_run_does_not_break_the_list(runs: Path) -> None:
    made = [store.create(config()) for _ in range(3)]
    (made[1].path / "run.json").write_text("{")
    newer = store.create(config())
    facts = json.loads((newer.path / "run.json").read_text())
    (newer.path / "run.json").write_text(json.dumps(facts | {"schema": 2}))
    (runs / "something else").mkdir()
    (runs / store.new_id()).mkdir()
    assert {r.id for r in store.list_runs() if not r.is_sample} == {made[0].id, made[2].id}
    assert "newer version" in str(store.unreadable()[newer.id])
    assert len(store.unreadable()) == 3
    ids = [r.id for r in store.list_runs() if not r.is_sample]
    assert [i[:18] for i in ids] == sorted((i[:18] for i in ids), reverse=True)


def test_ids_sort_in_the_order_of_their_making(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also several in one millisecond, from several threads, and after the clock was set back."""
    with ThreadPoolExecutor(4) as pool:
        batches = pool.map(lambda _: [store.new_id() for _ in range(50)], range(4))
    stamps = [[i[:18] for i in batch] for batch in batches]
    assert all(batch == sorted(batch) for batch in stamps)
    assert len({stamp for batch in stamps for stamp in batch}) == 200
    last = store.new_id()
    monkeypatch.setattr(store, "datetime", SimpleNamespace(now=lambda tz: datetime(1970, 1, 1, tzinfo=tz)))
    assert last[:18] < store.new_id()[:18] < store.new_id()[:18]


def test_running_means_that_somebody_holds_the_lock() -> None:
    run = store.create(config())
    run.set_status(Status("running", 3))
    assert run.status().state == "interrupted"
    held = files.lock(run.path / "writer.lock")
    with held:
        assert run.status().state == "running"
    assert run.status().state == "interrupted"
    run.set_status(Status("paused", 3))
    assert run.status().state == "paused"


def test_queued_means_that_its_server_lives(runs: Path) -> None:
    run = store.create(config())
    run.set_status(Status("queued", server="0123456789abcdef"))
    assert run.status().state == "interrupted"
    with files.lock(runs / ".server-0123456789abcdef.lock"):
        assert run.status().state == "queued"
    run.set_status(Status("queued", server="../../../etc/passwd"))
    assert run.status().state == "interrupted"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"state": "dancing", "step": 1}', '{"state": "running"}', '"' * 99, "[" * 9999]
)
def test_a_damaged_status_or_label_raises_nothing(text: str) -> None:
    run = store.create(config())
    for name in ("status.json", "label.json", "probe.json"):
        (run.path / name).write_text(text)
    assert run.status().state in ("draft", "interrupted")
    assert run.label() == Label()
    run.probe()


def test_a_label_is_changed_in_parts_and_cut() -> None:
    run = store.create(config())
    run.set_label(name="  my\nrun ", tags=("a", " ", "b" * 99))
    run.set_label(pinned=True)
    assert run.label() == Label("my run", "", ("a", "b" * 40), True)
    assert len(run.set_label(name="x" * 999).name) == 80


def test_delete_takes_the_whole_run_and_no_sample() -> None:
    run = store.create(config())
    assert store.delete(run.id)
    assert not store.delete(run.id)
    assert store.find(run.id) is None
    assert [deleted.id for deleted in trash.listed()] == [run.id]
    assert trash.empty(trash.SECONDS) == 0
    assert trash.empty() == 1
    assert not list(run.path.parent.iterdir())
    assert not store.delete("sample-reverse")
    assert not store.delete("../..")


def test_a_deleted_run_comes_back_as_it_was(trained: store.Run) -> None:
    trained.set_label(name="mine")
    before = {str(p.relative_to(trained.path)): p.read_bytes() for p in trained.path.rglob("*") if p.is_file()}
    assert store.delete(trained.id)
    assert trash.restore(trained.id)
    assert not trash.restore(trained.id)
    assert {str(p.relative_to(trained.path)): p.read_bytes() for p in trained.path.rglob("*") if p.is_file()} == before
    assert store.find(trained.id) == trained
    assert trash.listed() == []
    for bad in ("", "..", "sample-reverse", trained.id):
        assert not trash.restore(bad)


def test_the_look_inside_a_large_model_is_read_as_it_was_written() -> None:
    """It shows the last layers and the first heads only, and says so."""
    data = config(3).model_dump(mode="json")
    data["model"] |= {"n_layers": 24, "n_heads": 64, "d_model": 64}
    data["task"]["max_len"] = 16
    run = store.create(build(data))
    with small.one_thread():
        Prober(run, Trainer(run.config)).look(force=True)
    probe = run.probe()
    assert probe is not None
    layers, heads = probe["shown"]
    assert (layers, heads) < (24, 64)
    assert {name.split(".")[1] for name in probe["patterns"]} == {str(i) for i in range(24 - layers, 24)}
    assert run.damage() == []


def test_the_trash_is_emptied_after_a_day(runs: Path) -> None:
    young, old = store.create(config()), store.create(config())
    assert store.delete(young.id)
    assert store.delete(old.id)
    lying = trash.find(old.id)
    assert lying is not None
    long_ago = time.time() - 86_500
    os.utime(lying.run.path, (long_ago, long_ago))
    assert [deleted.id for deleted in trash.listed()] == [young.id, old.id]
    store.sweep()
    assert [deleted.id for deleted in trash.listed()] == [young.id]


def a_log(n: int) -> bytes:
    return b"".join(
        log.line(type("Record", (), dict.fromkeys(log.KEYS[1:], 1 / 3) | {"step": i + 1})(), i / 10) for i in range(n)
    )


def test_every_prefix_of_a_log_gives_its_complete_lines(tmp_path: Path) -> None:
    data, path = a_log(5) + b'{"event":"lr","step":5,"lr":0.1}\n' + a_log(7)[len(a_log(5)) :], tmp_path / "m.jsonl"
    growing = log.Log(path)
    for n in range(len(data) + 1):
        path.write_bytes(data[:n])
        whole = sum(b'"loss"' in line for line in data[:n].split(b"\n")[:-1])
        assert [r["step"] for r in log.Log(path).update().records()] == list(range(1, whole + 1))
        assert growing.update().lines == log.Log(path).update().lines
        assert growing.damaged == 0
    assert growing.events == [{"event": "lr", "step": 5, "lr": 0.1}]
    assert growing.rewinds == 0


DAMAGED = [
    b"{",
    b"\xff\xfe",
    b"null",
    b"[1]",
    b'"event"',
    b'{"step":1}',
    b'{"step":true,"loss":1}',
    b"\0" * 50,
    b"[" * 9999,
]
DAMAGED += [a_log(1).replace(b"0.3333333", bad).strip() for bad in (b"NaN", b"Infinity", b"1e999", b'"x"', b"true")]


@pytest.mark.parametrize("bad", DAMAGED)
def test_a_damaged_line_is_skipped_and_counted(tmp_path: Path, bad: bytes) -> None:
    lines = a_log(6).splitlines(keepends=True)
    (tmp_path / "m").write_bytes(b"".join([*lines[:3], bad, b"\n", *lines[3:]]))
    found = log.Log(tmp_path / "m").update()
    assert [r["step"] for r in found.records()] == [1, 2, 3, 4, 5, 6]
    assert found.damaged == 1


def test_a_later_record_replaces_the_earlier(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(a_log(6))
    found = log.Log(path).update()
    with path.open("ab") as file:
        file.write(a_log(8)[len(a_log(4)) :])  # the same again: nothing a reader holds has changed
    assert found.update().rewinds == 0
    assert len(found.lines) == 8
    with path.open("ab") as file:
        file.write(a_log(5)[len(a_log(4)) :].replace(b"0.3333333", b"2"))
    assert found.update().rewinds == 1
    assert [r["step"] for r in found.records()] == list(range(1, 9))
    assert found.records()[4]["loss"] == 2
    path.write_bytes(a_log(2))
    assert len(found.update().lines) == 2


def test_null_stands_for_what_is_no_number() -> None:
    assert [log.number(x) for x in (float("nan"), float("inf"), None, 1e-5, 1.0, 2.5)] == [
        "null",
        "null",
        "null",
        "1e-05",
        "1",
        "2.5",
    ]


def test_weights_are_kept_on_a_log_scale_under_the_cap() -> None:
    assert sorted(schedule(600))[:9] == [0, 1, 2, 3, 5, 8, 12, 18, 27]
    assert {1, 399, 400} - schedule(400) == {399}
    assert len(schedule(1_000_000)) < 100
    random.seed(1)
    for _ in range(50):
        steps = sorted(random.sample(range(1, 5000), 80))
        sizes, keep = {step: random.randint(1, 10) for step in [0, *steps]}, {steps[40]}
        cap = random.randint(1, 400)
        left = sizes.keys() - set(thin(sizes, keep, cap))
        assert steps[-1] in left
        assert keep <= left
        assert sum(sizes[s] for s in left) <= cap or left <= {steps[-1], *keep}
    assert thin({0: 100, 5: 100}, cap=10) == [0]
    many = dict.fromkeys(range(1000), 1)
    left = sorted(many.keys() - set(thin(many, cap=20)))
    assert left[:4] == [0, 1, 2, 3] or left[1] < 10
    assert max((b + 1) / (a + 1) for a, b in pairwise(left)) < 2.5


def test_a_run_keeps_its_newest_weights_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    run = store.create(config(12))
    monkeypatch.setattr("playground.runs.checkpoints.CAP", 1)
    train_here(run)
    assert run.saved_steps() == [12]


def test_archive_there_and_back(trained: store.Run, tmp_path: Path) -> None:
    trained.set_label(name="α", notes="n")
    path = archive.export(trained)
    try:
        with zipfile.ZipFile(path) as zipped:
            assert {n.split("/")[0] for n in zipped.namelist()} == {trained.id}
            assert json.loads(zipped.read(f"{trained.id}/run.json"))["owner"] == ""
        copy = archive.import_(path)
    finally:
        path.unlink()
    assert copy.id != trained.id
    assert copy.config == trained.config
    assert copy.metrics() == trained.metrics()
    assert copy.saved_steps() == trained.saved_steps()
    assert copy.resumable_steps() == [6]
    assert (copy.status().state, copy.status().step, copy.label().name) == ("finished", 6, "α")


def hostile(trained: store.Run, **changes: bytes) -> io.BytesIO:
    path, out = archive.export(trained), io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, changes.pop(name.partition("/")[2], old.read(name)))
        for name, data in changes.items():
            new.writestr(name, data)
    path.unlink()
    return out


def test_no_path_of_an_archive_is_used(trained: store.Run, runs: Path) -> None:
    evil = {
        "../evil": b"x",
        "/tmp/engine-evil": b"x",
        "a/../../weights/1.safetensors": b"x",
        "a/control/stop": b"",
        "x.py": b"x",
    }
    before = {p.name for p in runs.iterdir()}
    copy = archive.import_(hostile(trained, **evil))
    assert {p.name for p in runs.iterdir()} - before == {copy.id}
    assert not list((copy.path / "control").iterdir())
    assert copy.saved_steps() == trained.saved_steps()
    assert not Path("/tmp/engine-evil").exists()
    assert not (runs.parent / "evil").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"run.json": b"{"},
        {"run.json": b'{"config": {"model": {"d_model": -5}}}'},
        {"run.json": b'{"config": {"train": {"lr": NaN}}}'},
        {"run.json": b" " * (3 * 2**20)},
        {"weights/1.safetensors": b"\x80\x04\x95pickle"},
        {"weights/1.safetensors": b"\xff" * 64},
        {"optimizer/6.safetensors": b"PK\x03\x04"},
        {"probe.json": b'{"version": NaN}'},
    ],
)
def test_a_bad_archive_is_refused_and_leaves_nothing(trained: store.Run, runs: Path, changes: dict[str, bytes]) -> None:
    before = {p.name for p in runs.iterdir()}
    with pytest.raises(RunError):
        archive.import_(hostile(trained, **changes))
    assert {p.name for p in runs.iterdir()} == before


@pytest.mark.parametrize("data", [b"", b"PK", b"x" * 1000])
def test_what_is_no_archive_is_refused(data: bytes, runs: Path) -> None:
    with pytest.raises(RunError):
        archive.import_(io.BytesIO(data))
    assert not list(runs.iterdir())


def test_caps_hold(trained: store.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hostile(trained)
    monkeypatch.setattr(archive, "LARGEST", 1000)
    with pytest.raises(RunError, match="unpacks to more"):
        archive.import_(whole)


def test_reasons_survive_odd_values() -> None:
    assert Status(template="at {step}", values={"step": 3}).reason == "at 3"
    assert Status(template="at {step}").reason == "at {step}"
    assert replace(Status(), state="failed").ended


@pytest.mark.parametrize("steps", [400, 250])
def test_a_default_run_keeps_six_megabytes_of_weights(steps: int, show: Callable[[str], None]) -> None:
    """The figure: weights of the default model; the strings are few, so that this takes seconds."""
    run = store.create(build({"train": {"steps": steps, "batch_size": 4, "eval_every": 1000, "device": "cpu"}}))
    assert train_here(run) == "finished"
    saved, exact = run.saved_steps(), run.exact_steps()
    weights = sum(run.weights_path(step).stat().st_size for step in saved)
    states = sum(run.state_path(step).stat().st_size for step in run.resumable_steps())
    show(
        f"{steps} steps: weights of {len(saved)} steps {weights / 1e6:.2f} MB, {len(exact)} exact {states / 1e6:.2f} MB"
    )
    assert weights <= 6_000_000
    assert len(saved) >= 16
    assert (saved[0], saved[-1]) == (0, steps)
    assert max((b + 1) / (a + 1) for a, b in pairwise(saved)) <= 2.0
    assert len(exact) >= 8
    assert states <= STATE_CAP
    assert weights + states < store.disk(run) < weights + states + 1_000_000
    last = load_state(run.state_path(steps), run.config)
    shown = load_weights(run.weights_path(steps), run.config.model).state_dict()
    assert all(torch.equal(shown[name], last.weights[name]) for name in shown)  # what ends unrounded is downloaded so
    rounded = load_weights(run.weights_path(exact[-2]), run.config.model).state_dict()
    right = load_state(run.state_path(exact[-2]), run.config).weights
    assert all(torch.allclose(rounded[name], right[name], rtol=1e-3, atol=1e-6) for name in right)


def test_states_are_kept_at_eight_steps_or_more() -> None:
    for steps in (60, 250, 400, 2_000, 20_000, 1_000_000):
        planned = schedule(steps)
        kept = state_schedule(planned, steps)
        assert kept <= planned
        assert 8 <= len(kept) <= 24, steps
        assert steps in kept


def test_added_steps_are_bounded_where_they_are_read(trained: store.Run) -> None:
    path = trained.path / stretches.NAME
    for ends in (
        [7],
        [6, 6],
        [6, 5],
        [8, 9],
        [6, -1],
        [6, 10**7],
        [6, 7.5],
        "67",
        [6, True],
        list(range(600)),
        {"a": 1},
    ):
        path.write_text(json.dumps({"ends": ends}))
        assert (trained.added, trained.target_steps) == ((), 6), ends
        assert stretches.NAME in trained.damage()
    path.write_text('{"ends": [6, 9]}')
    assert (trained.added, trained.target_steps, trained.damage()) == ((6, 9), 9, [])
    with pytest.raises(RunError):
        branches.train_on(trained, 10**7)


def test_an_archive_keeps_parent_and_added_steps(trained: store.Run) -> None:
    branch = branches.branch(trained, 3, config(8))
    assert train_here(branch) == "finished"
    assert branches.train_on(branch, 12)
    assert train_here(branch) == "finished"
    path = archive.export(branch)
    copy = archive.import_(path)
    path.unlink()
    assert copy.parent == branch.parent == (trained.id, 3, True)
    assert (copy.added, copy.status().step, copy.goes_on()) == ((8, 12), 12, False)
    assert store.delete(trained.id)
    assert copy.parent is not None  # a parent that is gone is no error
    assert copy in store.list_runs()
    for parent in ({"run": "../x", "step": 3}, {"run": trained.id, "step": -1}, "x", 7):
        facts = json.loads((branch.path / "run.json").read_text()) | {"parent": parent}
        made = archive.import_(hostile(branch, **{"run.json": json.dumps(facts).encode()}))
        assert made.parent is None
