"""Lab 6: what it shows is what core computes by another route; clicks, the URL, hostile commands."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from core.checkpoint import load_weights
from core.decode import DecodeOptions, generate, generate_steps
from core.lab import by_hand
from core.lab import flows as core_flows
from core.model import Transformer
from core.tasks import Data
from core.tokens import BOS, EOS, PAD
from playground.lessons import flows
from playground.lessons.flows_view import PANELS
from playground.lessons.frame import DEPTHS, source_lines
from playground.runs import store
from playground.runs.store import Run
from tests.pages.looking import make_run

ROOT = Path(__file__).parents[2]
PAGE = str(ROOT / "pages" / "lab_flows.py")
SAMPLE = ROOT / "playground" / "samples" / "sample-reverse"


@pytest.fixture(params=["sample", "random"])
def run(request: pytest.FixtureRequest, folders: Any) -> Run:
    """The shipped sample, as a run of the folder, and a fresh random model."""
    if request.param == "random":
        return make_run()
    (folders.samples / SAMPLE.name).symlink_to(SAMPLE)
    found = store.find(SAMPLE.name)
    assert found is not None
    return found


@pytest.fixture
def model(run: Run) -> Transformer:
    return load_weights(run.weights_path(run.saved_steps()[-1]), run.config.model)


def open_panel(run: Run, panel: str, **query: str) -> AppTest:
    at = AppTest.from_file(PAGE, default_timeout=60)
    for name, value in {"run": run.id, "text": "abcab", "panel": panel, **query}.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception
    return at


def data_of(at: AppTest) -> dict[str, Any]:
    """What the lab's component was sent."""
    sent = [json.loads(part.proto.json) for part in at.get("bidi_component")]
    return next(data for data in sent if "view" in data)


def act(page: AppTest, panel: str, **command: Any) -> AppTest:
    page.session_state[f"lab.flows.{panel}.view.command"] = json.dumps(command)
    page.run()
    assert not page.exception, page.exception
    return page


def proofs(at: AppTest) -> list[str]:
    return [m.value for m in at.markdown if "max error" in m.value]


def one_of(run: Run, model: Transformer) -> flows.Example:
    data = Data(run.config)
    return flows.example(model, data, data.vocab.encode("abcab"))


def test_every_panel_is_checked_and_green(run: Run) -> None:
    for panel in PANELS.keys() - {"trained"}:  # an experiment: its numbers have tests of their own
        query = {"training": {"stage": "5"}, "inference": {"n": "3"}, "wrong": {"put": "4"}}.get(panel, {})
        at = open_panel(run, panel, **query)
        for radio in at.radio:
            radio.set_value(PREDICTIONS[panel][0])
        at.run()
        assert not at.exception
        assert proofs(at), panel
        assert all(":green" in text for text in proofs(at)), proofs(at)


PREDICTIONS = {"cost": ("some",), "memory": ("order",), "trained": ("worse",)}


@pytest.mark.parametrize("panel", list(PANELS))
@pytest.mark.parametrize("depth", DEPTHS)
def test_three_depths(panel: str, depth: str) -> None:
    run = make_run()
    at = open_panel(run, panel, depth=depth)
    text = flows.LAB.panels[list(PANELS).index(panel)]
    shown = {"idea": [m.value for m in at.markdown], "maths": [x.value for x in at.latex], "code": []}[depth]
    if depth == "code":
        assert len(at.code) == len(text.code)
    else:
        assert any((text.idea if depth == "idea" else text.maths) in value for value in shown)


def test_the_source_shown_is_there() -> None:
    for panel in flows.LAB.panels:
        for item in panel.code:
            thing, *needles = item if isinstance(item, tuple) else (item,)
            assert source_lines(thing, *needles).strip()


