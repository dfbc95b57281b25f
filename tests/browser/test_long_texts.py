"""Long texts: no row is cut through, no column is cut off, and what does not fit goes below."""

from typing import Any

import pytest

from playground.runs.store import Run
from tests.browser.conftest import IDLE, Server
from tests.pages.looking import make_run

SIZES = ((1280, 800), (1440, 900))
TEXT = "abcdefghij" * 13
# Of the children of a region that scrolls: those that its upper or lower edge cuts through.
CUT = """(node) => { const box = node.getBoundingClientRect();
  return [...node.querySelectorAll('.token, .line > span')].filter((child) => { const at = child.getBoundingClientRect();
    return at.height && ((at.top < box.top - 1 && at.bottom > box.top + 1) || (at.top < box.bottom - 1 && at.bottom > box.bottom + 1)); }).length; }"""
# Of everything drawn in a figure: what lies outside of it.
OUTSIDE = """(svg) => { const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text, rect, path')].filter((node) => { const at = node.getBoundingClientRect();
    return at.width && (at.left < box.left - 2 || at.right > box.right + 2 || at.bottom > box.bottom + 2); }).map((n) => n.textContent); }"""


@pytest.fixture(scope="module")
def runs(server: Server) -> dict[str, Run]:
    task = {"name": "reverse", "min_len": 3, "max_len": 128}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_RUNS", str(server.runs))
        server.runs.mkdir(exist_ok=True)
        shape = {"d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 16, "max_len": 300}
        deep = {**shape, "d_model": 64, "n_heads": 64, "n_layers": 24}
        return {
            "small": make_run("long", task=task, model=shape),
            "deep": make_run("deep", (10,), task=task, model=deep),
        }


@pytest.mark.parametrize("size", SIZES)
def test_no_row_of_tokens_is_cut_through(
    page: Any, server: Server, runs: dict[str, Run], size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    out = ".".join(["4"] * 100)
    page.goto(f"{server.url}/generate?run={runs['small'].id}&text={TEXT[:128]}&out={out}")
    page.wait_for_selector("#generate .odd")
    page.wait_for_selector(IDLE)
    for name in ("source", "output", "answer", "large", "matrix"):
        assert page.locator(f"#generate .{name}").first.evaluate(CUT) == 0, name
    assert "128" in page.locator("#generate .source-label").inner_text()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["small", "deep"])
@pytest.mark.parametrize("n", [64, 128])
def test_both_pictures_of_a_head_are_whole(
    page: Any, server: Server, runs: dict[str, Run], name: str, n: int, size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(f"{server.url}/attention?run={runs[name].id}&text={TEXT[:n]}&write=answer")
    page.wait_for_selector("#attention .figure .cells rect")
    page.wait_for_selector(IDLE)
    page.wait_for_timeout(300)
    assert page.locator("#attention .figure").evaluate(OUTSIDE) == []
    small = page.locator("#attention .figure .tok text").evaluate_all(
        "(nodes) => nodes.filter((node) => Number(node.getAttribute('font-size')) < 9).length"
    )
    assert small == 0


def test_another_head_of_a_large_model_is_fetched(page: Any, server: Server, runs: dict[str, Run]) -> None:
    page.goto(f"{server.url}/attention?run={runs['deep'].id}&text={TEXT[:40]}&write=answer")
    page.wait_for_selector("#attention .figure .cells rect")
    title = page.locator("#attention .title .name")
    assert "Layer 24, head 1" in title.inner_text()
    assert page.locator("#attention .thumb").count() == 64
    page.locator("#attention .thumb[data-head='9']").click()
    page.wait_for_function(
        "() => document.querySelector('body') && [...document.querySelectorAll('*')].some((e) => "
        "e.shadowRoot?.querySelector('#attention .title .name')?.textContent.includes('Layer 24, head 10'))"
    )
    page.locator("#attention select.layer").select_option(index=2)
    page.wait_for_function(
        "() => [...document.querySelectorAll('*')].some((e) => "
        "e.shadowRoot?.querySelector('#attention .title .name')?.textContent.includes('Layer 3, head 10'))"
    )
    page.wait_for_url("**layer=3**")


# Of a figure: the longer side of the map in pixels, the smallest type, and how many names of axes lie on other text.
FIGURE = """(svg) => {
  const box = (nodes) => nodes.map((node) => node.getBoundingClientRect());
  const cells = box([...svg.querySelectorAll('.cells > rect')]), names = [...svg.querySelectorAll('.axis')];
  const side = (from, to) => Math.max(...cells.map((c) => c[to])) - Math.min(...cells.map((c) => c[from]));
  const others = [...svg.querySelectorAll('.tok text, .axis')];
  const on = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  return [Math.max(side('left', 'right'), side('top', 'bottom')),
    Math.min(...[...svg.querySelectorAll('text, tspan')].map((node) => parseFloat(getComputedStyle(node).fontSize))),
    names.filter((name) => others.some((other) => other !== name && on(name.getBoundingClientRect(), other.getBoundingClientRect()))).length];
}"""


@pytest.mark.parametrize("size", [(1024, 768), (853, 533)])  # a projector; 1280x800 at 150 %
@pytest.mark.parametrize("language", ["en", "zh_CN"])
@pytest.mark.parametrize("n", [3, 10])
@pytest.mark.parametrize("name", ["small", "deep"])
def test_the_large_map_is_large_in_a_narrow_window(
    page: Any, server: Server, runs: dict[str, Run], name: str, n: int, language: str, size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(f"{server.url}/attention?run={runs[name].id}&text={TEXT[:n]}&write=answer&lang={language}")
    page.wait_for_selector("#attention .figure .cells rect")
    page.wait_for_selector(IDLE)
    page.wait_for_timeout(300)
    longer, type_size, covered = page.locator("#attention .figure").evaluate(FIGURE)
    assert longer >= 355  # 360 with the frame of the map
    assert type_size >= 12
    assert covered == 0
    assert page.locator("#attention .figure").evaluate(OUTSIDE) == []
    small = "(nodes) => nodes.map((node) => parseFloat(getComputedStyle(node).fontSize))"
    assert min(page.locator("#attention .thumb span").evaluate_all(small)) >= 12
