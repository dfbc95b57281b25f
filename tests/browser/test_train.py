"""The Train page in a real Chromium: from the first look to a killed server, with the figures people feel."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from tests.browser.conftest import IDLE, Server, start
from tests.playground.small import same_bits, until

NewPage = Callable[..., Any]
Show = Callable[[str], None]

FIRST_POINT = 1.0  # seconds from the click on Train to the first point, median of 5, warm
MAP = 0.3  # seconds from a slider that is let go to the painted map and its new numbers, 95 of 100 times
ANSWER = 0.5  # seconds for a page change or a slider, 95 of 100 times

# The board's parts live in a shadow root. Resolves with the milliseconds from the click to the first loss of a new run.
CLICK_TO_POINT = """() => new Promise((done) => {
  const board = () => [...document.querySelectorAll("*")].map((e) => e.shadowRoot?.querySelector(".board")).find(Boolean);
  const button = [...document.querySelectorAll(".st-key-toolbar button")].find((b) => b.innerText.includes("Train"));
  const before = board().querySelector(".now.loss").textContent, start = performance.now();
  let emptied = before === "";
  const look = () => {
    const now = board()?.querySelector(".now.loss")?.textContent;
    emptied ||= now === "" || (now !== undefined && now !== before);
    if (emptied && now && location.search.includes("run=")) done(performance.now() - start); else requestAnimationFrame(look);
  };
  button.click();
  requestAnimationFrame(look);
})"""
# Milliseconds from the next press of a key or button to the last change of the page that it brings: window.answer, known
# when the script has ended and nothing has moved for a while. A quick script's "running" may never reach the DOM.
WATCH = """() => {
  const app = document.querySelector("[data-testid=stApp]");
  let start = null, last = null, address = location.href;
  window.answer = null;
  for (const kind of ["pointerdown", "keydown"])
    window.addEventListener(kind, () => { start ??= performance.now(); }, { capture: true, once: true });
  const seen = (change) => !(change.target.nodeName === "CANVAS"); // a table fills in what screen readers read 0.3 s later
  const observer = new MutationObserver((all) => { if (start !== null && all.some(seen)) last = performance.now(); });
  observer.observe(app, { attributes: true, childList: true, characterData: true, subtree: true });
  const timer = setInterval(() => {
    if (address !== location.href) { address = location.href; last = performance.now(); } // a part that draws in its own root
    if (last === null || app.dataset.testScriptState !== "notRunning" || performance.now() - last < 400) return;
    clearInterval(timer);
    observer.disconnect();
    window.answer = last - start;
  }, 10);
}"""
SCROLLS = """() => ["stMain", "stSidebarContent"].map((id) => document.querySelector(`[data-testid=${id}]`))
  .concat([document.scrollingElement]).some((e) => e.scrollHeight > e.clientHeight + 1)"""


def opened(page: Any, server: Server, query: str = "") -> Any:
    page.goto(f"{server.url}/{query}")
    page.wait_for_selector(IDLE)
    page.locator(".board .strip").wait_for()
    return page


def press(page: Any, name: str) -> None:
    page.locator(".st-key-toolbar").get_by_role("button", name=name).click()


def state(page: Any, text: str, timeout: float = 30_000) -> None:
    page.locator(".board .state-text").get_by_text(text).wait_for(timeout=timeout)


def step(page: Any) -> int:
    words: str = page.locator(".board .strip .step").inner_text()
    return int(words.split("/")[0].split()[-1].replace(",", ""))


def wait_for_step(page: Any, n: int) -> None:
    until(lambda: step(page) >= n, 60, 0.1)


def run_id(page: Any) -> str:
    page.wait_for_url("**/?run=*")
    found: str = page.url.split("run=")[1].split("&")[0]
    return found


def train(page: Any, wait: str = "Waiting|Training") -> str:
    """Press Train; the id of the new run, once the board shows it."""
    page.locator(".st-key-toolbar").get_by_role("button", name="Train").click()
    found = run_id(page)
    page.locator(".board .state-text").get_by_text(re.compile(wait)).wait_for()
    return found


def status(server: Server, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((server.runs / run / "status.json").read_text())
    return found


def warm(page: Any, server: Server) -> None:
    """Train one run: then a worker is loaded."""
    opened(page, server, "?steps=3&d_model=16&d_ff=16")
    train(page, "Waiting|Training|Finished")
    state(page, "Finished", 60_000)


def test_the_first_look_is_a_labelled_sample(server: Server, page: Any) -> None:
    opened(page, server)
    assert "sample run" in page.locator(".board .badge").inner_text()
    page.locator(".board .sample").first.wait_for()
    assert page.locator(".board .sample").count() == 6
    assert page.locator(".heads canvas").count() >= 12
    assert float(page.locator(".board .now.exact").inner_text().rstrip("%")) / 100 > 0.9
    assert "Press Train to train a model of your own" in page.locator(".st-key-message").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), (1280, 800)], ids=["1440x900", "1280x800"])
def test_no_page_scroll(server: Server, new_page: NewPage, size: tuple[int, int], scheme: str) -> None:
    page = opened(new_page(*size, color_scheme=scheme), server)
    page.wait_for_function(f"() => !({SCROLLS})()", timeout=3000)  # the board fits itself once it knows the window
    opened(page, server, "?n_heads=8&d_model=5")  # a notice, then a draft
    page.wait_for_function(f"() => !({SCROLLS})()", timeout=3000)  # the board fits itself once it knows the window


def test_click_on_train_to_the_first_point(server: Server, page: Any, answers: Callable[..., None]) -> None:
    warm(page, server)
    times = []
    for seed in range(1, 6):
        opened(page, server, f"?steps=2000&seed={seed}")
        page.locator(".board .sample").first.wait_for()
        times.append(page.evaluate(CLICK_TO_POINT) / 1000)
        wait_for_step(page, 3)
        press(page, "Stop")
        state(page, "Stopped")
        page.wait_for_timeout(300)
    answers("click on Train to first point", times, FIRST_POINT, "median")


def test_the_curve_moves_and_a_double_click_starts_one_run(server: Server, page: Any) -> None:
    before = len(list(server.runs.glob("2*")))
    opened(page, server, "?steps=5000&d_model=32&d_ff=32")
    page.locator(".st-key-toolbar").get_by_role("button", name="Train").dblclick()
    state(page, "Training")
    wait_for_step(page, 2)
    first = page.locator(".board .now.loss").inner_text()
    wait_for_step(page, 200)
    assert page.locator(".board .now.loss").inner_text() != first
    assert len(list(server.runs.glob("2*"))) == before + 1
    press(page, "Stop")
    state(page, "Stopped")


def test_keyboard(server: Server, page: Any) -> None:
    opened(page, server, "?steps=5000&d_model=16&d_ff=16")
    page.keyboard.press("p")
    first = run_id(page)
    state(page, "Training")
    wait_for_step(page, 3)
    page.keyboard.press("p")
    state(page, "Paused")
    page.get_by_role("button", name="Resume").wait_for()
    paused = step(page)
    for n in (1, 2, 3):
        page.locator(".st-key-toolbar").get_by_role("button", name="Step", disabled=False).wait_for()
        page.wait_for_selector(IDLE)
        page.keyboard.press("s")
        wait_for_step(page, paused + n)
    page.wait_for_timeout(500)
    assert step(page) == paused + 3
    page.keyboard.press("x")
    page.wait_for_url(lambda url: first not in url)
    until(lambda: step(page) == 0)  # the address changes before the board
    state(page, "Paused")
    page.get_by_role("button", name="Resume").wait_for()
    page.wait_for_selector(IDLE)
    page.keyboard.press("p")
    wait_for_step(page, 3)
    press(page, "Stop")
    state(page, "Stopped")
    assert status(server, first)["state"] == "stopped"


@pytest.mark.parametrize("how", ["tap", "mouse held 0 ms", "step", "keyboard", "keyboard step"])
def test_a_number_typed_in_the_same_moment_is_taken(server: Server, new_page: NewPage, how: str) -> None:
    """Typed, and at once Train: 3 of 3 runs have the new number. No wait between the two, no key that leaves the field."""
    page = new_page(has_touch=how == "tap")
    for seed in (11, 12, 13):
        opened(page, server, "?steps=5&d_model=16&d_ff=16")
        box = page.get_by_role("spinbutton", name="Seed")
        box.click()
        box.fill(str(seed))
        name = "Step" if how.endswith("step") else "Train"
        button = page.locator(".st-key-toolbar").get_by_role("button", name=name)
        at = button.bounding_box()
        x, y = at["x"] + at["width"] / 2, at["y"] + at["height"] / 2
        if how == "tap":
            page.touchscreen.tap(x, y)
        elif how.startswith("keyboard"):
            page.keyboard.press("Enter")
            page.evaluate("document.activeElement.blur()")  # a letter pressed in the field belongs to the field
            page.keyboard.press("s" if name == "Step" else "p")
        else:
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.up()
        run = run_id(page)
        assert json.loads((server.runs / run / "run.json").read_text())["config"]["train"]["seed"] == seed


def type_exact_values(page: Any) -> None:
    """Open them. Streamlit unfolds Advanced over 0.5 s: what moves between a robot's press and release is not clicked."""
    page.get_by_text("Advanced").click()
    page.wait_for_function(
        "document.getAnimations().every(a => a.playState !== 'running' || a.effect.target.tagName !== 'DETAILS')"
    )
    page.get_by_role("button", name="Type exact values").click()


