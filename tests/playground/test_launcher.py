"""Slots and the queue with pretended workers, the commands with real ones."""

import itertools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import core.train
from playground.runs import launcher as launcher_module
from playground.runs import store
from playground.runs.files import lock
from playground.runs.launcher import Launcher
from tests.playground.pretended import Pretended
from tests.playground.small import (
    config,
    same_bits,
    steps_shown,
    train_here,
    trained,
    until,
    weights_after,
    weights_on_disk,
)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLAYGROUND_RUNS", str(tmp_path))
    return tmp_path


@pytest.fixture
def pretended() -> Iterator[Pretended]:
    made = Pretended(slots=2)
    yield made
    made.close()


def test_as_many_train_as_there_are_slots(pretended: Pretended) -> None:
    runs = [store.create(config()) for _ in range(5)]
    assert all(pretended.submit(run.id, "ann") for run in runs)
    assert all(pretended.submit(run.id, "ann") for run in runs)  # a double click
    assert pretended.busy() == {runs[0].id, runs[1].id}
    assert [pretended.place(run.id) for run in runs] == [None, None, 1, 2, 3]
    assert pretended.waiting == 3
    assert {run.status().state for run in runs[2:]} == {"queued"}
    assert len(pretended._workers) == 2
    pretended.says(runs[0], end="finished")
    assert pretended.busy() == {runs[1].id, runs[2].id}
    assert len(pretended._workers) == 2


def test_nobodys_second_run_before_everybodys_first(pretended: Pretended) -> None:
    owners = ["ann"] * 4 + ["bob"] * 3 + ["eve"] * 2
    runs = {store.create(config(), owner).id: owner for owner in owners}
    for run_id, owner in runs.items():
        pretended.submit(run_id, owner)
    served = [runs[run_id] for run_id in pretended.busy()]
    assert served == ["ann", "ann"]  # when they came, nobody else was there
    while pretended.waiting:
        expected = next(run_id for run_id in runs if pretended.place(run_id) == 1)
        first = next(run_id for run_id in runs if run_id in pretended.busy())
        before = pretended.busy()
        pretended.says(store.Run(store.root() / first), end="finished")
        assert pretended.busy() - before == {expected}
        served.append(runs[expected])
    assert served[2:] == ["bob", "eve", "ann", "bob", "ann", "bob", "eve"]


def test_thirty_people_two_runs_each(pretended: Pretended) -> None:
    people = [f"p{i}" for i in range(30)]
    runs = {store.create(config()).id: person for person in people for _ in range(2)}
    for run_id, person in runs.items():
        pretended.submit(run_id, person)
    served = [runs[i] for i in pretended.busy()]
    while pretended.waiting:
        before = pretended.busy()
        pretended.says(store.Run(store.root() / min(before)), end="finished")
        served += [runs[i] for i in pretended.busy() - before]
    assert len(served) == 60
    assert len(set(served[2:31])) == 29  # the two slots of the first second went to who was alone then
    assert set(served[:31]) == set(people)


def test_cancel_in_the_queue_is_immediate(pretended: Pretended) -> None:
    runs = [store.create(config()) for _ in range(5)]
    for run in runs:
        pretended.submit(run.id, "ann")
    pretended.stop(runs[2].id)
    pretended.pause(runs[3].id)
    assert [run.status().state for run in runs[2:]] == ["stopped", "paused", "queued"]
    assert pretended.place(runs[4].id) == 1
    pretended.resume(runs[3].id, "ann")
    assert pretended.place(runs[3].id) == 2
    assert pretended.delete(runs[3].id)
    assert pretended.waiting == 1


