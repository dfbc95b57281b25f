"""The components' files, the board's texts and facts, the colours, and (with node) the arithmetic of its JavaScript."""

import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.config import ModelConfig, RunConfig
from core.model import parameter_counts
from core.read import build, fit
from core.tasks import Data
from playground import board, look
from playground.components import FOLDER, source

SCRIPTS = sorted(FOLDER.glob("*.js"))
BOARD = source("board", *board.PARTS)


def luminance(colour: str) -> float:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_show_user_text_as_text_and_ask_no_other_host(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://", text
    )


def test_a_component_is_one_module_and_no_file_name() -> None:
    assert all("\n" in text.strip("\n") for text in BOARD.values())  # else Streamlit takes it for a path
    assert len(re.findall(r"^export default", BOARD["js"], re.M)) == 1
    assert "import " not in BOARD["js"].replace("important", "")
    names = re.findall(r"^(?:function|class|const|let) (\w+)", BOARD["js"], re.M)
    assert len(names) == len(set(names)), "two parts declare the same name"


def test_every_text_the_board_asks_for_is_there() -> None:
    texts = board.labels()
    asked = set(re.findall(r"labels\.(\w+)", BOARD["js"])) | set(re.findall(r'data-(?:t|help)="(\w+)"', BOARD["html"]))
    assert asked - texts.keys() == set()
    for kind in ("encoder_self", "decoder_self", "decoder_cross"):  # put together from stack and kind
        assert {kind, f"{kind}_help"} <= texts.keys()
    assert {"self_part", "cross_part", "ffn_part"} <= texts.keys()
    states = {"draft", "queued", "running", "paused", "finished", "stopped", "failed", "interrupted"}
    assert states | {"away", "gone"} == texts["states"].keys()


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("layers", [1, 24])
def test_facts_add_up(norm: str, layers: int) -> None:
    config = RunConfig(model=ModelConfig.model_validate({"norm": norm, "n_layers": layers}))
    facts, counts = board.facts(config), parameter_counts(config.model)
    last = 2 * config.model.d_model if norm == "pre" else 0
    for stack in ("encoder", "decoder"):
        assert facts["block_parameters"][stack] * layers + last == counts[stack]
    assert facts["parameters"]["all"] == sum(counts.values())
    assert facts["parts"].keys() == {"source", "encoder", "memory", "target", "decoder", "output"}
    for name, part in facts["parts"].items():
        left = {"layer", "layers"} if name in ("encoder", "decoder") else set()  # these the component fills in
        assert set(re.findall(r"{(\w+)}", part["name"] + part["sentence"])) == left
    json.dumps(facts, allow_nan=False)


def test_the_decoder_is_told_as_it_is() -> None:
    def sentence(mask: bool) -> str:
        return board.parts(ModelConfig(causal_mask=mask))["decoder"]["sentence"]

    assert "written so far" in sentence(True)
    assert "no causal mask" in sentence(False)


def test_size_is_short() -> None:
    assert [board.megabytes(n) for n in (123456, 15_700_000, 3 * 2**30)] == ["0.118 MB", "15 MB", "3 GB"]


def test_colours() -> None:
    assert len(set(look.HEADS)) == 8
    assert look.head_colour(8) == look.HEADS[0]
    assert all(luminance(a) > luminance(b) for a, b in pairwise(look.SEQUENTIAL_LIGHT))
    assert all(luminance(a) < luminance(b) for a, b in pairwise(look.SEQUENTIAL_DARK))
    for scale, sign in ((look.DIVERGING_LIGHT, 1), (look.DIVERGING_DARK, -1)):  # turns once, in the middle
        middle, light = len(scale) // 2, [sign * luminance(colour) for colour in scale]
        assert len(scale) % 2 == 1
        assert light[: middle + 1] == sorted(light[: middle + 1])
        assert light[middle:] == sorted(light[middle:], reverse=True)


