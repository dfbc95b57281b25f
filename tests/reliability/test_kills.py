"""Real kills of real processes. `KILLS=20 SERVER_KILLS=20 pytest tests/reliability/test_kills.py` kills one trainer, and
servers with a trainer, so often, at random moments.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.runs import store
from playground.runs.launcher import Launcher
from tests.playground.small import (
    config,
    exists,
    same_bits,
    steps_shown,
    until,
    weights_after,
    weights_on_disk,
)

KILLS = int(os.environ.get("KILLS", "2"))
SERVER_KILLS = int(os.environ.get("SERVER_KILLS", "1"))
STEPS = 600
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLAYGROUND_RUNS", str(tmp_path))
    return tmp_path


class Alone:
    """One worker, and what it says."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "playground.runs.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def train(self, run: store.Run) -> None:
        self.stdin.write(f'{{"run": "{run.path}"}}\n'.encode())
        self.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.stdin, self.stdout):
            pipe.close()


@pytest.fixture
def alone() -> Iterator[Alone]:
    made = Alone()
    yield made
    made.close()


def test_a_killed_trainer_loses_nothing(crew: Launcher) -> None:
    steps = 200 * (KILLS + 1)
    run = store.create(config(steps, dropout=0.1, eval_every=100))
    dice = random.Random(1)
    shown: dict[int, float] = {}
    kills, noticed = 0, []
    crew.submit(run.id, "ann")
    for _ in range(KILLS):
        held = len(run.log().steps)  # not run.metrics(): with 200 kills it would parse 40,000 records at every look
        until(lambda held=held: len(run.log().steps) > held + 5, 40)  # type: ignore[misc]
        wait = dice.randint(0, 80) + len(run.log().steps)
        until(lambda wait=wait: len(run.log().steps) > wait or run.status().ended)  # type: ignore[misc]
        worker = crew._worker(run.id)
        if worker is None:
            break
        shown |= {r["step"]: r["loss"] for r in run.metrics()}
        os.kill(worker.process.pid, signal.SIGKILL)
        kills += 1
        noticed.append(until(lambda: run.status().state == "interrupted", 5))
        if dice.random() < 0.5:  # or else click at once
            until(lambda: "memory" in run.status().reason, 5)
        assert shown.items() <= {r["step"]: r["loss"] for r in run.metrics()}.items()
        assert crew.resume_all("bob") == 1
    until(lambda: run.status().state == "finished", 60 + 3 * KILLS)  # the steps that are left
    assert steps_shown(run) == list(range(1, steps + 1))
    assert shown.items() <= {r["step"]: r["loss"] for r in run.metrics()}.items()
    assert run.log().damaged == 0
    assert same_bits(weights_on_disk(run), weights_after(run.config))
    print(
        f"\n{kills} kills, {len(shown)} records shown, 0 lost; seen as interrupted after {max(noticed):.2f} s at most"
    )
    assert kills > KILLS // 2


def test_a_killed_trainer_frees_its_slot(crew: Launcher) -> None:
    first, second = store.create(config(100_000)), store.create(config(20))
    crew.submit(first.id, "ann")
    crew.submit(second.id, "bob")
    until(lambda: first.metrics(), 40)
    assert crew.place(second.id) == 1
    worker = crew._worker(first.id)
    assert worker is not None
    worker.process.kill()
    until(lambda: second.status().state == "finished", 40)
    assert first.status().state == "interrupted"


def test_end_of_stdin_means_save_and_leave(alone: Alone) -> None:
    run = store.create(config(100_000))
    alone.train(run)
    until(lambda: len(run.metrics()) > 20, 40)
    alone.stdin.close()
    took = until(lambda: alone.process.poll() is not None, 2)
    print(f"\nleft after {took:.3f} s")
    step = run.status().step
    assert (alone.process.returncode, run.status().state) == (0, "interrupted")
    assert steps_shown(run) == list(range(1, step + 1))
    assert run.resumable_steps()[:1] == [step]