def test_training_stage_by_stage(run: Run, model: Transformer) -> None:
    at = open_panel(run, "training")
    assert data_of(at)["tensors"] == []
    batch = flows.frozen_batch(one_of(run, model), Data(run.config), run.saved_steps()[-1])
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    with torch.no_grad():
        logits = model(batch.src, batch.tgt_in)
    expected = by_hand.mean_loss(logits.tolist(), batch.tgt_out.tolist())
    for n, name in enumerate(core_flows.STAGES, 1):
        data = data_of(act(at, "training", to=n))
        assert [box["lit"] for box in data["boxes"]] == [i < n for i in range(5)]
        shown = {tensor["id"]: tensor for tensor in data["tensors"]}
        if name == "encode":
            torch.testing.assert_close(
                torch.tensor(shown["memory"]["matrix"]), model.encode(batch.src)[0].detach(), atol=1e-4, rtol=1e-4
            )
            assert shown["memory"]["shape"] == str(tuple(model.encode(batch.src).shape))
        if name == "decode":
            torch.testing.assert_close(torch.tensor(shown["logits"]["matrix"]), logits[0], atol=1e-4, rtol=1e-4)
        if name == "loss":
            assert float(shown["loss"]["value"]) == pytest.approx(expected, rel=5e-3)
            rows = torch.tensor(shown["losses"]["matrix"])
            mine = [
                [by_hand.token_loss(z, y) if y else 0 for z, y in zip(*r, strict=True)]
                for r in zip(logits.tolist(), batch.tgt_out.tolist(), strict=True)
            ]
            torch.testing.assert_close(rows, torch.tensor(mine), atol=1e-4, rtol=1e-4)
        if name == "backward":
            for _name, _value, gradient, slow in shown["watched"]["body"]:
                assert gradient == pytest.approx(slow, abs=1e-4)
        if name == "update":
            for _name, before, g, m, v, after in shown["watched"]["body"]:
                assert (m, v) == (pytest.approx(0.1 * g, rel=1e-3), pytest.approx(0.02 * g * g, rel=1e-3))
                assert after == pytest.approx(before - 0.001 * g / (abs(g) + 1e-8), abs=1e-5)
    assert ticks(at) == {"training"}
    again = load_weights(run.weights_path(run.saved_steps()[-1]), run.config.model).state_dict()
    assert all(torch.equal(w, again[name]) for name, w in weights.items())


def ticks(at: AppTest) -> set[str]:
    done: set[str] = at.session_state["lab.flows.done"]
    return done


def test_another_step_goes_on_from_the_last(run: Run, model: Transformer) -> None:
    at = open_panel(run, "training", stage="15", at="4", lr="0.01")
    batch = flows.frozen_batch(one_of(run, model), Data(run.config), run.saved_steps()[-1])
    practice = core_flows.Practice(model, batch, 0.01, run.config.train.clip)
    losses = [practice.step(i).loss for i in (1, 2, 3)] + [practice.step(3).loss_after]
    assert data_of(at)["say"].endswith(" → ".join(f"{x:.3g}" for x in losses))


def test_loss_of_a_token(run: Run, model: Transformer) -> None:
    at = open_panel(run, "loss")
    one = one_of(run, model)
    assert data_of(at)["sum"] is None
    data = data_of(act(at, "loss", at=2))
    row = model(one.source, one.target)[0, 2].tolist()
    total = math.fsum(math.exp(z) for z in row)
    assert data["tokens"][2]["loss"] == pytest.approx(math.log(total) - row[one.writes[2]], abs=1e-4)
    assert data["guess"] == math.log(run.config.model.n_vocab)
    assert len(data["sum"]["rows"]) == len(row)
    assert sum(float(r["values"][2]) for r in data["sum"]["rows"]) == pytest.approx(1, abs=1e-3)
    assert ticks(at) == {"loss"}


def test_first_weights_cost_about_a_guess(run: Run) -> None:
    data = data_of(open_panel(run, "loss", loss_mistake="untrained"))
    assert data["mean"] > data["guess"] / 3


