"""The Generate page in a real browser: step, play, edit, beams, refresh, how fast it answers."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from core.checkpoint import load_weights
from core.decode import generate
from core.tasks import Vocab
from playground.runs.store import Run
from tests.browser.conftest import Server
from tests.pages.looking import make_run

VOCAB = Vocab("abcdefghij")


@pytest.fixture(scope="module")
def run(server: Server) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_RUNS", str(server.runs))
        server.runs.mkdir(exist_ok=True)
        return make_run("speaking")


def visit(page: Any, server: Server, run: Run, **query: str) -> Any:
    words = "&".join(f"{name}={value}" for name, value in {"run": run.id, "text": "abca", **query}.items())
    page.goto(f"{server.url}/generate?{words}")
    page.wait_for_selector("#generate .output .token")
    return page


def output(page: Any) -> list[str]:
    """The tokens written so far."""
    chips: list[str] = page.locator("#generate .output .token:not(.open) b").all_inner_texts()
    return chips


def wait_for(page: Any, n: int) -> None:
    page.wait_for_function(
        """n => { for (const e of document.querySelectorAll('*')) { const x = e.shadowRoot?.querySelector('#generate');
        if (x) return x.querySelectorAll('.output .token:not(.open)').length === n; } return false; }""",
        arg=n,
    )


def test_token_by_token_to_the_end_and_back(page: Any, server: Server, run: Run) -> None:
    model = load_weights(run.weights_path(10), run.config.model, run.config.task.longest_target)
    expected = [VOCAB.name(i) for i in generate(model, torch.tensor([[3, 4, 5, 3]]))[0].tolist()]
    visit(page, server, run)
    assert output(page) == []
    page.locator("#generate .next").click()
    wait_for(page, 1)
    assert output(page) == expected[:1]
    page.locator("#generate .finish").click()
    wait_for(page, len(expected))
    assert output(page) == expected
    assert page.locator("#generate .next").is_disabled()
    page.locator("#generate .back").click()
    wait_for(page, len(expected) - 1)
    page.locator("#generate .restart").click()
    wait_for(page, 0)


def test_it_plays_by_itself(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run)
    page.locator("#generate .play").click()
    wait_for(page, 1)
    wait_for(page, 2)
    page.locator("#generate .play.pause").click()


def test_a_person_edits_a_token_and_a_refresh_keeps_it(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, out="4.5.6")
    page.locator("#generate .output .token").nth(1).click()
    assert "position 2" in page.locator("#generate .odds h4").inner_text()
    other = page.locator("#generate .odd:not(.on)").first
    name = other.locator(".name").inner_text()
    other.click()
    wait_for(page, 2)
    assert output(page) == ["b", name]
    assert "✎" in page.locator("#generate .output .token").nth(1).inner_text()
    page.wait_for_url(re.compile("hand=1"))
    page.reload()
    wait_for(page, 2)
    assert output(page) == ["b", name]


def test_the_beam_tree_grows(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, method="beam", beams="3")
    for n in (1, 2):
        page.locator("#generate .next").click()
        wait_for(page, n)
    assert page.locator("#generate .tree svg g g, #generate .tree svg > g[tabindex]").count() == 6
    label = page.locator("#generate .tree svg").get_attribute("aria-label")
    assert "score" in label


def test_another_temperature_changes_the_bars_at_once(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, method="sample", out="4.5")
    before = page.locator("#generate .odd .value").all_inner_texts()
    slider = page.get_by_role("slider", name="Temperature")
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_url(re.compile("temperature=1.05"))
    page.wait_for_function("() => true")
    assert output(page) == ["b", "c"]
    assert page.locator("#generate .odd .value").all_inner_texts() != before


def test_it_answers_fast(page: Any, server: Server, run: Run, answers: Callable[..., None]) -> None:
    visit(page, server, run)
    times, n = [], 0
    for _ in range(20):
        over = page.locator("#generate .next").is_disabled()
        n = 0 if over else n + 1
        start = time.perf_counter()
        page.locator("#generate .restart" if over else "#generate .next").click()
        wait_for(page, n)
        times.append(time.perf_counter() - start)
    answers("Generate, click to the next token", times, 0.5)


def test_the_model_is_judged_by_what_it_wrote_itself(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/generate?run=sample-reverse&text=abc")
    page.get_by_role("button", name="To the end").click()
    page.wait_for_selector(".status >> text=Right: the output is the right answer")
    page.locator(".output .token").first.click()
    page.locator(".odd").nth(3).click()  # another first token than the right one
    page.get_by_role("button", name="To the end").click()
    page.wait_for_selector(".status >> text=Tokens you chose: 1.")
    first = page.locator(".output .token").first
    assert "✎" in first.inner_text()
    assert "✗" not in first.inner_text()


IN_PART = (
    "sel => { const inner = document.activeElement?.shadowRoot?.activeElement; return Boolean(inner?.matches(sel)); }"
)


def tab_to(page: Any, selector: str, most: int = 60) -> None:
    """Press Tab until a part of this component has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate(IN_PART, selector):
            return
    pytest.fail(f"Tab does not reach {selector}")


