"""FAULTS rows 4 and 15 to 18: files from outside. Nothing in them runs, nothing takes more than the stated cap, damage is seen.

`FLIPS=10000 TENSORS=10000000 pytest tests/reliability/test_files.py` is the long form.
"""

import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit.config
import torch
from safetensors.torch import load_file, save
from streamlit.testing.v1 import AppTest

from core.checkpoint import CheckpointError, load_state, load_weights, packed, save_weights
from core.model import Transformer
from playground import exports, i18n
from playground.runs import archive, store
from playground.runs.store import Run, RunError
from tests.pages.conftest import folders  # noqa: F401
from tests.pages.looking import make_run
from tests.playground.small import config, same_bits, train_here, trained
from tests.reliability import attacks

ROOT = Path(__file__).parents[2]
FLIPS = int(os.environ.get("FLIPS", "1000"))


# Hostile weights


@pytest.mark.skipif(sys.platform != "linux", reason="watches memory through /proc")
def test_hostile_files_are_refused_at_once_in_little_memory_and_nothing_runs(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "attacks", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    count = attacks.write(folder)
    assert count == 60
    found = subprocess.run(
        [sys.executable, "-m", "tests.reliability.attacks", str(folder)],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    shutil.rmtree(folder)  # a quarter of a gigabyte
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(rows) == 2 * (count + 1)
    cap = attacks.size_cap()
    for row in rows:
        if (row["kind"], row["name"]) == ("weights", "good"):
            assert row["said"] == ""
            continue
        assert row["said"].endswith((".", "header")) or "cannot be read:" in row["said"], row
        assert "CRASH" not in row["said"], row
        assert row["seconds"] < 1.0, row
        assert row["grown"] < 2 * cap, row
    bad = [row for row in rows if row["said"]]
    slowest, largest = (max(row[key] for row in bad) for key in ("seconds", "grown"))
    print(
        f"\n{len(bad)} refused; slowest {slowest:.3f} s; most memory {largest / cap:.2f} times the cap of {cap:,} bytes"
    )
    assert not list(tmp_path.rglob(attacks.CANARY)) + list(elsewhere.iterdir())


def test_the_canary_is_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever unpickles one of these files does run its code."""
    import pickle

    monkeypatch.chdir(tmp_path)
    pickle.loads(dict(attacks.pickles())["pickle.safetensors"])
    assert (tmp_path / attacks.CANARY).exists()


@pytest.mark.parametrize("kind", ["pickle.safetensors", "weights.pt", "pickle-with-a-header.safetensors"])
def test_an_archive_with_hostile_weights_is_refused_and_leaves_nothing(
    kind: str, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    run, file = make_run(), io.BytesIO()
    with zipfile.ZipFile(archive.export(run, tmp_path / "run.zip")) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, dict(attacks.pickles())[kind] if name.endswith("/5.safetensors") else old.read(name))
    before = sorted(path.name for path in store.root().iterdir())
    with pytest.raises(RunError, match=r"safetensors|cannot be read"):
        archive.import_(file)
    assert sorted(path.name for path in store.root().iterdir()) == before
    assert not list(tmp_path.rglob(attacks.CANARY))


def test_a_history_too_long_to_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes of archive may unpack to half a gigabyte of records."""
    run = make_run()
    (run.path / "metrics.jsonl").write_bytes(b"\n" * 2**20)
    zipped = archive.export(run, tmp_path / "run.zip")
    assert zipped.stat().st_size < 2**18
    assert archive.import_(zipped).metrics() == []
    monkeypatch.setattr(archive, "MOST_HISTORY", 2**20 - 1)
    before = sorted(path.name for path in store.root().iterdir())
    with pytest.raises(RunError, match="unpacks to more than"):
        archive.import_(zipped)
    assert sorted(path.name for path in store.root().iterdir()) == before


def test_what_is_wrong_with_an_archive_is_said_in_the_readers_language(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(i18n, "language", lambda: "zh_CN")
    run, file = make_run(), io.BytesIO()
    with zipfile.ZipFile(archive.export(run, tmp_path / "run.zip")) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(
                name, old.read(name)[:-4] + b"\0\0\x80\x7f" if name.endswith("/5.safetensors") else old.read(name)
            )
    with pytest.raises(RunError) as refused:
        archive.import_(file)
    said = i18n._(refused.value.template).format(**refused.value.values)
    assert said != str(refused.value)
    assert said.startswith("张量 ")


@pytest.mark.parametrize(
    ("change", "remarks"),
    [
        ("nothing", {"step": "-1"}),
        ("nothing", {"step": "41"}),
        ("nothing", {"step": "1e3"}),
        ("nothing", {"step": "9" * 3000}),
        ("nothing", {"lr": "nan"}),
        ("nothing", {"lr": "-0.1"}),
        ("nothing", {"lr": "[" * 2000}),
        ("nothing", {"lr": ""}),
        ("moment missing", {}),
        ("moment negative", {}),
        ("count negative", {}),
    ],
)
def test_a_training_state_that_no_training_leaves_is_refused(
    tmp_path: Path, change: str, remarks: dict[str, str]
) -> None:
    run = trained(6)
    path = run.state_path(6)
    tensors, said = load_file(path), {"step": "6", "lr": "0.008"}
    name = "moments/output.bias/"
    if change == "moment missing":
        del tensors[name + "exp_avg"]
    elif change == "moment negative":
        tensors[name + "exp_avg_sq"][0] = -1.0
    elif change == "count negative":
        tensors[name + "step"].fill_(-1.0)
    path.write_bytes(packed(tensors, said))
    if change == "nothing":
        load_state(path, run.config)
    path.write_bytes(packed(tensors, said | remarks))
    with pytest.raises(CheckpointError, match=r"state"):
        load_state(path, run.config)
    run.set_status(store.Status("interrupted", 6))
    assert train_here(run) == "finished"  # from its seed


# Damage


def test_every_flipped_bit_of_weights_is_noticed_or_harmless(tmp_path: Path) -> None:
    settings, good, bad = config().model, tmp_path / "good", tmp_path / "bad"
    model = Transformer(settings)
    save_weights(good, model, 7)
    found = flipped(good.read_bytes(), bad, lambda: load_weights(bad, settings).state_dict(), model.state_dict(), FLIPS)
    print(f"\n{FLIPS:,} single-bit flips of {good.stat().st_size:,} bytes: {dict(found)}")
    assert found["refused"] + found["same numbers"] == FLIPS
    assert found["refused"] > 0.99 * FLIPS  # what is left: a bit in the name of the checksum itself


def test_every_flipped_bit_of_a_training_state_is_noticed_or_harmless(tmp_path: Path) -> None:
    run, bad = trained(6), tmp_path / "bad"

    def load() -> dict[str, torch.Tensor]:
        state = load_state(bad, run.config)
        assert (state.step, state.lr) == (6, run.config.train.lr)
        found = state.weights | {f"{n}/{k}": value for n, m in state.moments.items() for k, value in m.items()}
        return {name: value.clone() for name, value in found.items()}  # tensors may be windows into the file

    bad.write_bytes(run.state_path(6).read_bytes())
    found = flipped(bad.read_bytes(), bad, load, load(), FLIPS // 4)
    print(f"\n{FLIPS // 4:,} single-bit flips of a training state: {dict(found)}")
    assert found["refused"] + found["same numbers"] == FLIPS // 4


def flipped(data: bytes, path: Path, load: Any, right: dict[str, torch.Tensor], count: int) -> Counter[str]:
    """Load the file `count` times, each time with one other bit flipped. The first flips are in the header, the rest anywhere."""
    dice, found = random.Random(1), Counter[str]()
    header = 8 + int.from_bytes(data[:8], "little")
    bits = dice.sample(range(8 * header), min(count // 4, 8 * header))
    bits += dice.sample(range(8 * header, 8 * len(data)), count - len(bits))
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            now = load()
        except CheckpointError:
            found["refused"] += 1
        except Exception as error:
            found[f"crashed: {error!r}"] += 1
        else:
            found["same numbers" if same_bits(now, right) else "other numbers"] += 1
    return found


def test_files_without_a_checksum_still_load(tmp_path: Path) -> None:
    """Those of older versions and of other programs; among them the sample that ships with the app."""
    model = Transformer(config().model)
    (tmp_path / "old").write_bytes(save(model.state_dict(), {"step": "1"}))
    assert same_bits(load_weights(tmp_path / "old", model.config).state_dict(), model.state_dict())
    shipped = [Run(path) for path in (ROOT / "playground" / "samples").iterdir() if (path / "weights").is_dir()]
    steps = [(run, step) for run in shipped for step in run.saved_steps()]
    for run, step in steps:
        load_weights(run.weights_path(step), run.config.model)
    assert len(steps) > 10


def test_a_run_goes_on_from_a_state_without_a_checksum() -> None:
    run, leave = store.create(config(6)), threading.Event()
    leave.set()
    assert train_here(run, leave) == "interrupted"
    path = run.state_path(0)
    path.write_bytes(save(load_file(path), {"step": "0", "lr": "0.008"}))
    assert load_state(path, run.config).step == 0


def test_what_is_published_while_training_carries_a_checksum() -> None:
    run = trained(6)
    for step in run.saved_steps():
        path, data = run.weights_path(step), run.weights_path(step).read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(CheckpointError, match="damaged"):
            load_weights(path, run.config.model)


# A damaged file on the pages


def page(name: str, **query: str) -> AppTest:
    script = ROOT / "playground" / "main.py" if name == "train" else ROOT / "pages" / f"{name}.py"
    at = AppTest.from_file(str(script), default_timeout=30)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception
    return at


def damage(run: Run, *steps: int) -> None:
    for step in steps:
        path, data = run.weights_path(step), run.weights_path(step).read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def pictures(at: AppTest, name: str) -> list[dict[str, Any]]:
    return [json.loads(p.proto.json) for p in at.get("bidi_component") if p.proto.component_name == name]


@pytest.mark.parametrize("asked", ["5", "10"])
def test_attention_leaves_a_damaged_step_out_and_says_so(asked: str) -> None:
    run = make_run()
    damage(run, 10)
    at = page("attention", run=run.id, step=asked, text="abc")
    at.run()  # by now every step was tried
    assert [w.value for w in at.warning] == ["The weights of step 10 cannot be read; it is left out."]
    (data,) = pictures(at, "attention")
    assert data["steps"] == [0, 5]
    assert data["view"]["step"] == 5
    assert {frame["step"] for frame in data["frames"]} == {0, 5}


@pytest.mark.parametrize("name", ["generate", "lab_attention", "lab_scaling"])
def test_other_pages_show_the_nearest_readable_step_and_say_so(name: str) -> None:
    run = make_run()
    damage(run, 10)
    at = page(name, run=run.id, step="10", text="abc")
    said = [w.value for w in at.warning]
    assert any("step 10 cannot be read, so this is step 5" in text and "damaged" in text for text in said), said
    assert at.get("bidi_component")


@pytest.mark.parametrize("name", ["attention", "generate", "lab_masks", "lab_flows", "lab_heads", "lab_stack"])
def test_a_run_with_no_readable_weights_is_said_to_have_none(name: str) -> None:
    run = make_run()
    damage(run, 0, 5, 10)
    at = page(name, run=run.id, text="abc")
    assert any("weights of this run cannot be read" in error.value for error in at.error)


# The run folder


def test_a_run_of_an_older_format_is_migrated_and_its_file_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one format so far. So the test invents format 0, which called the number of heads by another name."""
    run = make_run()
    facts = json.loads((run.path / "run.json").read_text())
    facts["config"]["model"]["heads"] = facts["config"]["model"].pop("n_heads")
    old = json.dumps(facts | {"schema": 0})
    (run.path / "run.json").write_text(old)
    assert store.find(run.id) is None  # nobody knows that format yet

    def rename(facts: dict[str, Any]) -> dict[str, Any]:
        model = dict(facts["config"]["model"])
        model["n_heads"] = model.pop("heads")
        return facts | {"config": facts["config"] | {"model": model}}

    monkeypatch.setitem(store.MIGRATIONS, 0, rename)
    found = store.find(run.id)
    assert found is not None
    assert found.config.model.n_heads == 2
    assert (run.path / "run.json").read_text() == old
    assert archive.import_(archive.export(run)).config == found.config
    at = page("generate", run=run.id, text="abc")
    assert at.get("bidi_component")
    (run.path / "run.json").write_text(json.dumps(facts | {"schema": 0, "config": {"model": {}}}))  # damaged besides
    assert store.find(run.id) is None
    assert "cannot be read" in str(store.unreadable()[run.id])


def test_a_run_of_a_newer_version_is_named_and_nothing_touches_it(tmp_path: Path) -> None:
    run = make_run(name="from the future")
    facts = json.loads((run.path / "run.json").read_text())
    zipped = archive.export(run, tmp_path / "run.zip")
    (run.path / "run.json").write_text(json.dumps(facts | {"schema": 2, "config": {"shape": "of things to come"}}))
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    at = page("train").switch_page("../pages/runs.py").run()
    assert not at.exception, at.exception
    assert any(run.id in text.value and "made by a newer version" in text.value for text in at.text)
    assert not [name for name in at.dataframe[0].value["name"] if "future" in name]
    for name in ("train", "attention", "generate"):
        page(name, run=run.id)
    from playground.runs.launcher import Launcher

    crew = Launcher(slots=1)
    assert not crew.submit(run.id)
    assert not crew.resume(run.id)
    crew.stop(run.id)
    crew.close()
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    with zipfile.ZipFile(zipped) as old, zipfile.ZipFile(tmp_path / "new.zip", "w") as new:
        new.writestr("run.json", json.dumps(json.loads(old.read(f"{run.id}/run.json")) | {"schema": 2}))
    with pytest.raises(RunError, match="newer version"):
        archive.import_(tmp_path / "new.zip")


def test_a_run_json_of_many_megabytes_is_refused() -> None:
    run = make_run()
    (run.path / "run.json").write_bytes((run.path / "run.json").read_bytes() + b" " * store.LARGEST_FACTS)
    assert store.find(run.id) is None
    assert run.id in store.unreadable()


# What leaves


def test_tables_offer_no_csv_of_their_own() -> None:
    """Streamlit's would hand a spreadsheet the names and notes as they are; ours quotes what would run."""
    streamlit.config.get_config_options(force_reparse=True)
    assert streamlit.config.get_option("client.disableDataExport") is True


def test_no_csv_of_ours_hands_over_a_formula(folders: SimpleNamespace) -> None:  # noqa: F811
    run = make_run(name="=HYPERLINK(1)")
    (run.path / "metrics.jsonl").write_text('{"step":1,"loss":1.5,"lr":0.1,"grad_norm":1,"tokens_per_s":1}\n')
    for text in (exports.metrics_csv(run), exports.csv_text(["@a"], [["=1"], ["+1"], ["-1"], ["\t@x"], ["ab=1"]])):
        for row in csv.reader(io.StringIO(text)):
            assert not any(cell.lstrip().startswith(("=", "+", "@")) for cell in row)
            assert all(cell.lstrip("-").replace(".", "").isdigit() for cell in row if cell.startswith("-"))


def test_a_name_from_outside_is_never_used_on_disk(tmp_path: Path) -> None:
    """A run's name is a person's text; what is downloaded and stored is called by the run's id."""
    run = make_run(name="../../../etc/passwd\0")
    assert archive.export(run).name.startswith("run-")
    named = [path.relative_to(tmp_path) for path in tmp_path.rglob("*")]
    assert not [path for path in named if "passwd" in str(path)]
