"""A person who reads while others train: `python -m tests.reliability.reader URL SECONDS` drives a real Chromium.

Changes pages, moves a slider, pins and unpins: what people do while they wait. Prints how long each answer took, as JSON.
A process of its own, so that its event loop is nobody else's.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from playwright.sync_api import sync_playwright

from tests.browser.conftest import FLAGS, IDLE, chromium_path
from tests.browser.test_train import WATCH

PAGES = ("Attention", "Generate", "Runs", "Train")


def answer(page: Any, act: Callable[[], object]) -> float:
    """Seconds from an action to the last change of the page that it brings."""
    page.evaluate(WATCH)
    act()
    page.wait_for_function("() => window.answer !== null")
    seconds: float = page.evaluate("() => window.answer") / 1000
    return seconds


def main(url: str, seconds: float) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"page": [], "button": []}
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-GB", reduced_motion="reduce")
        page.set_default_timeout(20_000)
        page.goto(url)
        page.wait_for_selector(IDLE)
        links = {name: page.get_by_role("link", name=name, exact=True) for name in PAGES}
        for link in links.values():  # the first visit loads what a page needs
            link.click()
            page.wait_for_timeout(1500)
        print("ready", flush=True)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, link in links.items():
                found["page"].append(answer(page, link.click))
                if name == "Attention":
                    found["button"] += [answer(page, partial(page.get_by_role("slider").first.press, "ArrowLeft"))]
                    found["button"] += [answer(page, partial(page.get_by_role("slider").first.press, "ArrowRight"))]
                if name == "Runs":
                    found["button"] += [answer(page, page.get_by_role("button", name="Refresh").click)]
                page.wait_for_timeout(200)
        browser.close()
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]))), flush=True)
