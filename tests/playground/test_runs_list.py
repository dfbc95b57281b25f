"""What the list of runs says, what sets runs apart, and what leaves the app as a file."""

import csv
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from core.config import RunConfig
from core.read import build, fit
from playground import differences, exports, runs_list
from playground.history import history, line, side_by_side
from playground.runs import changes, store
from playground.runs.store import Run, Status
from playground.settings import names, words
from playground.settings.recipes import settings_for


def config(**data: Any) -> RunConfig:
    return build(fit(data))


def record(step: int, exact_match: float | None = None, loss: float = 1.0) -> dict[str, Any]:
    rest = {"lr": 0.001, "grad_norm": 1.0, "tokens_per_s": 100.0, "token_accuracy": exact_match}
    return {"step": step, "loss": loss, **rest, "exact_match": exact_match, "seconds": step * 0.5}


def write(run: Run, *records: dict[str, Any]) -> None:
    with (run.path / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(one, separators=(",", ":")) + "\n" for one in records)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLAYGROUND_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(store, "samples", lambda: tmp_path / "samples")
    (tmp_path / "runs").mkdir()
    (tmp_path / "samples").mkdir()
    return tmp_path / "runs"


def test_every_field_has_a_short_name() -> None:
    assert set(words.SETTINGS) == set(differences.flat(RunConfig()))


def test_differences_from_the_default() -> None:
    assert differences.from_default(RunConfig()) == {}
    other = config(model={"n_heads": 8, "positions": "none", "causal_mask": False})
    assert differences.sentence(differences.from_default(other)) == "heads 8 · positions none · causal mask off"


@pytest.mark.parametrize("task", ["copy", "sort", "add"])
def test_what_the_task_dictates_is_no_difference(task: str) -> None:
    brought = settings_for(task)
    assert differences.from_default(config(**brought)) == {}
    longer = config(**brought | {"task": brought["task"] | {"max_len": 15 if task == "add" else 100}})
    assert list(differences.from_default(longer)) == ["task.max_len"]


def test_pairs_are_no_difference_and_are_only_counted() -> None:
    pairs = [[f"word{i}", f"mot{i}"] for i in range(12)]
    brought = settings_for("pairs")
    mine = config(**brought | {"task": brought["task"] | {"pairs": pairs}})
    assert differences.from_default(mine) == {}
    assert differences.shown("task.pairs", mine.task.pairs) == "12"


def test_differences_between_runs() -> None:
    found = differences.between([config(), config(model={"n_heads": 8}), config(train={"seed": 7})])
    assert found == {"model.n_heads": [4, 8, 4], "train.seed": [1, 1, 7]}


def test_pinned_first_then_newest(folder: Path) -> None:
    first, second, third = (store.create(RunConfig()) for _ in range(3))
    first.set_label(pinned=True)
    order = [run.id for run in runs_list.ordered()]
    assert order[0] == first.id
    assert order[1:] == sorted([second.id, third.id], reverse=True)


def test_best_first_over_the_whole_list_and_follows_what_is_trained(folder: Path) -> None:
    none, low, high, pinned = (store.create(RunConfig()) for _ in range(4))
    write(low, record(1, 0.25))
    write(high, record(1, 0.75))
    pinned.set_label(pinned=True)
    assert runs_list.ordered(order="best", listed=store.list_runs()) == [pinned, high, low, none]
    write(low, record(1, 0.25), record(2, 0.9))
    assert runs_list.ordered(order="best", listed=store.list_runs()) == [pinned, low, high, none]


def test_search_finds_names_tags_settings_and_follows_changes(folder: Path) -> None:
    one = store.create(config(model={"n_heads": 8}))
    two = store.create(config(task={"name": "sort"}))
    assert runs_list.ordered("HEADS 8") == [one]
    assert runs_list.ordered("sort") == [two]
    assert runs_list.ordered("lecture") == []
    two.set_label(name="for the lecture", tags=("week 1",))
    assert runs_list.ordered("lecture week") == [two]
    assert runs_list.ordered("lecture heads") == []


def test_a_row_says_what_came_out(folder: Path) -> None:
    run = store.create(config(task={"name": "copy"}, model={"n_heads": 2}))
    run.set_status(Status("finished", 50, seconds=12.5))
    write(run, record(25, 0.5), *(record(step) for step in range(26, 50)), record(50, 0.75), record(51))
    cells = runs_list.row(run).cells()
    assert (cells["task"], cells["differs"], cells["steps"]) == ("Copy", "heads 2", 50)
    assert (cells["exact_match"], cells["seconds"], cells["state"]) == (75.0, 12.5, "✓ finished")


def test_exact_match_is_found_far_from_the_end_and_in_damage(folder: Path) -> None:
    run = store.create(RunConfig())
    path = run.path / "metrics.jsonl"
    assert runs_list.last_exact_match(path) is None
    write(run, record(1, 0.25), *(record(step) for step in range(2, 1000)))
    assert runs_list.last_exact_match(path) == 0.25
    with path.open("ab") as file:
        file.write(b'{"step":1000,"exact_match":0.9,\xff}\n{"step":1001,"exact_ma')
    assert runs_list.last_exact_match(path) == 0.25


