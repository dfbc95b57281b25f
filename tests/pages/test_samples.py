"""Which of the shipped runs a page opens on, and that the first one seen is the run of the form."""

from types import SimpleNamespace

import pytest
import torch
from streamlit.testing.v1 import AppTest

from core.checkpoint import load_weights, save_weights
from core.config import RunConfig
from core.decode import DecodeOptions, generate_steps
from core.model import Transformer
from core.read import build, fit
from playground import pick, state
from playground.runs import store
from playground.runs.store import Run, Status
from tests.pages.conftest import ROOT, SAMPLE
from tests.pages.looking import make_run

SHIPPED = ROOT / "playground" / "samples"


@pytest.fixture
def both(folders: SimpleNamespace) -> None:
    """The two samples, untrained, in the place of the one of the other tests."""
    (folders.samples / SAMPLE).rename(folders.samples.parent / SAMPLE)
    for name, layers in ((state.SAMPLE, 1), (state.LABS_SAMPLE, 2)):
        run, config = Run(folders.samples / name), build(fit({"model": {"n_layers": layers}}))
        facts = {
            "schema": store.SCHEMA,
            "created": "2026-01-01T00:00:00+00:00",
            "config": config.model_dump(mode="json"),
        }
        store.publish(run, facts, Status("finished", 400))
        save_weights(run.weights_path(400), Transformer(config.model), 400)


def opened(**query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "playground" / "main.py"), default_timeout=60)
    for name, value in query.items():
        at.query_params[name] = value
    return checked(at.run())


def to(at: AppTest, page: str) -> AppTest:
    """As a person gets there by the menu, which empties the address."""
    at.query_params.clear()
    return checked(at.switch_page(f"../pages/{page}.py").run())


def checked(at: AppTest) -> AppTest:
    assert not at.exception, at.exception
    return at


def in_view(at: AppTest) -> str:
    return str(at.session_state["run"])


def test_views_open_on_one_sample_and_labs_on_the_other(both: None) -> None:
    at = opened()
    assert (in_view(at), "run" in at.query_params) == (state.SAMPLE, False)
    for page, wanted in (
        ("lab_stack", state.LABS_SAMPLE),
        ("attention", state.SAMPLE),
        ("lab_heads", state.LABS_SAMPLE),
        ("train", state.SAMPLE),
    ):
        assert (in_view(to(at, page)), "run" in at.query_params) == (wanted, False), page


def test_a_sample_that_was_asked_for_stays(both: None) -> None:
    at = opened(run=state.LABS_SAMPLE)
    assert in_view(at) == state.LABS_SAMPLE
    assert in_view(to(at, "generate")) == state.LABS_SAMPLE
    assert at.query_params["run"] in (state.LABS_SAMPLE, [state.LABS_SAMPLE])
    assert not at.warning


def test_a_run_of_ones_own_stays_in_labs_and_views(both: None) -> None:
    run = make_run()
    at = opened(run=run.id)
    assert in_view(to(at, "lab_heads")) == in_view(to(at, "attention")) == run.id


def test_both_samples_can_be_chosen_and_are_told_apart(both: None) -> None:
    make_run()
    at = to(opened(), "attention")
    box = next(box for box in at.selectbox if box.label == "Run")
    assert [name for name in box.options if name.startswith("Sample run")] == [
        "Sample run · Reverse, 2 layers",
        "Sample run · Reverse",
    ]


def test_the_first_sample_is_the_default_run() -> None:
    """Form and sample agree: whoever changes the defaults trains it anew."""
    shipped = Run(SHIPPED / state.SAMPLE)
    assert shipped.config == RunConfig()
    assert Run(SHIPPED / state.LABS_SAMPLE).config.model.n_layers == 2
    assert pick.title(shipped) == "Sample run · Reverse"


def test_the_first_sample_is_small_and_shows_how_it_learned() -> None:
    shipped = Run(SHIPPED / state.SAMPLE)
    assert sum(file.stat().st_size for file in shipped.path.rglob("*") if file.is_file()) <= 6_000_000
    assert len(shipped.saved_steps()) >= 12
    src = torch.tensor([pick.data_of(shipped).vocab.encode("abcadefg")])

    def surest(step: int) -> float:
        """The probability of the likeliest token, where the model is least sure of it."""
        model = load_weights(shipped.weights_path(step), shipped.config.model).eval()
        steps = generate_steps(model, src, DecodeOptions(max_len=9))
        return min(found.probabilities.max().item() for found in steps)

    assert any(0.3 < surest(step) < 0.8 for step in shipped.saved_steps() if 40 <= step <= 150), (
        "one where it hesitates"
    )
    assert surest(shipped.saved_steps()[-1]) > 0.9


def test_a_page_opened_by_itself_has_a_sample_too(both: None) -> None:
    """No visit was told of: nothing says which page this is."""
    at = AppTest.from_file(str(ROOT / "pages" / "attention.py"), default_timeout=60)
    assert in_view(checked(at.run())) == state.SAMPLE