def test_a_paused_run_makes_room_when_somebody_waits(pretended: Pretended) -> None:
    runs = [store.create(config()) for _ in range(3)]
    for run in runs:
        pretended.submit(run.id, run.id)
    pretended.says(runs[0], state="running")
    worker = pretended._worker(runs[0].id)
    assert worker is not None
    pretended.says(runs[0], state="paused")
    heard = worker.process.heard  # type: ignore[attr-defined]
    assert heard[-1] == {"release": runs[0].id}
    pretended.says(runs[0], end="paused")
    assert pretended.busy() == {runs[1].id, runs[2].id}
    # One who paused and goes on again waits his turn.
    pretended.resume(runs[0].id, runs[0].id)
    assert pretended.place(runs[0].id) == 1


def test_a_resume_that_crosses_the_end_is_not_lost(pretended: Pretended) -> None:
    run = store.create(config())
    pretended.submit(run.id, "ann")
    pretended.pause(run.id)
    pretended.resume(run.id, "ann")
    pretended.says(run, end="paused")  # it had not seen the resume
    assert pretended.busy() == {run.id}
    pretended.pause(run.id)
    pretended.says(run, end="paused")
    assert pretended.busy() == set()


def test_a_worker_that_was_dead_already_costs_nothing(pretended: Pretended) -> None:
    run = store.create(config())
    pretended.submit(run.id, "ann")
    worker = pretended._worker(run.id)
    assert worker is not None
    pretended._died(worker, -9)
    assert pretended.busy() == {run.id}
    again = pretended._worker(run.id)
    assert again is not None
    assert again is not worker
    pretended.says(run, state="starting")
    pretended._died(again, -9)  # this one had begun: the run may be what kills it
    assert pretended.busy() == set()
    assert run.status().state == "interrupted"
    assert "memory" in run.status().reason


def test_workers_that_cannot_start_are_not_started_for_ever(pretended: Pretended) -> None:
    for _ in range(3):
        worker = pretended._start()
        worker.ready = False
        pretended._died(worker, 1)
    pretended.warm()
    assert pretended._workers == []
    run = store.create(config())
    pretended.submit(run.id, "ann")
    worker = pretended._workers[0]
    worker.ready = False
    pretended._died(worker, 1)
    assert run.status().state == "failed"
    assert "cannot start" in run.status().reason


def test_unknown_runs_and_samples_are_refused(pretended: Pretended) -> None:
    for bad in ("", "../..", store.new_id(), "sample-reverse"):
        assert not pretended.submit(bad)
        assert not pretended.resume(bad)
        pretended.pause(bad)
        pretended.stop(bad)
        pretended.step_to(bad, 3)
        pretended.set_lr(bad, 0.1)
        assert pretended.place(bad) is None


def test_one_launcher_a_process_even_after_a_hot_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "_playground_launcher", raising=False)
    first = launcher_module.launcher()
    name = "playground.runs.launcher"
    monkeypatch.delitem(sys.modules, name)
    import playground.runs.launcher as again

    assert again is not launcher_module
    assert again.launcher() is first
    first.close()
    monkeypatch.setitem(sys.modules, name, launcher_module)
    monkeypatch.setattr(sys.modules["playground.runs"], "launcher", launcher_module)


@pytest.fixture(scope="module")
def crew() -> Iterator[Launcher]:
    made = Launcher(slots=2)
    made.warm()
    until(lambda: any(worker.ready for worker in made._workers), 60)
    yield made
    made.close()


def test_a_run_from_click_to_end(crew: Launcher) -> None:
    run = store.create(config(40), "ann")
    assert crew.submit(run.id, "ann")
    first = until(lambda: run.metrics())
    until(lambda: run.status().state == "finished")
    print(f"\nclick to first record: {first:.3f} s")
    assert steps_shown(run) == list(range(1, 41))
    assert run.saved_steps()[-1] == 40
    assert run.probe()["step"] == 40  # type: ignore[index]
    assert same_bits(weights_on_disk(run), weights_after(run.config))
    assert not crew.resume(run.id)


