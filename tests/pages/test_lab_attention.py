"""Lab 1: every number that is shown against a second way to it, on the sample run and on fresh random models."""

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from core.checkpoint import load_weights
from core.config import ModelConfig
from core.lab import recompute
from core.model import Transformer
from core.positions import table
from core.tokens import BOS
from playground.lessons import attention, attention_shapes, attention_steps, attention_view
from playground.lessons.attention_formulas import FORMULAS
from playground.lessons.attention_view import unpack
from playground.lessons.frame import source_lines
from playground.runs.store import Run
from tests.pages.looking import make_run

ROOT = Path(__file__).parents[2]
PAGE = str(ROOT / "pages" / "lab_attention.py")
SRC, ANSWER = [3, 4, 5, 3, 6], [6, 3, 5, 4, 3]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm": "post", "n_heads": 1},
    {"positions": "rotary"},
    {"positions": "alibi"},
    {"positions": "learned", "scale": "none"},
    {"positions": "integer", "position_placement": "one_direction"},
    {"positions": "unit"},
    {"positions": "binary", "scale": "sqrt_d_model"},
    {"causal_mask": False, "padding_mask": False, "positions": "none"},
]


def make(double: bool = False, **config: Any) -> Transformer:
    torch.manual_seed(1)
    model = Transformer(ModelConfig.model_validate({"d_model": 16, "n_heads": 4, "n_layers": 2, "d_ff": 16, **config}))
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, std=0.3)
    if double:
        model = model.double()
        for part in (model.src_embedding, model.tgt_embedding):
            if hasattr(part.position, "table"):  # tables were made in float32
                kind = model.config.positions
                part.position.table = table("integer" if kind == "unit" else kind, 64, 16, torch.float64)
    return model.eval()


def sample() -> tuple[Transformer, list[int], list[int]]:
    """The run that ships with the app, at its last step (the fixture of this folder hides it from the app)."""
    run = Run(ROOT / "playground" / "samples" / "sample-reverse")
    return load_weights(run.weights_path(run.saved_steps()[-1]), run.config.model), SRC, ANSWER


@pytest.mark.parametrize("where", attention_steps.PLACES)
@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_every_panel_on_random_models(config: dict[str, Any], where: str) -> None:
    for double, bar in ((False, 1e-4), (True, 1e-9)):
        model = make(double, **config)
        tgt = attention_steps.target_of(model, SRC, ANSWER)
        for layer, head in ((0, 0), (1, model.config.n_heads - 1)):
            steps = attention_steps.steps_of(model, SRC, tgt, where, layer, head)
            errors = attention_steps.errors(model, steps, SRC, tgt)
            assert set(errors) == set(FORMULAS)
            assert max(errors.values()) <= bar, errors


@pytest.mark.parametrize("where", attention_steps.PLACES)
def test_every_panel_on_the_sample(where: str) -> None:
    model, src, answer = sample()
    for exact, bar in ((model, 1e-4), (copy.deepcopy(model).double(), 1e-9)):
        if exact is not model:
            for part in (exact.src_embedding, exact.tgt_embedding):
                part.position.table = table("sincos", 64, model.config.d_model, torch.float64)
        tgt = attention_steps.target_of(exact, src, answer)
        for layer in range(model.config.n_layers):
            for head in range(model.config.n_heads):
                steps = attention_steps.steps_of(exact, src, tgt, where, layer, head)
                errors = attention_steps.errors(exact, steps, src, tgt)
                assert max(errors.values()) <= bar, errors


def test_a_wrong_number_is_noticed() -> None:
    model = make()
    tgt = attention_steps.target_of(model, SRC, ANSWER)
    steps = attention_steps.steps_of(model, SRC, tgt, "decoder", 1, 2)
    for panel, name in (
        ("embed", "embedded_q"),
        ("project", "q"),
        ("project", "x_q"),
        ("score", "products"),
        ("scale", "scores"),
        ("mask", "mask"),
        ("softmax", "pattern"),
        ("weigh", "z"),
    ):
        wrong = copy.deepcopy(steps)
        tensor = wrong.embedded_q.input if name == "embedded_q" else getattr(wrong, name).clone()
        if name == "mask":
            tensor[0, 3] = True
        else:
            tensor[1, 0] += 0.01
        object.__setattr__(wrong, name, wrong.embedded_q if name == "embedded_q" else tensor)
        assert attention_steps.errors(model, wrong, SRC, tgt)[panel] >= 0.009, name


def test_a_row_adds_up_to_one_and_a_blocked_cell_is_nothing() -> None:
    model = make()
    steps = attention_steps.steps_of(model, SRC, (BOS, *ANSWER), "decoder", 0, 1)
    assert attention_steps.far_from_one(steps) <= 1e-6
    assert attention_steps.blocked_weight(steps) == 0
    assert not steps.mask[0, 1]
    torch.testing.assert_close(torch.stack([steps.contributions(i).sum(0) for i in range(6)]), steps.z)


