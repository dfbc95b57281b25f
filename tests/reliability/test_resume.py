"""FAULTS row 39: any sequence of learning rates, pauses, kills and resumes is the sequence without the kills, bit for bit.

Kills are played in this process: a BaseException that no code of ours catches, at a step, with nothing written after it
(tests/reliability/test_kills.py has the real ones). `RESUMES=200` plays more sequences.
"""

import os
import random
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch

from core.checkpoint import load_state, load_weights
from core.messages import ConfigError
from core.read import build
from core.train import REWARM, StepRecord, Trainer, learning_rate
from playground.runs import branches, checkpoints, store, training
from playground.runs.store import Run
from playground.runs.training import Training
from tests.playground.small import config, one_thread, same_bits, train_here, until, weights_on_disk

GAMES = int(os.environ.get("RESUMES", "4"))
STEPS = 60
SETTINGS = {"warmup": 5, "schedule": "cosine", "lr": 0.01}


class Killed(BaseException):
    """kill -9, as the code sees it: not at all."""


@dataclass
class Life:
    """One stretch of training: what a person does after which step (of this life), and how it ends."""

    rates: dict[int, float] = field(default_factory=dict)
    end: str = ""  # "", "kill", "leave" (the app was closed), "pause"
    at: int = STEPS


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Look for requests at every step; checkpoints about every fourth."""
    monkeypatch.setenv("PLAYGROUND_RUNS", str(tmp_path))
    monkeypatch.setattr(training, "POLL", 0.0)
    monkeypatch.setattr(checkpoints, "EVERY_STEPS", 7)
    monkeypatch.setattr(checkpoints, "SHARE", 1e-9)


def play(run: Run, life: Life) -> None:
    leave = threading.Event()

    def act(record: StepRecord) -> None:
        if record.step in life.rates:
            run.ask("lr", life.rates[record.step])
        if record.step == life.at and life.end == "kill":
            raise Killed
        if record.step == life.at and life.end == "leave":
            leave.set()
        if record.step == life.at and life.end == "pause":
            run.ask("pause")

    def hold(state: str) -> None:
        if state == "paused":
            leave.set()

    run.withdraw("pause")
    with suppress(Killed):
        Training(run, leave, on_state=hold, on_record=act)()


def in_force(rates: dict[int, float], new: dict[int, float]) -> dict[int, float]:
    """What a person sets later overrules everything that was set for this step or a later one."""
    for step, lr in sorted(new.items()):
        rates = {at: old for at, old in rates.items() if at < step} | {step: lr}
    return rates


def agree(run: Run, rates: dict[int, float]) -> None:
    """Weights, every saved step, log and curve are those of the undisturbed run."""
    assert run.status().state == "finished", run.status()
    trainer = Trainer(run.config, added=run.added)
    saved, seen = set(run.saved_steps()), []
    for step in range(run.target_steps):
        if step in rates:
            trainer.set_lr(rates[step])
        if step in saved:
            assert same_bits(load_weights(run.weights_path(step), run.config.model).state_dict(), weights(trainer)), (
                step
            )
        seen.append(trainer.advance())
    assert same_bits(weights_on_disk(run), trainer.state().weights)
    records = run.metrics()
    assert [r["step"] for r in records] == [r.step for r in seen]
    assert [r["lr"] for r in records] == pytest.approx([r.lr for r in seen], rel=1e-6)  # the log has seven digits
    assert [e for e in run.log().events if e["event"] == "lr"] == [
        {"event": "lr", "step": step, "lr": lr} for step, lr in sorted(rates.items())
    ]


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return trainer.state().weights


@pytest.fixture
def seldom(often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints about every tenth step: at 40 or 41, not again before 50."""
    monkeypatch.setattr(checkpoints, "EVERY_STEPS", 20)


