"""The queue as a state machine: Hypothesis submits, cancels, finishes, crashes and restarts in any order it can think of.

`QUEUE=500 pytest tests/playground/test_queue.py` plays so many games at random; plain pytest plays the same 15 each time.
"""

import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass

from filelock import FileLock
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from playground.runs import files, store
from playground.runs.store import Run, Status
from tests.playground.pretended import Pretended
from tests.playground.small import config

GAMES = int(os.environ.get("QUEUE", "0"))
OWNERS = st.sampled_from(["ann", "bob", "eve", "joe"])
INDEX = st.integers(0, 999)
played = Counter[str]()


@dataclass
class Known:
    """What ought to be true of a run. `at` is waiting, at work, interrupted, cancelled, finished or deleted."""

    owner: str
    at: str = "waiting"
    arrived: int = 0


class Queue(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="queue-")
        self.before = os.environ.get("PLAYGROUND_RUNS")
        os.environ["PLAYGROUND_RUNS"] = self.folder
        self.runs: dict[str, Known] = {}
        self.trainers: dict[str, FileLock] = {}  # a trainer holds the lock of its folder
        self.served: list[tuple[int, str]] = []  # when, and whose run
        self.left: dict[str, int] = {}  # owner: when one of their runs last left its slot
        self.clock = 0
        played["games"] += 1

    @initialize(slots=st.integers(1, 3))
    def open(self, slots: int) -> None:
        self.crew = Pretended(slots=slots)

    def teardown(self) -> None:
        for lock in self.trainers.values():
            lock.release()
        if hasattr(self, "crew"):
            self.crew.close()
        shutil.rmtree(self.folder)
        if self.before is not None:
            os.environ["PLAYGROUND_RUNS"] = self.before
        else:
            del os.environ["PLAYGROUND_RUNS"]

    # What people and the machine do

    @rule(owner=OWNERS, twice=st.booleans())
    def submit(self, owner: str, twice: bool) -> None:
        run = store.create(config(), owner)
        self.arrives(run.id, owner)
        for _ in range(1 + twice):
            assert self.crew.submit(run.id, owner)
        self.serve("submit")

    @precondition(lambda self: self.those("at work"))
    @rule(index=INDEX)
    def finish(self, index: int) -> None:
        run = self.one("at work", index)
        self.leaves(run, "finished")
        self.crew.says(run, end="finished")
        self.serve("finish")

    @precondition(lambda self: self.those("at work"))
    @rule(index=INDEX, picked_up=st.booleans())
    def crash(self, index: int, picked_up: bool) -> None:
        run = self.one("at work", index)
        worker = self.crew._worker(run.id)
        assert worker is not None
        if picked_up:
            self.crew.says(run, state="running")
            self.leaves(run, "interrupted", "running")
        else:  # it was dead before it began: that costs the run nothing but its place
            self.leaves(run, "waiting", "queued")
            self.arrives(run.id, self.runs[run.id].owner)
        with self.crew._lock:
            self.crew._died(worker, -9)
        self.serve("crash")

    @precondition(lambda self: self.those("waiting"))
    @rule(index=INDEX, delete=st.booleans())
    def cancel(self, index: int, delete: bool) -> None:
        run = self.one("waiting", index)
        self.runs[run.id].at = "deleted" if delete else "cancelled"
        if delete:
            assert self.crew.delete(run.id)
        else:
            self.crew.stop(run.id)
            assert run.status().state == "stopped"
        self.serve("delete" if delete else "cancel")

    @precondition(lambda self: self.those("interrupted", "cancelled"))
    @rule(index=INDEX)
    def resume(self, index: int) -> None:
        run = self.one("interrupted", index) if self.those("interrupted") else self.one("cancelled", index)
        self.arrives(run.id, self.runs[run.id].owner)
        assert self.crew.resume(run.id, self.runs[run.id].owner)
        self.serve("resume")

    @precondition(lambda self: self.runs)
    @rule(kill=st.booleans())
    def restart(self, kill: bool) -> None:
        """The server dies, or is stopped; its workers save and leave; the next one resumes all with one click."""
        for run_id in self.those("at work"):
            self.leaves(Run(store.root() / run_id), "interrupted", "interrupted")
        for run_id in self.those("waiting"):
            self.runs[run_id].at = "interrupted"
        if kill and self.crew._server:
            self.crew._alive.release()  # as the system does
            self.crew._server = ""
        self.crew.close()
        self.crew = Pretended(slots=self.crew.slots)
        lost = self.those("interrupted")
        assert {run.id for run in store.list_runs() if run.status().state == "interrupted"} == set(lost)
        for run_id in sorted(lost):
            self.arrives(run_id, self.runs[run_id].owner)
        self.served.clear()  # a new server does not remember who had a turn
        assert self.crew.resume_all() == len(lost)
        self.serve("restart")

    # What must hold

    @invariant()
    def slots_are_used_and_not_exceeded(self) -> None:
        if hasattr(self, "crew"):
            busy, waiting = self.those("at work"), self.those("waiting")
            assert self.crew.busy() == set(busy)
            assert len(busy) == self.crew.training == min(self.crew.slots, len(busy) + len(waiting))

    @invariant()
    def no_run_is_lost(self) -> None:
        if hasattr(self, "crew"):
            waiting = self.those("waiting")
            assert {entry.run.id for entry in self.crew._waiting} == set(waiting)
            assert self.crew.waiting == len(waiting)
            assert {run.id for run in store.list_runs() if not run.is_sample} == {
                run_id for run_id, known in self.runs.items() if known.at != "deleted"
            }
            for run_id in waiting:
                assert Run(store.root() / run_id).status().state == "queued"
            for run_id in self.those("interrupted"):
                assert Run(store.root() / run_id).status().state == "interrupted"

    @invariant()
    def places_count_from_one(self) -> None:
        if hasattr(self, "crew"):
            places = {run_id: self.crew.place(run_id) for run_id in self.runs}
            assert sorted(p for p in places.values() if p is not None) == list(range(1, self.crew.waiting + 1))
            assert {run_id for run_id, place in places.items() if place} == set(self.those("waiting"))

    @invariant()
    def nobodys_second_run_before_everybodys_first(self) -> None:
        """Since somebody without a run at work began to wait (while theirs was at work they did not), nobody else was served twice."""
        at_work = {self.runs[run_id].owner for run_id in self.those("at work")}
        for owner in {self.runs[run_id].owner for run_id in self.those("waiting")} - at_work:
            since = min(k.arrived for k in self.runs.values() if k.owner == owner and k.at == "waiting")
            since = max(since, self.left.get(owner, 0))
            served = Counter(who for when, who in self.served if when > since)
            assert owner in served or all(times == 1 for times in served.values()), (owner, served)

    # Small things

    def those(self, *at: str) -> list[str]:
        return [run_id for run_id, known in self.runs.items() if known.at in at]

    def one(self, at: str, index: int) -> Run:
        found = self.those(at)
        return Run(store.root() / found[index % len(found)])

    def arrives(self, run_id: str, owner: str) -> None:
        self.clock += 1
        self.runs[run_id] = Known(owner, "waiting", self.clock)

    def leaves(self, run: Run, at: str, written: str = "") -> None:
        """The trainer ends, or is killed: the lock goes, the last state it wrote stays."""
        run.set_status(Status(written or at, 1, server=self.crew._server))
        self.trainers.pop(run.id).release()
        self.runs[run.id].at = at
        self.clock += 1
        self.left[self.runs[run.id].owner] = self.clock

    def was_right(self, started: set[str]) -> None:
        """One slot came free: it went to who has the fewest, and to the oldest of their runs."""
        (chosen,) = started
        has = Counter(self.runs[run_id].owner for run_id in self.those("at work"))
        waiting = [self.runs[run_id] for run_id in self.those("waiting")]
        mine = self.runs[chosen]
        assert has[mine.owner] == min(has[known.owner] for known in waiting)
        assert mine.arrived == min(known.arrived for known in waiting if known.owner == mine.owner)

    def serve(self, what: str) -> None:
        """See who got a slot: who stood first. Their trainers take the lock."""
        played[what] += 1
        started = self.crew.busy() - set(self.trainers)
        assert all(self.runs[run_id].at == "waiting" for run_id in started)  # no cancelled one, none twice
        if what in ("finish", "crash") and started:
            self.was_right(started)
        for run_id in started:
            self.clock += 1
            self.served.append((self.clock, self.runs[run_id].owner))
            self.runs[run_id].at = "at work"
            self.trainers[run_id] = files.lock(store.root() / run_id / "writer.lock")
            self.trainers[run_id].acquire()


def test_the_queue_whatever_happens() -> None:
    class Game(Queue.TestCase):  # type: ignore[misc, name-defined]
        settings = settings(
            max_examples=GAMES or 15,
            stateful_step_count=40 if GAMES else 25,
            derandomize=not GAMES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        )

    Game("runTest").runTest()
    print(f"\n{dict(played)}")
    assert played["games"] >= (GAMES or 15)
    assert all(played[what] for what in ("submit", "finish", "crash", "cancel", "resume", "restart"))
