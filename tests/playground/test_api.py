"""What the live components read."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from playground import api
from playground.runs import store
from playground.runs.store import Status
from tests.playground.small import trained


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLAYGROUND_RUNS", str(tmp_path))
    monkeypatch.setattr(api, "FRESH", 0.0)
    return tmp_path


@pytest.fixture
def run() -> store.Run:
    return trained(9)


def request(query: str = "", **path: object) -> Request:
    return Request({"type": "http", "path_params": path, "query_string": query.encode(), "headers": []})


def live(run_id: str, query: str = "") -> dict[str, Any]:
    response = asyncio.run(api.live(request(query, id=run_id)))
    assert response.headers["cache-control"] == "no-store"
    answer: dict[str, Any] = json.loads(response.body, parse_constant=pytest.fail)
    return answer


def test_all_then_only_what_is_new(run: store.Run) -> None:
    first = live(run.id)
    assert first["state"] == "finished"
    assert (first["step"], first["steps"], first["n"], first["restart"]) == (9, 9, 9, False)
    assert [r["step"] for r in first["records"]] == list(range(1, 10))
    assert set(first["records"][0]) >= {
        "step",
        "loss",
        "lr",
        "grad_norm",
        "tokens_per_s",
        "token_accuracy",
        "exact_match",
    }
    assert first["saved"] == run.saved_steps()
    assert (first["place"], first["waiting"], first["steps_per_s"]) == (None, 0, None)
    probe = first["probe"]
    assert len(probe["samples"]) == 6
    assert set(probe["patterns"]) == {"encoder.0.self", "decoder.0.self", "decoder.0.cross"}
    cross = probe["patterns"]["decoder.0.cross"]
    assert (len(cross), len(cross[0]), len(cross[0][0])) == (2, len(probe["tgt"]), len(probe["src"]))
    later = live(run.id, f"n=7&probe={probe['version']}&rewinds={first['rewinds']}")
    assert ([r["step"] for r in later["records"]], later["n"], later["probe"]) == ([8, 9], 9, None)
    assert live(run.id, "n=9")["records"] == []


def test_more_than_there_is_means_from_the_start(run: store.Run) -> None:
    answer = live(run.id, "n=10")
    assert answer["restart"]
    assert len(answer["records"]) == answer["n"] == 9
    assert live(run.id, "n=9&rewinds=7")["restart"]


@pytest.mark.parametrize("query", ["n=-1", "n=x", "n=1e9", "n=" + "9" * 5000, "n=²", "probe=%00", "lang=../../etc"])
def test_odd_queries_are_harmless(run: store.Run, query: str) -> None:
    assert live(run.id, query)["n"] == 9


def test_one_answer_is_bounded(run: store.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MOST", 4)
    assert [live(run.id, f"n={n}")["n"] for n in (0, 4, 8)] == [4, 8, 9]


@pytest.mark.parametrize("route", [api.archive, api.weights, api.metrics])
def test_an_unknown_run_is_404(route: Callable[[Request], Response]) -> None:
    for bad in ("x", "../../etc/passwd", store.new_id(), "sample-none"):
        assert route(request(id=bad, step=1)).status_code == 404
        assert asyncio.run(api.live(request(id=bad))).status_code == 404


def test_downloads(run: store.Run) -> None:
    table = api.metrics(request(id=run.id)).body
    assert len(bytes(table).splitlines()) == 10
    assert api.weights(request(id=run.id, step=9)).status_code == 200
    assert api.weights(request(id=run.id, step=7000)).status_code == 404


def test_a_damaged_folder_still_answers(run: store.Run) -> None:
    for name in ("probe.json", "status.json", "metrics.jsonl"):
        (run.path / name).write_bytes(b"\xff{")
    answer = live(run.id)
    assert (answer["state"], answer["records"], answer["probe"]) == ("interrupted", [], None)


def test_the_reason_comes_in_the_language_asked_for() -> None:
    status = Status("failed", template="at {step}", values={"step": 3})
    assert api.sentence(status, "en") == api.sentence(status, None) == "at 3"