def test_an_abandoned_learning_rate_does_not_come_back(seldom: None) -> None:
    """0.02 at step 47; killed at 49, resumed from 41; the person sets 0.001 at 43; killed at 45: at 47 stays 0.001."""
    run = store.create(config(STEPS, **SETTINGS))
    with one_thread():
        play(run, Life({47: 0.02}, "kill", 49))
        assert run.resumable_steps()[0] < 43
        play(run, Life({43: 0.001}, "kill", 45))
        play(run, Life())
        agree(run, {43: 0.001})


def test_a_learning_rate_that_nobody_overruled_comes_back(seldom: None) -> None:
    run = store.create(config(STEPS, **SETTINGS))
    with one_thread():
        play(run, Life({47: 0.02}, "kill", 49))
        assert run.resumable_steps()[0] < 47
        play(run, Life())
        agree(run, {47: 0.02})


@pytest.mark.parametrize("moment", ["before the log", "after the log", "after the old future went"])
def test_a_rate_whose_trainer_is_killed_while_it_is_set_is_not_lost(
    seldom: None, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set after step 47; the trainer is killed in the middle of taking it up. It counts once, from 47 on, or from where the
    next life begins if the log does not know it yet.
    """
    run = store.create(config(STEPS, **SETTINGS))
    event, forget = Training._event, checkpoints.Checkpoints.forget_after

    def falling_event(self: Training, name: str, **values: float) -> None:
        if moment != "before the log":
            event(self, name, **values)
        if moment != "after the old future went":
            raise Killed

    def falling_forget(self: checkpoints.Checkpoints, step: int) -> None:
        forget(self, step)
        raise Killed

    with one_thread():
        with monkeypatch.context() as patched:
            patched.setattr(Training, "_event", falling_event)
            patched.setattr(checkpoints.Checkpoints, "forget_after", falling_forget)
            play(run, Life({47: 0.02}))
        assert (run.path / "control" / "lr").exists()
        begun = run.resumable_steps()[0]
        assert begun < 47
        play(run, Life({}, "kill", 58))
        assert not (run.path / "control" / "lr").exists()
        play(run, Life())
        agree(run, {begun if moment == "before the log" else 47: 0.02})


def test_the_same_rate_asked_for_again_is_no_change(seldom: None) -> None:
    run = store.create(config(STEPS, **SETTINGS))
    with one_thread():
        play(run, Life({20: 0.02, 30: 0.02}, "leave", 40))
        play(run, Life({50: 0.02}))
        agree(run, {20: 0.02})


def test_nothing_of_an_abandoned_future_is_shown(seldom: None) -> None:
    """From the moment of the new rate on: its curve, its weights to look at and its states are gone."""
    run = store.create(config(STEPS, **SETTINGS))
    with one_thread():
        play(run, Life({}, "kill", 49))
        assert run.resumable_steps()[0] < 44
        play(run, Life({44: 0.02}, "leave", 45))
        assert run.metrics()[-1]["step"] == run.status().step
        assert run.saved_steps()[-1] == run.status().step


def test_any_sequence_is_the_sequence_without_its_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[Any] = []
    kills = 0
    for seed in range(GAMES):
        chance = random.Random(seed)
        monkeypatch.setattr(checkpoints, "EVERY_STEPS", chance.choice([7, 30, 200]))
        run = store.create(config(STEPS, dropout=chance.choice([0.0, 0.1]), seed=seed, **SETTINGS))
        rates: dict[int, float] = {}
        lives: list[Life] = []
        with one_thread():
            while run.written_status().state != "finished" and len(lives) < 12:
                begun = max(run.resumable_steps(), default=0)
                end = chance.choice(["kill", "kill", "kill", "leave", "pause", ""]) if len(lives) < 10 else ""
                at = chance.randint(begun + 1, STEPS) if end else STEPS
                moments = sorted(chance.sample(range(begun + 1, at + 1), min(at - begun, chance.randint(0, 2))))
                # What was asked in the very moment of a kill waits in the folder and holds from the resume on.
                moments = [m for m in moments if m < at and m < STEPS]
                life = Life({m: round(10 ** chance.uniform(-4, -1.5), 6) for m in moments}, end, at)
                lives.append(life)
                kills += end == "kill"
                play(run, life)
                rates = in_force(rates, life.rates)
            try:
                agree(run, rates)
            except AssertionError as error:
                wrong.append((seed, lives, str(error)[:300]))
    print(f"\nsequences {GAMES}, kills {kills}, not bit-equal {len(wrong)}")
    assert not wrong, wrong[:3]


# Going on and branching


@pytest.mark.parametrize("schedule", ["cosine", "constant", "inverse_sqrt"])
def test_added_steps_survive_kills(seldom: None, schedule: str) -> None:
    """Steps are added twice to a finished run, killed on the way each time; all that came before stays as it was."""
    run = store.create(config(STEPS, **SETTINGS | {"schedule": schedule}))
    with one_thread():
        play(run, Life())
        before = {record["step"]: record["lr"] for record in run.metrics()}
        assert branches.train_on(run, 90)
        assert not branches.train_on(run, 90)  # a double click
        assert (run.added, run.target_steps, run.goes_on()) == ((STEPS, 90), 90, True)
        play(run, Life({80: 0.02}, "kill", 85))
        play(run, Life())
        assert branches.train_on(run, 110)
        play(run, Life({}, "kill", 101))
        play(run, Life())
        assert (run.status().step, run.added, run.goes_on()) == (110, (STEPS, 90, 110), False)
        agree(run, {80: 0.02})
    rates = {record["step"]: record["lr"] for record in run.metrics()}
    assert {step: rates[step] for step in before} == before
    if schedule == "cosine":  # up again within a tenth of the added steps, and down to 0 at their end
        assert rates[STEPS + 3] == SETTINGS["lr"]
        assert rates[90] == rates[110] == 0
    else:
        assert rates[75] == pytest.approx(learning_rate(run.config.train, 75, 0.01), rel=1e-6)


def test_steps_are_added_to_a_run_that_was_stopped_and_to_one_that_stopped_early(often: None) -> None:
    stopped = store.create(config(STEPS, **SETTINGS))
    early = store.create(config(STEPS, stop_at_exact_match=1e-9, eval_every=1000, **SETTINGS))
    with one_thread():
        play(stopped, Life({}, "leave", 20))
        assert branches.train_on(stopped, 80)
        assert stopped.added == (STEPS, 80)  # what was planned comes first
        play(stopped, Life())
        agree(stopped, {})
        early.set_status(store.Status("finished", 20))
        assert branches.train_on(early, 50)
        assert early.added == (20, 50)


def test_a_branch_without_changes_is_its_parent(often: None) -> None:
    """From every step whose state was kept, with dropout, a rate that was set on the way, and steps that were added."""
    parent = store.create(config(STEPS, dropout=0.1, **SETTINGS))
    with one_thread():
        play(parent, Life({5: 0.02}))
        branches.train_on(parent, 80)
        play(parent, Life())
        ends = load_state(parent.state_path(80), parent.config, 80)
        exact = parent.exact_steps()
        assert len(exact) >= 8
        assert exact[0] == 0
        for step in exact[:-1]:
            branch = branches.branch(parent, step, parent.config, "ann")
            assert branch.parent == (parent.id, step, True)
            assert (branch.owner, branch.status().step) == ("ann", step)
            if step <= 5:  # set later than the branch began: not the branch's, so it is asked for again
                play(branch, Life({5: 0.02}, "kill", 8))
            play(branch, Life({}, "kill", max(9, min(step + 9, 79))))
            play(branch, Life())
            assert branch.status().state == "finished", branch.status()
            theirs = load_state(branch.state_path(80), branch.config, 80)
            assert same_bits(theirs.weights, ends.weights), step
            assert same_bits(theirs.moments["output.weight"], ends.moments["output.weight"]), step
            curve = {record["step"]: record["loss"] for record in branch.metrics()}
            assert curve == {r["step"]: r["loss"] for r in parent.metrics() if r["step"] > step}


def test_a_branch_from_the_first_step_is_its_parent(often: None) -> None:
    parent = store.create(config(STEPS, **SETTINGS))
    with one_thread():
        play(parent, Life())
        branch = branches.branch(parent, 0, parent.config)
        play(branch, Life())
        assert branch.parent == (parent.id, 0, True)
        agree(branch, {})
        assert same_bits(weights_on_disk(branch), weights_on_disk(parent))


def test_elsewhere_a_branch_warms_up_and_says_so(often: None) -> None:
    parent = store.create(config(STEPS, **SETTINGS))
    with one_thread():
        play(parent, Life())
        step = next(s for s in parent.saved_steps() if s not in parent.exact_steps() and s > 10)
        settings = parent.config.model_copy(
            update={"train": parent.config.train.model_copy(update={"lr": 0.003, "schedule": "constant"})}
        )
        branch = branches.branch(parent, step, settings)
        assert branch.parent == (parent.id, step, False)
        assert {"event": "branch", "step": step, "exact": False} in branch.log().events
        start = load_weights(parent.weights_path(step), parent.config.model).state_dict()
        assert same_bits(start, load_weights(branch.weights_path(step), branch.config.model).state_dict())
        leave = threading.Event()
        said: list[str] = []
        Training(branch, leave, on_state=lambda state: said.append(branch.written_status().reason))()
    assert str(step) in said[0]
    rates = [record["lr"] for record in branch.metrics()]
    assert rates[0] == pytest.approx(0.003 / REWARM)
    assert rates[REWARM - 1 :] == [0.003] * (STEPS - step - REWARM + 1)


def test_what_the_weights_fix_is_refused(often: None) -> None:
    parent = store.create(config(20))
    train_here(parent)
    other = config(20).model_dump(mode="json")
    other["model"] |= {"d_model": 32, "d_ff": 8, "dropout": 0.5, "causal_mask": False}
    other["train"]["steps"] = 5
    wanted = build(other)
    assert branches.branch_problems(parent.config, wanted) == ["model.d_model", "model.d_ff"]
    with pytest.raises(ConfigError) as error:
        branches.branch(parent, 10, wanted)
    assert {problem.loc for problem in error.value.problems} == {"model.d_model", "model.d_ff", "train.steps"}
    with pytest.raises(store.RunError):
        branches.branch(parent, 999, config(2000))
    assert len(store.list_runs()) - len([run for run in store.list_runs() if run.is_sample]) == 1


def test_a_branch_that_lost_its_beginning_does_not_begin_anew(often: None) -> None:
    parent = store.create(config(20))
    train_here(parent)
    branch = branches.branch(parent, 20, config(40))
    for step in branch.saved_steps():
        branch.state_path(step).write_bytes(b"x")
    assert train_here(branch) == "failed"
    assert branch.status().template == training.NO_START
    assert branch.metrics() == []


def test_a_slow_run_has_the_same_weights_and_counts_no_waiting(often: None) -> None:
    slow, quick = (store.create(config(12)) for _ in range(2))
    slow.set_pace(5)
    start = monotonic()
    train_here(slow)
    took = monotonic() - start
    train_here(quick)
    assert took > 11 / 5
    assert slow.status().seconds < 0.5 * took
    assert same_bits(weights_on_disk(slow), weights_on_disk(quick))


def test_a_slow_run_answers_at_once_and_hurries_for_others(often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "POLL", 0.02)
    run, crowd = store.create(config(5000)), threading.Event()
    run.set_pace(1)
    thread = threading.Thread(target=Training(run, threading.Event(), crowd=crowd))
    thread.start()
    until(lambda: run.status().state == "running" and run.status().step >= 1)
    sleep(0.3)
    assert run.status().step <= 2
    run.ask("lr", 0.5)
    assert until(lambda: not (run.path / "control" / "lr").exists()) < 0.3
    crowd.set()
    until(lambda: run.status().step > 10, 3.0)
    assert run.status().template == training.HURRIED
    crowd.clear()
    until(lambda: run.status().template == "", 3.0)
    run.ask("stop")
    assert until(lambda: run.status().state == "stopped") < 0.5
    thread.join()
