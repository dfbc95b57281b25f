"""A click on a control made as soon as it is visible, and a page opened by address, beside a busy loop: nothing is lost.

FIRST_CLICKS says how many (10; 40 in `.ci/run`; 400 for the record).
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from playground.runs.store import Run
from tests.browser.conftest import IDLE, Server, run_on

TRIALS = int(os.environ.get("FIRST_CLICKS", "10"))
AT_ONCE = 6  # pages that open in the same moment
TEXT = "abcad"
# Seconds. Between the end of the first run of a script and the begin of that of the click a page of a busy server rests, for
# longer than any page that has settled: what is late comes, what is lost never does.
PATIENCE = 20.0
# In the browser, or playwright's own waits would give the page time to come to rest.
CLICK = """(words) => {
  const all = (root) => [...root.querySelectorAll("*")].flatMap((n) => (n.shadowRoot ? [n, ...all(n.shadowRoot)] : [n]));
  const look = () => {
    const main = document.querySelector("[data-testid=stMain]");
    const found = main && all(main).find((n) => n.matches("button, label, [role=radio]") && (n.innerText?.trim() === words || n.ariaLabel === words) && n.offsetParent);
    if (!found) return requestAnimationFrame(look);
    found.click();
    window.clicked = true;
  };
  const begin = () => (document.body ? look() : setTimeout(begin, 1));
  begin();
}"""


@dataclass(frozen=True)
class Opening:
    """A page and what stands in its address; the control to click, and what must then stand there, too."""

    page: str
    query: dict[str, str]
    click: str = ""
    after: dict[str, str] = field(default_factory=dict)
    unasked: str = "It came out"  # may not be on the page


ATTENTION = {"text": TEXT, "write": "typed", "target": "dacb", "layer": "1", "head": "2", "step": "5"}
OPENINGS = (
    Opening("attention", ATTENTION),
    Opening("lab_attention", {"panel": "score", "depth": "code", "cell": "3,2"}, "Maths", {"depth": "maths"}),
    Opening("lab_heads", {"panel": "skip", "depth": "maths"}, "Idea", {"depth": "idea"}),
    Opening("lab_heads", {"panel": "grid", "depth": "maths"}, "2. Knock a head out", {"panel": "knockout"}),
    Opening(
        "lab_positions", {"panel": "sine", "waves": "all", "wave": "3"}, "4. Binary: it jumps", {"panel": "binary"}
    ),
    Opening("attention", ATTENTION, "Encoder self", {"where": "encoder"}),
    Opening("lab_masks", {"panel": "leak", "look": "experiment"}, "The model", {"look": "model"}),
    Opening("lab_attention", {"panel": "shapes", "size": "own", "depth": "maths"}, "Code", {"depth": "code"}),
    Opening("generate", {"text": TEXT, "method": "sample", "temperature": "0.5", "top_k": "3", "seed": "7"}),
    Opening("lab_positions", {"panel": "sine", "waves": "all"}, "Maths", {"depth": "maths"}),
    Opening("lab_masks", {"panel": "leak", "look": "experiment", "depth": "maths"}, "Code", {"depth": "code"}),
    Opening("lab_scaling", {"panel": "yours", "place": "encoder.0.self", "head": "2"}, "Maths", {"depth": "maths"}),
    Opening("lab_stack", {"panel": "without", "depth": "idea"}, "Code", {"depth": "code"}),
    Opening("lab_positions", {"panel": "sine", "waves": "all"}, "this wave", {"waves": "one"}),
    Opening("lab_flows", {"panel": "memory", "depth": "maths"}, "Idea", {"depth": "idea"}),
)


@pytest.fixture
def busy() -> Iterator[None]:
    """A program that does nothing but compute."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"])]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


@pytest.fixture(scope="module")
def run(server: Server) -> Run:
    return run_on(server, "first clicks", (0, 5, 10), {"d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 16})


def test_nothing_is_lost_beside_a_busy_loop(
    server: Server, run: Run, new_page: Callable[..., Any], busy: None, show: Callable[[str], None]
) -> None:
    lost, revealed = [], []
    for first in range(0, TRIALS, AT_ONCE):
        opened = []
        for n in range(first, min(first + AT_ONCE, TRIALS)):
            opening, page = OPENINGS[n % len(OPENINGS)], new_page(1280, 800)
            if opening.click:
                page.add_init_script(f"({CLICK})({opening.click!r})")
            query = urlencode({"run": run.id, "text": TEXT, **opening.query})
            page.goto(f"{server.url}/{opening.page}?{query}", wait_until="commit")
            opened.append((opening, page))
        for opening, page in opened:
            page.wait_for_selector(IDLE, timeout=60_000)
            if opening.click:
                page.wait_for_function("() => window.clicked", timeout=60_000)
            settled(page)
            wanted = {"run": run.id, "text": TEXT, **opening.query, **opening.after}
            label = "Source text" if opening.page in ("attention", "generate") else "Input"
            text = page.get_by_label(label, exact=True).first
            end = monotonic() + PATIENCE
            while ((wrong := missed(page, wanted)) or text.input_value() != TEXT) and monotonic() < end:
                page.wait_for_timeout(500)
            box = text.input_value()
            if wrong or box != TEXT:
                lost.append(f"{opening.page} {opening.query} {opening.click}: {wrong}, text {box!r}")
            if opening.unasked in page.locator("[data-testid=stMain]").inner_text():
                revealed.append(f"{opening.page} {opening.query} {opening.click}")
            page.context.close()
    show(f"first clicks and openings lost: {len(lost)} of {TRIALS}; outcomes revealed unasked: {len(revealed)}")
    assert not lost, "\n".join(lost)
    assert not revealed, "\n".join(revealed)


def missed(page: Any, wanted: dict[str, str]) -> dict[str, tuple[str | None, str]]:
    """What stands in the address otherwise than it should: name -> (is, should)."""
    here = {name: values[-1] for name, values in parse_qs(urlsplit(page.url).query).items()}
    return {name: (here.get(name), value) for name, value in wanted.items() if here.get(name) != value}


def settled(page: Any) -> None:
    """The script has come to its end and the address has stood still for a while."""
    before = None
    while before != (before := page.url):
        page.wait_for_timeout(700)
        page.wait_for_selector(IDLE, timeout=60_000)