def test_a_number_out_of_bounds_and_train_in_the_same_moment_starts_nothing(server: Server, page: Any) -> None:
    opened(page, server)
    before = len(list(server.runs.glob("2*")))
    type_exact_values(page)
    page.get_by_role("spinbutton", name="Batch, exact").fill("99999999")
    press(page, "Train")
    page.locator(".st-key-message").get_by_text("Nothing was started").wait_for()
    assert page.locator(".st-key-toolbar").get_by_role("button", name="Train").is_disabled()
    assert len(list(server.runs.glob("2*"))) == before


def test_learning_rate_while_training(server: Server, page: Any) -> None:
    opened(page, server, "?steps=5000&d_model=16&d_ff=16&schedule=constant&warmup=0")
    train(page)
    wait_for_step(page, 5)
    box = page.get_by_role("combobox", name="Learning rate")
    box.click()
    box.fill("0.00123")
    box.press("Enter")
    page.locator(".board .now.rate").get_by_text("0.00123").wait_for()
    press(page, "Stop")
    state(page, "Stopped")


def test_a_draft_says_what_changed_and_survives_in_the_url(server: Server, page: Any) -> None:
    opened(page, server)
    page.get_by_role("slider", name="Heads").press("ArrowRight")
    page.get_by_text("Changed: heads 4 → 8. Press Train to start a new run.").wait_for()
    page.wait_for_url("**/?n_heads=8")
    page.reload()
    page.get_by_text("Changed: heads 4 → 8. Press Train to start a new run.").wait_for()
    page.go_back()
    page.get_by_text("You see a sample run").wait_for()