def test_a_colour_stays_with_its_run() -> None:
    ids = [f"run-{i}" for i in range(8)]
    all_eight = runs_list.slots({}, ids)
    assert sorted(all_eight.values()) == list(range(8))
    assert runs_list.slots(all_eight, ids[3:5]) == {run_id: all_eight[run_id] for run_id in ids[3:5]}
    clash = runs_list.slots({"a": 1, "b": 1}, ["a", "b"])
    assert clash["a"] != clash["b"]


def test_equal_names_can_be_told_apart() -> None:
    assert runs_list.unique(["a", "a", "b", "a"]) == ["a", "a (2)", "b", "a (3)"]


def test_interrupted_runs_are_found_and_samples_left_alone(folder: Path) -> None:
    dead, done = store.create(RunConfig()), store.create(RunConfig())
    dead.set_status(Status("running", 10))
    done.set_status(Status("finished", 400))
    store.publish(
        Run(store.samples() / "sample-x"),
        json.loads((done.path / "run.json").read_text()),
        Status("interrupted", 5),
    )
    assert runs_list.interrupted(runs_list.ordered()) == [dead]


def test_history_smooths_what_was_measured_only() -> None:
    frame = history([record(1, loss=4.0), record(2, 0.5, loss=2.0), record(3, loss=0.0), record(4, 1.0, loss=1.0)])
    exact = line(frame, "exact_match", "mine", x="seconds", weight=0.5)
    assert exact.x.tolist() == [1.0, 2.0]
    assert exact.raw.tolist() == [0.5, 1.0]
    assert exact.y.tolist() == pytest.approx([0.5, (0.5 * 0.5 + 1.0) / 1.5])
    assert line(frame, "loss", "mine", log_y=True).x.tolist() == [1, 2, 4]
    both = side_by_side([line(frame, "loss", "a"), line(frame.head(2), "loss", "b")], "step")
    assert list(both) == ["step", "a", "b"]
    assert len(both) == 4


def test_history_of_nothing() -> None:
    empty = history([])
    assert empty.empty
    assert line(empty, "loss", "a").empty
    assert side_by_side([line(empty, "loss", "a")], "step").empty


def test_cells_that_a_spreadsheet_would_run_are_quoted() -> None:
    nasty = ["=1+1", "+1", "-1", "@x", "\t=1", "plain", 1.5, None, -2.0]
    rows = list(csv.reader(io.StringIO(exports.csv_text(["=name"], [[cell] for cell in nasty]))))
    assert [row[0] if row else "" for row in rows] == [
        "'=name", "'=1+1", "'+1", "'-1", "'@x", "'\t=1", "plain", "1.5", "", "-2.0",
    ]  # fmt: skip


def test_metrics_as_csv(folder: Path) -> None:
    run = store.create(RunConfig())
    write(run, record(1), record(2, 0.5))
    rows = list(csv.DictReader(io.StringIO(exports.metrics_csv(run))))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert [row["exact_match"] for row in rows] == ["", "0.5"]


