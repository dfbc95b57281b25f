"""Lab 3: every number that is shown against a second way to it, on the sample run and on fresh random models."""

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from core.checkpoint import load_weights
from core.config import ModelConfig, RunConfig
from core.lab import heads as lab
from core.lab import recompute
from core.model import Transformer
from core.tasks import Batch, Data
from core.tokens import BOS, EOS, PAD
from core.trace import Trace
from playground.lessons import heads, heads_view
from playground.lessons.frame import source_lines
from playground.runs.store import Run
from tests.pages import looking
from tests.pages.looking import make_run, proofs, sent, weights

ROOT = Path(__file__).parents[2]
PAGE = str(ROOT / "pages" / "lab_heads.py")
SRC = [3, 4, 5, 3, 6]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm": "post", "n_heads": 1},
    {"positions": "rotary"},
    {"positions": "alibi", "scale": "sqrt_d_model"},
    {"causal_mask": False, "padding_mask": False, "positions": "none"},
]
BARS = {torch.float32: 1e-4, torch.float64: 1e-9}


def make(**config: Any) -> Transformer:
    torch.manual_seed(1)
    model = Transformer(ModelConfig.model_validate({"d_model": 16, "n_heads": 4, "n_layers": 2, "d_ff": 16, **config}))
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def sample() -> Transformer:
    """The run that ships with the app, at its last step (the fixture of this folder hides it from the app)."""
    run = Run(ROOT / "playground" / "samples" / "sample-reverse")
    return load_weights(run.weights_path(run.saved_steps()[-1]), run.config.model)


def data(model: Transformer) -> Data:
    return Data(RunConfig().model_copy(update={"model": model.config}))


@pytest.fixture(params=["sample", *map(str, range(len(VARIANTS)))])
def any_model(request: pytest.FixtureRequest) -> Transformer:
    return sample() if request.param == "sample" else make(**VARIANTS[int(request.param)])


@pytest.mark.parametrize("dtype", BARS)
def test_patterns_and_scores(any_model: Transformer, dtype: torch.dtype) -> None:
    model = copy.deepcopy(any_model).to(dtype)
    seen = heads.example(model, data(model), SRC)
    assert seen.known
    assert seen.writes == (*reversed(SRC), EOS)
    assert seen.reads == (BOS, *reversed(SRC))
    for place in lab.attention_places(model):
        shown = heads.looks(seen.trace[f"{place}.pattern"][0], place)
        assert heads.looks_error(model, seen, place, shown, 0) <= BARS[dtype]
        worse = [heads.Look(look.diagonal + 0.01, look.anti, look.bits) for look in shown]
        assert heads.looks_error(model, seen, place, worse, 0) == pytest.approx(0.01, abs=1e-4)


@pytest.mark.parametrize("dtype", BARS)
def test_knocked_out_heads_are_a_model_with_other_weights(any_model: Transformer, dtype: torch.dtype) -> None:
    model = copy.deepcopy(any_model).to(dtype)
    batch, seen = data(model).unseen(30), heads.example(model, data(model), SRC)
    n = model.config.n_heads
    plain = heads.outcome(model, batch)
    for place in lab.attention_places(model):
        for out in ((n - 1,), tuple(range(n))):
            edits = lab.without_heads(place, out)
            shown, other = heads.outcome(model, batch, edits), heads.altered(model, place, out)
            again = heads.outcome_again(other, batch, shown.written)
            assert heads.outcome_error(shown, again, batch) <= BARS[dtype]
            assert torch.equal(shown.written, again.written)
            assert heads.outcome_error(shown, heads.outcome_again(model, batch, shown.written, edits), batch) == 0
            wrong = shown.written.clone()
            wrong[0, 1] = EOS if wrong[0, 1] != EOS else EOS + 1
            assert not torch.equal(wrong, heads.outcome_again(other, batch, wrong).written)
            assert heads.logits_error(other, seen, edits, model) <= BARS[dtype]
            assert torch.equal(shown.right, lab.exactly_right(model, batch, edits))
            assert heads.change(plain, shown, batch) > 1e-4
        skipped = heads.outcome(model, batch, lab.skipping(model, place))
        assert heads.outcome_error(shown, skipped, batch) <= BARS[dtype]
        assert torch.equal(shown.written, skipped.written)


