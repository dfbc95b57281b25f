"""A link whose run or saved step is not there says so, on every page that shows something else instead."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.checkpoint import save_weights
from core.model import Transformer
from playground import lessons
from playground.runs import store, trash
from tests.pages.looking import make_run

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["attention", "generate", *(f"lab_{entry.id}" for entry in lessons.LABS)]


def opened(page: str, **query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "pages" / f"{page}.py"), default_timeout=60)
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception
    return at


def said(at: AppTest) -> str:
    return " ".join(w.value for w in at.warning)


@pytest.fixture
def sample() -> None:
    """The sample of these tests has no weights of its own."""
    (path,) = store.samples().iterdir()
    run = store.find(path.name)
    assert run is not None
    save_weights(run.weights_path(400), Transformer(run.config.model), 400)


@pytest.mark.parametrize("page", PAGES)
def test_a_run_that_is_not_here(page: str, sample: None) -> None:
    at = opened(page, run="20260101T000000-abcdef")
    assert "is not here" in said(at)
    assert "Sample run" in said(at)
    assert "is not here" in said(at.run())  # a page may redraw itself at once


@pytest.mark.parametrize("page", PAGES)
def test_a_run_that_is_deleted_while_it_is_looked_at(page: str, sample: None) -> None:
    run = make_run()
    assert not said(opened(page, run=run.id, text="abc"))
    store.delete(run.id)
    at = AppTest.from_file(str(ROOT / "pages" / f"{page}.py"), default_timeout=60)
    at.session_state["run"] = run.id  # looked at before; no run is in the address of a page that is just chosen
    at.run()
    assert not at.exception
    assert "was deleted" in said(at)


@pytest.mark.parametrize("page", PAGES)
def test_a_step_that_is_not_saved(page: str) -> None:
    run = make_run()
    at = opened(page, run=run.id, step="7", text="abc")
    assert "Step 7 is not saved" in said(at)
    assert "step 5" in said(at)
    assert "Step" not in said(opened(page, run=run.id, step="10", text="abc"))


@pytest.mark.parametrize("page", PAGES)
def test_the_step_of_a_run_that_is_not_here_says_nothing_about_the_sample(page: str, sample: None) -> None:
    run = make_run()
    store.delete(run.id)
    assert "not saved" not in said(opened(page, run=run.id, step="7", text="abc"))


@pytest.mark.parametrize("page", PAGES)
def test_a_reload_shows_the_run_that_was_brought_back(page: str, sample: None) -> None:
    run = make_run()
    run_id = run.id
    store.delete(run_id)
    at = opened(page, run=run_id)
    assert "was deleted" in said(at)
    assert run_id in at.query_params["run"]
    assert "was deleted" in said(at.run())
    assert run_id in at.query_params["run"]
    assert trash.restore(run_id)
    assert "deleted" not in said(opened(page, run=run_id))
