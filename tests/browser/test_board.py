"""The board in a real Chromium: it fits the window, labels keep apart, values are those on disk, it survives its server."""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from core.config import ModelConfig, RunConfig, TrainConfig
from playground.runs import store
from playground.runs.store import Run
from playground.runs.training import Training
from tests.browser.conftest import Server, start

NewPage = Callable[..., Any]

# Texts of the map that stick out of it or lie on one another.
CROOKED = """() => {
  const root = [...document.querySelectorAll("*")].map((e) => e.shadowRoot).find((s) => s?.querySelector(".board"));
  const map = root.querySelector(".map svg"), box = map.getBoundingClientRect();
  const all = [...map.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect()]), bad = [];
  all.forEach(([text, a], i) => {
    if (a.left < box.left - 1 || a.right > box.right + 1 || a.top < box.top - 1 || a.bottom > box.bottom + 1) bad.push(text + " sticks out");
    for (const [other, b] of all.slice(i + 1))
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3) bad.push(text + " on " + other);
  });
  const main = document.querySelector("[data-testid=stMain]"), strip = root.querySelector(".strip");
  if (main.scrollHeight > main.clientHeight) bad.push("the page scrolls");
  if (strip.getBoundingClientRect().bottom > innerHeight) bad.push("the strip is below the window");
  if (strip.scrollWidth > strip.clientWidth) bad.push("the strip is cut off");
  return bad;
}"""
COSTS = """() => { window.costs = []; new PerformanceObserver((list) => list.getEntries().forEach((entry) =>
  entry.name === "board" && window.costs.push(entry.duration))).observe({ entryTypes: ["measure"] }); }"""


def create(folder: Path, **model: Any) -> Run:
    """A draft in the folder of a server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_RUNS", str(folder))
        return store.create(RunConfig(model=ModelConfig(**model), train=TrainConfig(steps=40, eval_every=10)))


@pytest.fixture(scope="module")
def finished(server: Server) -> Run:
    run = create(server.runs, d_model=16, n_heads=2, d_ff=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_RUNS", str(server.runs))
        Training(run, threading.Event())()
    return run


def see(page: Any, server: Server, run: Run, wait: str = ".board .part") -> Any:
    page.goto(f"{server.url}/?run={run.id}")
    page.wait_for_selector(wait)
    return page


@pytest.mark.parametrize("size", [(1440, 900), (1280, 800)], ids=["1440x900", "1280x800"])
@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_fits_the_window_and_labels_keep_apart(
    server: Server, new_page: NewPage, size: tuple[int, int], locale: str
) -> None:
    page = new_page(*size, locale=locale)
    for layers in (1, 2, 3, 5, 8, 9, 24):
        see(page, server, create(server.runs, n_layers=layers))
        page.wait_for_timeout(300)
        assert page.evaluate(CROOKED) == [], f"{layers} layers"


@pytest.mark.parametrize("size", [(1280, 800), (1024, 768)], ids=["1280x800", "1024x768"])
@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_the_map_of_the_next_run_fits_as_well(
    server: Server, new_page: NewPage, size: tuple[int, int], locale: str
) -> None:
    page, run = new_page(*size, locale=locale), create(server.runs, n_layers=2)
    for query, layers in (("d_model=1024&n_heads=16&n_layers=3&d_ff=4096", 3), ("n_heads=64&n_layers=24", 24)):
        page.goto(f"{server.url}/?run={run.id}&{query}")
        page.locator(".map.draft .part.encoder").first.wait_for()
        page.wait_for_timeout(500)
        assert page.evaluate(CROOKED) == [], f"{layers} layers"
        note = page.locator(".map .next")
        assert note.evaluate("(n) => n.scrollWidth <= n.clientWidth"), note.inner_text()


def test_values_are_those_on_disk(server: Server, finished: Run, page: Any) -> None:
    see(page, server, finished, ".board .sample")
    probe = json.loads((finished.path / "probe.json").read_text())
    canvas = page.locator(".heads canvas").nth(4)  # rows are encoder self, decoder self, cross; two heads
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] * 0.5, "y": box["height"] * 0.5})
    pattern = probe["patterns"]["decoder.0.cross"][0]
    weights = {f"{weight:.3f}" for row in pattern for weight in row}
    page.locator(".board > .tip .caption").wait_for()
    shown = page.locator(".board .caption").inner_text()
    assert "Cross · Layer 1 · head 1" in shown
    assert shown.rpartition(": ")[2] in weights

    page.locator("canvas.loss").focus()
    page.keyboard.press("ArrowLeft")
    records = finished.metrics()
    page.locator(".board > .tip").get_by_text(f"Step {records[-1]['step']}").wait_for()
    tip = page.locator(".board > .tip").inner_text()
    shown = re.search(r"Loss: ([\d.]+)", tip)
    assert shown
    assert float(shown[1]) == pytest.approx(records[-1]["loss"], rel=1e-6)
    page.get_by_role("button", name="Table").click()
    page.locator(".board .table tbody tr").nth(len(records) - 1).wait_for()
    assert page.locator(".board .table tbody tr").count() == len(records)


def test_a_part_is_chosen_by_click_and_keyboard(server: Server, finished: Run, page: Any) -> None:
    see(page, server, finished, ".board .sample")
    dim = page.locator(".heads canvas.dim")
    assert dim.count() == 0
    page.locator("[data-part='decoder.0']").click()
    detail = page.locator(".detail")
    detail.get_by_text("Decoder block 1 of 1").wait_for()
    assert dim.count() == 2  # the encoder's two heads
    page.keyboard.press("ArrowRight")
    detail.get_by_text("Output layer").wait_for()
    page.keyboard.press("Enter")
    detail.get_by_text("Click a part of the model").wait_for()


def test_lives_through_a_restart_of_the_server(tmp_path: Path, chromium: Any, new_page: NewPage) -> None:
    first = start(tmp_path)
    try:
        page = see(new_page(), first, create(first.runs))
        state = page.locator(".state-text")
        state.get_by_text("Ready").wait_for()
        first.stop()
        state.get_by_text("reconnecting").wait_for()
        second = start(tmp_path, int(first.url.rpartition(":")[2]))
        try:
            state.get_by_text("Ready").wait_for()
        finally:
            second.stop()
    finally:
        first.stop()


def test_a_redraw_is_cheap(server: Server, page: Any, show: Callable[[str], None]) -> None:
    see(page, server, create(server.runs, d_model=64, n_heads=4, n_layers=2))
    page.evaluate(COSTS)
    page.get_by_role("button", name="Train").first.click()
    page.locator(".state-text").get_by_text("Finished").wait_for(timeout=60_000)
    costs = page.evaluate("() => window.costs")
    show(f"board: {len(costs)} redraws while training, median {median(costs):.1f} ms, longest {max(costs):.1f} ms")
    assert median(costs) < 16
