"""A small run with random weights at three steps, for the pages that look inside."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.checkpoint import save_weights
from core.model import Transformer
from core.read import build, fit
from playground.runs import store
from playground.runs.store import Run, Status

SMALL = {"d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 16}
STEPS = (0, 5, 10)


def make_run(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "", **data: Any) -> Run:
    """A run in `folder`; as there are no shipped samples to rely on, a copy of it is also the sample."""
    monkeypatch.setenv("PLAYGROUND_RUNS", str(folder))
    run = store.create(build(fit({"model": SMALL, "train": {"device": "cpu"}, **data})))
    for step in STEPS:
        torch.manual_seed(step)
        model = Transformer(run.config.model)
        with torch.no_grad():  # sharper than at the start of training, so that patterns differ
            for parameter in model.parameters():
                parameter.mul_(2)
        save_weights(run.weights_path(step), model, step)
    run.set_status(Status("finished", STEPS[-1]))
    run.set_label(name=name)
    samples = folder / "samples"
    samples.mkdir(exist_ok=True)
    if not (samples / "sample-test").exists():
        (samples / "sample-test").symlink_to(run.path)
    monkeypatch.setattr(store, "samples", lambda: samples)
    return run
