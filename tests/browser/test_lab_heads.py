"""Labs 3 and 7 in a real browser: a click is answered with the numbers of core, goes to the URL, ticks the panel, and is fast."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from core.checkpoint import load_weights
from core.lab import heads as lab
from core.model import parameter_counts
from core.tasks import Data
from playground.lessons import heads, stack
from playground.runs.store import Run
from tests.browser.conftest import ANSWERED, OVER, Server, run_on

TEXT = "abca"
SIXTY_FOUR = {"d_model": 64, "n_heads": 4, "n_layers": 2, "d_ff": 256}
BAR = 0.3


@pytest.fixture(scope="module")
def run(server: Server) -> Run:
    return run_on(server, "heads", (10,), SIXTY_FOUR)


def visit(page: Any, server: Server, run: Run, lab_page: str, **query: str) -> Any:
    words = "&".join(f"{name}={value}" for name, value in {"run": run.id, "text": TEXT, **query}.items())
    page.goto(f"{server.url}/{lab_page}?{words}")
    page.wait_for_selector(".stepper li")
    return page


def ticked(page: Any, number: int) -> None:
    page.locator(".stepper li").nth(number - 1).locator(".number.done").wait_for()


def test_the_sharpest_head_is_found(page: Any, server: Server, run: Run) -> None:
    model, data = load_weights(run.weights_path(10), run.config.model), Data(run.config)
    seen = heads.example(model, data, data.vocab.encode(TEXT))
    bits = lab.entropy(seen.trace["encoder.1.self.pattern"][0]).mean(-1)
    visit(page, server, run, "lab_heads", kind="encoder", layer="2")
    for head in bits.argsort(descending=True).tolist():
        page.locator(".knockout .head").nth(head).click()
        page.wait_for_url(re.compile(rf"head={head + 1}"))
        assert f"{bits[head]:.2f} of 2.00 bits" in page.locator(".knockout .head").nth(head).inner_text()
    ticked(page, 1)
    page.reload()
    page.wait_for_selector(".knockout .head[aria-pressed=true]")
    assert page.locator(".knockout .head[aria-pressed=true] .name").inner_text() == f"Head {int(bits.argmin()) + 1}"
    ticked(page, 1)


def test_knockout_predicts_silences_and_is_fast(
    page: Any, server: Server, run: Run, idle: Callable[[Any], Any], answers: Callable[..., None]
) -> None:
    model, batch = load_weights(run.weights_path(10), run.config.model), Data(run.config).unseen(heads.STRINGS)
    visit(page, server, run, "lab_heads", panel="knockout", kind="cross", layer="1")
    page.get_by_text("Some: 6 to 50 of 100").click()
    page.locator(".knockout .head").first.wait_for()
    idle(page)
    plain, times, clicks = heads.outcome(model, batch), [], (0, 1, 0, 2, 1, 3, 2, 0, 1)
    steps: list[tuple[int, str]] = []
    out: set[int] = set()
    for head in clicks:
        out ^= {head}
        edits = lab.without_heads("decoder.0.cross", sorted(out))
        after = heads.outcome(model, batch, edits)
        steps.append((head, f"{heads.change(plain, after, batch):.2f}"))
    for head, moved in steps:
        idle(page)
        times.append(page.locator(".knockout .head").nth(head).evaluate(ANSWERED, moved))
    ticked(page, 2)
    rows, all_of_them = page.locator(".strings tbody tr"), len(heads.ordered(plain, after))
    assert rows.count() < all_of_them  # the others come when they are scrolled to
    for _ in range(10):
        page.locator(".strings").evaluate("table => { table.scrollTop = table.scrollHeight }")
        page.wait_for_timeout(50)
    assert rows.count() == all_of_them
    answers("Many heads, a head silenced and 100 strings written anew", times, BAR)


def test_pairs_of_heads(page: Any, server: Server, run: Run) -> None:
    model = load_weights(run.weights_path(10), run.config.model)
    overlap = lab.subspace_overlap(lab.value_output_maps(model, "encoder.0.self"), 16)
    g, h = heads.most_alike(overlap)
    visit(page, server, run, "lab_heads", panel="subspaces", kind="encoder", layer="1")
    cell = page.locator(f".overlap button[data-at='{g},{h}']")
    cell.click()
    assert cell.inner_text() == f"{overlap[g, h]:.2f}"
    ticked(page, 4)


def test_the_stream_is_followed(page: Any, server: Server, run: Run) -> None:
    model, data = load_weights(run.weights_path(10), run.config.model), Data(run.config)
    seen = heads.example(model, data, data.vocab.encode(TEXT))
    parts = stack.parts(model, seen)
    visit(page, server, run, "lab_stack")
    page.locator(".stackflow .stack").nth(1).locator(".pick button").nth(2).click()
    page.wait_for_url(re.compile(r"decoder_token=2"))
    lengths = {p.place: p.added[2 if s == "decoder" else 0].norm().item() for s in parts for p in parts[s]}
    most = max(lengths, key=lambda place: lengths[place])
    page.locator(f".stackflow .part[data-place='{most}']").click()
    page.get_by_text(f"length {lengths[most]:.2f}").wait_for()
    ticked(page, 1)


def test_lens_answers_fast(
    page: Any, server: Server, run: Run, idle: Callable[[Any], Any], answers: Callable[..., None]
) -> None:
    model, data = load_weights(run.weights_path(10), run.config.model), Data(run.config)
    found = stack.lens(model, heads.example(model, data, data.vocab.encode(TEXT)))
    visit(page, server, run, "lab_stack", panel="lens", cell="0,0")
    times = []
    for layer, t in ((1, 0), (2, 1), (0, 2), (1, 3), (2, 4), (0, 1), (1, 2), (2, 3)):
        cell = page.locator(f".stacklens button[data-at='{layer},{t}']")
        cell.wait_for()
        idle(page)
        start = time.perf_counter()
        cell.click()
        page.locator(".stacklens .row").first.get_by_text(f"{float(found[layer, t].max()):.3f}").wait_for()
        page.wait_for_url(re.compile(rf"cell={layer}(,|%2C){t}"))
        times.append(time.perf_counter() - start)
    answers("Logit lens, a cell", times, BAR)


def test_parameters_answer_fast(
    page: Any, server: Server, run: Run, idle: Callable[[Any], Any], answers: Callable[..., None]
) -> None:
    visit(page, server, run, "lab_stack", panel="parameters", n_layers="1")
    page.locator("table").wait_for()
    sliders = page.get_by_role("slider")
    slider = next(
        sliders.nth(i) for i in range(sliders.count()) if "layers" in (sliders.nth(i).get_attribute("aria-label") or "")
    )
    times = []
    for n in (2, 3, 4, 6, 8, 12, 24):
        idle(page)
        total = sum(parameter_counts(stack.resized(run.config.model, n_layers=n)).values())
        slider.focus()
        start = time.perf_counter()
        slider.press("ArrowRight")
        page.get_by_text(f"{total:,}", exact=True).last.wait_for()
        page.wait_for_url(re.compile(rf"n_layers={n}(&|$)"))
        times.append(time.perf_counter() - start)
    answers("Parameters, a slider", times, BAR)


@pytest.mark.parametrize("lab_page", ["lab_heads", "lab_stack"])
def test_every_panel_fits_one_window(new_page: Callable[..., Any], server: Server, run: Run, lab_page: str) -> None:
    labs = {"lab_heads": heads.LAB, "lab_stack": stack.LAB}
    page = new_page(width=1440, height=900)
    for panel in labs[lab_page].panels:
        if panel.id != "experiment":
            visit(page, server, run, lab_page, panel=panel.id, out="1", way="skip", cell="1,1", block="encoder.0")
            page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
            page.get_by_text("checked · max error").first.wait_for()
            assert page.evaluate(OVER) <= 0, panel.id