def test_refresh_and_second_tab(server: Server, new_page: NewPage) -> None:
    page = opened(new_page(), server, "?steps=5000&d_model=32&d_ff=32")
    run = train(page)
    wait_for_step(page, 5)
    page.reload()
    state(page, "Training")
    seen = step(page)
    wait_for_step(page, seen + 5)
    assert run_id(page) == run
    page.get_by_role("button", name="Pause").wait_for()
    other = opened(new_page(), server, f"?run={run}")
    press(other, "Stop")
    started = time.monotonic()
    state(page, "Stopped", 2000)
    assert time.monotonic() - started < 2


def answer(page: Any, act: Callable[[], object]) -> float:
    """Seconds from an action to what it brings."""
    page.evaluate(WATCH)
    act()
    page.wait_for_function("() => window.answer !== null")
    seconds: float = page.evaluate("() => window.answer") / 1000
    page.wait_for_timeout(150)
    return seconds


def test_page_change_and_slider(server: Server, page: Any, answers: Callable[..., None]) -> None:
    opened(page, server)
    links = {
        name: page.get_by_role("link", name=name, exact=True) for name in ("Attention", "Generate", "Runs", "Train")
    }
    for link in links.values():  # the first visit loads what a page needs
        link.click()
        page.wait_for_timeout(1500)
    changes = [answer(page, link.click) for _ in range(5) for link in links.values()]
    links["Attention"].click()
    slider = page.get_by_role("slider").first
    slider.wait_for()
    page.wait_for_timeout(1500)
    slides: list[float] = []
    direction = ""
    for _ in range(20):  # down through the saved steps and up again
        lowest = slider.input_value() == slider.get_attribute("min")
        direction = "ArrowRight" if lowest or (slides and direction == "ArrowRight") else "ArrowLeft"
        slides.append(answer(page, partial(slider.press, direction)))
    answers("page change", changes, ANSWER)
    answers("slider", slides, ANSWER)


