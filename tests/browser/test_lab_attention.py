"""Lab 1 in a real browser: a click is answered with the right numbers, goes to the URL, ticks the panel, and is fast."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from core.checkpoint import load_weights
from core.lab import recompute
from core.tokens import BOS
from playground.lessons.attention_steps import traced
from playground.runs.store import Run
from tests.browser.conftest import OVER, Server, run_on

TEXT, SRC, TGT = "abca", [3, 4, 5, 3], (BOS, 3, 5, 4, 3)
SIXTY_FOUR = {"d_model": 64, "n_heads": 4, "n_layers": 2, "d_ff": 64}


@pytest.fixture(scope="module")
def run(server: Server) -> Run:
    return run_on(server, "steps", (10,), SIXTY_FOUR)


def visit(page: Any, server: Server, run: Run, **query: str) -> Any:
    words = "&".join(f"{name}={value}" for name, value in {"run": run.id, "text": TEXT, **query}.items())
    page.goto(f"{server.url}/lab_attention?{words}")
    page.wait_for_selector("#steps .formula:not(:empty), #shapes .stage")
    return page


def click(page: Any, panel: str, row: int, column: int, rows: int, columns: int) -> None:
    """Click a cell of a square map."""
    canvas = page.locator(f"#steps .map.{panel} canvas")
    box = canvas.bounding_box()
    cell = min((box["width"] - 12) / columns, (box["height"] - 12) / rows)
    canvas.click(position={"x": 12 + (column + 0.5) * cell, "y": 12 + (row + 0.5) * cell})


def shown(page: Any) -> float:
    return float(page.locator("#steps .formula b").inner_text().replace("−", "-"))


def test_a_click_shows_the_recomputed_numbers_and_is_remembered(
    page: Any, server: Server, run: Run, idle: Callable[[Any], Any]
) -> None:
    visit(page, server, run, panel="embed", where="decoder")
    with torch.no_grad():
        head = recompute.head(load_weights(run.weights_path(10), run.config.model), _trace(run), "decoder.0.self", 0)
    for panel, matrix in (("score", head.products), ("scale", head.scores), ("softmax", head.pattern)):
        click(page, panel, 3, 1, 5, 5)
        assert shown(page) == pytest.approx(matrix[3, 1].item(), abs=6e-4)
        assert "✓" in page.locator("#steps .formula .ok").inner_text()
    click(page, "mask", 1, 3, 5, 5)
    assert page.locator("#steps .formula b").inner_text() == "−∞"
    page.wait_for_url(re.compile(r"cell=2(,|%2C)4"))
    page.wait_for_url(re.compile(r"panel=mask"))
    idle(page)
    page.locator(".stepper li").nth(4).locator(".number.done").wait_for()
    page.reload()
    page.wait_for_selector("#steps .formula:not(:empty)")
    assert page.locator("#steps .formula b").inner_text() == "−∞"
    page.locator("#steps .head button").nth(2).click()
    page.wait_for_url(re.compile(r"head=3"))


def _trace(run: Run) -> Any:
    return traced(load_weights(run.weights_path(10), run.config.model), SRC, TGT)


def test_the_shapes_are_walked(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, panel="shapes")
    go = page.locator("#shapes .go")
    for stage in ("projected", "split", "attend", "merge"):
        go.click()
        page.locator(f"#shapes .stage.on[data-stage={stage}]").wait_for()
        page.wait_for_url(re.compile(f"stage={stage}"))
    page.locator(".stepper li").nth(7).locator(".number.done").wait_for()


def test_it_fits_one_window(new_page: Callable[..., Any], server: Server, run: Run) -> None:
    for width, height in ((1440, 900), (1280, 800)):
        page = visit(new_page(width=width, height=height), server, run)
        for panel in ("embed", "project", "score", "scale", "mask", "softmax", "weigh"):
            page.locator(f"#steps .map.{panel} .name").click()
            page.wait_for_url(re.compile(f"panel={panel}"))
            page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
            assert page.evaluate(OVER) <= 0, (panel, width)


# In the browser itself, or the figure would hold playwright's own waits: from the click to the frame after it is drawn.
CLICK = """async ([x, y]) => {
  const map = document.querySelector('[data-testid=stMain]'), find = (node) => [...node.querySelectorAll('*')].reduce(
    (found, n) => found ?? n.shadowRoot?.querySelector('#steps') ?? null, null);
  const root = find(map), canvas = root.querySelector('.map.score canvas'), box = canvas.getBoundingClientRect();
  const start = performance.now();
  canvas.dispatchEvent(new MouseEvent('click', { bubbles: true, clientX: box.left + x, clientY: box.top + y }));
  const said = root.querySelector('.now').textContent;
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return [said, (performance.now() - start) / 1000, 12, (Math.min((box.width - 12), (box.height - 12))) / 5];
}"""


def test_a_click_is_answered_fast(page: Any, server: Server, run: Run, answers: Callable[..., None]) -> None:
    """d 64. Drawn: the numbers of the cell stand there, painted; told: the cell is in the URL."""
    visit(page, server, run, panel="score", where="decoder")
    drawn, told = [], []
    cell = page.evaluate(CLICK, [13, 13])[3]
    for n in range(20):
        i, j = n % 5, (n * 2 + 1) % 5
        start = time.perf_counter()
        said, seconds, *_ = page.evaluate(CLICK, [12 + (j + 0.5) * cell, 12 + (i + 0.5) * cell])
        assert f"query {i + 1}" in said
        assert f"key {j + 1}" in said
        drawn.append(seconds)
        page.wait_for_url(re.compile(f"cell={i + 1}(,|%2C){j + 1}(&|$)"))
        told.append(time.perf_counter() - start)
    answers("Attention step by step, click on a cell", drawn, 0.3)