def test_what_the_decoder_reads() -> None:
    model = make()
    assert attention_steps.target_of(model, SRC, ANSWER) == (BOS, *ANSWER)
    own = attention_steps.target_of(model, SRC, [])
    assert own[0] == BOS
    assert len(own) <= attention_steps.UNKNOWN_ANSWER


def test_dropout_makes_weights_above_one() -> None:
    model = make()
    tgt = (BOS, *ANSWER)
    (where, layer, head), (i, j) = attention_steps.largest_after_dropout(model, SRC, tgt, 0.3)
    pattern = attention_steps.steps_of(model, SRC, tgt, where, layer, head).pattern
    found = attention_steps.dropped(pattern, 0.3)
    assert found.after[i, j] > 1  # the first decoder position sees itself alone: weight 1 before dropout
    assert attention_steps.dropped_error(pattern, found) <= 1e-6
    assert torch.equal(attention_steps.dropped(pattern, 0.3).after, found.after)
    assert not found.kept.all()


@pytest.mark.parametrize("size", ["paper", "own"])
def test_one_wide_projection_is_many_narrow_ones(size: str) -> None:
    """S1, and the mistake: slicing x first is something else."""
    model = make()
    steps = attention_steps.steps_of(model, SRC, (BOS, *ANSWER), "encoder", 0, 0)
    layer, x = attention_shapes.paper(10) if size == "paper" else (model.attention("encoder.0.self"), steps.x_q)
    shapes = attention_shapes.walk(layer, x)
    assert shapes.narrow <= 1e-5
    assert shapes.error <= 1e-5
    assert shapes.sliced > 0.1
    assert shapes.weights == 3 * shapes.d_model**2 == shapes.heads * shapes.weights_sliced
    exact = attention_shapes.walk(copy.deepcopy(layer).double(), x.double())
    assert max(exact.narrow, exact.error) <= 1e-9
    if size == "paper":
        assert (shapes.d_model, shapes.heads, shapes.d_k) == (512, 8, 64)
        assert shapes.shape == {
            "x": (10, 512),
            "projected": (10, 1536),
            "q": (8, 10, 64),
            "pattern": (8, 10, 10),
            "z": (8, 10, 64),
            "merged": (10, 512),
            "out": (10, 512),
        }


def test_every_line_of_source_is_there() -> None:
    for panel in attention.LAB.panels:
        for item in panel.code:
            thing, *needles = item if isinstance(item, tuple) else (item,)
            assert source_lines(thing, *needles)
    for thing, needle in attention.LINES.values():
        line = attention_view.code_line(thing, needle)
        file, number = line["at"].split(":")
        assert (ROOT / file).read_text(encoding="utf-8").splitlines()[int(number) - 1].strip() == line["text"]


# ---- The page -------------------------------------------------------------------------------------------------------


@pytest.fixture
def run() -> Run:
    return make_run()


def open_page(**query: str) -> AppTest:
    at = AppTest.from_file(PAGE, default_timeout=30)
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception
    return at


def data_of(at: AppTest, name: str = "steps") -> dict[str, Any]:
    (part,) = (p for p in at.get("bidi_component") if p.proto.component_name == name)
    return json.loads(part.proto.json)


def checked(at: AppTest) -> list[str]:
    return [m.value for m in at.markdown if "max error" in m.value]


@pytest.mark.parametrize("panel", [p.id for p in attention.LAB.panels])
@pytest.mark.parametrize("depth", ["idea", "maths", "code"])
def test_every_panel_opens_at_every_depth_and_is_checked(run: Run, panel: str, depth: str) -> None:
    at = open_page(run=run.id, text="abca", panel=panel, depth=depth, where="decoder", cell="3,2")
    assert checked(at)
    assert all(":green[✓" in text for text in checked(at))
    assert bool(at.latex) == (depth == "maths")
    assert bool(at.code) == (depth == "code")
    assert not at.warning


