"""A class at one server: everybody presses Train at once, and one of them in a real Chromium.

`SESSIONS=30 pytest tests/reliability/test_load.py` is the whole class; without it, a few people.
"""

import asyncio
import json
import os
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from tests.browser.conftest import Server, chromium_path, foreign, slack, start, taken_by_others
from tests.playground.small import until
from tests.reliability.client import Questions, Visitor

SESSIONS = int(os.environ.get("SESSIONS", "8"))
SLOTS = 2
STEPS = 60 if SESSIONS < 30 else 300
TINY = f"d_model=8&d_ff=8&n_heads=1&n_layers=1&batch_size=4&eval_every=1000&steps={STEPS}"
LONG = TINY.replace(f"steps={STEPS}", "steps=100000")
MINUTE = 60.0
PAGE = 1.0 if SESSIONS <= 30 else 1.5  # seconds: pages and buttons of a real browser among them, p95
LIVE = 0.15  # seconds: a question of the board with sixty of them, p95
PATIENCE = 300.0  # seconds: for what has no bar
T = TypeVar("T")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Forgets who has left after two seconds, instead of two minutes. No visitor may leave a traceback in its log."""
    folder = tmp_path_factory.mktemp("load")
    running = start(folder, PLAYGROUND_SLOTS=str(SLOTS), STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL="2")
    try:
        run(alone(running, lambda visitor: train_to_the_end(visitor)))  # a worker is loaded, and what pages need
        yield running
        log = running.log.read_text()
    finally:
        running.stop()
    assert "Traceback" not in log, log


def run(work: Coroutine[Any, Any, T]) -> T:
    """In a thread: a browser test may have left an event loop running in this one."""
    out: list[T] = []
    failed: list[BaseException] = []

    def main() -> None:
        try:
            out.append(asyncio.run(work))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return out[0]


async def together(server: Server, queries: list[str], act: Callable[[list[Visitor]], Coroutine[Any, Any, T]]) -> T:
    """A page for each; they leave where a test fails, too, or the sockets left open would hide why it failed."""
    visitors: list[Visitor] = []
    try:
        for query in queries:
            visitor = Visitor(port(server), query)
            await visitor.open()
            visitors.append(visitor)
        return await act(visitors)
    finally:
        await asyncio.gather(*(visitor.leave() for visitor in visitors))


async def alone(server: Server, act: Callable[[Visitor], Coroutine[Any, Any, T]], query: str = TINY) -> T:
    return await together(server, [query], lambda visitors: act(visitors[0]))


async def train_to_the_end(visitor: Visitor) -> None:
    await visitor.press("Train")
    visitor.watch()
    await visitor.until("finished")


async def nothing(visitor: Visitor) -> None:
    """Only look."""


def port(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


@dataclass(frozen=True)
class Burden:
    """What a process holds."""

    sessions: int
    threads: int
    handles: int
    workers: int

    @classmethod
    def of(cls, server: Server) -> "Burden":
        process = psutil.Process(server.process.pid)
        with urllib.request.urlopen(f"{server.url}/_stcore/metrics", timeout=5) as answer:
            line = next(line for line in answer.read().decode().splitlines() if line.startswith("active_sessions "))
        handles = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
        return cls(int(line.split()[1]), process.num_threads(), handles, len(process.children(recursive=True)))


def p95(seconds: list[float]) -> float:
    return sorted(seconds)[max(0, -(-95 * len(seconds) // 100) - 1)]


def started(server: Server, run_id: str) -> float:
    """When its trainer wrote the weights it starts from."""
    return (server.runs / run_id / "weights" / "0.safetensors").stat().st_mtime


def ended(server: Server, run_id: str) -> float:
    return (server.runs / run_id / "status.json").stat().st_mtime


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """Trained between these times; an end and a start at one moment do not overlap."""
    changes = sorted([(end, -1) for _start, end in spans] + [(start, 1) for start, _end in spans])
    now = most = 0
    for _time, change in changes:
        now += change
        most = max(most, now)
    return most


async def places(visitors: list[Visitor]) -> list[int]:
    """The places that are shown, once the queue stands still."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        async with Questions(visitors[0].port) as questions:
            answers = [await questions.ask(f"/api/runs/{v.run}/live?n=0") for v in visitors]
        shown = sorted(a["place"] for a in answers if a["place"] is not None)
        still = sum(a["state"] == "running" for a in answers[:SLOTS]) == SLOTS  # those who train for long
        if still and shown == list(range(1, len(shown) + 1)) and {a["waiting"] for a in answers} == {len(shown)}:
            return shown
        await asyncio.sleep(0.25)  # the route's answers are as old as that
    raise AssertionError([(a["state"], a["place"], a["waiting"]) for a in answers])


