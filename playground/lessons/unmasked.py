"""A small model trained with the causal mask off, which ships with the app: `python -m playground.lessons.unmasked` makes it anew.

It is a run folder like any other, but no run of the list: only the lab on masks shows it.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import torch

from core.checkpoint import save_weights
from core.config import RunConfig
from core.read import build, fit
from core.train import Trainer
from playground.runs import store
from playground.runs.store import Run, Status

RUN = Run(Path(__file__).resolve().parents[1] / "samples" / "unmasked")


def config() -> RunConfig:
    return build(
        fit(
            {
                "model": {"d_model": 32, "n_heads": 4, "n_layers": 1, "d_ff": 64, "causal_mask": False},
                "train": {"steps": 600, "lr": 0.005, "seed": 1, "eval_every": 600, "device": "cpu"},
            }
        )
    )


def make() -> None:
    torch.set_num_threads(1)
    trainer = Trainer(config())
    while not trainer.done:
        record = trainer.advance()
    shutil.rmtree(RUN.path, ignore_errors=True)
    made = datetime.now(UTC).isoformat(timespec="milliseconds")
    facts = {"schema": store.SCHEMA, "created": made, "seed": 1, "versions": store.versions(), "owner": ""}
    store.publish(RUN, facts | {"config": trainer.run.model_dump(mode="json")}, Status("finished", trainer.step))
    save_weights(RUN.weights_path(trainer.step), trainer.model, trainer.step)
    RUN.weights_path(trainer.step).chmod(0o644)
    for empty in ("optimizer", "control"):
        (RUN.path / empty).rmdir()
    print(f"loss {record.loss:.5f}, exact match {record.exact_match}")


if __name__ == "__main__":
    make()