def test_a_run_as_archive_leaves_nothing_behind(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = store.create(RunConfig())
    assert exports.zipped(run).startswith(b"PK")
    assert not list(tmp_path.glob("*.zip"))


def test_the_first_page_of_a_thousand_runs(folder: Path) -> None:
    """The bar is 10,000 runs in 1 s; a tenth of that here, with room for a busy machine."""
    model = store.create(RunConfig())
    facts = (model.path / "run.json").read_bytes()
    for _ in range(999):
        path = folder / store.new_id()
        path.mkdir()
        (path / "run.json").write_bytes(facts)
        (path / "status.json").write_text('{"state":"finished","step":400}')
    start = time.perf_counter()
    rows = [runs_list.row(run) for run in runs_list.ordered()[: runs_list.PAGE_SIZE]]
    assert len(runs_list.table(rows)) == runs_list.PAGE_SIZE
    assert time.perf_counter() - start < 1.0


# A learning rate that was set by hand


def by_hand(run: Run, *set_to: tuple[int, float]) -> Run:
    """Ten records, and the rates in the order in which they were set, as the trainer writes them."""
    for step in range(1, 11):
        for at, lr in set_to:
            if at == step:
                with (run.path / "metrics.jsonl").open("a") as file:
                    file.write(json.dumps({"event": "lr", "step": at, "lr": lr}) + "\n")
        write(run, record(step))
    return run


def test_a_rate_set_by_hand_sets_a_run_apart(folder: Path) -> None:
    plain, one = by_hand(store.create(RunConfig())), by_hand(store.create(RunConfig()), (5, 0.001))
    same, two = (
        by_hand(store.create(RunConfig()), (5, 0.001)),
        by_hand(store.create(RunConfig()), (5, 0.001), (7, 0.01)),
    )
    rows = [runs_list.row(run) for run in (plain, one, same, two)]
    base = f"{RunConfig().train.lr:g}"
    assert [row.cells()["differs"] for row in rows] == [
        "the default run",
        f"rate {base} → 0.001 at step 5",
        f"rate {base} → 0.001 at step 5",
        f"rate {base} → 0.001 at step 5 → 0.01 at step 7",
    ]
    found = differences.between([row.config for row in rows], [row.rates for row in rows])
    assert [differences.shown("rate", value) for value in found.pop("rate")] == [
        base, f"{base} → 0.001 at step 5", f"{base} → 0.001 at step 5", f"{base} → 0.001 at step 5 → 0.01 at step 7",
    ]  # fmt: skip
    assert not found
    assert differences.between([rows[1].config, rows[2].config], [rows[1].rates, rows[2].rates]) == {}
    assert runs_list.title(one).endswith(" · rate → 0.001")
    assert "rate" not in runs_list.title(plain)
    exported = list(csv.DictReader(io.StringIO(exports.metrics_csv(two))))
    assert [row["lr_set"] for row in exported] == ["", "", "", "", "0.001", "", "0.01", "", "", ""]
    assert "lr_set" not in exports.metrics_csv(plain)


def test_a_later_line_overrules_what_lies_at_its_step_or_after_it(folder: Path) -> None:
    """Set at 250, killed, resumed from 206, set at 220: the rate of 250 is no more."""
    path = store.create(RunConfig()).path / "metrics.jsonl"
    for lines, wanted in (
        ([(250, 0.02)], [(250, 0.02)]),
        ([(220, 0.001)], [(220, 0.001)]),
        ([(230, 0.002), (230, 0.003)], [(220, 0.001), (230, 0.003)]),
    ):
        with path.open("a") as file:
            file.writelines(json.dumps({"event": "lr", "step": step, "lr": lr}) + "\n" for step, lr in lines)
        assert list(changes.rates(path)) == wanted


@pytest.mark.parametrize(
    "line",
    [
        b'{"event":"lr","step":1,"lr":' + b"9" * 400 + b"}",
        b'{"event":"lr","step":1e99,"lr":0.1}',
        b'{"event":"lr","step":-1,"lr":0.1}',
        b'{"event":"lr","step":1,"lr":-1}',
        b'{"event":"lr","step":1,"lr":NaN}',
        b'{"event":"lr","step":1,"lr":true}',
        b'{"event":"lr","step":"1","lr":0.1}',
        b'{"event":"lr"',
        b'["event"]',
        b'"event"',
        b'{"event":"lr","step":1,"lr":0.1,"x":"' + b"x" * 3_000_000 + b'"}',
        b"\xff" * 3_000_000,
        b"[" * 100_000,
    ],
    ids=range(13),
)
def test_what_a_log_says_is_bounded(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line + b'\n{"event":"lr","step":7,"lr":0.5}\n{"event":"lr","step":8,"lr":0.')
    assert changes.rates(path) == ((7, 0.5),)
    with path.open("ab") as file:
        file.write(b"25}\n")
    assert changes.rates(path) == ((7, 0.5), (8, 0.25))
    path.write_bytes(b"")
    assert changes.rates(path) == ()
    path.unlink()
    assert changes.rates(path) == ()


def test_no_regular_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    assert changes.rates(tmp_path / "metrics.jsonl") == ()


def test_changes_of_a_million_lines_are_found_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    block = b"".join(json.dumps(record(step)).encode() + b"\n" for step in range(1000))
    with path.open("wb") as file:
        for n in range(1000):
            file.write(block)
            if n == 500:
                file.write(b'{"event": "lr", "step": 500000, "lr": 0.5}\n')
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        assert changes.rates(path) == ((500_000, 0.5),)
        seconds.append(time.perf_counter() - start)
    assert seconds[0] < 2
    assert seconds[1] < 0.01


def test_names_are_made_of_what_sets_runs_apart() -> None:
    plain, changed = store.create(config()), store.create(config(model={"n_heads": 1}, train={"lr": 0.2}))
    many = store.create(
        config(model={"causal_mask": False, "positions": "none", "n_layers": 2}, train={"steps": 1234, "seed": 9})
    )
    given = store.create(config(model={"n_heads": 2}))
    given.set_label(name="My own")
    assert names.own(plain) == "Reverse"
    assert names.own(changed) == "Reverse · 1 head · rate 0.2"
    assert names.own(many) == "Reverse · 2 layers · no positions · no causal mask · …"
    assert names.own(given) == "My own"
    assert names.listed(changed).startswith("Reverse · 1 head · rate 0.2 · ")
    assert names.among([plain, changed]) == [
        "4 heads · rate 0.008",
        "1 head · rate 0.2",
    ]  # and not the task, which is one
    assert names.among([plain, given]) == ["4 heads", "My own"]
    assert names.among([plain, store.create(config())]) == ["Reverse", "Reverse"]
    assert names.file(changed, ".zip") == f"reverse-1-head-rate-0.2-{changed.id}.zip"
    given.set_label(name="名字/../x")
    assert names.file(given, ".zip") == f"reverse-{given.id}.zip"
