"""Lab 5: every number that is shown against loops and `math`, on the sample run and on fresh random models."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from core.checkpoint import load_weights
from core.config import ModelConfig
from core.lab import positions_plain as plain
from core.lab import recompute
from core.lab.experiments import at_length
from core.model import Transformer
from core.positions import alibi_bias
from core.tasks import Data
from core.tokens import EOS
from playground.lessons import experiment, positions, positions_lengths, positions_wishes
from playground.lessons import positions_measure as measure
from playground.lessons.frame import LIMIT, source_lines
from playground.lessons.positions_figures import FINE
from playground.runs.store import Run
from tests.pages.looking import make_run

ROOT = Path(__file__).parents[2]
PAGE = str(ROOT / "pages" / "lab_positions.py")
VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm": "post", "positions": "integer"},
    {"positions": "integer", "position_placement": "one_direction"},
    {"positions": "unit"},
    {"positions": "unit", "position_placement": "one_direction"},
    {"positions": "binary", "d_model": 128, "n_heads": 1},
    {"positions": "sine", "d_model": 15, "n_heads": 3},
    {"positions": "learned", "max_len": 12},
    {"positions": "rotary"},
    {"positions": "alibi"},
    {"positions": "none", "d_model": 2, "n_heads": 1},
]


def make(**config: Any) -> Transformer:
    torch.manual_seed(1)
    return Transformer(
        ModelConfig.model_validate({"d_model": 16, "n_heads": 4, "n_layers": 1, "d_ff": 16, **config})
    ).eval()


def sample() -> tuple[Transformer, Run]:
    """The run that ships with the app, at its last step (the fixture of this folder hides it from the app)."""
    run = Run(ROOT / "playground" / "samples" / "sample-reverse")
    return load_weights(run.weights_path(run.saved_steps()[-1]), run.config.model), run


def models() -> list[Transformer]:
    return [sample()[0], *(make(**config) for config in VARIANTS)]


@pytest.mark.parametrize("model", models(), ids=lambda m: f"{m.config.positions}-{m.config.d_model}")
def test_every_rung_against_the_loops(model: Transformer) -> None:
    for kind, length in itertools.product(measure.KINDS, (3, 10)):
        rung = measure.rung(kind, length, model)
        own = kind == model.config.positions
        assert rung.own == own
        errors = measure.rung_errors(rung, model)
        assert set(errors) == {"products"} if kind == "learned" else {"table", "products"}
        assert max(errors.values()) <= (LIMIT if own else FINE), (kind, errors)
        if kind not in ("rotary", "alibi"):
            assert rung.table.shape == (length, model.config.d_model - (kind == "sincos" and model.config.d_model % 2))


def test_the_own_table_is_what_the_model_adds() -> None:
    for kind, placement in (("unit", "one_direction"), ("learned", "every_dimension"), ("binary", "every_dimension")):
        model = make(positions=kind, position_placement=placement)
        rung = measure.rung(kind, 4, model)  # type: ignore[arg-type]
        again = torch.stack([recompute.position(model, model.src_embedding, t, 3) for t in range(4)])
        assert (rung.table - again).abs().max() <= 1e-6
    bias = alibi_bias(4, 10, 10, torch.zeros(1))[0]
    rung = measure.rung("alibi", 10, make())
    torch.testing.assert_close(rung.products.float(), bias[0])
    torch.testing.assert_close(rung.table.float(), bias[:, -1].T)


def test_a_wrong_number_is_noticed() -> None:
    model = make()
    rung = measure.rung("sine", 10, model)
    rung.table[3, 2] += 0.01
    assert measure.rung_errors(rung, model)["table"] >= 0.009
    assert measure.rung_errors(rung, model)["products"] > 1e-4
    assert measure.beyond_error("sine", 16, [x + 0.1 for x in measure.beyond_by_length("sine", 16)]) >= 0.09


@pytest.mark.parametrize("model", models(), ids=lambda m: f"{m.config.positions}-{m.config.norm}-{m.config.d_model}")
def test_layer_norm_takes_a_number_away_from_every_feature_but_not_from_a_direction(model: Transformer) -> None:
    """S14a: LayerNorm(x + t·1) = LayerNorm(x), exact up to rounding."""
    for t in (1.0, 10.0, 63.0):
        every = measure.shifted(model, 4, t, every=True)
        assert every.exact <= 1e-9
        assert every.change <= 1e-4
        assert every.error <= LIMIT
        if model.config.d_model > 2:  # of two features LayerNorm leaves nothing but a sign
            one = measure.shifted(model, 4, t, every=False)
            assert one.change > 0.1
            assert abs(one.change - one.exact) <= LIMIT
            assert one.error <= LIMIT


def test_steps_of_unit() -> None:
    """S14b."""
    assert measure.root_mean_square_step("unit", 3, 32) == pytest.approx(0.5, abs=1e-12)
    assert measure.root_mean_square_step("unit", 10, 32) == pytest.approx(1 / 9, abs=1e-12)
    for kind in ("integer", "unit", "sincos"):
        for n in (2, 3, 10, 20):
            assert abs(measure.root_mean_square_step(kind, n, 32) - measure.step_by_hand(kind, n, 32)) <= FINE
    assert measure.root_mean_square_step("sincos", 3, 32) == measure.root_mean_square_step("sincos", 20, 32)


def test_distances_between_neighbours() -> None:
    """S14c."""
    for kind in ("binary", "sine", "sincos"):
        assert measure.neighbours(kind, 20, 32)[1] <= FINE
    found, _ = measure.neighbours("binary", 20, 32)
    assert found[3] == pytest.approx(math.sqrt(3))
    assert found[15] == max(found) == pytest.approx(math.sqrt(5))


@pytest.mark.parametrize("width", [2, 15, 32, 64])
def test_waves(width: int) -> None:
    """S14d."""
    for feature in {0, width // 2, width - 1}:
        wave = measure.wave(feature, width, 20)
        assert wave.error <= FINE
        assert wave.wavelength == pytest.approx(2 * math.pi * 10_000 ** (feature / width))
        a, b = wave.twins
        assert a != b
        assert abs(math.sin(a * wave.omega) - math.sin(b * wave.omega)) == pytest.approx(wave.apart[a, b].item())
    together, error = measure.all_waves(width, 20)
    assert error <= FINE
    assert (together + torch.eye(20)).min() > 1e-4
    assert measure.wave(width - 1, width, 20).step < measure.wave(0, width, 20).step


@pytest.mark.parametrize("width", [2, 16, 32, 512])
def test_the_turn(width: int) -> None:
    """S14e."""
    for k, t in itertools.product((0, 1, 5, 10), (0, 7, 20)):
        turn = measure.turn(k, t, width)
        assert max(turn.error, turn.worst) <= FINE
        assert turn.hand <= FINE
        assert turn.matrix.shape == (width, width)
    factors = measure.factors(1, 1.0, (1, 2, 3))
    assert max(factors) - min(factors) > 1  # with the sine alone there is no one factor


@pytest.mark.parametrize("config", [(32, 8, 4), (16, 4, 4), (15, 5, 3), (2, 2, 1), (128, 128, 1)], ids=str)
def test_the_table_of_wishes(config: tuple[int, int, int]) -> None:
    """S14f: every cell measured, every cell checked."""
    grid, error = measure.grid(*config)
    assert error <= FINE
    assert set(grid) == set(measure.ROWS)
    assert all(set(cells) == set(measure.COLUMNS) for cells in grid.values())
    if config[0] < 8:
        return
    good = {row: [cells[c].good for c in measure.COLUMNS] for row, cells in grid.items()}
    assert good["integer"] == [True, True, False, True, False, False]
    assert good["unit"] == [True, False, True, True, False, True]
    assert good["unit_one"] == [True, False, True, True, True, True]
    assert good["binary"] == [True, True, True, False, True, False]
    assert good["sine"] == [True, True, True, False, True, False]
    assert good["sincos"] == [True, True, True, True, True, False]
    assert good["none"] == [False, None, None, None, None, None]
    assert good["learned"][2] is False
    assert good["rotary"][:3] == [False, True, True]
    assert good["alibi"][:3] == [False, True, False]


def test_plain_values_by_their_formulas() -> None:
    assert plain.rows("binary", 5, 3) == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert plain.rows("unit", 3, 1) == [[0], [0.5], [1]]
    assert plain.value("sincos", 2, 3, 4, 9) == math.cos(2 / 100)
    with pytest.raises(ValueError, match="no formula"):
        plain.value("learned", 0, 0, 4, 4)


@pytest.mark.parametrize("config", [{}, {"causal_mask": False}, {"positions": "unit"}], ids=str)
def test_exact_match_by_length_in_one_pass(config: dict[str, Any]) -> None:
    run = make_run(model={"d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 16, **config})
    model, data = load_weights(run.weights_path(10), run.config.model), Data(run.config)
    with (
        torch.no_grad()
    ):  # a model that always writes the end token: right for nothing, and one that ends the empty string
        model.output.bias[EOS] += 100
    curve = measure.by_length(model, data)
    assert list(curve) == list(range(2, 21))
    assert measure.by_length_error(model, data, curve) == 0
    assert measure.by_length_error(model, data, {n: v + 0.1 for n, v in curve.items()}) == pytest.approx(0.1)
    assert (at_length(data, 5, 3).src != 0).sum() == 15


def test_exact_match_of_the_sample_falls_beyond_its_lengths() -> None:
    """S14f: the shipped run, sine and cosine, trained on 3 to 10 symbols."""
    model, run = sample()
    data = Data(run.config)
    curve = measure.by_length(model, data)
    assert measure.by_length_error(model, data, curve) == 0
    assert min(curve[n] for n in range(3, 11)) >= 0.95
    assert curve[12] <= 0.05


def test_tasks_without_strings_of_every_length() -> None:
    run = make_run(task={"name": "add", "min_len": 1, "max_len": 3})
    model = load_weights(run.weights_path(10), run.config.model)
    assert measure.measurable(model, Data(run.config)) == []
    at = open_page(run=run.id, panel="length", length_side="own")
    assert "another task" in at.info[0].value


# The page


def open_page(**query: str) -> AppTest:
    at = AppTest.from_file(PAGE, default_timeout=60)
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception
    return at


def figures(at: AppTest) -> list[dict[str, Any]]:
    """What the figures of the panel were sent."""
    found = [json.loads(part.proto.json) for part in at.get("bidi_component")]
    return next(data["figures"] for data in found if "figures" in data)  # type: ignore[no-any-return]


@pytest.fixture
def run() -> Run:
    return make_run()


def checks(at: AppTest) -> list[str]:
    return [m.value for m in at.markdown if "max error" in m.value]


@pytest.mark.parametrize("panel", [p.id for p in positions.LAB.panels if p.id != "length"])
@pytest.mark.parametrize("config", [{}, {"positions": "unit", "position_placement": "one_direction", "norm": "post"}])
def test_every_panel_is_checked_at_every_depth(panel: str, config: dict[str, Any]) -> None:
    run = make_run(model={"d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 16, **config})
    for depth in ("idea", "maths", "code"):
        at = open_page(run=run.id, panel=panel, depth=depth)
        assert not at.warning
        assert not at.error
        (check,) = checks(at)
        assert "✓" in check
        if depth == "maths":
            assert len(at.latex) == 2


def test_the_code_is_there() -> None:
    for panel in positions.LAB.panels:
        for item in panel.code:
            thing, *needles = item if isinstance(item, tuple) else (item,)
            assert source_lines(thing, *needles)


@pytest.mark.parametrize("kind", measure.KINDS)
def test_the_maps_on_the_page(run: Run, kind: str) -> None:
    at = open_page(run=run.id, panel="ladder", rung=kind, length="10", cell="2,1", depth="maths")
    table, products = figures(at)
    width = len(table["rows"][0])
    if kind != "learned":
        again = plain.rows(kind, 10, width)
        shown = torch.tensor(table["rows"], dtype=torch.float64)
        assert (shown - torch.tensor(again, dtype=torch.float64)).abs().max() <= (LIMIT if kind == "sincos" else FINE)
        assert float(at.latex[1].value.strip("$").split("=")[-1]) == pytest.approx(again[2][1], abs=1e-5)
    if kind not in ("learned", "alibi"):
        dots = torch.tensor(plain.products(again), dtype=torch.float64)
        assert (torch.tensor(products["rows"], dtype=torch.float64) - dots).abs().max() <= (
            LIMIT if kind == "sincos" else FINE
        )
    assert table["picked"] == [2, 1]


def test_climbing_the_ladder_ticks_it(run: Run) -> None:
    at = open_page(run=run.id, panel="ladder")
    for kind in measure.SOURCE:
        assert "✓" not in titles(at)
        at.segmented_control(key="lab.positions.rung").set_value(kind).run()
    assert "✓" in titles(at)


def titles(at: AppTest) -> str:
    return next(m.value for m in at.markdown if m.value.startswith("###"))


def test_layer_norm_on_the_page(run: Run) -> None:
    model = load_weights(run.weights_path(10), run.config.model)
    for how, same in (("every", True), ("one", False)):
        at = open_page(run=run.id, panel="norm", how=how, t="40", text="cab", token="2")
        x, y, a, b = (torch.tensor(row["values"], dtype=torch.float64) for row in figures(at)[0]["rows"])
        weight = model.src_embedding.token.weight[3].detach().double() * 4  # "a" is id 3; √16
        assert (x - weight).abs().max() <= 1e-6
        along = torch.ones(16) if how == "every" else measure.direction(model)
        assert (y - weight - 40 * along.double()).abs().max() <= 1e-5
        assert ((a - b).abs().max() <= 1e-4) == same
        norm = measure.first_norm(model)
        again = recompute.layer_norm(y[None], norm.weight.detach(), norm.bias.detach())[0]
        assert (b - again).abs().max() <= LIMIT


def test_unit_on_the_page(run: Run) -> None:
    at = open_page(run=run.id, panel="unit", text="abc")
    short, long = figures(at)[0]["rows"]
    assert short["at"] == [0, 0.5, 1]
    assert long["at"][1] == pytest.approx(1 / 9)
    assert long["tokens"][:4] == ["a", "b", "c", "a"]
    assert any("step **0.5**" in m.value and "step **0.111**" in m.value for m in at.markdown)


def test_a_click_on_the_step_with_most_flips_ticks_it(run: Run) -> None:
    at = open_page(run=run.id, panel="binary", flip="15")
    assert any("`01111` → `10000`" in m.value and "**5**" in m.value for m in at.markdown)
    assert figures(at)[1]["picked"] == [0, 15]
    lines = {line["name"]: line["values"] for line in figures(at)[1]["lines"]}
    assert lines["Binary"][3] == pytest.approx(math.sqrt(3))
    assert max(lines["Sine + cosine"]) - min(lines["Sine + cosine"]) <= FINE


def test_waves_on_the_page(run: Run) -> None:
    at = open_page(run=run.id, panel="sine", wave="15", waves="one")
    wave, apart = figures(at)
    assert wave["lines"][1]["values"] == pytest.approx([math.sin(t / 10_000 ** (15 / 16)) for t in range(20)])
    assert apart["rows"][3][7] == pytest.approx(
        abs(math.sin(3 / 10_000 ** (15 / 16)) - math.sin(7 / 10_000 ** (15 / 16)))
    )
    at.segmented_control(key="lab.positions.waves").set_value("all").run()
    assert "✓" in titles(at)


def test_the_turn_on_the_page(run: Run) -> None:
    at = open_page(run=run.id, panel="turn", k="3", **{"from": "5"})
    matrix, clocks, bars = figures(at)
    assert matrix["rows"][0][:2] == pytest.approx([math.cos(3), math.sin(3)])
    assert clocks["clocks"][1]["turn"] == pytest.approx(3 / 10_000 ** (2 / 16))
    moved, end = bars["rows"][1]["values"], bars["rows"][2]["values"]
    assert moved == pytest.approx(plain.rows("sincos", 9, 16)[8], abs=FINE)
    assert end == pytest.approx(moved, abs=FINE)
    assert "✓" in titles(at)


def test_the_wishes_on_the_page(run: Run) -> None:
    at = open_page(run=run.id, panel="wishes", wish="0,2")
    (table,) = figures(at)
    assert len(table["columns"]) == 6  # what trained models do is shown after the prediction only
    values = {line["name"]: [cell["value"] for cell in line["cells"]] for line in table["lines"]}
    again = plain.wishes(plain.rows("sincos", 10, 16), plain.rows("sincos", 20, 16))
    assert values["Sine + cosine"] == pytest.approx([again[c] for c in measure.COLUMNS], abs=FINE)
    assert values["Integer"][2] == pytest.approx(19 / 9)
    assert any("×2.11" in m.value for m in at.markdown)
    at.session_state[f"predict.{positions_lengths.EXPERIMENT}"] = "half"
    at.run()
    assert len(figures(at)[0]["columns"]) == (8 if experiment.shipped("length") else 6)


def test_the_persons_own_curve(run: Run) -> None:
    at = open_page(run=run.id, panel="length", length_side="own")
    assert not any("figures" in json.loads(part.proto.json) for part in at.get("bidi_component"))
    at.button(key="lab.positions.ask").click().run()
    assert not at.exception
    curve, ranges = figures(at)
    model, data = load_weights(run.weights_path(10), run.config.model), Data(run.config)
    assert curve["lines"][0]["values"] == list(measure.by_length(model, data).values())
    unit = next(line for line in ranges["lines"] if line["name"] == "[0, 1]")
    assert max(unit["values"]) == 0
    assert "✓" in checks(at)[0]


def test_nothing_is_told_before_the_prediction(run: Run) -> None:
    at = open_page(run=run.id, panel="length", length_side="curve")
    assert "First say what you expect" in at.info[0].value
    assert not any("figures" in json.loads(part.proto.json) for part in at.get("bidi_component"))


def test_what_came_out_is_said_with_the_shipped_numbers(run: Run) -> None:
    result = experiment.shipped("length")
    if result is None:
        pytest.skip("no result ships with this experiment")
    at = AppTest.from_file(PAGE, default_timeout=60)
    at.query_params.update({"run": run.id, "panel": "length", "length_side": "curve"})
    at.session_state[f"predict.{positions_lengths.EXPERIMENT}"] = "zero"
    at.run()
    assert not at.exception
    text = next(m.value for m in at.markdown if "Bounded does not mean" in m.value)
    rows = result.metrics["unit_one"]
    assert f"**{sum(r['length_12'] for r in rows) / len(rows):.0%}**" in text
    (plot,) = figures(at)
    assert len(plot["lines"]) == len(result.metrics)
    assert plot["x"][-1] == 20


@pytest.mark.parametrize("bad", [{"cell": "99,0"}, {"rung": "cubic"}, {"length": "7"}, {"panel": "<b>"}, {"cell": "x"}])
def test_a_bad_url_is_ignored_with_a_notice(run: Run, bad: dict[str, str]) -> None:
    at = open_page(run=run.id, **{"panel": "ladder", **bad})
    assert figures(at)[0]["picked"] == [3, 1]
    assert any(next(iter(bad)) in warning.value for warning in at.warning)


def test_words_for_every_cell() -> None:
    grid, _ = measure.grid(16, 4, 4)
    names = dict.fromkeys(measure.KINDS, "name")
    for row in measure.ROWS:
        for column, cell in zip(
            measure.COLUMNS, positions_wishes.shown(row, grid[row], measure.COLUMNS, None), strict=True
        ):
            assert "name" in positions_wishes.explained(row, column, cell, names)


def test_the_smallest_model_and_the_shortest_input() -> None:
    run = make_run(
        model={"d_model": 2, "n_heads": 1, "n_layers": 1, "d_ff": 2, "max_len": 4},
        task={"name": "copy", "min_len": 1, "max_len": 3},
    )
    for panel in positions.LAB.panels:
        at = open_page(run=run.id, panel=panel.id, text="a", length_side="own")
        assert not at.error
        assert all("✓" in check for check in checks(at))
