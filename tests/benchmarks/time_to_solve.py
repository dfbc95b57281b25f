"""Seconds of training until "Reverse, quick" generates 99 % of 1,000 unseen strings exactly; three seeds.

python -m tests.benchmarks.time_to_solve
"""

import sys
import time

import torch

from core.read import build, fit
from core.train import Trainer, evaluate
from playground.presets import PRESETS

SEEDS, BAR_EXACT, BAR_SECONDS = (1, 2, 3), 0.99, 10.0


def solve(seed: int) -> tuple[float, int, float]:
    """-> (seconds of training, steps, exact match on 1,000 unseen strings) of the whole preset."""
    data = fit(next(preset.settings for preset in PRESETS if preset.name == "Reverse, quick"))
    run = build({**data, "train": {**data.get("train", {}), "seed": seed, "device": "cpu"}})
    start = time.perf_counter()
    trainer = Trainer(run)
    while not trainer.done:
        trainer.advance()
    seconds = time.perf_counter() - start
    return seconds, trainer.step, evaluate(trainer.model, trainer.data.unseen(1000)).exact_match


def main() -> int:
    print(
        f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}; bar {BAR_EXACT:.0%} in {BAR_SECONDS:.0f} s"
    )
    good = 0
    for seed in SEEDS:
        seconds, steps, exact = solve(seed)
        good += exact >= BAR_EXACT and seconds <= BAR_SECONDS
        print(f"seed {seed}: {steps} steps, {seconds:.1f} s, {exact:.1%} of 1,000 unseen strings exact", flush=True)
    print(f"{good} of {len(SEEDS)} seeds within the bar")
    return 0 if good == len(SEEDS) else 1


if __name__ == "__main__":
    sys.exit(main())
