"""Lab 2 in a real browser: the slider answers, ticks survive a reload, an experiment really runs and can be stopped."""

import json
import re
import statistics
import time
from collections.abc import Callable
from typing import Any

from playground.lessons import scaling
from tests.browser.conftest import Server

BAR = 0.3  # seconds, p95


def visit(page: Any, server: Server, idle: Callable[[Any], Any], **query: str) -> Any:
    page.goto(f"{server.url}/lab_scaling?" + "&".join(f"{name}={value}" for name, value in query.items()))
    page.wait_for_selector(".stepper li")
    return idle(page)


# In the browser itself, or the figure would hold playwright's own waits: from the change to the frame after it is drawn.
MOVE = """async (at) => {
  const root = [...document.querySelectorAll('*')].map((e) => e.shadowRoot?.querySelector('.scaling')).find(Boolean);
  const slider = root.querySelector('input'), start = performance.now();
  slider.value = at;
  slider.dispatchEvent(new Event('input'));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return [root.querySelector('.left b').textContent, (performance.now() - start) / 1000];
}"""


def test_the_slider_answers_in_time(
    page: Any, server: Server, idle: Callable[[Any], Any], show: Callable[[str], None]
) -> None:
    """Drawn: the histogram and its standard deviation; told: the width is in the URL, and the page has checked it."""
    visit(page, server, idle)
    page.locator(".scaling .left b").first.wait_for()
    drawn, told = [], []
    for n in range(27):
        at = (n * 4) % 9
        start = time.perf_counter()
        title, seconds = page.evaluate(MOVE, at)
        drawn.append(seconds)
        assert title == f"not divided: standard deviation {scaling.products(scaling.WIDTHS[at], 0).std():.3g}"
        page.wait_for_url(re.compile(f"d_k={scaling.WIDTHS[at]}(&|$)"))
        told.append(time.perf_counter() - start)
    figures = {
        name: f"median {statistics.median(x):.3f} s, p95 {statistics.quantiles(x, n=20)[-1]:.3f} s"
        for name, x in {"drawn": drawn, "in the URL": told}.items()
    }
    show(f"Why divide by √d_k, slider: {json.dumps(figures)}")
    assert statistics.quantiles(drawn, n=20)[-1] <= BAR
    page.locator(".stepper li").nth(0).locator(".number.done").wait_for()


def test_ticks_survive_a_reload(page: Any, server: Server, idle: Callable[[Any], Any]) -> None:
    visit(page, server, idle, d_k="1024")
    page.locator(".stepper li").nth(0).locator(".number.done").wait_for()
    page.locator(".stepper li").nth(1).get_by_role("button").click()
    page.get_by_role("heading", name="2 · Softmax saturates").wait_for()
    page.goto(f"{server.url}/lab_scaling?panel=vanish")  # a new session
    page.locator(".stepper li").nth(0).locator(".number.done").wait_for()
    page.get_by_role("heading", name="3 · Gradients vanish").wait_for()


def test_an_experiment_runs_and_can_be_stopped(
    new_page: Callable[..., Any], server: Server, idle: Callable[[Any], Any]
) -> None:
    page = new_page()
    visit(page, server, idle, panel="train")
    page.get_by_text("It learns much worse in the same time").click()
    page.locator(".compare .lines li").nth(4).wait_for()  # the five shipped curves, before anything is trained
    main = page.get_by_test_id("stMain")
    for variant in ("d_k 256, divided by √d_k", "d_k 256, not divided", "d_k 16, not divided"):
        main.get_by_role("button", name=variant, exact=True).click()
        idle(page)
    main.get_by_role("button", name="Run the experiment").click()
    own = page.locator(".compare .lines li", has_text="step ")
    own.wait_for()
    page.wait_for_function(
        """() => [...document.querySelectorAll("*")].some((e) => [...(e.shadowRoot?.querySelectorAll(".compare .soft") ?? [])]
             .some((s) => /step [1-9]/.test(s.textContent)))"""
    )
    assert "scaling_runs=" in page.url
    assert "guess" not in page.url
    main.get_by_role("button", name="Stop", exact=True).click()
    page.locator(".compare .lines li", has_text="Stopped").wait_for()
    main.get_by_role("button", name="Run the experiment").wait_for()
    page.reload()
    page.locator(
        ".compare .lines li", has_text="Stopped"
    ).wait_for()  # the runs stand in the URL, the guess in this browser
    other = new_page()
    other.goto(page.url)
    other.get_by_text("It learns much worse in the same time").wait_for()
    idle(other)
    assert "It came out" not in other.get_by_test_id("stMain").inner_text()
    assert not other.locator(".compare").count()