def test_inference_is_what_generate_does(run: Run, model: Transformer) -> None:
    one, steps = one_of(run, model), list(generate_steps(model, one_of(run, model).source, DecodeOptions()))
    for n in (1, 3, len(steps)):
        now = flows.twin(model, one, n)
        assert now.tokens == tuple(s.token for s in steps[:n])
        for mine, step in zip(now.logits, steps, strict=False):
            torch.testing.assert_close(mine, step.logits)
        assert all(d <= 1e-4 for d, same in zip(now.difference, now.same, strict=True) if same)
        assert flows.twin_error(model, one, now) <= 1e-4
    at = open_panel(run, "inference")
    data = data_of(act(at, "inference", to=1))
    first = Data(run.config).vocab.name(steps[0].token)
    assert data["columns"][0]["writes"]["token"] == first
    assert data["columns"][0]["diff"]["mark"] == "same"
    over = data_of(act(at, "inference", to=len(steps)))
    assert [c["writes"]["token"] for c in over["columns"] if "writes" in c] == [
        Data(run.config).vocab.name(s.token) for s in steps
    ]
    assert ("inference" in ticks(at)) == (steps[-1].token == EOS or steps[-1].capped)


def test_both_flows_agree_in_float64(run: Run, model: Transformer) -> None:
    model, one = model.double(), one_of(run, model)
    now = flows.twin(model, one, 99)
    assert max(d for d, same in zip(now.difference, now.same, strict=True) if same) <= 1e-9
    # The table of positions was made in float32, and the independent route has it in float64.
    assert flows.twin_error(model, one, now) <= 1e-4


def test_beginning_with_padding(run: Run, model: Transformer) -> None:
    one = one_of(run, model)
    now = flows.twin(model, one, 99, PAD)
    ids = generate(model, one.source, start=PAD)[0].tolist()
    assert list(now.tokens) == ids
    assert not any(now.same)
    assert flows.twin_error(model, one, now, PAD) <= 1e-4
    data = data_of(open_panel(run, "inference", n="2", start="pad"))
    assert data["columns"][0]["ireads"]["token"] == "·"
    assert data["columns"][0]["diff"]["mark"] == "differs"