@pytest.mark.parametrize("where", attention_steps.PLACES)
def test_the_numbers_sent_to_the_browser_are_the_recomputed_ones(run: Run, where: str) -> None:
    at = open_page(
        run=run.id, step="5", text="abca", panel="score", where=where, layer="2", head="2", cell="2,3", feature="4"
    )
    data = data_of(at)
    assert (
        data["view"] | {"where": where, "layer": 1, "head": 1, "i": 1, "j": 2, "f": 3, "panel": "score"} == data["view"]
    )
    model = load_weights(run.weights_path(5), run.config.model)
    src, tgt = [3, 4, 5, 3], (BOS, 3, 5, 4, 3)
    trace = attention_steps.traced(model, src, tgt)
    again = recompute.head(model, trace, attention_steps.PLACES[where].format(1), 1)
    for name in ("q", "k", "v", "products", "scores", "pattern", "z"):
        assert np.abs(unpack(data["arrays"][name]) - getattr(again, name).numpy()).max() <= 1e-4, name
    source = recompute.embedding(model, src, "src", len(src) - 1).detach()
    target = recompute.embedding(model, tgt, "tgt", len(src)).detach()
    q_side, k_side = {"encoder": (source, source), "decoder": (target, target), "cross": (target, source)}[where]
    assert np.abs(unpack(data["arrays"]["q_input"]) - q_side.numpy()).max() <= 1e-4
    assert np.abs(unpack(data["arrays"]["k_input"]) - k_side.numpy()).max() <= 1e-4
    # What the browser multiplies and adds when a bar is clicked.
    for letter, x in (("q", "x_q"), ("k", "x_k"), ("v", "x_k")):
        made = unpack(data["arrays"][x]).astype(float) @ unpack(data["arrays"][f"w_{letter}"]).astype(float).T
        made = made + unpack(data["arrays"][f"b_{letter}"])
        assert np.abs(made - getattr(again, letter).numpy()).max() <= 1e-4


@pytest.mark.parametrize("panel", FORMULAS)
def test_the_formula_ends_with_the_recomputed_number(run: Run, panel: str) -> None:
    at = open_page(
        run=run.id,
        step="10",
        text="abca",
        panel=panel,
        depth="maths",
        where="decoder",
        cell="3,2",
        feature="5",
        number="7",
    )
    model = load_weights(run.weights_path(10), run.config.model)
    tgt = (BOS, 3, 5, 4, 3)
    head = recompute.head(model, attention_steps.traced(model, [3, 4, 5, 3], tgt), "decoder.0.self", 0)
    expected = {
        "embed": recompute.embedding(model, tgt, "tgt", 4)[2, 6].item(),
        "project": head.q[2, 4],
        "score": head.products[2, 1],
        "scale": head.scores[2, 1],
        "mask": head.scores[2, 1],
        "softmax": head.pattern[2, 1],
        "weigh": head.z[2, 4],
    }[panel]
    formula = at.latex[1].value.split(r"\qquad")[0]
    shown = float(re.sub(r"[()$]", "", formula.rsplit("=", 1)[1]).strip())
    assert math.isclose(shown, float(expected), abs_tol=0.00051)


def test_what_the_browser_reports_is_checked() -> None:
    view = {
        "panel": "score",
        "where": "cross",
        "layer": 1,
        "head": 0,
        "i": 3,
        "j": 1,
        "f": 2,
        "c": 0,
        "side": "q",
        "part": "k",
    }
    values, report, done = attention_view.told(json.dumps(view | {"seq": "x.1", "did": ["score", "nonsense"]})) or (
        {},
        "",
        set(),
    )
    assert values["cell"] == "4,2"
    assert (values["layer"], values["head"], values["feature"], values["where"]) == ("2", "1", "3", "cross")
    assert report == "x.1"
    assert done == {"score"}
    for bad in ("", "[]", "{}", None, json.dumps(view), json.dumps(view | {"seq": "", "did": [], "panel": "<b>"})):
        assert attention_view.told(bad) is None


@pytest.mark.parametrize(
    "bad", [{"cell": "9,9"}, {"cell": "0,1"}, {"where": "../.."}, {"head": "99"}, {"feature": "x"}, {"panel": "<b>"}]
)
def test_a_bad_url_is_ignored_with_a_notice(run: Run, bad: dict[str, str]) -> None:
    at = open_page(run=run.id, text="abca", **{"panel": "score", **bad})
    view = data_of(at)["view"]
    assert (view["i"], view["j"], view["where"], view["head"], view["f"]) == (1, 0, "encoder", 0, 0)
    assert any(next(iter(bad)) in warning.value for warning in at.warning)


def test_dropout_goes_where_a_weight_is_above_one(run: Run) -> None:
    at = open_page(run=run.id, text="abca", panel="softmax", mistake="dropout")
    data = data_of(at)
    after = unpack(data["arrays"]["after"])
    assert after[data["view"]["i"], data["view"]["j"]] > 1
    assert "above 1" in at.warning[0].value


def test_slicing_first_is_shown_as_something_else(run: Run) -> None:
    at = open_page(run=run.id, text="abca", panel="shapes", cut="sliced", stage="split")
    data = data_of(at, "shapes")
    assert [figure["same"] for figure in data["figures"]] == [True, False]
    assert data["shape"]["q"] == [8, 4, 64]
    assert data["stage"] == "split"


def test_too_long_an_input_gets_a_sentence(run: Run) -> None:
    long = make_run(model={"d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 16, "max_len": 128})
    at = open_page(run=long.id, text="ab" * 40)
    assert "at most 64 tokens" in at.info[0].value
