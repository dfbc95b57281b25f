"""The Attention page in a real browser: preview and lock, time, numbers under the pointer, files, how fast it answers."""

import csv
import io
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
import torch

from core.checkpoint import load_weights
from playground.attention_view import look
from playground.runs.store import Run
from tests.browser.conftest import OVER, Server
from tests.pages.looking import make_run

MANY = (0, 1, 2, 5, 10, 20, 50, 100)
TEXT, IDS = "abca", [3, 4, 5, 3]


@pytest.fixture(scope="module")
def run(server: Server) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_RUNS", str(server.runs))
        server.runs.mkdir(exist_ok=True)
        return make_run("looking", MANY)


def visit(page: Any, server: Server, run: Run, **query: str) -> Any:
    words = "&".join(f"{name}={value}" for name, value in {"run": run.id, "text": TEXT, **query}.items())
    page.goto(f"{server.url}/attention?{words}")
    page.wait_for_selector("#attention .figure .cells rect")
    return page


def asked(page: Any, **expected: str) -> None:
    """Wait until the URL says so."""
    for name, value in expected.items():
        page.wait_for_url(re.compile(rf"[?&]{name}={value}(&|$)"))


def test_preview_lock_and_url(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, step="10", layer="1", head="1")
    title = page.locator("#attention .title .name")
    assert "Layer 1, head 1" in title.inner_text()
    thumb = page.locator(".thumb[data-layer='1'][data-head='1']")
    thumb.hover()
    assert "Layer 2, head 2" in title.inner_text()
    page.locator("#attention .when").hover()
    assert "Layer 1, head 1" in title.inner_text()
    thumb.click()
    page.locator("#attention .when").hover()
    assert "Layer 2, head 2" in title.inner_text()
    page.get_by_role("button", name="Decoder self").click()
    page.get_by_role("button", name="Scores").click()
    asked(page, layer="2", head="2", where="decoder", show="scores", step="10")
    page.reload()
    page.wait_for_selector("#attention .figure .cells rect")
    assert "Decoder self · Layer 2, head 2" in title.inner_text()
    assert page.get_by_role("button", name="Scores").get_attribute("aria-pressed") == "true"
    assert page.locator("#attention .hatched").is_visible()


def test_time_plays_and_stops_at_the_end(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, step="0")
    page.wait_for_selector(f"#attention[data-ready='{len(MANY)}/{len(MANY)}']")
    page.locator("#attention .play").click()
    page.wait_for_timeout(700)
    assert page.locator("#attention .time").input_value() not in ("0", str(len(MANY) - 1))
    asked(page, step="100")
    page.locator("#attention .play:not(.pause)").wait_for()
    page.locator("#attention .time").press("ArrowLeft")
    asked(page, step="50")


def test_the_value_under_the_pointer_is_that_of_core(page: Any, server: Server, run: Run) -> None:
    frame = look(load_weights(run.weights_path(20), run.config.model, run.config.task.longest_target), 20, IDS)
    visit(page, server, run, step="20", layer="2", head="1", where="encoder")
    pattern, scores = frame.pattern["encoder"][1, 0], frame.scores["encoder"][1, 0]
    for q, k in ((0, 0), (1, 3), (3, 2)):
        page.locator("#attention .cells rect").nth(q * 4 + k).hover()
        said = page.locator("#attention .tip").inner_text()
        assert f"weight {pattern[q, k]:.3f}" in said
        assert f"score {scores[q, k]:.3f}" in said
    page.locator("#attention .figure").focus()
    page.keyboard.press("ArrowUp")
    assert "weight" in page.locator("#attention [role=status]").inner_text()


def test_one_token_alone(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, where="encoder")
    paths = page.locator("#attention .figure g > path")
    every = sum(d.count("M") for d in paths.evaluate_all("nodes => nodes.map(n => n.getAttribute('d'))"))
    page.locator("#attention .tok[data-side=q][data-i='3']").last.click()
    page.locator("#attention .when").hover()
    some = sum(d.count("M") for d in paths.evaluate_all("nodes => nodes.map(n => n.getAttribute('d'))"))
    assert 0 < some <= 4 < every
    page.get_by_role("button", name="Show all tokens").click()
    page.locator("#attention .release").wait_for(state="hidden")


