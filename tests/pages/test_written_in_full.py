"""What a model writes is shown in full wherever it is shown: as long as the longest answer of its task, and never called
endless when it ended."""

import csv
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

import core.decode
from core.config import RunConfig, TaskConfig
from core.read import build, fit
from core.tasks import Data
from core.tokens import EOS
from playground import attention_view, lessons, pick
from playground.lessons import attention_steps, flows, heads, masks_measure
from playground.runs import store
from playground.runs.store import Run, Status
from tests.pages.looking import parrot, sent

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "cases" / "pairs"
WRITTEN = {"numbers.csv": ("17", "seventeen"), "uneven.csv": ("NY", "New York City the Big Apple")}
UNKNOWN = {"numbers.csv": "171717", "uneven.csv": "YN"}  # no such source: labs then take what the model writes


@pytest.fixture(params=WRITTEN)
def made(request: pytest.FixtureRequest) -> tuple[Run, str, str, str]:
    """A run on these pairs that writes the long answer, whatever it is asked. -> run, source, answer, unknown source"""
    with (CASES / request.param).open(encoding="utf-8", newline="") as file:
        pairs = [tuple(row) for row in csv.reader(file)]
    source, answer = WRITTEN[request.param]
    model = {"d_model": 64, "n_heads": 2, "n_layers": 1, "d_ff": 16, "positions": "learned"}
    run = store.create(build(fit({"model": model, "task": {"name": "pairs", "pairs": pairs}})))
    parrot(run, answer, 10)
    run.set_status(Status("finished", 10))
    return run, source, answer, UNKNOWN[request.param]


def opened(page: str, run: Run, text: str, **more: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "pages" / f"{page}.py"), default_timeout=60)
    for name, value in {"run": run.id, "text": text, **more}.items():
        at.query_params[name] = value
    return at


def test_on_generate(made: tuple[Run, str, str, str]) -> None:
    run, source, answer, _unknown = made
    at = opened("generate", run, source)
    at.session_state["generate.command"] = json.dumps({"to": 1000})
    at.run()
    assert not at.exception
    data = sent(at, "tokens")
    vocab = Data(run.config).vocab
    assert vocab.decode(data["tokens"]) == answer
    assert data["tokens"][-1] == EOS
    assert (data["over"], data["capped"]) == (True, False)
    assert set(data["marks"]) == {"right"}


def test_on_attention(made: tuple[Run, str, str, str]) -> None:
    run, source, answer, _unknown = made
    at = opened("attention", run, source).run()
    assert not at.exception
    (frame,) = sent(at, "frames")["frames"]
    assert frame["writes"] == [*answer, "⟨/s⟩"]
    assert not frame["capped"]


def test_where_labs_take_what_the_model_writes(made: tuple[Run, str, str, str]) -> None:
    run, _source, answer, unknown = made
    model, data = pick.model_at(run, 10), Data(run.config)
    ids = data.vocab.encode(unknown)
    whole = (*data.vocab.encode(answer), EOS)
    assert flows.example(model, data, ids).writes == whole
    assert heads.example(model, data, ids).writes == whole
    assert masks_measure.example(model, data, ids, most=model.config.max_len).writes == whole
    assert attention_steps.target_of(model, ids, ())[1:] == whole[:-1]
    this = masks_measure.example(model, data, ids)
    assert masks_measure.pad(model, this, 3, True).generated == whole
    assert flows.write(model, torch.tensor([ids]), 1000)[0] == whole
    frame = attention_view.look(model, 10, ids)
    assert (frame.writes, frame.capped) == (whole, False)


@pytest.mark.parametrize("lab", [entry.id for entry in lessons.LABS])
def test_every_panel_may_write_that_much(
    made: tuple[Run, str, str, str], lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a panel generates by default, it may write the longest answer; where it shows less, it says so."""
    run, _source, _answer, unknown = made
    caps: list[int] = []
    cap_of = core.decode.cap_of

    def noted(*args: Any) -> int:
        caps.append(cap_of(*args))
        return caps[-1]

    monkeypatch.setattr(core.decode, "cap_of", noted)
    for panel in import_module(f"playground.lessons.{lab}").LAB.panels:
        at = opened(f"lab_{lab}", run, unknown, panel=panel.id).run()
        assert not at.exception, (panel.id, at.exception)
    assert min(caps, default=1000) >= run.config.task.longest_target


def test_nobody_else_decides_how_much_may_be_written() -> None:
    """The rule stands once. `max_len=` in a call is for what is compared with answers of a known width, or shorter on purpose."""
    rule = re.compile(r"2 \* [^\n]*\+ 2\b|\* 2 \+ 2\b")
    files = [path for room in ("core", "playground", "pages") for path in (ROOT / room).rglob("*.py")]
    found = {f"{path.relative_to(ROOT)}" for path in files if rule.search(path.read_text(encoding="utf-8"))}
    assert found == {"core/decode.py", "core/config.py"}  # the second: how long a sum is as a source


def test_the_longest_answer_of_a_task() -> None:
    assert TaskConfig(name="reverse", min_len=3, max_len=7).longest_target == 8
    assert TaskConfig(name="add", min_len=1, max_len=3).longest_target == 5  # 999+999 = 1998 and the end
    pairs = tuple((f"{i}", "x" * (i + 1)) for i in range(12))
    assert TaskConfig(name="pairs", pairs=pairs).longest_target == 13
    assert RunConfig().task.longest_target == 11
