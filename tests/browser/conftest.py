"""Browser fixtures: one real server and one Chromium per test session, a fresh browser context per test.

Without Chromium these tests are skipped; with PLAYGROUND_REQUIRE_BROWSER=1 its absence is a failure. CHROMIUM may name it.
"""

import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground.runs.store import Run
from tests.pages.looking import make_run

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OVER = "() => { const m = document.querySelector('[data-testid=stMain]'); return m.scrollHeight - m.clientHeight }"  # pixels that the page scrolls
# In the browser itself, or the figure would hold playwright's own waits: seconds from a click to the frame after its answer,
# a bold number, is drawn.
ANSWERED = """(node, text) => new Promise((done) => {
  const start = performance.now(), main = document.querySelector('[data-testid=stMain]');
  const look = () => {
    if (![...main.querySelectorAll('strong')].some((n) => n.textContent === text)) return requestAnimationFrame(look);
    requestAnimationFrame(() => setTimeout(() => done((performance.now() - start) / 1000)));
  };
  node.click(); look();
})"""
IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests come last: playwright's event loop runs from the first of them to the end."""
    items.sort(key=_in_browser)
    for item in filter(_in_browser, items):
        item.add_marker(pytest.mark.browser)


def _in_browser(item: pytest.Item) -> bool:
    return Path(__file__).parent in item.path.parents


def chromium_path() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Server:
    """A running app: its address, its process, its folder of runs, its log."""

    url: str
    process: subprocess.Popen[bytes]
    runs: Path
    log: Path

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def start(folder: Path, port: int | None = None, **env: str) -> Server:
    """`streamlit run` with a folder of runs of its own; returns when it answers."""
    folder.mkdir(parents=True, exist_ok=True)
    port, log = port or free_port(), folder / "server.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "streamlit", "run", "streamlit_app.py", f"--server.port={port}"),
                *("--server.address=127.0.0.1", "--server.headless=true", "--server.fileWatcherType=none"),
            ],
            cwd=ROOT,
            env=os.environ | {"PLAYGROUND_RUNS": str(folder / "runs")} | env,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    server = Server(f"http://127.0.0.1:{port}", process, folder / "runs", log)
    for _ in range(600):
        if process.poll() is not None:
            pytest.fail("the server died:\n" + log.read_text())
        try:
            with urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=1) as answer:
                if answer.status == 200:
                    return server
        except OSError:
            time.sleep(0.1)
    server.stop()
    pytest.fail("the server does not answer:\n" + log.read_text())


def foreign() -> float:
    """Seconds of CPU that this machine gave so far to what is no part of these tests: other programs, other machines."""

    def used(process: psutil.Process) -> float:
        with suppress(psutil.Error):
            times = process.cpu_times()
            return float(times.user + times.system + times.children_user + times.children_system)
        return 0.0

    times, mine = psutil.cpu_times(), psutil.Process()
    all_of_it = sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))
    return all_of_it - sum(map(used, [mine, *mine.children(recursive=True)]))


def taken_by_others(before: float, seconds: float) -> float:
    """The share of all CPU that others had in these last seconds; `before` is what `foreign` said at their start."""
    return (foreign() - before) / seconds / (os.cpu_count() or 1)


def slack(bar: float, taken: float) -> float:
    """A bar is for a machine that does nothing else: it grows as the share of CPU shrinks that others leave, to 1 / 0.3."""
    return bar / min(1.0, max(0.3, 1 - taken))


def run_on(server: Server, name: str, steps: tuple[int, ...], model: dict[str, int]) -> Run:
    """A run with random weights in the folder of this server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_RUNS", str(server.runs))
        server.runs.mkdir(exist_ok=True)
        return make_run(name, steps, model=model)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[Server]:
    """The server of this test session; no test may leave a traceback in its log."""
    running = start(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()
    assert "Traceback" not in running.log.read_text(), running.log.read_text()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    executable = chromium_path()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        executable = None
    if executable is None:
        if os.environ.get("PLAYGROUND_REQUIRE_BROWSER") == "1":
            pytest.fail("no Chromium, or no playwright, and PLAYGROUND_REQUIRE_BROWSER=1")
        pytest.skip("no Chromium or no playwright: `apt-get install chromium` or set CHROMIUM")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """new_page(width=…, height=…, color_scheme=…, locale=…): a page in a context of its own. Script errors fail the test."""
    contexts, errors = [], []

    def make(width: int = 1440, height: int = 900, **options: Any) -> Any:
        options = {"color_scheme": "light", "reduced_motion": "reduce", "locale": "en-GB"} | options
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield make
    for context in contexts:
        context.close()
    assert not errors, errors


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    return new_page()


@pytest.fixture
def idle() -> Callable[[Any], Any]:
    """idle(page): wait until the script has run to its end."""

    def wait(page: Any) -> Any:
        page.wait_for_selector(IDLE)
        return page

    return wait


@pytest.fixture
def answers(show: Callable[[str], None]) -> Callable[..., None]:
    """answers(what, seconds, bar): print median and p95 beside the bar, and fail above it.

    The bar holds on a machine that does nothing else. Where more wants to run than there are cores, it grows by as much.
    """
    start, before = time.monotonic(), foreign()

    def check(what: str, seconds: list[float], bar: float, judged: str = "p95") -> None:
        ordered = sorted(seconds)
        found = {"median": statistics.median(ordered), "p95": ordered[max(0, math.ceil(0.95 * len(ordered)) - 1)]}
        taken = taken_by_others(before, time.monotonic() - start)
        show(
            f"{what}: median {found['median']:.3f} s, p95 {found['p95']:.3f} s of {len(ordered)} "
            f"(bar {bar} s {judged}, {max(0.0, taken):.0%} of the CPU taken by others)"
        )
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
        assert found[judged] <= bar * max(1.0, load), what

    return check
