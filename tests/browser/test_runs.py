"""The Runs page in a real browser: tick, compare, rename, take away, bring back, delete."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.checkpoint import save_weights
from core.model import Transformer
from core.read import build, fit
from playground.runs import archive, store, trash
from playground.runs.store import Run, Status
from playground.settings import names
from playground.state import SAMPLE
from tests.browser.conftest import ROOT, Server

Idle = Callable[[Any], Any]
ROW = 32  # pixels, of the table


def make(name: str, **data: Any) -> Run:
    run = store.create(build(fit({"model": {"d_model": 16, "n_heads": 2}, **data})))
    with (run.path / "metrics.jsonl").open("w") as file:
        for step in range(1, 41):
            exact = step / 40 if step % 10 == 0 else None
            one = {"step": step, "loss": 3 / step, "lr": 1e-3, "grad_norm": 1.0, "tokens_per_s": 1e4}
            one |= {"token_accuracy": exact, "exact_match": exact, "seconds": step / 10}
            file.write(json.dumps(one) + "\n")
    save_weights(run.weights_path(40), Transformer(run.config.model), 40)
    run.set_status(Status("finished", 40, seconds=4.0))
    run.set_label(name=name)
    return run


@pytest.fixture
def runs(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Run]]:
    """Three runs, the newest last; what the page lists first."""
    monkeypatch.setenv("PLAYGROUND_RUNS", str(server.runs))
    server.runs.mkdir(exist_ok=True)
    for old in store.list_runs():
        store.delete(old.id)
    made = [make("oldest"), make("middle <b>$x$", train={"seed": 7}), make("newest", model={"positions": "none"})]
    yield made
    for run in store.list_runs():
        store.delete(run.id)
    trash.empty()


def tick(page: Any, row: int) -> None:
    table, box, before = page.get_by_test_id("stDataFrame").first, None, object()
    while box != before:  # a click on a table that is still being laid out goes to nobody
        before, box = box, table.bounding_box()
        page.wait_for_timeout(250)
    page.mouse.click(box["x"] + 16, box["y"] + ROW * (row + 1.5))


def test_compare_two_runs(server: Server, page: Any, idle: Idle, runs: list[Run]) -> None:
    page.goto(f"{server.url}/runs?lang=en")
    page.get_by_text("Tick a run on the left edge").wait_for()
    idle(page)
    tick(page, 0)
    page.get_by_text("newest · ✓ finished").wait_for()
    page.wait_for_url(f"**run={runs[2].id}*")
    tick(page, 1)
    page.get_by_text("2 runs compared").wait_for()
    idle(page)
    drawn = page.locator("[data-testid=stVegaLiteChart] canvas")  # what the curves say, they say to screen readers, too
    drawn.first.wait_for()
    spoken = page.locator("[data-testid=stVegaLiteChart]").first.evaluate("e => e.outerHTML")
    assert "newest: " in spoken
    assert "middle &lt;b&gt;$x$: " in spoken
    page.get_by_text("What sets them apart").wait_for()
    page.get_by_role("button", name="Clear selection", exact=True).click()
    page.get_by_text("Tick a run on the left edge").wait_for()


def test_rename_is_seen_at_once_and_kept(server: Server, page: Any, idle: Idle, runs: list[Run]) -> None:
    page.goto(f"{server.url}/runs?lang=en&run={runs[0].id}")
    name = page.get_by_label("Name", exact=True)
    name.fill("the first one")
    page.get_by_label("Note").fill("kept for later")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("the first one · ✓ finished").wait_for()
    label = runs[0].label()
    assert (label.name, label.notes) == ("the first one", "kept for later")


def take(page: Any, name: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=name).click()
    target = folder / waiting.value.suggested_filename
    waiting.value.save_as(target)
    return target


def test_take_a_run_away_and_bring_it_back(
    server: Server, page: Any, idle: Idle, runs: list[Run], tmp_path: Path
) -> None:
    run = runs[1]
    page.goto(f"{server.url}/runs?lang=en&run={run.id}")
    page.get_by_role("button", name="Download", exact=True).click()
    file = take(page, "Whole run (.zip)", tmp_path)
    assert f"{run.id}/weights/40.safetensors" in zipfile.ZipFile(file).namelist()
    weights = take(page, "Weights (.safetensors)", tmp_path)
    assert weights.name == names.file(run, "-step-40.safetensors")
    assert run.id in weights.name
    assert weights.read_bytes() == run.weights_path(40).read_bytes()
    assert take(page, "Curves (.csv)", tmp_path).read_text().splitlines()[0].startswith("step,seconds,loss")
    assert json.loads(take(page, "Settings (.json)", tmp_path).read_text())["config"]["train"]["seed"] == 7
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Import").click()
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_text("Imported.").wait_for()
    idle(page)
    again = next(found for found in store.list_runs() if found.id not in {run.id for run in runs})
    assert (again.config, again.label().name) == (run.config, run.label().name)
    assert again.weights_path(40).read_bytes() == run.weights_path(40).read_bytes()
    page.locator("input[type=file]").set_input_files(  # the uploader is still open, and empty again
        {"name": "x.zip", "mimeType": "application/zip", "buffer": b"not a zip at all"}
    )
    page.get_by_text("This is not the archive of a run.").wait_for()
    assert len([run for run in store.list_runs() if not run.is_sample]) == 4


def test_delete_names_the_run_and_asks(server: Server, page: Any, idle: Idle, runs: list[Run]) -> None:
    page.goto(f"{server.url}/runs?lang=en")
    page.get_by_text("Tick a run on the left edge").wait_for()
    idle(page)
    tick(page, 1)
    page.get_by_text("middle <b>$x$ · ✓ finished").wait_for()
    page.get_by_role("button", name="Delete …").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(f"middle <b>$x$ ({runs[1].id})").wait_for()
    dialog.get_by_role("button", name="Keep").click()
    dialog.wait_for(state="hidden")
    assert store.find(runs[1].id)
    page.get_by_role("button", name="Delete …").click()
    dialog.get_by_role("button", name="Delete", exact=True).click()
    dialog.wait_for(state="hidden")
    idle(page)
    assert [run.id for run in store.list_runs() if not run.is_sample] == [runs[2].id, runs[0].id]


def test_links_open_the_run_elsewhere(server: Server, page: Any, idle: Idle, runs: list[Run]) -> None:
    page.goto(f"{server.url}/runs?lang=en&run={runs[1].id}")
    page.get_by_role("link", name="→ Attention").click()
    page.wait_for_url(f"**/attention?*run={runs[1].id}*")
    page.go_back()
    page.get_by_role("button", name="Duplicate").click()
    page.wait_for_url("**seed=7*")
    assert "run=" not in page.url
    assert "d_model=16" in page.url


def test_what_was_deleted_comes_back_by_undo_and_from_the_trash(
    server: Server, page: Any, idle: Idle, runs: list[Run]
) -> None:
    mine = {run.id for run in runs}
    page.goto(f"{server.url}/runs?lang=en")
    idle(page)
    tick(page, 1)
    page.get_by_text("middle <b>$x$ · ✓ finished").wait_for()
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("1 run is in the trash.").wait_for()
    assert store.find(runs[1].id) is None
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("1 run is in the trash.").wait_for(state="hidden")
    assert {run.id for run in store.list_runs() if not run.is_sample} == mine
    for run in runs:
        store.delete(run.id)
    page.goto(f"{server.url}/runs?lang=zh_CN")
    idle(page)
    page.get_by_role("button", name="回收站").click()
    page.get_by_role("button", name="全部恢复").click()
    page.get_by_role("button", name="回收站").wait_for(state="hidden")
    assert {run.id for run in store.list_runs() if not run.is_sample} == mine


def bring(page: Any, file: Path) -> None:
    page.get_by_role("button", name="Import").click()
    page.locator("input[type=file]").set_input_files(file)


def grown(run: Run, size: int) -> None:
    """Give the run so many saved weights that its archive, without anything to go on training, has about this size."""
    one, step, model = run.weights_path(40).stat().st_size, 41, Transformer(run.config.model)
    while archive.size(run, run.saved_steps()) + one + archive.OVERHEAD < size:
        save_weights(run.weights_path(step), model, step)
        step += 1


def test_round_trips_of_the_sample_and_of_the_largest_that_fits(
    server: Server, page: Any, idle: Idle, runs: list[Run], tmp_path: Path
) -> None:
    """Away by the button, in again by the uploader. The sample, and 64 MB but for one file of weights."""
    page.set_default_timeout(60_000)
    large = make("large", model={"d_model": 256, "n_heads": 2, "d_ff": 1024})
    grown(large, 64 * 10**6)
    sample = next(run for run in store.list_runs() if run.id == SAMPLE)
    for run in (sample, large):
        page.goto(f"{server.url}/runs?lang=en" + ("" if run.is_sample else f"&run={run.id}"))
        idle(page)
        page.get_by_role("button", name="Download", exact=True).click()
        file = take(page, "Whole run (.zip)", tmp_path)
        assert file.stat().st_size <= 64 * 10**6
        page.keyboard.press("Escape")
        before = {run.id for run in store.list_runs()}
        bring(page, file)
        page.get_by_text("Imported.").wait_for()
        idle(page)
        (made,) = (found for found in store.list_runs() if found.id not in before)
        assert (made.config, made.saved_steps()) == (run.config, run.saved_steps())
        assert made.metrics() == run.metrics()
    assert file.stat().st_size > 54 * 10**6


def test_one_that_is_too_large_says_the_limit_and_comes_in_by_the_command(
    server: Server, page: Any, idle: Idle, runs: list[Run], tmp_path: Path
) -> None:
    page.set_default_timeout(60_000)
    large = make("too large", model={"d_model": 256, "n_heads": 2, "d_ff": 1024})
    grown(large, 80 * 10**6)
    page.goto(f"{server.url}/runs?lang=en&run={large.id}")
    idle(page)
    page.get_by_role("button", name="Download", exact=True).click()
    assert page.get_by_role("button", name="Without resume state").count() == 0, "it has none"
    few = take(page, "Fewer steps (.zip)", tmp_path)
    assert few.stat().st_size <= 64 * 10**6
    few = few.rename(tmp_path / "few.zip")
    whole = take(page, "Whole run (.zip)", tmp_path)
    assert whole.stat().st_size > 64 * 10**6
    page.keyboard.press("Escape")
    bring(page, whole)
    page.get_by_text("File must be 64").wait_for()
    page.get_by_text("python -m playground import FILE.zip").wait_for()
    command = [sys.executable, "-m", "playground", "import", str(whole)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    made = store.find(done.stdout.strip())
    assert made is not None
    assert made.saved_steps() == large.saved_steps()
    page.goto(f"{server.url}/runs?lang=en")
    idle(page)
    bring(page, few)
    page.get_by_text("Imported.").wait_for()
