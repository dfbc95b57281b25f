"""Lab 4: every number that is shown against a second way to it, on the sample run, on fresh random models, and on the page."""

import copy
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from core.checkpoint import load_weights
from core.config import ModelConfig
from core.lab import measure
from core.model import Transformer
from core.positions import table
from core.tasks import Data
from core.tokens import BOS, EOS, PAD
from core.trace import Trace
from playground.lessons import masks, unmasked
from playground.lessons import masks_measure as lab
from playground.lessons.frame import source_lines
from playground.runs.store import Run
from tests.pages.looking import make_run

ROOT = Path(__file__).parents[2]
PAGE = str(ROOT / "pages" / "lab_masks.py")
THIS = lab.Example((3, 4, 5, 3, 6), (BOS, 6, 3, 5, 4, 3), (6, 3, 5, 4, 3, EOS))
FILLED = lab.Example(THIS.src, (*THIS.reads, PAD, PAD), (*THIS.writes, PAD, PAD))
VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm": "post", "n_heads": 1, "activation": "gelu"},
    {"positions": "rotary"},
    {"positions": "alibi"},
    {"positions": "learned", "scale": "none"},
    {"positions": "unit"},
    {"positions": "binary", "scale": "sqrt_d_model"},
    {"causal_mask": False, "padding_mask": False, "positions": "none"},
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the server: for models as small as these a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def doubled(model: Transformer) -> Transformer:
    """The same model in float64; its tables of positions were made in float32."""
    model = copy.deepcopy(model).double()
    for part in (model.src_embedding, model.tgt_embedding):
        if hasattr(part.position, "table"):
            kind, d = model.config.positions, model.config.d_model
            part.position.table = table("integer" if kind == "unit" else kind, model.config.max_len, d, torch.float64)
    return model