# The frame after the map shows another number of parameters: what a person waits for who let go of a slider.
TO_THE_MAP = """(key) => new Promise((done) => {
  const root = [...document.querySelectorAll("*")].map((e) => e.shadowRoot).find((s) => s?.querySelector(".board"));
  const now = () => root.querySelector(".map .next").textContent + root.querySelector(".map svg").textContent;
  const before = now(), start = performance.now();
  const look = () => (now() === before ? requestAnimationFrame(look) : setTimeout(() => done((performance.now() - start) / 1000)));
  window.addEventListener(key, () => requestAnimationFrame(look), { once: true, capture: true });
})"""


def let_go(page: Any, act: Callable[[], object], event: str) -> float:
    """Seconds from letting go of a slider to the painted map with its new numbers."""
    page.evaluate(f"() => {{ window.painted = ({TO_THE_MAP})({event!r}) }}")
    act()
    seconds: float = page.evaluate("() => window.painted")
    page.wait_for_selector(IDLE)
    page.wait_for_timeout(150)
    return seconds


def test_the_map_follows_a_slider_that_is_let_go(server: Server, page: Any, answers: Callable[..., None]) -> None:
    opened(page, server)
    page.wait_for_timeout(1500)
    times = []
    for name in ("d_model", "Layers", "d_ff", "Heads"):
        slider = page.get_by_role("slider", name=name)
        for direction in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowRight"):
            times.append(let_go(page, partial(slider.press, direction), "keyup"))
    track = page.locator("[data-testid=stSidebar] [role=group][aria-label=d_ff]").bounding_box()
    for share in (0.2, 0.8, 0.4, 0.9):

        def pull(share: float = share) -> None:
            knob = page.get_by_role("slider", name="d_ff").locator("xpath=../..").bounding_box()
            page.mouse.move(knob["x"] + knob["width"] / 2, knob["y"] + knob["height"] / 2)
            page.mouse.down()
            page.mouse.move(track["x"] + share * track["width"], knob["y"] + knob["height"] / 2, steps=4)
            page.mouse.up()

        times.append(let_go(page, pull, "pointerup"))
    answers("slider let go to the painted map", times, MAP)
    assert page.locator(".board .map.draft").count() == 1
    assert page.get_by_role("slider", name="d_ff").get_attribute("aria-valuetext") == "2,048"


def test_the_map_shows_the_next_run_or_the_run_in_view(server: Server, page: Any) -> None:
    opened(page, server)
    blocks, sample = page.locator(".map .part.encoder"), page.locator(".map .part.encoder").count()
    layers = page.get_by_role("slider", name="Layers")
    layers.press("ArrowRight")
    page.get_by_role("button", name="Next run", pressed=True).wait_for()
    assert blocks.count() == sample + 1
    assert layers.evaluate("(node) => node === document.activeElement")  # the next press goes on from here
    page.get_by_role("button", name="Run in view").click()
    page.get_by_role("button", name="Run in view", pressed=True).wait_for()
    until(lambda: blocks.count() == sample)
    layers.press("ArrowRight")  # another change is looked at
    until(lambda: blocks.count() == sample + 2)
    page.get_by_role("button", name="Undo").click()
    until(lambda: blocks.count() == sample)
    assert not page.get_by_role("button", name="Next run").is_visible()
    page.get_by_role("slider", name="Steps").press("ArrowRight")
    page.locator(".map .detail").get_by_text("Draft · next run").wait_for()
    assert not page.get_by_role("button", name="Next run").is_visible()  # the same model


