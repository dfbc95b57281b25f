"""Back, Forward and refresh, as the browser's own buttons do them: one action of a person is one entry in the history."""

import re
import time
from typing import Any

import pytest

from playground.lessons import LABS
from tests.browser.conftest import IDLE, Server

PAGES = ["attention", "generate", "runs", *(f"lab_{lab.id}" for lab in LABS)]


def opened(page: Any, url: str) -> int:
    """Open a page; the entries of the history so far. The script comes with the first drawing, some tenths after the text."""
    page.goto(url)
    page.wait_for_function("window.playgroundHistory")
    page.wait_for_selector(IDLE)
    return length(page)


def length(page: Any) -> int:
    return int(page.evaluate("history.length"))


def shown(page: Any) -> str:
    """All text of the page, when it has not changed for half a second."""
    before = None
    while before != (now := text_of(page)):
        before = now
        page.wait_for_timeout(500)
        page.wait_for_selector(IDLE)
        page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
    return now


def text_of(page: Any) -> str:
    return re.sub(r"\s+", " ", page.inner_text("[data-testid=stMain]"))


def until_it_shows(page: Any, text: str) -> None:
    """A busy machine takes its time."""
    end = time.monotonic() + 20
    while (now := text_of(page)) != text and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert now == text  # so that pytest tells where they differ


@pytest.mark.parametrize("name", PAGES)
def test_back_forward_and_refresh_on_every_page(page: Any, server: Server, name: str) -> None:
    entries = opened(page, server.url)
    start = shown(page)
    if name.startswith("lab"):
        page.get_by_text("Labs", exact=True).first.click()
    page.locator(f"a[href*='/{name}']").first.click()
    page.wait_for_url(f"**/{name}*")
    text, url = shown(page), page.url
    assert length(page) == entries + 1
    page.reload()
    page.wait_for_selector(IDLE)
    until_it_shows(page, text)
    assert page.url == url
    page.go_back()
    page.wait_for_url(re.compile(rf"{server.url}/(\?.*)?$"))
    until_it_shows(page, start)
    page.go_forward()
    page.wait_for_url(url)
    until_it_shows(page, text)
    assert length(page) == entries + 1
    assert not page.locator("[data-testid=stException]").count()


@pytest.mark.parametrize("lab", [lab.id for lab in LABS])
def test_back_and_forward_through_the_steps_of_a_lab(page: Any, server: Server, lab: str) -> None:
    opened(page, f"{server.url}/lab_{lab}")
    steps = page.locator(".stepper li")
    steps.first.wait_for()
    count = steps.count()

    def at(i: int) -> None:
        steps.nth(i).locator("[aria-current]").wait_for()
        page.wait_for_selector(IDLE)

    entries = length(page)
    for i in range(1, count):
        steps.nth(i).get_by_role("button").click()
        at(i)
    for i in reversed(range(count - 1)):
        page.go_back()
        at(i)
    for i in range(1, count):
        page.go_forward()
        at(i)
    assert length(page) == entries + count - 1


def test_back_undoes_the_last_action_then_leaves_the_page(page: Any, server: Server) -> None:
    entries = opened(page, f"{server.url}/runs")
    page.get_by_role("link", name="Attention", exact=True).click()
    page.wait_for_selector("#attention .figure .cells rect")
    page.get_by_role("button", name="Decoder self").click()
    page.wait_for_url("**where=decoder*")
    assert length(page) == entries + 2
    page.go_back()
    page.wait_for_url("**where=cross*")
    shown(page)
    page.go_back()
    page.wait_for_url("**/runs*")
    page.get_by_text("Tick a run on the left edge").wait_for()


def test_a_setting_of_a_run_is_one_entry(page: Any, server: Server) -> None:
    entries, preset = opened(page, server.url), page.locator("[data-testid=stSelectbox] input").first
    for name, written in (("Copy", "task=copy"), ("No causal mask", "causal_mask=false")):
        preset.click()
        page.get_by_role("option", name=name, exact=True).click()
        page.wait_for_url(f"**{written}*")
    assert length(page) == entries + 2
    page.go_back()
    page.wait_for_url("**task=copy*")
    page.wait_for_function("document.querySelector('[data-testid=stSelectbox] input').value === 'Copy'")
