"""The app in Streamlit's own test bench: real pages, a tiny sample run, and a launcher that only takes notes."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.config import RunConfig
from playground import toolbar
from playground.runs import branches, store
from playground.runs.store import Run, Status
from playground.views.train import begin, coach_view

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = "sample-test"


class Notes:
    """Stands for the launcher: `calls` holds every command; runs go straight to the state that it should lead to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def _put(self, run_id: str, state: str, step: int | None = None) -> None:
        run = store.find(run_id)
        assert run is not None
        run.set_status(Status(state, run.written_status().step if step is None else step))

    def submit(self, run_id: str, owner: str, paused_at: int | None = None) -> bool:
        self.calls.append(("submit", run_id, paused_at))
        self._put(run_id, "paused", paused_at) if paused_at is not None else self._put(run_id, "running")
        return True

    def resume(self, run_id: str, owner: str) -> bool:
        self.calls.append(("resume", run_id))
        self._put(run_id, "running")
        return True

    def train_on(self, run_id: str, steps: int, owner: str = "") -> bool:
        run = store.find(run_id)
        assert run is not None
        branches.train_on(run, steps)
        return self.resume(run_id, owner)

    def pause(self, run_id: str) -> None:
        self.calls.append(("pause", run_id))
        self._put(run_id, "paused")

    def step_to(self, run_id: str, target: int, owner: str = "") -> None:
        self.calls.append(("step_to", run_id, target))

    def stop(self, run_id: str) -> None:
        self.calls.append(("stop", run_id))
        self._put(run_id, "stopped")

    def set_lr(self, run_id: str, lr: float) -> None:
        self.calls.append(("set_lr", run_id, lr))


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    notes = Notes()
    for module in (toolbar, begin, coach_view):
        monkeypatch.setattr(module, "launcher", lambda: notes)
    monkeypatch.setattr(store.Run, "alive", lambda self: True)
    return notes


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An empty folder of runs, and one sample."""
    runs, samples = tmp_path / "runs", tmp_path / "samples"
    runs.mkdir()
    samples.mkdir()
    monkeypatch.setenv("PLAYGROUND_RUNS", str(runs))
    monkeypatch.setattr(store, "samples", lambda: samples)
    facts = {
        "schema": store.SCHEMA,
        "created": "2026-01-01T00:00:00+00:00",
        "config": RunConfig().model_dump(mode="json"),
    }
    store.publish(Run(samples / SAMPLE), facts, Status("finished", 400))
    (samples / SAMPLE / "probe.json").write_text(json.dumps({"version": 1, "step": 400, "src": list("abc")}))
    return SimpleNamespace(runs=runs, samples=samples)


@pytest.fixture
def app() -> Callable[..., AppTest]:
    """app(run=…, n_heads=…): the Train page, opened with these in the URL."""

    def open_page(**query: str | list[str]) -> AppTest:
        # As the server does: beside streamlit_app.py stands pages/, which confuses every rerun (see its docstring).
        at = AppTest.from_file(str(ROOT / "playground" / "main.py"), default_timeout=30)
        for name, value in query.items():
            at.query_params[name] = value
        at.run()
        assert not at.exception, at.exception
        return at

    return open_page