def test_train_takes_what_a_slider_shows_in_the_same_moment(server: Server, page: Any) -> None:
    for _ in range(3):
        opened(page, server, "?steps=5&d_model=16&d_ff=16&n_layers=1")
        slider = page.get_by_role("slider", name="Layers")
        slider.focus()
        page.keyboard.press("ArrowRight")
        press(page, "Train")
        run = run_id(page)
        assert json.loads((server.runs / run / "run.json").read_text())["config"]["model"]["n_layers"] == 2


def test_train_is_reached_by_keyboard_within_ten_stops(server: Server, page: Any) -> None:
    opened(page, server)
    stops = ["document.activeElement.innerText.trim()", "document.activeElement.closest('.st-key-toolbar') !== null"]
    page.keyboard.press("Tab")
    assert page.evaluate(stops[0]) == "Skip to main content"
    page.keyboard.press("Enter")
    for _ in range(9):
        page.keyboard.press("Tab")
        if page.evaluate(stops[1]):
            break
    assert "Train" in page.evaluate(stops[0])


def test_no_help_button_is_a_stop_between_the_controls(server: Server, page: Any) -> None:
    opened(page, server)
    page.get_by_role("combobox", name="Task").focus()
    seen = []
    for _ in range(9):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert not [name for name in seen if name.startswith("Help")], seen
    page.keyboard.press("Shift+Tab")  # and each can be reached backwards
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Help for")


def test_an_exact_value_lies_between_the_stops(server: Server, page: Any) -> None:
    opened(page, server)
    type_exact_values(page)
    box = page.get_by_role("spinbutton", name="d_ff, exact")
    box.fill("77")
    box.press("Enter")
    page.wait_for_url("**/?d_ff=77")
    slider = page.get_by_role("slider", name="d_ff")
    until(lambda: slider.get_attribute("aria-valuetext") == "77")
    page.reload()
    until(lambda: slider.get_attribute("aria-valuetext") == "77")


def test_kill_the_server_restart_resume(tmp_path: Path, new_page: NewPage, show: Show) -> None:
    settings = "?steps=300&d_model=32&d_ff=64&seed=3"
    server = start(tmp_path)
    try:
        page = opened(new_page(), server, settings)
        run = train(page)
        wait_for_step(page, 60)
        family = psutil.Process(server.process.pid).children(recursive=True)
        assert family
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        time.sleep(2)
        assert not [p for p in family if alive(p)]
        stopped_at = status(server, run)["step"]
        assert 60 <= stopped_at < 300
    finally:
        server.stop()
        for process in family if "family" in locals() else []:
            if alive(process):
                os.kill(process.pid, signal.SIGKILL)

    server = start(tmp_path, int(server.url.rpartition(":")[2]))
    try:
        state(page, "Interrupted", 60_000)  # the open tab, which reconnects by itself
        page.get_by_role("button", name="Resume").wait_for()
        assert run_id(page) == run
        press(page, "Resume")
        state(page, "Finished", 90_000)
        opened(page, server, settings)
        whole = train(page)
        state(page, "Finished", 90_000)
        assert whole != run
        weights = [load_file(server.runs / name / "weights" / "300.safetensors") for name in (run, whole)]
        assert same_bits(*weights)
        show(f"server killed at step {stopped_at}: no process left after 2 s, resumed, final weights bitwise equal")
    finally:
        server.stop()


def alive(process: psutil.Process) -> bool:
    """A zombie only waits to be counted."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
