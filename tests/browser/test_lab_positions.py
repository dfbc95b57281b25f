"""The lab on positions in a real browser: it opens, a click is answered, what a pointer reads is the table's number."""

import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from playground.runs.store import Run
from tests.browser.conftest import IDLE, OVER, Server, run_on

SIXTY_FOUR = {"d_model": 64, "n_heads": 4, "n_layers": 1, "d_ff": 64}


@pytest.fixture(scope="module")
def run(server: Server) -> Run:
    return run_on(server, "steps", (10,), SIXTY_FOUR)


def visit(page: Any, server: Server, panel: str, **query: str) -> Any:
    words = "&".join(f"{name}={value}" for name, value in {"panel": panel, **query}.items())
    page.goto(f"{server.url}/lab_positions?{words}")
    page.wait_for_selector(f".positions[data-panel={panel}] .figure")
    page.wait_for_selector(IDLE)
    return page


def test_the_number_under_the_pointer(page: Any, server: Server) -> None:
    visit(page, server, "ladder", rung="sine", length="10")
    canvas = page.locator(".positions canvas.ink").first
    canvas.focus()
    for key in ("ArrowDown", "ArrowRight"):
        canvas.press(key)
    tip = page.locator(".positions .tip").inner_text()
    where, value = tip.rsplit(":", 1)
    t, i = (int("".join(c for c in part if c.isdigit())) for part in where.split(","))
    assert (t, i) == (4, 2)
    assert math.isclose(float(value), math.sin(t / 10_000 ** (i / 32)), abs_tol=1e-7)
    canvas.press("Enter")
    page.wait_for_url("**cell=4%2C2**")


def test_numbers_as_a_table(page: Any, server: Server) -> None:
    visit(page, server, "binary")
    page.locator(".positions .as-table").first.click()
    rows = page.locator(".positions .numbers").first.locator("tr")
    assert rows.count() == 21
    assert rows.nth(4).inner_text().split() == ["3", "0", "0", "0", "1", "1"]


def test_the_step_with_most_flips(page: Any, server: Server) -> None:
    visit(page, server, "binary")
    rows = page.locator(".positions canvas.ink").first
    box = rows.bounding_box()
    assert box
    rows.click(position={"x": box["width"] / 2, "y": (box["height"] - 35) * 15.5 / 20 + 3})
    page.wait_for_url("**flip=15**")
    page.locator(".stepper [aria-current] .done").wait_for()


def test_all_fits_one_window(new_page: Callable[..., Any], server: Server) -> None:
    for width, height in ((1440, 900), (1280, 800)):
        page = new_page(width=width, height=height)
        for panel in ("ladder", "norm", "unit", "binary", "sine", "turn", "wishes"):
            visit(page, server, panel)
            page.wait_for_timeout(200)
            assert page.evaluate(OVER) <= 0, (panel, width)
        page.close()


def test_it_answers_fast(page: Any, server: Server, run: Run, answers: Callable[..., None]) -> None:
    visit(page, server, "wishes", run=run.id)
    cells, clicked = page.locator(".wishes td button"), []
    for n in range(20):
        place = 1 + n * 3 % 60
        start = time.perf_counter()
        cells.nth(place).click()
        cells.nth(place).and_(page.locator("[aria-pressed=true]")).wait_for()
        clicked.append(time.perf_counter() - start)
    visit(page, server, "turn", run=run.id)
    moved, root = [], page.locator(".positions")
    slider = page.get_by_role("slider").last
    for _ in range(20):
        slider.focus()
        before, start = int(root.get_attribute("data-taken")), time.perf_counter()
        slider.press("ArrowRight")
        while int(root.get_attribute("data-taken")) == before:
            page.wait_for_timeout(5)
        moved.append(time.perf_counter() - start)
    for name, times in (("click on a cell", clicked), ("slider", moved)):
        answers(f"Positions, {name}", times, 0.3)
