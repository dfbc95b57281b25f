"""A small run with random weights at a few steps, for the pages that look inside; and how a lab page is read."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from streamlit.testing.v1 import AppTest

from core.checkpoint import load_weights, save_weights
from core.model import Transformer
from core.read import build, fit
from core.tasks import Data
from core.tokens import EOS
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


def visit(page: str, run: Run, **query: str) -> AppTest:
    """A lab page with this run and an input."""
    at = AppTest.from_file(page, default_timeout=30)
    for name, value in {"run": run.id, "text": "abcad", **query}.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception
    return at


def sent(at: AppTest, field: str) -> dict[str, Any]:
    """The data of the component that has this field."""
    for part in at.get("bidi_component"):
        found: dict[str, Any] = json.loads(part.proto.json or "{}")  # some components are sent nothing
        if field in found:
            return found
    raise AssertionError(field)


def proofs(at: AppTest) -> list[str]:
    """What the page says of its own numbers."""
    return [m.value for m in at.markdown if "max error" in m.value]


def weights(run: Run) -> Transformer:
    return load_weights(run.weights_path(10), run.config.model)


def parrot(run: Run, text: str, step: int) -> None:
    """Weights that write this text and its end for any source: blocks that add nothing, and an output that reads
    the learned positions."""
    model, vocab = Transformer(run.config.model), Data(run.config).vocab
    ids = [*vocab.encode(text), EOS]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name and "position" not in name:
                parameter.zero_()
        x = model.decoder_norm(model.tgt_embedding.position.weight[: len(ids)])  # (T, d_model)
        wanted = torch.nn.functional.one_hot(torch.tensor(ids), run.config.model.n_vocab).float()
        model.output.weight.copy_((torch.linalg.pinv(x) @ wanted).T)
    save_weights(run.weights_path(step), model, step)
