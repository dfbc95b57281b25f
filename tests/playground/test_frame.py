"""The frame of the labs: real source lines, values from the URL, every lab complete; experiments and their shipped results."""

import importlib
import json
import math

import pytest

from core.attention import attend, causal_mask
from core.config import ModelConfig
from core.lab.experiments import EXPERIMENTS, Claim, Experiment, train
from core.model import Transformer
from playground.lessons import LABS, experiment, frame
from playground.lessons.frame import Lab, Panel, pair, parse, source_lines, where

MODULES = [lab.id for lab in LABS if (frame.ROOT / "pages" / f"lab_{lab.id}.py").is_file()]


def lab(name: str) -> Lab:
    found = importlib.import_module(f"playground.lessons.{name}").LAB
    assert isinstance(found, Lab)
    return found


def test_there_are_seven_labs_in_their_order() -> None:
    assert [entry.id for entry in LABS] == ["attention", "scaling", "heads", "masks", "positions", "flows", "stack"]


@pytest.mark.parametrize("name", MODULES)
def test_every_panel_is_complete(name: str) -> None:
    found = lab(name)
    assert found.id == name
    assert found.title == next(entry.title for entry in LABS if entry.id == name)
    assert len({panel.id for panel in found.panels}) == len(found.panels)
    for panel in found.panels:
        assert isinstance(panel, Panel)
        assert all((panel.title, panel.idea, panel.maths, panel.action, panel.code)), panel.id
        assert panel.idea.count("$") == 0, panel.id  # no symbols in the idea


@pytest.mark.parametrize("name", MODULES)
def test_the_code_of_every_panel_is_in_the_source_of_core(name: str) -> None:
    """Needles that the source no longer holds raise."""
    for panel in lab(name).panels:
        for item in panel.code:
            thing, *needles = item if isinstance(item, tuple) else (item,)
            text = source_lines(thing, *needles)
            place = frame.ROOT / where(thing).split(":")[0]
            source = place.read_text(encoding="utf-8")
            assert place.is_relative_to(frame.ROOT / "core"), panel.id
            assert all(line.strip() in source for line in text.splitlines() if line != "…"), panel.id


def test_source_lines() -> None:
    assert source_lines(attend, "scores = q @") == "scores = q @ k.transpose(-2, -1) * scale  # (B, H, Tq, Tk)"
    assert source_lines(ModelConfig.score_scale).startswith("@property")
    assert source_lines(causal_mask).startswith("def causal_mask")
    assert source_lines(Transformer).endswith("…")
    assert where(attend).startswith("core/attention.py:")
    with pytest.raises(ValueError, match="not in the source"):
        source_lines(attend, "no such line")


@pytest.mark.parametrize(
    ("text", "default", "kind", "wanted"),
    [
        ("7", 0, None, 7),
        ("0.5", 0.0, None, 0.5),
        ("True", False, None, True),
        ("b", "a", ("a", "b"), "b"),
        ("16", 4, (4, 16), 16),
        ("2,3", (0, 0), pair, (2, 3)),
        ("-1,3", (0, 0), pair, (-1, 3)),  # whoever uses a cell holds it against its matrix
    ],
)
def test_values_of_the_url(text, default, kind, wanted) -> None:
    assert parse(text, default, kind) == wanted


@pytest.mark.parametrize(
    ("text", "default", "kind"),
    [
        ("seven", 0, None),
        ("nan", 0.0, None),
        ("inf", 0.0, None),
        ("yes", False, None),
        ("<img src=x>", "a", ("a", "b")),
        ("5", 4, (4, 16)),
        ("2", (0, 0), pair),
        ("2,3,4", (0, 0), pair),
        ("9" * 5000, 0, None),
        ("1," + "9" * 5000, (0, 0), pair),
    ],
)
def test_bad_values_of_the_url_are_refused(text, default, kind) -> None:
    with pytest.raises((ValueError, KeyError)):
        parse(text, default, kind)


@pytest.mark.parametrize("one", EXPERIMENTS.values(), ids=EXPERIMENTS.keys())
def test_every_experiment_is_complete(one: Experiment) -> None:
    assert one.outcome in one.options
    assert len(one.options) == 3
    assert one.claims
    assert one.seeds == (1, 2, 3)
    known = {v.id for v in one.variants}
    assert {c.variant for c in one.claims} <= known
    assert {c.minus for c in one.claims} <= {*known, ""}
    for variant in known:
        config = one.config(variant, 2)
        assert config.train.seed == 2
        assert config.train.steps == 600


@pytest.mark.parametrize("one", EXPERIMENTS.values(), ids=EXPERIMENTS.keys())
def test_the_shipped_results_are_labelled_and_hold_every_claim(one: Experiment) -> None:
    """What the page shows at once is what the lesson says, on every seed."""
    result = experiment.shipped(one.id)
    assert result is not None, "python -m tests.claims.ship"
    assert result.seeds == one.seeds
    assert result.steps == 600
    assert result.made
    assert result.versions["torch"]
    assert set(result.metrics) == {v.id for v in one.variants}
    for seed in range(len(one.seeds)):
        found = {variant: seeds[seed] for variant, seeds in result.metrics.items()}
        for claim in one.claims:
            assert claim.holds(found), (claim, claim.value(found))
    for variant, seeds in result.metrics.items():
        assert set(one.metrics) <= set(seeds[0])
        last = result.curves[variant][-1]
        assert last["step"] == 600
        assert math.isfinite(last["loss"])


def test_the_shipped_files_are_small() -> None:
    assert sum(path.stat().st_size for path in experiment.FOLDER.glob("*.json")) < 500_000
    for path in experiment.FOLDER.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("one", EXPERIMENTS.values(), ids=EXPERIMENTS.keys())
def test_what_is_measured_is_what_tables_and_claims_name(one: Experiment) -> None:
    """On a run of two steps: only the names matter here."""
    run = one.config(one.variants[0].id, 1)
    small = run.model_copy(update={"train": run.train.model_copy(update={"steps": 2, "batch_size": 4})})
    model, data, records = train(small)
    assert [record.step for record in records] == [1, 2]  # the last step is always tested
    found = one.measure(model, data)
    assert set(one.metrics) <= set(found)
    assert {claim.metric for claim in one.claims} <= set(found)
    assert all(math.isfinite(value) for value in found.values())


def test_claims() -> None:
    results = {"a": {"loss": 1.5}, "b": {"loss": 0.25}}
    assert Claim("S0", "a", "loss", at_least=1.0).holds(results)
    assert not Claim("S0", "a", "loss", at_most=1.0).holds(results)
    assert Claim("S0", "a", "loss", at_least=1.0, minus="b").value(results) == 1.25
    assert not Claim("S0", "a", "loss", at_most=9.0).holds({"a": {"loss": math.nan}})


def test_numbers_of_the_table() -> None:
    assert experiment.number(0) == "0"
    assert experiment.number(0.0003) == "3e-4"
    assert experiment.number(0.9961) == "0.996"
    assert experiment.spread([]) == "–"
    assert experiment.spread([1.0, 1.0]) == "1.000"
    assert experiment.spread([0.1, 0.3]) == "0.200  (0.100 … 0.300)"
