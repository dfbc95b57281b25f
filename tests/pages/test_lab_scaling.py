"""Lab 2: every number shown against a second way to it, on the sample run and on fresh random models; the frame around it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from core.config import ModelConfig
from core.lab import heads, measure
from core.lab.experiments import EXPERIMENTS
from core.model import Transformer
from core.tokens import BOS
from core.trace import Trace
from playground.lessons import experiment, scaling
from playground.lessons.scaling import DIVISORS, WIDTHS
from playground.runs import store
from playground.runs.store import Run, Status
from tests.pages.conftest import Notes
from tests.pages.looking import make_run, sent

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "playground" / "samples"
SRC, TARGET = [3, 4, 5, 6, 7], [7, 6, 5, 4, 3]

Lab = Callable[..., AppTest]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    """lab(panel=…): the lab opened with these in the URL, on the run that ships with the app unless another is given."""
    monkeypatch.setattr(store, "samples", lambda: SAMPLES)

    def open_lab(**query: str) -> AppTest:
        at = AppTest.from_file(str(ROOT / "playground" / "main.py"), default_timeout=60)
        at.run()
        at.switch_page("../pages/lab_scaling.py")
        for name, value in query.items():
            at.query_params[name] = value
        at.run()
        assert not at.exception, at.exception
        return at

    return open_lab


def texts(at: AppTest) -> str:
    return "\n".join([m.value for m in at.markdown] + [c.value for c in at.caption] + [t.value for t in at.text])


def asked(at: AppTest, name: str) -> str:
    """A parameter of the URL."""
    value = at.query_params[name]
    return str(value[0] if isinstance(value, list) else value)


def stepper(at: AppTest) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = sent(at, "panels")["panels"]
    return panels


def done(at: AppTest) -> list[str]:
    return [panel["id"] for panel in stepper(at) if panel["done"]]


def dial(at: AppTest) -> dict[str, Any]:
    """What the component of the first three panels was told."""
    return sent(at, "table")


@pytest.mark.parametrize("d_k", WIDTHS)
def test_statistics_by_two_routes(d_k: int) -> None:
    again = scaling.statistics_again(d_k, 3)
    for name in DIVISORS:
        found = scaling.statistics(scaling.products(d_k, 3) / scaling.divisor(name, d_k))
        assert scaling.difference(found, again[name]) <= 1e-9


def test_what_the_syllabus_says_of_random_vectors() -> None:
    """S7: std of q·k is √d_k, 1 after scaling; without it softmax saturates and most queries get no gradient."""
    for d_k, std in ((16, 4), (64, 8), (256, 16), (1024, 32)):
        raw = scaling.statistics(scaling.products(d_k, 0))
        scaled = scaling.statistics(scaling.products(d_k, 0) / d_k**0.5)
        assert raw.std == pytest.approx(std, rel=0.06)
        assert scaled.std == pytest.approx(1, rel=0.06)
    assert raw.silent > 0.7
    assert scaled.silent == 0
    assert raw.entropy < 0.2 < 3.3 < scaled.entropy
    narrow = scaling.statistics(scaling.products(16, 0))
    assert narrow.silent < 0.05  # almost no difference at d_k 16


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("positions", ["sincos", "rotary", "alibi"])
@pytest.mark.parametrize("trained", DIVISORS)
def test_another_divisor_on_random_models(trained: str, positions: str, double: bool) -> None:
    torch.manual_seed(2)
    config = ModelConfig.model_validate(
        {"d_model": 16, "n_heads": 4, "n_layers": 2, "d_ff": 16, "scale": trained, "positions": positions}
    )
    model = Transformer(config).eval()
    model = model.double() if double else model
    if double and positions == "sincos":
        pytest.skip("tables are made in float32")
    for name in DIVISORS:
        for place in heads.attention_places(model):
            assert scaling.divided(model, SRC, TARGET, place, name).error <= (1e-9 if double else 1e-4)


@pytest.mark.parametrize("name", DIVISORS)
def test_another_divisor_is_the_model_built_with_it(name: str) -> None:
    """The edit of the queries against a second model with that setting and the same weights."""
    torch.manual_seed(3)
    config = ModelConfig.model_validate({"d_model": 16, "n_heads": 4, "n_layers": 2, "d_ff": 16})
    model = Transformer(config).eval()
    other = Transformer(config.model_copy(update={"scale": name})).eval()
    other.load_state_dict(model.state_dict())
    trace = Trace()
    with torch.no_grad():
        other(torch.tensor([SRC]), torch.tensor([[BOS, *TARGET]]), trace)
    for place in heads.attention_places(model):
        found = scaling.divided(model, SRC, TARGET, place, name)
        assert (found.pattern - trace[f"{place}.pattern"][0]).abs().max() <= 1e-5
        assert found.entropy == pytest.approx(heads.entropy(trace[f"{place}.pattern"][0]).mean(-1).tolist(), abs=1e-4)


def test_the_first_panel(lab: Lab) -> None:
    at = lab(depth="maths")
    assert asked(at, "panel") == "grow"
    assert done(at) == []
    at = lab(depth="maths", d_k="1024")
    assert done(at) == ["grow"]
    values = scaling.products(1024, 0)
    table = dial(at)["table"]
    assert [WIDTHS[dial(at)["at"]], dial(at)["lines"]] == [1024, ["none", "sqrt_d_k"]]
    for name, scores in (("none", values), ("sqrt_d_k", values / 32)):
        shown = table[name][-1]
        assert shown["std"] == pytest.approx(scores.std().item(), abs=1e-9)
        assert shown["text"]["std"] == f"{scores.std():.3g}"
        assert sum(shown["bars"]) == pytest.approx(1, abs=1e-4)
        spread = torch.histc(scores.flatten().clamp(-100, 100), 80, -100, 100) / scores.numel()
        assert shown["bars"] == pytest.approx(spread.tolist(), abs=1e-5)
    assert r"\sqrt{1024} = 32" in "\n".join(m.value for m in at.latex)
    assert ":green[✓ checked" in texts(at)
    assert "✗" not in texts(at)


def test_the_second_and_third_panel(lab: Lab) -> None:
    at = lab(panel="saturate", d_k="256", divisor="none")
    assert done(at) == ["saturate"]
    for name in DIVISORS:
        for d_k, shown in zip(WIDTHS, dial(at)["table"][name], strict=True):
            weights = (scaling.products(d_k, 0) / scaling.divisor(name, d_k)).softmax(-1)
            assert shown["bars"] == pytest.approx(weights[0].tolist(), abs=1e-5)
            assert shown["largest"] == pytest.approx(weights.max(-1).values.mean().item(), abs=1e-9)
            assert shown["entropy"] == pytest.approx(heads.entropy(weights).mean().item(), abs=1e-6)
    at = lab(panel="vanish", d_k="1024", divisor="none")
    gradients = measure.statistics_of(scaling.products(1024, 0)).gradients
    shown = dial(at)["table"]["none"][-1]
    assert shown["silent"] == pytest.approx((gradients < scaling.SILENT).double().mean().item(), abs=1e-9)
    assert shown["gradient"] == pytest.approx(gradients.median().item(), abs=1e-3)
    assert done(at) == []
    for name in ("sqrt_d_k", "sqrt_d_model"):
        at.query_params["divisor"] = name
        at.run()
    assert done(at) == ["vanish"]


def test_a_gradient_is_the_jacobian_of_softmax() -> None:
    """By automatic differentiation."""
    scores = scaling.products(16, 1)[:5]
    for row, norm in zip(scores, scaling.gradients(scores), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda s: s.softmax(-1), row)
        assert jacobian.norm().item() == pytest.approx(norm.item(), abs=1e-12)
        assert norm <= 0.5 + 1e-9  # the largest that there is


@pytest.mark.parametrize("which", ["sample", "fresh"])
def test_your_model(lab: Lab, which: str) -> None:
    run = None if which == "sample" else make_run().id
    at = lab(panel="yours", depth="maths", **({"run": run} if run else {}))
    assert ":green[✓ checked" in texts(at)
    assert done(at) == []
    at = lab(panel="yours", mistake="sqrt_d_model", place="encoder.0.self", head="2", **({"run": run} if run else {}))
    assert done(at) == ["yours"]
    assert "✗" not in texts(at)
    assert any("flatter" in w.value for w in at.warning)
    assert len(at.get("vega_lite_chart")) == 2


def test_the_url_is_checked(lab: Lab) -> None:
    at = lab(panel="nowhere", d_k="77", divisor="<img>", depth="deep", step="-4", head="99", place="a.b.c", draw="x")
    told = "\n".join(w.value for w in at.warning)
    for name in ("panel", "d_k", "depth", "step", "draw"):
        assert f"“{name}” in the address" in told
    assert stepper(at)[0]["id"] == "grow"
    at = lab(step="400", text="abc", panel="yours")
    assert asked(at, "step") == "412"  # the nearest that is saved
    assert at.text_input[0].value == "abc"


def test_ticks_come_back_from_the_browser_and_bad_ones_are_dropped(lab: Lab) -> None:
    at = lab()
    at.session_state["lab.scaling.done"] = {"grow"}
    at.run()
    assert done(at) == ["grow"]


def expect(at: AppTest, choice: str) -> AppTest:
    at.radio(key="predict.scaling.train.radio").set_value(choice).run()
    assert not at.exception, at.exception
    return at


def test_prediction_before_revelation(lab: Lab) -> None:
    at = lab(panel="train")
    assert "It came out" not in texts(at)
    assert not at.dataframe
    assert not any('"lines"' in c.proto.json for c in at.get("bidi_component"))
    at = expect(at, "same")
    assert "✗ **It learns just as well**" in texts(at)
    assert "**It learns much worse in the same time**" in texts(at)
    assert done(at) == ["train"]
    result = experiment.shipped("scaling")
    assert result is not None
    for part in (result.made, "600 steps", f"PyTorch {result.versions['torch']}", "seed 1"):
        assert part in texts(at)
    row = at.dataframe[0].value.iloc[1]
    assert row["variant"] == "d_k 256, not divided"
    assert row["loss"] == experiment.spread([m["loss"] for m in result.metrics["without_256"]])


def test_the_experiment_runs_once_a_click_and_is_measured(
    lab: Lab, folders: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    monkeypatch.setattr(experiment, "launcher", lambda: notes)
    monkeypatch.setattr(store.Run, "alive", lambda self: True)
    at = expect(lab(panel="train"), "slower")
    at.button(key="scaling.train.run#0").click().run()
    assert not at.exception
    runs = sorted(folders.runs.glob("2*"))
    assert len(runs) == len(notes.calls) == 2
    ids = asked(at, "scaling_runs").split(".")
    assert sorted(ids) == [path.name for path in runs]
    for run_id in ids:
        run = store.find(run_id)
        assert run is not None
        assert run.label().tags == ("lab", "scaling")
        assert experiment.variant_of(EXPERIMENTS["scaling"], run) is not None
    assert at.session_state["scaling.train.nonce"] == 1  # a second report of that click finds it used up
    # one run ends: the page measures it
    monkeypatch.setattr(experiment, "measured", lambda run_id, name: {"loss": 0.5, "exact_match": 0.25, "entropy": 1.0})
    Run(folders.runs / ids[0]).set_status(Status("finished", 600))
    at.run()
    mine = at.dataframe[0].value
    assert list(mine["loss yours"])[:2] == ["0.500", "–"]
    # a link holds the runs, not the guess: who gets it is asked first
    assert "scaling_guess" not in at.query_params
    at = lab(panel="train", scaling_runs=".".join(ids), scaling_guess="slower")
    assert "It came out" not in texts(at)
    assert not at.dataframe
    at = expect(at, "slower")
    assert "✓ **It learns much worse in the same time**" in texts(at)
    for bad in ("../../etc", "x" * 9000, ".".join(ids * 20)):
        at = lab(panel="train", scaling_runs=bad, scaling_guess="<b>")
        assert not at.exception


def test_a_finished_run_is_measured_for_real(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(task={"name": "reverse"})
    found = experiment.measured(run.id, "scaling")
    assert found is not None
    assert set(EXPERIMENTS["scaling"].metrics) <= set(found)
    assert experiment.measured("20260101-000000000-0123456789abcdef", "scaling") is None