def test_the_rows_are_reached_and_pressed_by_keyboard(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run)
    tab_to(page, "#generate .odd:nth-child(1)")
    page.keyboard.press("Tab")
    assert page.evaluate(IN_PART, ".odd:nth-child(2)")
    name = page.locator("#generate .odd .name").nth(1).inner_text()
    page.keyboard.press("Enter")
    wait_for(page, 1)
    assert output(page) == [name]
    tab_to(page, "#generate .looks .line")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.locator("#generate .looks .line").nth(1).get_attribute("aria-pressed") == "true"
    assert page.locator("#generate .looks .line").nth(1).bounding_box()["height"] > 10  # a box that can show the focus
    tab_to(page, "#generate .sofar .line")
    page.keyboard.press("Enter")
    assert "position 1" in page.locator("#generate .odds h4").inner_text()


def test_keys_do_what_buttons_do_while_no_control_has_the_focus(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run)
    page.keyboard.press("ArrowRight")
    wait_for(page, 1)
    page.keyboard.press("n")
    wait_for(page, 2)
    page.keyboard.press("ArrowLeft")
    wait_for(page, 1)
    page.keyboard.press("Space")
    page.locator("#generate .play.pause").wait_for()
    wait_for(page, 3)
    page.keyboard.press("Space")
    page.locator("#generate .play:not(.pause)").wait_for()
    page.wait_for_timeout(1000)
    n = len(output(page))
    field = page.get_by_role("textbox", name="Source text")
    field.focus()
    field.press("ArrowLeft")
    field.press("n")  # is typed
    page.wait_for_timeout(500)
    assert len(output(page)) == n
    assert "n" in field.input_value()


def test_the_buttons_of_the_sidebar_are_seen(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run)
    page.mouse.move(900, 500)
    for name in ("▶", "Branch from step 10"):
        page.get_by_test_id("stSidebar").get_by_role(
            "button", name=name
        ).wait_for()  # help must not hide what it explains


def test_little_is_not_shown_as_nothing(page: Any, server: Server) -> None:
    page.goto(f"{server.url}/generate?run=sample-reverse&text=hgfeabcd&method=beam&out=6.5.4&step=1000")
    page.wait_for_selector("#generate .tree svg")
    shown = page.locator("#generate .odd .value, #generate .large .token i").all_inner_texts()
    assert "<0.001" in shown
    assert "0.000" not in shown
    said = page.locator("#generate .tree svg g[tabindex]").evaluate_all(
        "all => all.map((n) => n.getAttribute('aria-label'))"
    )
    assert any("<0.001" in text for text in said)
    assert not any("probability 0.000" in text or "-0.000" in text for text in said)
