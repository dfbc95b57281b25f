"""What the open Train page costs the training: steps a second with the page open in Chromium, against no page open.

One run, windows in turn (page open, page closed, …), ratio of the medians; bar 0.95.

    python -m tests.benchmarks.live_cost [--windows 6] [--seconds 8]
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from core.read import build
from playground.runs import store
from tests.browser.conftest import FLAGS, chromium_path, start

BAR = 0.95


def steps_done(run: store.Run) -> int:
    records = run.metrics()
    return int(records[-1]["step"]) if records else 0


def speed(run: store.Run, seconds: float) -> float:
    first, begin = steps_done(run), time.perf_counter()
    time.sleep(seconds)
    return (steps_done(run) - first) / (time.perf_counter() - begin)


def main() -> int:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=6, help="of each kind")
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    server = start(folder)
    open_speeds, closed_speeds = [], []
    try:
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=chromium_path(), args=FLAGS)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(server.url + "/?steps=200000&schedule=constant&lr=0.001")
            page.get_by_role("button", name="Train", exact=False).first.click()
            page.wait_for_url("**run=*", timeout=60_000)
            url = page.url
            run = store.Run(next(path for path in server.runs.iterdir() if store.RUN_ID.fullmatch(path.name)))
            print(build(run.config.model_dump()).train.steps, "steps asked for")
            speed(run, 3)
            for _ in range(options.windows):
                page.goto(url)
                page.wait_for_timeout(3000)
                open_speeds.append(speed(run, options.seconds))
                page.goto("about:blank")
                page.wait_for_timeout(1500)
                closed_speeds.append(speed(run, options.seconds))
            browser.close()
    finally:
        server.stop()
    ratio = statistics.median(open_speeds) / statistics.median(closed_speeds)
    print("open  ", *(f"{s:.1f}" for s in open_speeds), "steps/s")
    print("closed", *(f"{s:.1f}" for s in closed_speeds), "steps/s")
    print(f"training speed with the page open: {ratio:.3f} of that without (bar {BAR})")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
