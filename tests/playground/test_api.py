"""What the live components read."""

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from core.config import RunConfig
from core.read import build
from playground import api, estimate, replay
from playground.runs import branches, store
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


def at(run_id: str, step: object, query: str = "") -> tuple[int, dict[str, Any]]:
    response = asyncio.run(api.at(request(query, id=run_id, step=step)))
    assert response.headers["cache-control"] == "no-store"
    return response.status_code, json.loads(response.body, parse_constant=pytest.fail)


def test_any_saved_step_is_shown_as_the_newest_is(run: store.Run) -> None:
    code, last = at(run.id, 9)
    newest = live(run.id)["probe"]
    assert code == 200
    assert last == {key: newest[key] for key in last}
    assert last.keys() == newest.keys() - {"version"}
    first = at(run.id, 0)[1]
    assert first["patterns"] != last["patterns"]
    assert (first["step"], first["src"]) == (0, last["src"])
    assert first == at(run.id, 0)[1]
    for bad in (7000, "x", -1, "9" * 40):
        assert at(run.id, bad)[0] == 404
    assert at(store.new_id(), 9)[0] == 404


def test_weights_that_changed_or_are_damaged_are_not_shown_as_they_were(run: store.Run) -> None:
    before = at(run.id, 0)[1]
    run.weights_path(0).write_bytes(run.weights_path(5).read_bytes())
    os.utime(run.weights_path(0), (1, 1))
    assert at(run.id, 0)[1]["patterns"] != before["patterns"]
    run.weights_path(0).write_bytes(b"x" * 2000)
    code, said = at(run.id, 0, "lang=zh")
    assert code == 422
    assert not said["error"].isascii()


def test_a_look_that_would_take_too_long_is_refused(run: store.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "LONGEST_LOOK", 0.0)
    code, said = at(run.id, 5)
    assert code == 422
    assert "too long" in said["error"]
    large = build({"model": {"d_model": 1024, "n_heads": 8, "n_layers": 24, "d_ff": 4096}})
    assert estimate.look_seconds(large) > 3.0 > estimate.look_seconds(RunConfig())


def test_what_is_kept_of_looks_is_bounded(run: store.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "ROOM", 20_000)
    for step in run.saved_steps():
        at(run.id, step)
    assert sum(map(len, replay._kept.values())) <= 20_000


def test_a_look_does_not_hold_the_loop(run: store.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = replay.Example.look

    def slow(self: Any, model: Any) -> Any:
        time.sleep(0.5)
        return real(self, model)

    monkeypatch.setattr(replay.Example, "look", slow)

    async def both() -> tuple[Response, float]:
        looking, longest = asyncio.ensure_future(api.at(request(id=run.id, step=3))), 0.0
        while not looking.done():
            start = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - start)
        return await looking, longest

    response, longest = asyncio.run(both())
    assert response.status_code == 200
    assert longest < 0.2


def test_steps_that_were_added_pace_and_parent_are_told(run: store.Run) -> None:
    branch = branches.branch(run, 5, run.config)
    branches.train_on(branch, 30)
    branch.set_pace(5)
    answer = live(branch.id)
    assert (answer["steps"], answer["pace"]) == (30, 5)
    assert answer["parent"] == {"run": run.id, "step": 5, "exact": 5 in run.exact_steps()}
    assert (answer["step"], answer["saved"], answer["states"]) == (5, [5], [5])
    plain = live(run.id)
    assert (plain["steps"], plain["pace"], plain["parent"]) == (9, None, None)
    assert set(plain["states"]) <= set(plain["saved"])