def test_the_sample_loses_strings_with_a_head() -> None:
    model = sample()
    batch = data(model).unseen(heads.STRINGS)
    plain = heads.outcome(model, batch)
    assert plain.exact == 1.0
    without = heads.outcome(model, batch, lab.without_heads("decoder.1.cross", [0]))
    assert 0 < without.exact < 1
    rows = heads.ordered(plain, without)
    assert [kind for _i, kind in rows] == ["broken"] * int((~without.right).sum())
    for i, _kind in rows:
        _ids, marks = heads.marked(without.written[i].tolist(), batch.tgt_out[i].tolist())
        assert any(marks)


def test_marks_tell_wrong_and_missing_tokens() -> None:
    assert heads.marked([3, 4, EOS, PAD], [3, 4, EOS]) == ([3, 4], ["", ""])
    assert heads.marked([3, 5, 6, 7], [3, 4, EOS]) == ([3, 5, 6, 7], ["", "wrong", "wrong", "wrong"])
    assert heads.marked([3, EOS], [3, 4, 5, EOS]) == ([3, 4, 5], ["", "missing", "missing"])


@pytest.mark.parametrize("side", heads.SIDES)
def test_overlaps_of_subspaces(any_model: Transformer, side: str) -> None:
    config = any_model.config
    for place in lab.attention_places(any_model):
        maps = heads.maps(any_model, place, side)
        overlap = lab.subspace_overlap(maps, config.d_k)
        assert (overlap - heads.overlap_again(any_model, place, side)).abs().max() <= 1e-5
        exact = copy.deepcopy(any_model).double()
        again = heads.overlap_again(exact, place, side)
        assert (lab.subspace_overlap(heads.maps(exact, place, side), config.d_k) - again).abs().max() <= 1e-9
        g, h = heads.most_alike(overlap)
        cosines = heads.cosines(maps, config.d_k, g, h)
        assert sum(c * c for c in cosines) / config.d_k == pytest.approx(float(overlap[g, h]), abs=1e-9)
        others = overlap.clone().fill_diagonal_(-1)
        assert config.n_heads == 1 or float(overlap[g, h]) == pytest.approx(float(others.max()), abs=1e-12)


def test_chance_level_of_random_subspaces() -> None:
    torch.manual_seed(0)
    overlap = lab.subspace_overlap(torch.randn(60, 32, 8) @ torch.randn(60, 8, 32), 8)
    off = overlap[~torch.eye(60, dtype=torch.bool)]
    assert off.mean() == pytest.approx(8 / 32, abs=0.01)


def test_the_code_shown_is_in_the_source() -> None:
    for panel in heads.LAB.panels:
        for item in panel.code:
            thing, *needles = item if isinstance(item, tuple) else (item,)
            assert source_lines(thing, *needles)


# The page.


@pytest.fixture
def run() -> Run:
    return make_run()


visit = partial(looking.visit, PAGE)


def test_grid_shows_the_patterns_of_core_and_ticks_the_sharpest(run: Run) -> None:
    at = visit(run, kind="encoder", layer="2", head="2")
    shown = sent(at, "heads")
    trace, model = Trace(), weights(run)
    ids = torch.tensor([Data(run.config).vocab.encode("abcad")])
    with torch.no_grad():
        model.encode(ids, trace)
    pattern = trace["encoder.1.self.pattern"][0]
    for h in range(2):
        assert (torch.tensor(shown["heads"][h]["matrix"]) - pattern[h]).abs().max() <= 1e-5
    assert shown["chosen"] == 1
    bits = lab.entropy(pattern).mean(-1)
    assert shown["heads"][0]["under"].startswith(f"{bits[0]:.2f} of 2.32")
    assert proofs(at)
    assert "green" in proofs(at)[0]
    at.session_state["lab.heads.picked"] = "encoder.1.self"
    at.query_params["head"] = str(int(bits.argmin()) + 1)
    at.run()
    assert "grid" in at.session_state["lab.heads.done"]