def test_pause_step_resume_stop(crew: Launcher) -> None:
    run = store.create(config(100_000))
    crew.submit(run.id, "ann", paused_at=0)
    until(lambda: run.status().state == "paused")
    assert (run.status().step, run.saved_steps(), steps_shown(run)) == (0, [0], [])
    assert run.probe() is not None
    for _ in range(2):  # a target, so that twice is once
        crew.step_to(run.id, 1)
        until(lambda: run.status().state == "paused" and run.status().step == 1)
    crew.step_to(run.id, 7)
    until(lambda: run.status().step == 7 and run.status().state == "paused")
    assert steps_shown(run) == list(range(1, 8))
    assert 7 in run.resumable_steps()
    crew.resume(run.id, "ann")
    until(lambda: len(run.metrics()) > 30)
    crew.pause(run.id)
    until(lambda: run.status().state == "paused")
    at = run.status().step
    assert steps_shown(run)[-1] == at
    took = until(lambda: (crew.stop(run.id), run.status().state == "stopped")[1], 2.0)
    print(f"\nstop: {took:.3f} s")
    assert run.resumable_steps()[0] == at
    crew.resume(run.id, "ann")
    until(lambda: len(run.metrics()) > at)
    crew.stop(run.id)
    until(lambda: run.status().state == "stopped")
    assert steps_shown(run) == list(range(1, run.status().step + 1))


def test_the_learning_rate_changes_and_is_remembered(crew: Launcher) -> None:
    run = store.create(config(60, warmup=0, lr=0.01, schedule="constant"))
    crew.submit(run.id, "ann", paused_at=20)
    until(lambda: run.status().state == "paused")
    crew.set_lr(run.id, 0.002)
    crew.set_lr(run.id, float("nan"))
    until(lambda: run.log().events)
    crew.resume(run.id, "ann")
    until(lambda: run.status().state == "finished")
    rates = [record["lr"] for record in run.metrics()]
    assert rates[:20] == [0.01] * 20
    assert rates[20:] == [0.002] * 40
    assert run.log().events == [{"event": "lr", "step": 20, "lr": 0.002}]


def test_two_runs_share_two_slots_and_workers_are_used_again(crew: Launcher) -> None:
    runs = [store.create(config(60)) for _ in range(4)]
    for run in runs:
        crew.submit(run.id, run.id)
    until(lambda: all(run.status().state == "finished" for run in runs), 60)
    assert len(crew._workers) <= 2
    assert len({tuple(r["loss"] for r in run.metrics()) for run in runs}) == 1  # same seed, same run


def test_a_loss_that_is_no_number_ends_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    run, real, calls = store.create(config(40)), core.train.token_loss, itertools.count(1)
    monkeypatch.setattr(core.train, "token_loss", lambda *a: real(*a) * (float("nan") if next(calls) == 6 else 1.0))
    assert train_here(run) == "failed"
    assert run.status().step == 5
    assert "finite number at step 6" in run.status().reason
    assert run.log().events == [{"event": "diverged", "step": 6}]
    assert steps_shown(run) == [1, 2, 3, 4, 5]
    assert same_bits(weights_on_disk(run), weights_after(config(5)))


def test_a_copied_folder_goes_on_where_it_stood(crew: Launcher) -> None:
    run = trained(6)
    run.set_status(store.Status("interrupted", 6))
    for name in ("control", "writer.lock"):  # what a copying tool may leave out
        path = run.path / name
        path.rmdir() if path.is_dir() else path.unlink()
    assert crew.resume(run.id)
    until(lambda: run.status().state == "finished")


def test_a_stop_at_one_server_is_seen_at_the_other(pretended: Pretended, runs: Path) -> None:
    """FAULTS 41: two servers on one folder. What waits at A and is stopped, paused or resumed at B is not trained by A."""
    other = Pretended(slots=1)
    try:
        hog, hog_too, stopped, paused, moved = (store.create(config()) for _ in range(5))
        for run in (hog, hog_too, stopped, paused, moved):
            assert pretended.submit(run.id, run.id)
        assert pretended.busy() == {hog.id, hog_too.id}
        other.stop(stopped.id)
        other.pause(paused.id)
        other.submit(moved.id)
        assert (stopped.status().state, paused.status().state) == ("stopped", "paused")
        assert other.busy() == {moved.id}
        pretended.says(hog, end="finished")
        assert pretended.busy() == {hog_too.id}
        assert pretended.waiting == 0
    finally:
        other.close()