async def a_class(server: Server, visitors: list[Visitor], show: Callable[[str], None]) -> None:
    """The first two train for long: until they stop, the queue stands still."""
    before = {path.name for path in server.runs.iterdir()}
    assert Burden.of(server).sessions == SESSIONS
    for visitor in visitors:
        visitor.watch()
    opened = [visitor.reruns[0] for visitor in visitors]
    start = time.monotonic()

    await asyncio.gather(*(visitor.press("Train") for visitor in visitors))  # all are sent before the first is answered
    took = time.monotonic() - start
    firsts = [visitor.run for visitor in visitors]
    made = {path.name for path in server.runs.iterdir() if not path.name.startswith(".")} - before
    assert len(set(firsts)) == SESSIONS  # no lost click
    assert made == set(firsts)  # and none that counted twice
    shown = await places(visitors)
    assert shown, "nobody waits"

    greedy = visitors[SLOTS]
    greedy.query += f"&steps={STEPS + 1}"
    await greedy.rerun()
    await greedy.press("Train")
    second = greedy.run
    assert second not in firsts

    last = max(visitors[SLOTS + 1 :], key=lambda v: v.seen[-1][1]["place"] or 0)
    assert last.state == "queued"
    asked = time.monotonic()
    await last.press("Stop")
    await last.until("stopped", seconds=2)
    cancelled = time.monotonic() - asked

    asked = time.monotonic()
    await visitors[0].press("Stop")
    await visitors[0].until("stopped", seconds=4)
    stopped = time.monotonic() - asked
    await asyncio.gather(*(visitor.press("Stop") for visitor in visitors[1:SLOTS]))
    await asyncio.gather(*(v.until("finished", "stopped") for v in visitors))

    ran = {*firsts, second} - {last.run}
    for run_id in {*firsts, second}:
        state = json.loads((server.runs / run_id / "status.json").read_text())
        assert state["state"] == ("stopped" if run_id in (last.run, *firsts[:SLOTS]) else "finished"), state
    assert not (server.runs / last.run / "weights" / "0.safetensors").exists()
    spans = [(started(server, run_id), ended(server, run_id)) for run_id in ran]
    assert most_at_once(spans) == SLOTS
    late = [run_id for run_id in ran - {second} if started(server, run_id) > started(server, second)]
    assert late == []  # nobody's second run before everybody's first
    for visitor in visitors:
        assert (visitor.exceptions, visitor.failed_polls) == ([], [])
        waited = [answer["place"] for _when, answer in visitor.seen if answer["place"] is not None]
        assert visitor is greedy or waited == sorted(waited, reverse=True)  # nobody is pushed back
    answers = [seconds for v in visitors for seconds in v.reruns[1:]]
    show(
        f"{SESSIONS} sessions, {SLOTS} slots: page opened p95 {p95(opened):.2f} s; "
        f"all {SESSIONS} clicks answered within {took:.2f} s, places 1 to {len(shown)} shown; script p95 {p95(answers):.2f} s "
        f"of {len(answers)}; queued run cancelled in {cancelled:.2f} s, running one stopped in {stopped:.2f} s; "
        f"most at once {most_at_once(spans)}"
    )
    polls = [seconds for v in visitors for seconds in v.polls]
    show(
        f"live route under {SESSIONS} sessions: median {statistics.median(polls):.3f} s, p95 {p95(polls):.3f} s of {len(polls)}"
    )
    assert cancelled <= 1.0
    assert stopped <= 2.0
    if SESSIONS >= 60:
        assert p95(polls) <= LIVE


def test_everybody_presses_train_at_once(server: Server, show: Callable[[str], None]) -> None:
    until(lambda: Burden.of(server).workers == SLOTS, PATIENCE, 0.2)  # both are loaded, one after the other
    at_first = Burden.of(server)  # one visitor was here, and is still remembered
    assert at_first.sessions == 0
    queries = [LONG] * SLOTS + [TINY] * (SESSIONS - SLOTS)
    run(together(server, queries, lambda visitors: a_class(server, visitors, show)))
    time.sleep(2.5)
    run(alone(server, nothing))  # Streamlit forgets those who left long ago when the next one leaves
    for _attempt in range(60):
        after = Burden.of(server)
        if after.sessions == 0 and after.threads <= at_first.threads and after.handles <= at_first.handles:
            break
        time.sleep(0.25)
    show(f"before: {at_first}; after: {after}")
    assert after.sessions == 0
    assert after.threads <= at_first.threads
    assert after.handles <= at_first.handles


def test_a_page_that_is_cut_off_finds_its_run_again(server: Server) -> None:
    """Fifteen times: Wi-Fi lost for a moment, refreshed, or asleep for longer than the server remembers a session."""

    async def cut_off(visitor: Visitor) -> None:
        await visitor.press("Train")
        mine, session = visitor.run, visitor.session
        for i in range(15):
            await visitor.cut()
            how = ("lost", "refreshed", "asleep")[i % 3] if i != 14 else "lost"
            if how == "refreshed":
                visitor.session = ""
            if how == "asleep" and i == 2:
                await asyncio.sleep(2.5)
            visitor.elements.clear()
            await visitor.open()
            assert (visitor.run, visitor.board["run"]) == (mine, mine), (i, how)
            assert (visitor.session == session) is (how == "lost" or (how == "asleep" and i != 2)), (i, how)
            assert visitor.button("Stop") is not None
            session = visitor.session
        async with Questions(visitor.port) as questions:
            assert (await questions.ask(f"/api/runs/{mine}/live?n=0"))["state"] in ("running", "queued")
        await visitor.press("Stop")
        visitor.watch()
        await visitor.until("stopped", seconds=5)
        assert visitor.exceptions == []

    run(alone(server, cut_off, LONG))


