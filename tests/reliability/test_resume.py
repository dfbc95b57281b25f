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
from typing import Any

import pytest
import torch

from core.checkpoint import load_weights
from core.train import StepRecord, Trainer
from playground.runs import checkpoints, store, training
from playground.runs.store import Run
from playground.runs.training import Training
from tests.playground.small import config, one_thread, same_bits, weights_on_disk

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
    trainer = Trainer(run.config)
    saved, seen = set(run.saved_steps()), []
    for step in range(STEPS):
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
