"""A small run with random weights at a few steps, for the pages that look inside."""

from collections.abc import Sequence
from typing import Any

import torch

from core.checkpoint import save_weights
from core.model import Transformer
from core.read import build, fit
from playground.runs import store
from playground.runs.store import Run, Status

SMALL = {"d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 16}
STEPS = (0, 5, 10)


def make_run(name: str = "", steps: Sequence[int] = STEPS, **data: Any) -> Run:
    """A finished run in the folder of runs."""
    run = store.create(build(fit({"model": SMALL, "train": {"device": "cpu"}, **data})))
    for step in steps:
        torch.manual_seed(step)
        model = Transformer(run.config.model)
        with torch.no_grad():  # sharper than at the start of training, so that patterns differ
            for parameter in model.parameters():
                parameter.mul_(2)
        save_weights(run.weights_path(step), model, step)
    run.set_status(Status("finished", steps[-1]))
    run.set_label(name=name)
    return run