def test_two_tabs_on_one_run(server: Server, show: Callable[[str], None]) -> None:
    async def both(one: Visitor) -> None:
        await one.press("Train")

        async def other(two: Visitor) -> None:
            assert two.board["run"] == one.run
            two.watch()
            await two.until("running")
            start = time.monotonic()
            await one.press("Stop")
            await two.until("stopped", seconds=4)
            show(f"Stop in one tab is seen in the other after {time.monotonic() - start:.2f} s")
            assert time.monotonic() - start <= 2.0

        await alone(server, other, f"run={one.run}")

    run(alone(server, both, LONG))


def test_the_page_process_never_trains(server: Server) -> None:
    """The lock of a run is open in a worker, nice as can be; the server computes nothing meanwhile."""

    async def look(visitor: Visitor) -> None:
        await visitor.press("Train")
        visitor.watch()
        await visitor.until("running")
        lock = str(server.runs / visitor.run / "writer.lock")
        main = psutil.Process(server.process.pid)
        holders = [child for child in main.children(recursive=True) if lock in {f.path for f in child.open_files()}]
        assert len(holders) == 1
        assert lock not in {file.path for file in main.open_files()}
        assert "playground.runs.worker" in holders[0].cmdline()
        if hasattr(os, "nice"):
            assert holders[0].nice() == 19
        await visitor.press("Stop")
        await visitor.until("stopped", seconds=5)

    run(alone(server, look, LONG))


@pytest.mark.parametrize(("cores", "slots", "threads"), [(8, 1, 4), (8, 2, 3), (8, 8, 1), (16, 3, 4), (1, 1, 1)])
def test_worker_threads_are_cores_divided_by_slots(
    cores: int, slots: int, threads: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One core is left to the page, and no worker takes more than four."""
    from playground.runs.launcher import Launcher

    monkeypatch.setenv("PLAYGROUND_RUNS", str(tmp_path))
    monkeypatch.delenv("PLAYGROUND_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    crew = Launcher(slots)
    try:
        process = psutil.Process(crew._start().process.pid)
        until(lambda: "PLAYGROUND_THREADS" in process.environ(), 5)  # until it is a program of its own
        assert process.environ()["PLAYGROUND_THREADS"] == str(threads)
    finally:
        crew.close()


@pytest.mark.skipif(SESSIONS < 30, reason="the whole class: SESSIONS=30")
def test_pages_answer_while_a_class_trains(server: Server, show: Callable[[str], None], tmp_path: Path) -> None:
    """A person in a real Chromium, while thirty others press Train and watch their runs for a minute."""
    if chromium_path() is None:
        pytest.skip("no Chromium")

    async def both(visitors: list[Visitor]) -> tuple[float, float, float, dict[str, list[float]]]:
        for visitor in visitors:
            visitor.watch()
        command = [sys.executable, "-m", "tests.reliability.reader", server.url, str(MINUTE)]
        reader = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert reader.stdout is not None
            assert await asyncio.wait_for(reader.stdout.readline(), PATIENCE) == b"ready\n"
            start, before = time.monotonic(), foreign()
            await asyncio.gather(*(visitor.press("Train") for visitor in visitors))
            found = json.loads(await asyncio.wait_for(reader.stdout.read(), MINUTE + PATIENCE))
        finally:
            if reader.returncode is None:
                reader.kill()
        took = time.monotonic() - start
        polls, live = sum(len(v.seen) for v in visitors) / took, p95([s for v in visitors for s in v.polls])
        taken = taken_by_others(before, took)
        assert sum(v.state == "running" for v in visitors) == SLOTS
        await asyncio.gather(*(visitor.press("Stop") for visitor in visitors))
        await asyncio.gather(*(visitor.until("stopped", seconds=20) for visitor in visitors))
        for visitor in visitors:
            assert (visitor.exceptions, visitor.failed_polls) == ([], [])
        return polls, live, taken, found

    polls, live, taken, answers = run(together(server, [LONG] * SESSIONS, both))
    for what, seconds in answers.items():
        show(
            f"{what} of a real browser under {SESSIONS} sessions ({polls:.0f} polls/s, {taken:.0%} of the CPU taken by others): "
            f"median {statistics.median(seconds):.2f} s, p95 {p95(seconds):.2f} s of {len(seconds)}"
        )
    everything = [seconds for group in answers.values() for seconds in group]
    show(f"live route meanwhile: p95 {live:.3f} s")
    assert p95(everything) <= slack(PAGE, taken)
    if SESSIONS >= 60:
        assert live <= LIVE
