"""Lab 6 in a real browser: five stages, token by token, one wrong token; how fast it answers; one window without scrolling."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from playground.runs.store import Run
from tests.browser.conftest import Server, run_on

BAR = 0.3  # seconds from a click to its answer, 95 of 100, at d 64


@pytest.fixture(scope="module")
def run(server: Server) -> Run:
    return run_on(server, "two flows", (0,), {"d_model": 64, "n_heads": 4, "n_layers": 2, "d_ff": 128})


def visit(page: Any, server: Server, run: Run, panel: str, **query: str) -> Any:
    words = "&".join(f"{k}={v}" for k, v in {"run": run.id, "text": "abcabc", "panel": panel, **query}.items())
    page.goto(f"{server.url}/lab_flows?{words}")
    page.wait_for_selector("#flows .body > *", state="attached")
    return page


def timed(page: Any, click: str, answer: str) -> float:
    """Seconds from a click until the answer stands there."""
    button = page.locator(click).first
    button.wait_for()
    start = time.perf_counter()
    button.click()
    page.wait_for_selector(answer, state="attached")
    return time.perf_counter() - start


def test_five_stages_and_their_tensors(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, "training")
    first = {"encode": "memory", "decode": "logits", "loss": "loss", "backward": "norms", "update": "moved"}
    for lit, (stage, tensor) in enumerate(first.items(), 1):
        page.locator(f"#flows [data-stage={stage}]").click()
        page.wait_for_selector(f"#flows [data-tensor={tensor}]")
        page.wait_for_function(LIT, arg=lit)
    page.locator("#flows [data-stage=encode]").click()
    page.wait_for_selector("#flows [data-tensor=memory]")
    page.locator("#flows [data-go=again]").click()
    page.wait_for_function(LIT, arg=1)
    page.reload()
    page.wait_for_function(LIT, arg=1)


LIT = """n => { for (const e of document.querySelectorAll('*')) { const x = e.shadowRoot?.querySelector('#flows');
    if (x) return x.querySelectorAll('.box.lit').length === n; } return false; }"""


def test_a_value_is_told_under_the_pointer(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, "training", stage="1")
    page.locator("#flows [data-tensor=memory] canvas").first.hover(position={"x": 30, "y": 20})
    assert "feature" in page.locator("#flows .tip").inner_text()


def test_a_wrong_token_is_put_in_and_marked(page: Any, server: Server, run: Run) -> None:
    visit(page, server, run, "wrong")
    page.locator("#flows .choice button:not(:disabled)").last.click()
    page.wait_for_selector("#flows th.apart")
    assert page.locator("#flows .chip.hand").count() == 1


def test_clicks_are_answered_at_once(page: Any, server: Server, run: Run, answers: Callable[..., None]) -> None:
    times: list[float] = []
    visit(page, server, run, "inference")
    for n in range(1, 9):
        answer = f"#flows .flow .label i:has-text('passes: {n}')"
        times.append(timed(page, "#flows [data-go=next]:not(:disabled)", answer))
    visit(page, server, run, "loss")
    for i in range(6):
        times.append(timed(page, f"#flows [data-token='{i}']", f"#flows [data-token='{i}'][aria-pressed=true]"))
    visit(page, server, run, "wrong")
    for i in (4, 5, 6, 7, 8, 9):
        if page.locator(f"#flows [data-token='{i}']").is_enabled():
            times.append(timed(page, f"#flows [data-token='{i}']", f"#flows [data-token='{i}'][aria-pressed=true]"))
    answers("Lab 6, click to its answer at d 64", times, BAR)


@pytest.mark.parametrize("panel", ["training", "loss", "inference", "cost", "memory", "wrong"])
def test_a_panel_fits_one_window(page: Any, server: Server, run: Run, panel: str) -> None:
    page.goto(f"{server.url}/lab_flows?run={run.id}&text=abcabcabca&panel={panel}&stage=2&n=3&at=1")
    page.wait_for_selector("#flows, [role=radiogroup]")
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    main = page.locator("[data-testid=stMain]")
    assert main.evaluate("e => e.scrollHeight - e.clientHeight") <= 2