def test_sigterm_saves_and_ctrl_c_is_left_to_the_server(alone: Alone) -> None:
    run = store.create(config(100_000))
    alone.train(run)
    until(lambda: len(run.metrics()) > 20, 40)
    alone.process.send_signal(signal.SIGINT)
    held = len(run.metrics())
    until(lambda: len(run.metrics()) > held + 5)
    alone.process.send_signal(signal.SIGTERM)
    until(lambda: alone.process.poll() is not None, 2)
    assert (alone.process.returncode, run.status().state) == (0, "interrupted")
    assert run.resumable_steps()[:1] == [run.status().step] == [steps_shown(run)[-1]]


def test_leaving_does_not_wait_for_the_import_of_torch(alone: Alone) -> None:
    alone.stdin.close()
    until(lambda: alone.process.poll() is not None, 2)
    assert alone.process.returncode == 0


def test_two_trainers_on_one_folder(crew: Launcher) -> None:
    run = store.create(config(100_000))
    crew.submit(run.id, "ann")
    until(lambda: run.metrics(), 40)
    other = Launcher(slots=1)  # a second server
    assert not other.submit(run.id, "ann")
    assert not other.resume(run.id, "ann")
    assert not other._workers
    second = subprocess.run(
        [sys.executable, "-m", "playground", "resume", run.id], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert "Another process" in second.stderr
    other.stop(run.id)  # but anyone may ask it to stop
    other.close()
    until(lambda: run.status().state == "stopped", 2)
    assert steps_shown(run) == list(range(1, run.status().step + 1))


def test_a_deleted_folder_ends_its_trainer_and_stays_deleted(crew: Launcher, runs: Path) -> None:
    run = store.create(config(100_000))
    crew.submit(run.id, "ann")
    until(lambda: len(run.metrics()) > 5, 40)
    assert store.delete(run.id)
    took = until(lambda: crew._worker(run.id) is None, 2)
    print(f"\nended after {took:.3f} s")
    assert [path.name for path in runs.iterdir() if not path.name.startswith((".server-", ".trash-"))] == []
    again = store.create(config(5))  # the worker lives on
    crew.submit(again.id, "ann")
    until(lambda: again.status().state == "finished")


@pytest.mark.parametrize("how", [signal.SIGKILL] * SERVER_KILLS + [signal.SIGTERM, signal.SIGINT])
def test_a_killed_server_leaves_nothing_behind(crew: Launcher, how: signal.Signals) -> None:
    """SIGINT is Ctrl-C, which reaches the server and its workers."""
    trained, queued = store.create(config(STEPS, dropout=0.1)), store.create(config(10))
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.reliability.server", trained.id, queued.id],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env=os.environ | {"PLAYGROUND_SLOTS": "1"},
        text=True,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a process group, as a terminal makes
    )
    dice = random.Random(trained.id)
    try:
        assert server.stdout is not None
        pids = [int(pid) for pid in server.stdout.readline().split()]
        assert len(pids) == 1
        moment = dice.randint(20, 120)
        until(lambda: len(trained.metrics()) > moment, 40)
        assert (trained.status().state, queued.status().state) == ("running", "queued")
        shown = {r["step"]: r["loss"] for r in trained.metrics()}
    finally:
        os.killpg(server.pid, how) if how == signal.SIGINT else server.send_signal(how)
        server.wait(20)
        server.stdout.close()
    took = until(lambda: not any(exists(pid) for pid in pids), 2)
    print(f"\nworkers gone after {took:.3f} s")
    assert (trained.status().state, queued.status().state) == ("interrupted", "interrupted")
    assert moment < trained.status().step < STEPS
    assert shown.items() <= {r["step"]: r["loss"] for r in trained.metrics()}.items()
    assert crew.resume_all("ann") == 2
    until(lambda: trained.status().state == queued.status().state == "finished", 60)
    assert steps_shown(trained) == list(range(1, STEPS + 1))
    assert same_bits(weights_on_disk(trained), weights_after(trained.config))