def test_no_causal_mask_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    leaky = make_run(model={"d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 16, "causal_mask": False})
    at = open_panel(leaky, "inference", n="1")
    assert all(":green" in text for text in proofs(at))
    assert "no causal mask" in data_of(at)["say"]


def test_cost_is_measured_after_the_guess(run: Run) -> None:
    at = open_panel(run, "cost")
    assert not [p for p in at.get("bidi_component") if "items" in p.proto.json]
    at.radio[0].set_value("all").run()
    data = data_of(at)
    assert len(data["items"]) == 3
    assert all(item["value"] > 0 for item in data["items"])
    assert ticks(at) == {"cost"}


def test_memory_switches(run: Run, model: Transformer) -> None:
    at = open_panel(run, "memory")
    at.radio[0].set_value("order").run()
    one, exact = one_of(run, model), core_flows.memory_experiment(model, Data(run.config).unseen(flows.UNSEEN))
    shown = {s["id"]: s for s in data_of(at)["switches"]}
    assert {name: s["exact"] for name, s in shown.items()} == exact
    assert exact["shuffled"] == exact["layer 2"]  # attention reads a set
    for name in shown:
        now = flows.cross(model, one, name)
        assert now.error <= 1e-4
        data = data_of(act(at, "memory", memory=name))
        assert data["which"] == name
        torch.testing.assert_close(torch.tensor(data["patterns"]), now.patterns, atol=1e-4, rtol=0)
    assert "memory" in ticks(at)
    data = data_of(act(at, "memory", head=[0, 1]))
    assert data["at"] == [0, 1]
    stranger = core_flows.strangers(model, one.source)
    assert (
        flows.cross(model, one, "another").output
        == flows.cross(model, flows.Example(tuple(stranger[0].tolist()), one.reads, one.writes, True), "layer 2").output
    )


def test_the_sample_needs_its_own_memory(folders: Any) -> None:
    """S11 on the shipped run."""
    (folders.samples / SAMPLE.name).symlink_to(SAMPLE)
    run = store.find(SAMPLE.name)
    assert run is not None
    model = load_weights(run.weights_path(1000), run.config.model)
    exact = flows.exact_match_by_memory(model, Data(run.config).unseen(flows.UNSEEN))
    assert exact["layer 2"] >= 0.95
    assert exact["shuffled"] >= 0.95
    assert exact["layer 1"] <= 0.5
    assert max(exact[name] for name in ("another", "zeros", flows.OPEN)) <= 0.02


def test_keys_and_values_from_the_decoder_forget_the_source(run: Run, model: Transformer) -> None:
    at = open_panel(run, "memory", kv=flows.OPEN)
    at.radio[0].set_value("strict").run()
    data = data_of(at)
    assert data["which"] == flows.OPEN
    assert data["switches"][0]["exact"] <= 0.05
    data_run = Data(run.config)
    other = flows.example(model, data_run, data_run.vocab.encode("jihgf"))
    assert (
        flows.cross(model, other, flows.OPEN).output[:3]
        == flows.cross(model, one_of(run, model), flows.OPEN).output[:3]
    )
    assert data_of(act(at, "memory", memory="zeros"))["which"] == "zeros"


def test_a_wrong_token(run: Run, model: Transformer) -> None:
    one = one_of(run, model)
    alone = flows.inject(model, one, 0, flows.write(model, one.source, 1)[0][0])
    assert alone.divergence is None
    for at_, token in ((0, 5), (2, 9), (1, EOS)):
        now = flows.inject(model, one, at_, token)
        rest = (
            []
            if token == EOS
            else [s.token for s in generate_steps(model, one.source, DecodeOptions(), now.changed[: at_ + 1])]
        )
        assert list(now.changed) == [*alone.alone[:at_], token, *rest]
        assert now.shift[: at_ + 1] == (0.0,) * (at_ + 1)
        assert flows.write_error(model, one.source, now.changed, now.logits) <= 1e-4
    page = open_panel(run, "wrong")
    data = data_of(act(page, "wrong", put=[1, 8]))
    now = flows.inject(model, one, 1, 8)
    assert [c["changed"]["token"] for c in data["columns"] if "changed" in c] == [
        Data(run.config).vocab.name(i) for i in now.changed
    ]
    assert data["divergence"] == now.divergence
    assert ticks(page) == {"wrong"}


@pytest.mark.parametrize("panel", list(PANELS))
def test_hostile_commands_and_addresses_change_nothing(panel: str) -> None:
    run = make_run()
    names = ("stage", "at", "lr", "token", "n", "memory", "head", "where", "put", "start", "kv", "loss_mistake")
    for bad in ("-5", "99999999999", "<img src=x onerror=alert(1)>", "nan", "１", ",", "1,2,3"):
        open_panel(run, panel, **dict.fromkeys(names, bad))
    at = open_panel(run, panel)
    for radio in at.radio:
        radio.set_value(PREDICTIONS[panel][0])
    at.run()
    for bad in (
        "",
        "null",
        "[]",
        "{",
        '{"to": "x"}',
        '{"to": 1e99}',
        '{"at": -7}',
        '{"put": [99, 99]}',
        '{"put": 3}',
        '{"memory": "x"}',
        '{"head": [9, 9]}',
        '{"head": ["a"]}',
        '{"at": Infinity}',
    ):
        at.session_state[f"lab.flows.{panel}.view.command"] = bad
        at.run()
        assert not at.exception, (bad, at.exception)


def test_the_end_of_what_a_model_can_read() -> None:
    """The longest input the model takes; an answer as long; an input of one symbol."""
    run = make_run(model={"d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 16, "max_len": 12})
    for text in ("abcdefghija", "a"):
        for panel in PANELS:
            open_panel(run, panel, text=text, stage="5", n="99")


def test_unknown_answers_are_replaced_by_the_models_own() -> None:
    pairs = [(f"{a}{b}", f"{b}{a}x") for a in "abcde" for b in "abcde"]
    run = make_run(task={"name": "pairs", "pairs": pairs})
    model = load_weights(run.weights_path(10), run.config.model)
    data = Data(run.config)
    one = flows.example(model, data, data.vocab.encode("abc"))
    assert not one.known
    assert one.reads[0] == BOS
    at = open_panel(run, "training", text="abc", stage="5")
    assert any("not known" in c.value for c in at.caption)