def test_knockout_asks_first_and_shows_what_a_link_names(run: Run) -> None:
    at = visit(run, panel="knockout")
    assert at.radio
    assert not at.get("bidi_component") or all(
        "heads" not in json.loads(c.proto.json) for c in at.get("bidi_component")
    )
    at = visit(run, panel="knockout", kind="cross", layer="1", out="2")
    shown = sent(at, "mode")
    assert [head["out"] for head in shown["heads"]] == [False, True]
    model, batch = weights(run), Data(run.config).unseen(heads.STRINGS)
    moved = heads.change(
        heads.outcome(model, batch), heads.outcome(model, batch, lab.without_heads("decoder.0.cross", [1])), batch
    )
    assert any(f"**{moved:.2f}**" in m.value for m in at.markdown)
    assert all("green" in p for p in proofs(at))
    assert proofs(at)
    assert "knockout" in at.session_state["lab.heads.done"]


@pytest.mark.parametrize("out", ["0", "99,1", "x", "1,,x", "9" * 300])
def test_a_bad_address_is_ignored(run: Run, out: str) -> None:
    at = visit(run, panel="knockout", out=out)
    assert any("not understood" in w.value for w in at.warning)


def test_skipping_is_ticked_when_both_were_seen(run: Run) -> None:
    at = visit(run, panel="skip", way="silent", kind="decoder", layer="2")
    assert "skip" not in at.session_state["lab.heads.done"]
    at.query_params["way"] = "skip"
    at.run()
    assert "skip" in at.session_state["lab.heads.done"]
    assert len(proofs(at)) == 2
    assert all("green" in p for p in proofs(at))


def test_overlap_shows_the_numbers_of_core(run: Run) -> None:
    at = visit(run, panel="subspaces", kind="encoder", layer="1", pair="0,1", depth="maths")
    shown = sent(at, "overlap")
    expected = lab.subspace_overlap(lab.value_output_maps(weights(run), "encoder.0.self"), 8)
    assert (torch.tensor(shown["overlap"]) - expected).abs().max() <= 1e-5
    assert sum(shown["shares"]) / 8 == pytest.approx(float(expected[0, 1]), abs=1e-5)
    assert any(f"{float(expected[0, 1]):.3f}" in formula.value for formula in at.latex)


@pytest.mark.parametrize("task", ["sort", "add", "deduplicate"])
@pytest.mark.parametrize("panel", [panel.id for panel in heads.LAB.panels])
def test_every_panel_opens_for_other_tasks(panel: str, task: str) -> None:
    run = make_run(task={"name": task, "min_len": 1, "max_len": 4})
    text = "27+5" if task == "add" else "bca"
    at = visit(run, panel=panel, text=text, out="1", way="silent", kind="encoder", layer="1")
    assert all("green" in p for p in proofs(at))


def test_ties_to_the_independent_route() -> None:
    """The route notices a wrong pattern."""
    model = make()
    seen = heads.example(model, data(model), SRC)
    pattern = seen.trace["encoder.0.self.pattern"][0]
    mine = recompute.head(model, seen.trace, "encoder.0.self", 1).pattern
    assert (pattern[1] - mine).abs().max() < 1e-5
    assert (pattern[0] - mine).abs().max() > 1e-3


def test_a_leaking_model_is_measured_too() -> None:
    model = make(causal_mask=False)
    batch: Batch = data(model).unseen(10)
    written = heads.outcome(model, batch).written
    assert torch.equal(heads.outcome_again(model, batch, written).written, written)


def test_of_a_map_of_two_columns_only_what_the_task_asks_for_is_said() -> None:
    look = heads.Look(0.5, 0.25, 0.1)
    assert "diagonal" not in heads_view.under(look, 2, "")
    assert heads_view.under(look, 2, "reverse").splitlines()[1:] == ["anti-diagonal 25%"]
    assert heads_view.under(look, 2, "copy").splitlines()[1:] == ["diagonal 50%"]
    assert len(heads_view.under(look, 3, "").splitlines()) == 3