def test_a_run_from_the_command_line_lives_by_itself(crew: Launcher) -> None:
    by_hand, queued = store.create(config(100_000)), store.create(config(10))
    server = subprocess.Popen([sys.executable, "-m", "tests.reliability.server"], cwd=ROOT, stdout=subprocess.DEVNULL)
    command = [sys.executable, "-m", "playground", "resume", "--quiet", by_hand.id]
    alone = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(by_hand.metrics()) > 5, 60)
        server.kill()
        server.wait()
        then = len(by_hand.metrics())
        until(lambda: len(by_hand.metrics()) > then + 5)
        assert (alone.poll(), by_hand.status().state) == (None, "running")
        assert crew.resume_all() == 0  # the next server sees that it runs
        assert queued.status().state == "draft"
        alone.terminate()
        until(lambda: alone.poll() is not None, 5)
    finally:
        for process in (server, alone):
            process.kill()
            process.wait()
    assert by_hand.status().state == "interrupted"
    assert by_hand.resumable_steps()[:1] == [by_hand.status().step] == [steps_shown(by_hand)[-1]]


def test_closing_the_launcher_saves_everything() -> None:
    run = store.create(config(100_000))
    crew = Launcher(slots=1)
    crew.submit(run.id, "ann")
    until(lambda: len(run.metrics()) > 5, 40)
    pids = [worker.process.pid for worker in crew._workers]
    took = until(lambda: crew.close() is None, 2)
    print(f"\nclosed after {took:.3f} s")
    assert not any(exists(pid) for pid in pids)
    assert run.status().state == "interrupted"
    assert run.resumable_steps()[:1] == [run.status().step]
    assert not crew.submit(run.id, "ann")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says that a process is halted")
def test_a_worker_that_sleeps_is_shown_not_counted_and_stoppable(crew: Launcher) -> None:
    """A closed lid, a SIGSTOP: it says so, the time is no training time, the queue goes on, Stop reaches it."""
    run, waiting = store.create(config(100_000)), store.create(config(30))
    crew.submit(run.id, "ann")
    until(lambda: len(run.log().steps) > 5, 60)
    worker = crew._worker(run.id)
    assert worker is not None
    before = run.status().seconds
    os.kill(worker.process.pid, signal.SIGSTOP)
    try:
        until(lambda: "sleeps" in run.status().reason, 5)
        assert run.status().state == "running"
        crew.submit(waiting.id, "bob")  # its slot is free meanwhile
        until(lambda: waiting.status().state == "finished", 60)
        time.sleep(4.0)
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)
    shown = len(run.log().steps)
    until(lambda: len(run.log().steps) > shown + 5, 60)
    until(lambda: "got no time to compute" in run.status().reason, 5)
    assert run.status().seconds < before + 4.0
    os.kill(worker.process.pid, signal.SIGSTOP)
    until(lambda: "sleeps" in run.status().reason, 5)
    shown = len(run.log().steps)
    crew.stop(run.id)
    assert until(lambda: run.status().state == "stopped", 5) < 2.0
    assert not exists(worker.process.pid)
    assert len(run.log().steps) >= shown  # what was shown stays
    again = store.create(config(10))
    crew.submit(again.id, "bob")
    until(lambda: again.status().state == "finished", 60)
    assert crew.resume(run.id, "ann")
    until(lambda: len(run.log().steps) > shown, 60)
    crew.stop(run.id)
    until(lambda: run.status().state == "stopped", 20)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says that a process is halted")
def test_deleting_the_run_of_a_worker_that_sleeps_frees_its_slot(crew: Launcher) -> None:
    run, waiting = store.create(config(100_000)), store.create(config(10))
    crew.submit(run.id, "ann")
    until(lambda: len(run.log().steps) > 5, 60)
    worker = crew._worker(run.id)
    assert worker is not None
    os.kill(worker.process.pid, signal.SIGSTOP)
    crew.submit(waiting.id, "bob")
    assert crew.delete(run.id)
    until(lambda: not exists(worker.process.pid), 5)
    until(lambda: waiting.status().state == "finished", 60)