def test_a_folder_of_runs_made_anew_under_a_living_server(pretended: Pretended, runs: Path) -> None:
    """The lock that says "my queue lives" went with the folder: without a new one, what waits would look interrupted."""
    hogs = [store.create(config()) for _ in range(2)]
    for hog in hogs:
        pretended.submit(hog.id, "ann")
    shutil.rmtree(runs)
    first, second = store.create(config()), store.create(config())
    pretended.submit(first.id, "bob")
    pretended.submit(second.id, "cem")
    assert [run.status().state for run in (first, second)] == ["queued", "queued"]
    for lock_file in runs.glob(".server-*.lock"):  # somebody tidies up
        lock_file.unlink()
    third = store.create(config())
    pretended.submit(third.id, "dan")
    assert {run.status().state for run in (first, second, third)} == {"queued"}
    pretended.says(hogs[0], end=None)
    assert len(pretended.busy()) == 2


def test_a_finished_run_is_trained_on(crew: Launcher) -> None:
    run = trained(6)
    assert not crew.resume(run.id)
    assert crew.train_on(run.id, 20, "ann")
    until(lambda: run.status().state == "finished" and run.status().step == 20)
    assert steps_shown(run) == list(range(1, 21))
    assert not crew.train_on(run.id, 20)  # twice is once
    assert run.added == (6, 20)


def test_more_steps_while_the_worker_says_good_bye_are_not_lost(pretended: Pretended) -> None:
    run = trained(6)
    run.set_status(store.Status("interrupted", 3))
    pretended.submit(run.id, "ann")
    pretended.says(run, state="running")
    run.set_status(store.Status("finished", 6))  # the person sees this before its worker is free
    assert pretended.train_on(run.id, 9, "ann")
    pretended.says(run, end="finished")
    assert pretended.busy() == {run.id}
    pretended.says(run, end="finished")
    assert run.status().state == "queued" or pretended.busy() == set()


def test_a_run_at_work_is_given_no_more_steps(pretended: Pretended) -> None:
    run = store.create(config())
    with lock(run.path / "writer.lock"):
        run.set_status(store.Status("running", 3))
        assert not pretended.train_on(run.id, 90)
    assert run.added == ()


def test_slow_runs_hear_when_somebody_waits_and_when_nobody_does(pretended: Pretended) -> None:
    runs = [store.create(config()) for _ in range(3)]
    for run in runs[:2]:
        pretended.submit(run.id, run.id)
    worker = pretended._worker(runs[0].id)
    assert worker is not None
    heard = worker.process.heard  # type: ignore[attr-defined]
    assert heard == [{"run": str(runs[0].path)}]
    pretended.submit(runs[2].id, "eve")
    assert heard[-1] == {"crowd": "yes"}
    pretended.stop(runs[2].id)
    pretended.submit(runs[1].id)  # whatever happens next
    assert heard[-1] == {"crowd": ""}


def test_a_slow_run_makes_haste_for_who_waits_behind_it(crew: Launcher) -> None:
    slow, others = store.create(config(2000)), [store.create(config(20)) for _ in range(2)]
    slow.set_pace(1)
    crew.submit(slow.id, "ann")
    until(lambda: slow.status().step >= 1)
    for run in others:
        run.set_pace(1)
        crew.submit(run.id, run.id)
        until(lambda run=run: run is others[1] or run.status().step >= 1)  # type: ignore[misc]
    assert until(lambda: others[0].status().state == "finished", 30) < 15  # 20 s at its pace
    crew.stop(slow.id)
    crew.stop(others[1].id)
    until(lambda: {slow.status().state, others[1].status().state} == {"stopped"})
