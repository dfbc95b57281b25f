"""Looking back on the board in a real Chromium: what is shown at step k is what the server computes from the weights of step k."""

import json
from typing import Any

from playground.runs.store import Run
from tests.browser.conftest import Server
from tests.browser.test_board import finished, see

__all__ = ["finished"]  # a fixture

SLIDE = """(input, to) => { input.value = to; input.dispatchEvent(new Event("input")); input.dispatchEvent(new Event("change")); }"""


def back_to(page: Any, step: int) -> None:
    page.locator(".replay input").evaluate(SLIDE, step)


def test_a_step_of_the_past(server: Server, finished: Run, page: Any) -> None:
    see(page, server, finished, ".replay input")
    page.wait_for_selector(".replay .where >> text=newest: step 40")
    saved = max(step for step in finished.saved_steps() if step <= 17)
    back_to(page, 17)
    page.wait_for_selector(f".thumbs .at >> text=Training step {saved}")
    assert page.locator(".replay .where").inner_text() == "step 17 of 40"
    told = page.evaluate(f"() => fetch('/api/runs/{finished.id}/at/{saved}').then((a) => a.json())")
    rows = page.locator(".sample").all()
    shown = [[chip.inner_text() for chip in row.locator(".answer .chip").all()] for row in rows]
    for got, sample in zip(shown, told["samples"], strict=True):
        assert got[: len(sample["got"])] == sample["got"]
    records = [json.loads(line) for line in (finished.path / "metrics.jsonl").read_text().splitlines()]
    loss = next(r["loss"] for r in records if r.get("step") == 17)
    assert page.locator("b.now.loss").inner_text() == f"{loss:.3g}"
    page.locator(".replay .newest").click()
    page.wait_for_selector(".thumbs .at >> text=Training step 40")
    assert "at/" not in page.url


def test_the_player_ends_at_the_newest(server: Server, finished: Run, page: Any) -> None:
    see(page, server, finished, ".replay input")
    page.wait_for_selector(".replay .where >> text=newest: step 40")
    page.locator(".replay select").select_option("10")
    back_to(page, 36)
    page.locator(".replay .play").click()  # from here on: a second of the ten
    page.wait_for_selector(".replay .where >> text=step 3")
    page.wait_for_selector(".replay .where >> text=newest: step 40", timeout=8000)
    assert page.locator(".replay .play").inner_text() == "▶"


def test_an_example_a_head_and_a_step_lead_on(server: Server, finished: Run, page: Any) -> None:
    see(page, server, finished, ".sample")
    source = "".join(chip.inner_text() for chip in page.locator(".sample").first.locator(".source .chip").all())
    saved = max(step for step in finished.saved_steps() if step <= 17)
    back_to(page, 17)
    page.wait_for_selector(f".thumbs .at >> text=Training step {saved}")
    page.locator(".sample").first.click()
    page.wait_for_url(f"**/generate?*text={source}*")
    assert f"step={saved}" in page.url

    see(page, server, finished, ".thumbs canvas")
    page.locator(".thumbs .heads canvas").nth(5).dblclick()  # the second head of cross-attention
    page.wait_for_url("**/attention?*where=cross*")
    assert "head=2" in page.url

    see(page, server, finished, ".replay input")
    back_to(page, 17)
    page.locator(".replay .branch").click()
    page.wait_for_url(f"**/?*branch={saved}*")
    page.wait_for_selector(f"text=from step {saved}.")


def test_a_rate_set_by_hand_is_marked(server: Server, finished: Run, page: Any) -> None:
    with (finished.path / "metrics.jsonl").open("a") as file:
        file.write('{"event":"lr","step":40,"lr":0.001}\n')
    see(page, server, finished, "canvas.rate")
    page.wait_for_selector("canvas.rate[aria-label*='Set by hand after step 40: 0.008 → 0.001.']")


def test_slow_training(server: Server, page: Any) -> None:
    page.goto(server.url)
    page.wait_for_selector(".board .part")
    page.get_by_role("combobox", name="Pace").click()
    page.get_by_role("option", name="5 steps/s").click()
    page.get_by_role("button", name="Train").first.click()
    page.wait_for_selector(".strip .step >> text=/step [3-9] /", timeout=20_000)
    page.wait_for_timeout(2000)
    step = int(page.locator(".strip .step").inner_text().split()[1])
    assert step < 30  # at full speed it would have done hundreds
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".strip [data-state=stopped]")
    assert page.get_by_role("button", name="Resume").is_visible()