def test_files(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, where="cross", layer="1", head="2", step="100")

    def save(name: str) -> bytes:
        with page.expect_download() as waiting:
            page.locator(f"#attention .save .{name}").click()
        assert waiting.value.suggested_filename == f"attention_cross_layer1_head2_step100.{name}"
        return Path(waiting.value.path()).read_bytes()

    picture = ET.fromstring(save("svg"))
    names = [node.tag.split("}")[1] for node in picture.iter()]
    frame = look(load_weights(run.weights_path(100), run.config.model, run.config.task.longest_target), 100, IDS)
    assert names.count("rect") > len(frame.reads) * 4
    assert "path" in names
    assert "text" in names
    assert "image" not in names
    assert save("png").startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO(save("csv").decode("utf-8-sig"))))
    assert len(rows) == len(frame.reads) * 4
    got = torch.tensor([float(row["pattern"]) for row in rows]).view(len(frame.reads), 4)
    torch.testing.assert_close(got, frame.pattern["cross"][0, 1], atol=1e-4, rtol=0)


def test_formula_cells_are_quoted(page: Any, server: Server) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_RUNS", str(server.runs))
        server.runs.mkdir(exist_ok=True)
        pairs = [[a + b, b + a] for a in "<$=:|`" for b in "-@+"]
        run = make_run("<img src=x onerror=alert(1)>", task={"name": "pairs", "pairs": pairs})
    page.goto(f"{server.url}/attention?run={run.id}&text=%3D%2B&where=encoder")
    page.wait_for_selector("#attention .figure .cells rect")
    with page.expect_download() as waiting:
        page.locator("#attention .save .csv").click()
    text = Path(waiting.value.path()).read_text("utf-8-sig")
    assert '"\'="' in text
    assert '"\'+"' in text
    assert ',"="' not in text


def test_all_fits_one_window(new_page: Callable[..., Any], server: Server, run: Run) -> None:
    for width, height in ((1440, 900), (1280, 800)):
        page = visit(new_page(width=width, height=height), server, run)
        assert page.evaluate(OVER) <= 0


def test_it_answers_fast(page: Any, server: Server, run: Run, answers: Callable[..., None]) -> None:
    visit(page, server, run)
    page.wait_for_selector(f"#attention[data-ready='{len(MANY)}/{len(MANY)}']")
    drawn, told, slider = [], [], page.locator("#attention .time")
    for i in range(20):
        slider.focus()
        before, start = slider.input_value(), time.perf_counter()
        slider.press("ArrowLeft" if i % 14 < 7 else "ArrowRight")
        assert slider.input_value() != before  # drawn in the same task as the key press
        drawn.append(time.perf_counter() - start)
        step = str(MANY[int(slider.input_value())])
        while parse_qs(urlparse(page.url).query).get("step") != [step]:
            page.wait_for_timeout(5)
        told.append(time.perf_counter() - start)
    answers("Attention, slider over training time, drawn", drawn, 0.5)
    answers("Attention, slider over training time, in the URL", told, 0.5)


def test_scores_are_coloured_on_one_scale_that_fits_the_maps_in_view(page: Any, server: Server, run: Run) -> None:
    for step in (0, 100):
        model = load_weights(run.weights_path(step), run.config.model, run.config.task.longest_target)
        frame = look(model, step, IDS)
        reach = frame.scores["encoder"].abs().max().item()  # nothing of it is masked
        visit(page, server, run, step=str(step), where="encoder", show="scores")
        page.wait_for_function("() => true")
        low, high = page.locator("#attention .scale > span").all_inner_texts()
        limit = float(high)
        assert float(low.split()[-1].replace("−", "-")) == -limit
        assert reach <= limit * 1.001
        assert limit <= reach * 1.1 + 1e-9


def test_keys_walk_through_time_while_no_control_has_the_focus(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, step="10")
    page.keyboard.press("ArrowRight")
    asked(page, step="20")
    page.keyboard.press("ArrowLeft")
    asked(page, step="10")
    page.wait_for_selector(f"#attention[data-ready='{len(MANY)}/{len(MANY)}']")
    page.keyboard.press("Space")
    page.locator("#attention .play.pause").wait_for()
    page.keyboard.press("Space")
    page.locator("#attention .play:not(.pause)").wait_for()
    asked(page, where="cross")
    page.locator("#attention .figure").focus()  # there the arrows go from cell to cell
    before = page.locator("#attention .time").input_value()
    page.keyboard.press("ArrowRight")
    assert page.locator("#attention .time").input_value() == before


def test_locked_is_said_only_of_what_was_clicked_and_explains_itself(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, layer="1", head="1")
    assert page.locator("#attention .state").is_hidden()
    page.locator(".thumb[data-layer='1'][data-head='1']").click()
    page.locator("#attention .when").hover()
    assert page.locator("#attention .state").inner_text() == "Locked"
    page.locator("#attention .state").hover()
    assert "until you click another" in page.locator("#attention .tip").inner_text()