def make(**config: Any) -> Transformer:
    torch.manual_seed(1)
    model = Transformer(ModelConfig.model_validate({"d_model": 16, "n_heads": 4, "n_layers": 2, "d_ff": 16, **config}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def sample() -> Transformer:
    """The run that ships with the app, at its last step (the fixture of this folder hides it from the app)."""
    run = Run(ROOT / "playground" / "samples" / "sample-reverse")
    return load_weights(run.weights_path(run.saved_steps()[-1]), run.config.model)


def models() -> list[Any]:
    return [pytest.param(lambda c=c: make(**c), id=str(c)) for c in VARIANTS] + [pytest.param(sample, id="sample")]


def by_hand(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """softmax(score + m), m = 0 or -inf, one exponential after the other."""
    rows = []
    for row, seen in zip(scores.tolist(), mask.tolist(), strict=True):
        moved = [s + (0.0 if a else -math.inf) for s, a in zip(row, seen, strict=True)]
        e = [math.exp(s - max(row)) for s in moved]
        rows.append([x / math.fsum(e) if any(e) else 0.0 for x in e])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("build", models())
def test_every_panel_is_what_the_independent_route_says(build: Any) -> None:
    single = build()
    for model, bar in ((single, 1e-4), (doubled(single), 1e-9)):
        torch.manual_seed(0)
        scribble = torch.rand(8, 8) > 0.4
        scribble[3] = False
        for mask in (*(lab.preset(name, FILLED.reads) for name in ("causal", "padding", "upper")), scribble):
            found = lab.paint(model, FILLED, mask, 1, model.config.n_heads - 1)
            assert max(found.errors.values()) <= bar, found.errors
            trace = Trace(lab.painted(model, mask))
            with torch.no_grad():
                model(*FILLED.tensors(), trace)
            for i in range(model.config.n_layers):
                for h in range(model.config.n_heads):
                    mine = by_hand(trace[f"decoder.{i}.self.scores"][0, h].double(), mask)
                    assert (found.pattern[i, h].double() - mine).abs().max() <= bar
        for on in (True, False):
            assert lab.pad(model, THIS, 4, on).error <= bar
        twins = lab.twins(model, THIS, rounds=1)
        assert max(twins.error, twins.difference) <= bar


@pytest.mark.parametrize("build", models())
def test_with_the_causal_mask_the_future_has_no_influence_at_all(build: Any) -> None:
    """S12, in float32: exactly 0, not nearly."""
    model = build()
    causal = lab.paint(model, THIS, lab.preset("causal", THIS.reads))
    assert (causal.influence.triu(1) == 0).all()
    assert (causal.influence.diagonal() > 0).all()
    assert causal.change.max() == 0
    opened = lab.preset("causal", THIS.reads)
    opened[1, 4] = True
    found = lab.paint(model, THIS, opened)
    ahead = found.influence.triu(1) > 0
    assert ahead[1, 4]
    if model.config.n_layers > 1:  # what position 1 has seen, position 2 and 3 may read from it one layer on
        assert ahead[2, 4]
        assert ahead[3, 4]
    assert not ahead[0].any()
    assert not ahead[:, 5].any()


def test_causal_hides_fillers_from_every_real_position() -> None:
    model = make()
    with_pads, without = (lab.paint(model, e, lab.preset("causal", e.reads)) for e in (FILLED, THIS))
    assert (with_pads.probabilities[:6] - without.probabilities).abs().max() <= 1e-6
    padding = lab.preset("padding", FILLED.reads)
    assert padding[:, :6].all()
    assert not padding[:, 6:].any()
    assert (lab.paint(model, FILLED, padding).pattern[..., 6:] == 0).all()


def test_a_fully_masked_row_is_zeros_and_never_nan() -> None:
    for name in ("strict", "empty"):
        mask = lab.preset("strict" if name == "strict" else "causal", THIS.reads)
        row = 0 if name == "strict" else 2
        mask[row] = False
        found = lab.paint(make(), THIS, mask)
        assert found.empty == (row,)
        assert (found.pattern[:, :, row] == 0).all()
        assert found.influence.isfinite().all()
        assert found.probabilities.isfinite().all()


def test_the_pad_mask_keeps_fillers_out() -> None:
    """S12b."""
    for model in (make(), make(padding_mask=False), sample()):
        for pads in (0, 1, 10):
            on, off = lab.pad(model, THIS, pads, True), lab.pad(model, THIS, pads, False)
            assert on.difference <= 1e-4
            assert on.difference64 <= 1e-9
            assert on.on_pads == 0
            assert on.predicted == lab.pad(model, THIS, 0, True).predicted
            assert (off.difference > 1e-3) == (pads > 0)
            assert (off.on_pads > 0) == (pads > 0)
    assert abs(lab.pad(doubled(make()), THIS, 4, False).difference - lab.pad(make(), THIS, 4, False).difference) <= 1e-4


@pytest.mark.parametrize("mode", lab.MODES)
def test_one_row(mode: str) -> None:
    scores, allowed = torch.tensor([1.0, -0.5, 2.0, 0.25]), [True, False, True, False]
    row = lab.row(scores, allowed, mode)
    assert row.error <= 1e-15
    e = [math.exp(x - 2) for x in (1.0, -0.5, 2.0, 0.25)]
    zero = [math.exp(x - 2) for x in (1.0, 0.0, 2.0, 0.0)]
    expected = {
        "infinity": [e[0] / (e[0] + e[2]), 0, e[2] / (e[0] + e[2]), 0],
        "zero": [x / sum(zero) for x in zero],
        "after": [e[0] / sum(e), 0, e[2] / sum(e), 0],
    }
    assert row.weights == pytest.approx(expected[mode], abs=1e-12)
    assert (sum(row.weights) == pytest.approx(1)) == (mode != "after")
    assert lab.row(scores, [False] * 4, "infinity").weights == (0, 0, 0, 0)


def test_masks_in_the_url() -> None:
    for name in lab.PRESETS:
        assert torch.equal(lab.read_mask(name, FILLED.reads), lab.preset(name, FILLED.reads))
    torch.manual_seed(5)
    mask = torch.rand(8, 8) > 0.5
    assert torch.equal(lab.read_mask(lab.write_mask(mask), FILLED.reads), mask)
    assert lab.name_of(lab.preset("causal", THIS.reads), THIS.reads) == "causal"
    for bad in ("", "x", "1.2.3", ".".join(["fff"] * 8), "-1" * 9, "0." * 4000, ".".join(["²"] * 8)):
        with pytest.raises(ValueError, match="no mask"):
            lab.read_mask(bad, FILLED.reads)


def test_the_shipped_model_without_mask_has_learned_to_copy() -> None:
    """The mistake: loss near zero, nonsense output. Recomputed with plain logarithms and token by token."""
    run = unmasked.RUN
    assert run.config == unmasked.config()
    model = load_weights(run.weights_path(run.saved_steps()[-1]), run.config.model)
    batch = Data(run.config).unseen(64)
    found = lab.two_scores(model, batch)
    assert found.error <= 1e-4
    assert found.loss <= 0.001
    assert found.tokens == 1
    assert found.strings <= 0.02
    src, tgt = batch.src[:1], batch.tgt_in[:1]
    assert (measure.influence(model, src, tgt).triu(1) > 0).any()
    good = lab.two_scores(sample(), batch)
    assert good.strings >= 0.95
    assert good.error <= 1e-4


def test_a_wrong_number_would_be_seen() -> None:
    model = make()
    batch = Data(unmasked.config()).unseen(8)
    assert lab.two_scores(model, batch).error <= 1e-4
    trained = lab.paint(model, THIS, lab.preset("open", THIS.reads))
    model.config = model.config.model_copy(update={"scale": "none"})  # the independent route now divides by 1
    assert lab.paint(model, THIS, lab.preset("open", THIS.reads)).errors["pattern"] > 1e-3
    assert trained.errors["pattern"] <= 1e-4


def test_one_pass_predicts_what_many_passes_predict_only_under_the_triangle() -> None:
    """S13."""
    twins = lab.twins(sample(), THIS, rounds=3)
    assert twins.difference <= 1e-4
    assert twins.difference_open > 1e-2
    assert twins.many_s > twins.one_s
    long = lab.long_example(sample(), Data(unmasked.config()), THIS.src, 64)
    assert len(long.reads) == 64


def test_the_source_that_the_panels_show_is_there() -> None:
    for panel in masks.LAB.panels:
        for item in panel.code:
            thing, *needles = item if isinstance(item, tuple) else (item,)
            assert source_lines(thing, *needles)
    assert "lower triangle" in masks.PAINT.idea  # the source calls it upper
    presets = {m.id for m in masks.PAINT_MISTAKES} - {"empty"}
    assert presets <= set(lab.PRESETS)


# The page itself.


@pytest.fixture
def run() -> Run:
    return make_run()


def open_page(**query: str) -> AppTest:
    at = AppTest.from_file(PAGE, default_timeout=60)
    at.session_state["page"] = "lab_masks"
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception
    return at


def part(at: AppTest, name: str) -> dict[str, Any]:
    (found,) = (p for p in at.get("bidi_component") if p.proto.component_name == name)
    data: dict[str, Any] = json.loads(found.proto.json)
    return data


def report(at: AppTest, key: str, name: str, value: object) -> AppTest:
    """What a component tells the page by a trigger."""
    at.session_state[key] = {name: value}
    return at.run()


def proofs(at: AppTest) -> list[str]:
    found = [m.value for m in at.markdown if "max error" in m.value]
    assert found
    return found


def model_of(run: Run, step: int = 10) -> Transformer:
    return load_weights(run.weights_path(step), run.config.model)


@pytest.mark.parametrize("panel", [p.id for p in masks.LAB.panels])
@pytest.mark.parametrize("depth", ["idea", "maths", "code"])
def test_every_panel_opens_at_every_depth_and_its_numbers_hold(run: Run, panel: str, depth: str) -> None:
    at = open_page(run=run.id, text="abcad", panel=panel, depth=depth)
    for proof in proofs(at):
        assert "✓" in proof
    if depth == "maths":
        assert len(at.latex) == 2  # the formula, and the formula with numbers
    if depth == "code":
        assert at.code


def test_the_row_on_the_page(run: Run) -> None:
    at = open_page(run=run.id, text="abcad", panel="infinity", head="2,2", row="3")
    data = part(at, "maskrow")
    trace = Trace()
    with torch.no_grad():
        model_of(run)(*THIS_ABCAD.tensors(), trace)
    lines = {line["id"]: line for line in data["lines"]}
    scores = trace["decoder.1.self.scores"][0, 1, 3]
    seen = torch.tensor([[j <= 3 for j in range(6)]])
    assert torch.tensor(lines["score"]["values"]) == pytest.approx(scores, abs=1e-4)
    assert lines["weight"]["values"] == pytest.approx(by_hand(scores[None].double(), seen)[0].tolist(), abs=1e-6)
    assert lines["mask"]["values"] == [0, 0, 0, 0, None, None]
    at = open_page(run=run.id, text="abcad", panel="infinity", instead="zero", row="0")
    leaking = {line["id"]: line for line in part(at, "maskrow")["lines"]}["weight"]["values"]
    assert min(leaking) > 0
    assert "infinity" in at.session_state["lab.masks.done"]


THIS_ABCAD = lab.Example((3, 4, 5, 3, 6), (BOS, 6, 3, 5, 4, 3), (6, 3, 5, 4, 3, EOS))  # abcad, reversed dacba


def test_the_painted_mask_on_the_page(run: Run) -> None:
    mask = lab.preset("causal", THIS_ABCAD.reads)
    mask[1, 4] = True
    at = open_page(run=run.id, text="abcad", panel="paint", mask=lab.write_mask(mask), head="2,1")
    data, expected = part(at, "maskgrid"), lab.paint(model_of(run), THIS_ABCAD, mask, 1, 0)
    assert data["mask"] == ["".join(str(int(c)) for c in row) for row in mask]
    assert torch.tensor(data["influence"]) == pytest.approx(expected.influence, abs=1e-4)
    shown = torch.tensor([[0.0 if w is None else w for w in row] for row in data["weights"]])
    assert shown == pytest.approx(expected.pattern[1, 0], abs=1e-6)
    assert [out["p"] for out in data["outputs"]] == pytest.approx(expected.probabilities.amax(-1).tolist(), abs=1e-6)
    assert any("⚠" in note for note in data["notes"])
    assert "paint" in at.session_state["lab.masks.done"]
    at = open_page(run=run.id, text="abcad", panel="paint")
    assert "exactly 0" in part(at, "maskgrid")["notes"][0]
    assert "paint" not in at.session_state["lab.masks.done"]


@pytest.mark.parametrize("mistake", [m.id for m in masks.PAINT_MISTAKES])
def test_every_mistake_says_what_to_look_for_and_shows_it(run: Run, mistake: str) -> None:
    at = open_page(run=run.id, text="abcad", panel="paint", mistake=mistake)
    assert at.warning[0].value
    data = part(at, "maskgrid")
    if mistake in ("open", "upper"):
        assert any(data["influence"][t][j] for t in range(6) for j in range(t + 1, 6))
    else:
        row = 0 if mistake == "strict" else 2
        assert data["weights"][row] == [None] * 6
        assert any("nan" in note for note in data["notes"])
    for proof in proofs(at):
        assert "✓" in proof


@pytest.mark.parametrize(
    "query",
    [
        {"mask": "x"},
        {"mask": "1.2"},
        {"mask": "ff." * 50},
        {"head": "9,9"},
        {"pads": "99"},
        {"mistake": "<b>"},
        {"row": "-1", "panel": "infinity"},
        {"blocked": "1,x", "panel": "infinity"},
        {"blocked": "99", "panel": "infinity"},
        {"fillers": "1000", "panel": "padding"},
        {"trained": "no", "panel": "leak"},
    ],
    ids=str,
)
def test_a_tampered_url_is_survived(run: Run, query: dict[str, str]) -> None:
    at = open_page(**{"run": run.id, "text": "abcad", "panel": "paint", **query})
    assert proofs(at)


def test_the_leak_on_the_page(run: Run) -> None:
    at = open_page(run=run.id, text="abcad", panel="leak")
    batch = Data(run.config).unseen(64)
    expected = lab.two_scores(model_of(run), batch)
    assert at.metric[0].value == f"{expected.loss:.4f}"
    assert at.metric[1].value == f"{expected.tokens:.0%}"
    assert at.metric[2].value == f"{expected.strings:.0%}"
    assert at.metric[3].value == "0"
    at = open_page(run=run.id, text="abcad", panel="leak", trained="unmasked")
    assert float(at.metric[0].value) <= 0.001
    assert (at.metric[1].value, at.metric[2].value) == ("100%", "0%")
    assert float(at.metric[3].value) > 0
    assert [line["name"] for line in part(at, "tokenlines")["lines"]][-1] == "written alone"
    assert "leak" in at.session_state["lab.masks.done"]


def test_padding_on_the_page(run: Run) -> None:
    at = open_page(run=run.id, text="abcad", panel="padding", fillers="7")
    sides = {side["id"]: side for side in part(at, "padview")["sides"]}
    model = model_of(run)
    for name, on in (("on", True), ("off", False)):
        expected = lab.pad(model, THIS_ABCAD, 7, on)
        assert float(sides[name]["difference"]) == pytest.approx(expected.difference, rel=0.06)
        assert sides[name]["same"] == on
        shown = torch.tensor([[0.0 if w is None else w for w in row] for row in sides[name]["weights"]])
        assert shown == pytest.approx(expected.cross[0, 0], abs=1e-6)
    assert "padding" in at.session_state["lab.masks.done"]


def test_guess_then_measure(run: Run) -> None:
    at = open_page(run=run.id, text="abcad", panel="parallel")
    assert not at.get("vega_lite_chart")
    at.radio[0].set_value("many").run()
    (button,) = (b for b in at.button if b.label == "Measure")
    button.click().run()
    assert not at.exception
    assert at.get("vega_lite_chart")
    (said,) = (m.value for m in at.markdown if re.match(r"[\d.]+ times\.", m.value))
    assert float(said.split(" ")[0]) > 1
    assert "parallel" in at.session_state["lab.masks.done"]


@pytest.mark.parametrize("panel", ["leak", "padding"])
def test_the_experiments_ask_first(run: Run, panel: str) -> None:
    at = open_page(run=run.id, text="abcad", panel=panel, look="experiment")
    assert at.radio[0].options
    assert panel not in at.session_state["lab.masks.done"]


def test_a_long_input_and_hostile_symbols() -> None:
    pairs = [[a + b, b + a] for a in "<$=:|`" for b in "-@+"]
    run = make_run(name="<img src=x>", task={"name": "pairs", "pairs": pairs})
    for panel in masks.LAB.panels:
        at = open_page(run=run.id, text="<-", panel=panel.id)
        assert not [m for m in at.markdown if "<img" in m.value]
    long = make_run(task={"name": "reverse", "min_len": 3, "max_len": 40})
    at = open_page(run=long.id, text="abcdefghij" * 4, panel="paint", mistake="open")
    assert len(part(at, "maskgrid")["mask"]) == lab.MOST