def page() -> None:
    import streamlit as st

    from playground.board import board

    result = board(st.session_state["seen"])
    st.text(f"{result.part} {result.state} {result.ended}")


def test_the_page_hands_the_board_its_run_and_hears_of_a_chosen_part() -> None:
    at = AppTest.from_function(page)
    at.session_state["seen"] = SimpleNamespace(
        id="sample-reverse", config=RunConfig(), is_sample=True, status=lambda: SimpleNamespace(state="finished")
    )
    at.run()
    assert not at.exception
    data: dict[str, Any] = json.loads(at.get("bidi_component")[0].proto.json)
    assert data["api"] == "/api/runs/sample-reverse/live"
    assert (data["sample"], data["state"], data["run"]) == (True, "finished", "sample-reverse")
    assert at.text[0].value == "None None None"


CHECKS = """
const same = (a, b) => { if (JSON.stringify(a) !== JSON.stringify(b)) throw new Error(JSON.stringify(a) + " is not " + JSON.stringify(b)); };
same([0, 0.0004321, 0.123456, 12.3456, 4321.9, 1234567, 1e-7, NaN, null].map(short),
  ["0", "0.000432", "0.123", "12.3", "4322", "1.2e6", "1e-7", "–", "–"]);
same(fill("{a} of {b} {c}", { a: 1, b: "<b>" }), "1 of <b> {c}");
same(blocksShown(8, 3), [0, 1, 2, 3, 4, 5, 6, 7]);
for (let layers = 9; layers <= 24; layers++) for (let chosen = 0; chosen < layers; chosen++) {
  const shown = blocksShown(layers, chosen);
  if (!shown.includes(chosen) || shown.length > 7 || shown[0] !== 0 || shown.at(-1) !== layers - 1) throw new Error(`${layers} ${chosen} ${shown}`);
}
const steps = [1, 2, 5, 9].map((step) => ({ step }));
same([0, 3, 4, 7.5, 99].map((s) => nearest(steps, s).step), [1, 2, 5, 9, 9]);
same(nearest([], 3), null);
same([lastStep({ records: [] }, 40), lastStep({ records: [{ step: 40 }] }, 400), lastStep({ records: [{ step: 10 }] }, 100000) < 100], [40, 200, true]);
same(ticks(1, 4), [0, 0.25, 0.5, 0.75, 1]);
const live = emptyRun(), answer = { n: 2, state: "running", records: [{ step: 1, token_accuracy: null }, { step: 2, token_accuracy: 0 }], probe: { version: 7 } };
absorb(live, answer);
same([live.records.length, live.tests.length, live.version, live.n], [2, 1, 7, 2]);
absorb(live, { ...answer, n: 1, restart: true, records: [{ step: 1 }], probe: null });
same([live.records.length, live.tests.length, live.version, live.n], [1, 0, 7, 1]);
same(Array.from(scale(["#000000", "#ffffff"]).slice(0, 3)), [0, 0, 0]);
same(colourOf(scale(["#000000", "#ffffff"]), 9), "rgb(255,255,255)");
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_arithmetic_of_the_board(tmp_path: Path) -> None:
    stub = "globalThis.document = { createElement: () => ({}) };\n"
    script = tmp_path / "board.mjs"
    script.write_text(stub + BOARD["js"] + CHECKS, encoding="utf-8")
    done = subprocess.run(["node", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_the_board_says_on_how_many_strings_it_is_measured() -> None:
    pairs = [(f"a{i}", f"b{i}") for i in range(100)]
    config = build(fit({"task": {"name": "pairs", "pairs": pairs}}))
    held = int(Data(config).pairs_unseen.sum())
    assert 1 < held < 40
    assert board.measured_on("test-pairs", config) == held
    assert f"Measured on {held} different strings" in board.labels(held)["exact_match_help"]
    assert "Measured on 1 string, " in board.labels(1)["token_accuracy_help"]
    assert "{step}" in board.labels()["solved"]
