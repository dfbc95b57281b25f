"""What a fault looks like in a real Chromium: the mark on a curve that broke off, and a table that offers no CSV of its own."""

import os
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import core.train
from playground import look
from playground.runs import store
from playground.runs.store import Run
from tests.browser.conftest import IDLE, Server
from tests.playground.small import config, train_here

# Pixels of the loss chart that have the colour of what is wrong, and the middle of them along x, from 0 to 1.
MARK = """(colour) => {
  const board = [...document.querySelectorAll("*")].map((e) => e.shadowRoot?.querySelector(".board")).find(Boolean);
  const canvas = board.querySelector("canvas.loss"), [r, g, b] = colour;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const found = [];
  for (let i = 0; i < data.length; i += 4)
    if (data[i + 3] > 200 && Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 24)
      found.push(((i / 4) % canvas.width) / canvas.width);
  return [found.length, found.reduce((sum, x) => sum + x, 0) / found.length];
}"""


def trained_here(server: Server, monkeypatch: pytest.MonkeyPatch, broken_at: int = 0) -> Run:
    """A run of 40 steps in the server's folder; the loss of step `broken_at` is no number."""
    server.runs.mkdir(exist_ok=True)
    real, calls = core.train.token_loss, [0]

    def loss(*arguments: Any) -> Any:
        calls[0] += 1
        return real(*arguments) * (float("nan") if calls[0] == broken_at else 1.0)

    with monkeypatch.context() as patch:
        patch.setenv("PLAYGROUND_RUNS", str(server.runs))
        patch.setattr(core.train, "token_loss", loss)
        run = store.create(config(40))
        assert train_here(run) == ("failed" if broken_at else "finished")
    return run


def test_a_curve_that_broke_off_is_marked_where_it_did(
    server: Server, page: Any, monkeypatch: pytest.MonkeyPatch, idle: Callable[[Any], Any]
) -> None:
    colour = [int(look.WRONG[i : i + 2], 16) for i in (1, 3, 5)]
    for broken_at in (21, 0):
        run = trained_here(server, monkeypatch, broken_at)
        page.goto(f"{server.url}/?run={run.id}")
        page.wait_for_selector(IDLE)
        page.locator(".board .strip .step", has_text="20" if broken_at else "40").wait_for()
        page.wait_for_timeout(300)
        pixels, middle = page.evaluate(MARK, colour)
        if broken_at:
            assert pixels > 10
            assert middle == pytest.approx(0.5, abs=0.08)  # step 20 of 40
            page.get_by_text("no finite number at step 21").first.wait_for()
        else:
            assert pixels == 0


def test_a_table_offers_no_csv_of_its_own(server: Server, page: Any, idle: Callable[[Any], Any]) -> None:
    assert os.environ.get("STREAMLIT_CLIENT_DISABLE_DATA_EXPORT") is None
    idle(page.goto(f"{server.url}/runs") and page)
    table = page.locator("[data-testid=stDataFrame]").first
    table.hover()
    toolbar = page.locator("[data-testid=stElementToolbarButton]")
    toolbar.first.wait_for()
    labels = " ".join(toolbar.nth(i).inner_html() for i in range(toolbar.count()))
    assert "Search" in labels  # the toolbar is there
    assert "CSV" not in labels


def test_a_page_of_another_site_cannot_frame_the_app(server: Server, page: Any, tmp_path: Path) -> None:
    """A frame over a foreign page could place its visitor's click on Train. Other port, other site."""
    (tmp_path / "index.html").write_text(
        f'<p>foreign</p><iframe src="{server.url}/" width="900" height="600"></iframe>'
    )
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    foreign = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=foreign.serve_forever, daemon=True).start()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    try:
        page.goto(f"http://127.0.0.1:{foreign.server_address[1]}/")
        page.get_by_text("foreign").wait_for()
        page.wait_for_timeout(1500)
        framed = page.frames[1]
        assert framed.locator("[data-testid=stApp]").count() == 0
        assert any("frame-ancestors" in line for line in said), said
    finally:
        foreign.shutdown()
        foreign.server_close()
    page.goto(f"{server.url}/")  # by itself it opens
    page.wait_for_selector(IDLE)
