"""Seconds of one thread until "Reverse, quick" ends, and whether it then generates 99 % of 1,000 unseen strings exactly.

Beside it, in the same run: the recipe that is to be beaten (OLD; as long as nothing beat it, the same one), the recipe with
one setting changed, and with --peers other libraries until they reach 99 %.

    python -m tests.benchmarks.time_to_solve [--peers]
"""

import argparse
import statistics
import sys
import time
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from core.config import RunConfig
from core.read import build, fit
from core.tasks import Data
from core.tokens import PAD
from core.train import Trainer, evaluate, learning_rate
from tests.benchmarks.peers import PEERS, greedy, missing

Settings = dict[str, dict[str, Any]]

SEEDS, EXACT, RATIO, CHANGED_EXACT, PEERS_RATIO = (1, 2, 3, 4, 5), 0.99, 0.55, 0.97, 4.0
OLD: Settings = {"model": {"d_model": 64, "d_ff": 256}, "train": {"steps": 400, "lr": 8e-3, "warmup": 50}}
CHANGES: tuple[Settings, ...] = tuple(
    {"model": {name: value}}
    for name, values in {"n_heads": (1, 2, 8), "n_layers": (2,), "d_model": (32, 64, 128)}.items()
    for value in values
)
TEST_EVERY, MOST_STEPS = 25, 4000  # of the peers


def recipe(settings: Settings, seed: int) -> RunConfig:
    train = {"seed": seed, "device": "cpu", **settings.get("train", {})}
    return build(fit({**settings, "train": train}))


def solve(run: RunConfig) -> tuple[float, float]:
    """-> (seconds of one thread for the whole run, tests and all; exact match on 1,000 unseen strings)."""
    start = time.process_time()
    trainer = Trainer(run)
    while not trainer.done:
        trainer.advance()
    seconds = time.process_time() - start
    return seconds, evaluate(trainer.model, trainer.data.unseen(1000)).exact_match


def against_the_old() -> bool:
    good, ratios = 0, []
    for seed in SEEDS:
        run = recipe({}, seed)
        before, exact_before = solve(recipe(OLD, seed))
        seconds, exact = solve(run)
        good += exact >= EXACT
        ratios.append(seconds / before)
        print(
            f"seed {seed}: {run.train.steps} steps, {seconds:.2f} s, {exact:.1%} of 1,000 unseen strings exact; "
            f"the old recipe {before:.2f} s, {exact_before:.1%}; ratio {ratios[-1]:.2f}",
            flush=True,
        )
    ratio = statistics.median(ratios)
    print(f"{good} of {len(SEEDS)} seeds at {EXACT:.0%}; median ratio {ratio:.2f}, bar {RATIO}")
    return good == len(SEEDS) and ratio <= RATIO


def with_one_setting_changed() -> bool:
    lowest = 1.0
    for change in CHANGES:
        run = recipe(change, seed=1)
        if run == recipe({}, seed=1):
            continue
        seconds, exact = solve(run)
        lowest = min(lowest, exact)
        ((name, value),) = change["model"].items()
        print(f"{name} {value}: {exact:.1%}, {seconds:.2f} s", flush=True)
    print(f"one setting changed: at least {lowest:.1%}, bar {CHANGED_EXACT:.0%}")
    return lowest >= CHANGED_EXACT


def peer_seconds(name: str, run: RunConfig, usual: bool) -> tuple[float | None, int]:
    """Seconds of one thread until 99 % of 128 and then of 1,000 unseen strings are exact, tests not counted. None: never."""
    torch.manual_seed(run.train.seed)
    model, data = PEERS[name][1](run.model), Data(run)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.train.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    seconds, steps = 0.0, MOST_STEPS if usual else run.train.steps
    for step in range(1, steps + 1):
        start = time.process_time()
        model.train()
        optimizer.param_groups[0]["lr"] = run.train.lr if usual else learning_rate(run.train, step, run.train.lr)
        batch = data.train_batch(step - 1)
        loss = F.cross_entropy(model(batch.src, batch.tgt_in).flatten(0, 1), batch.tgt_out.flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds += time.process_time() - start
        if step % TEST_EVERY == 0 and all(exact_match(model, data, n) >= EXACT for n in (128, 1000)):
            return seconds, step
    return None, steps


def exact_match(model: nn.Module, data: Data, n: int) -> float:
    batch = data.unseen(n)
    return (greedy(model, batch.src, batch.tgt_out.shape[1]) == batch.tgt_out).all(1).float().mean().item()


def ours_until_solved(run: RunConfig) -> float | None:
    trainer, seconds = (
        Trainer(run.model_copy(update={"train": run.train.model_copy(update={"eval_every": 10**5})})),
        0.0,
    )
    while not trainer.done:
        start = time.process_time()
        trainer.advance()
        seconds += time.process_time() - start
        last = trainer.done or trainer.step % TEST_EVERY == 0
        if last and all(evaluate(trainer.model, trainer.data.unseen(n)).exact_match >= EXACT for n in (128, 1000)):
            return seconds
    return None


def against_peers() -> bool:
    """Each peer with one layer and with two at AdamW 1e-3, its usual recipe, and with our recipe."""
    for name in missing():
        print(f"{name} is not installed: pip install -r tests/benchmarks/requirements-peers.txt")
    ours = ours_until_solved(recipe({}, seed=1))
    print(f"ours: {shown(ours)} to 99 %")
    quickest = float("inf")
    for name in (name for name in PEERS if name not in missing()):
        for layers in (1, 2):
            usual = {"model": {**OLD["model"], "n_layers": layers}, "train": {"lr": 1e-3}}
            seconds, steps = peer_seconds(name, recipe(usual, seed=1), usual=True)
            quickest = min(quickest, seconds or quickest)
            print(f"{name}, {layers} layer(s), AdamW 1e-3: {shown(seconds)}, {steps} steps", flush=True)
        seconds, steps = peer_seconds(name, recipe({}, seed=1), usual=False)
        print(f"{name}, our recipe: {shown(seconds)}, {steps} steps", flush=True)
    if ours is None or quickest == float("inf"):
        print("nothing to compare: no seconds on one of the sides")
        return False
    print(f"the quickest peer takes {quickest / ours:.1f} times as long, bar {PEERS_RATIO}")
    return quickest / ours >= PEERS_RATIO


def shown(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="compare with other libraries, too")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*nested_tensor.*")
    torch.set_num_threads(1)
    print(f"CPU, one thread, torch {torch.__version__}")
    good = [against_the_old(), with_one_setting_changed()]
    if options.peers:
        good.append(against_peers())
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
