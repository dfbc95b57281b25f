"""The residual stream: what every part of a stack adds to it, and what becomes of the model when a block is left out."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from core.model import Transformer
from core.tasks import Batch
from core.tokens import PAD
from core.trace import Edit, Trace


@dataclass(frozen=True)
class Part:
    """One part of a block: `place` is "decoder.0.self", "decoder.0.cross" or "decoder.0.ffn". Tensors are (T, d_model).

    With LayerNorm before the parts after = before + added; with LayerNorm behind them after = LN(before + added).
    """

    place: str
    before: Tensor
    added: Tensor
    after: Tensor


def parts(model: Transformer, trace: Mapping[str, Tensor], stack: str, row: int = 0) -> list[Part]:
    """Every part of a stack, in the order in which the signal passes them, for example `row` of a traced pass."""
    found = []
    for i in range(model.config.n_layers):
        name = f"{stack}.{i}"
        if stack == "encoder":
            steps = [("self", "self.out", "resid_pre", "resid_mid")]
        else:
            steps = [("self", "self.out", "resid_pre", "resid_self"), ("cross", "cross.out", "resid_self", "resid_mid")]
        for kind, added, before, after in [*steps, ("ffn", "ffn", "resid_mid", "resid_post")]:
            tensors = (trace[f"{name}.{what}"][row].detach() for what in (before, added, after))
            found.append(Part(f"{name}.{kind}", *tensors))
    return found


def without_block(name: str) -> dict[str, Edit]:
    """Edits that leave a block ("encoder.0") out: its output is its input."""
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept[:] = [x]
        return x

    return {f"{name}.resid_pre": keep, f"{name}.resid_post": lambda _: kept[0]}


@torch.no_grad()
def lens_accuracy(model: Transformer, batch: Batch) -> list[float]:
    """Share of the real target tokens that each decoder layer would get right if it were the last, right prefix given.

    First that of the embedding alone, then one a layer.
    """
    trace, real = Trace(), batch.tgt_out != PAD
    model(batch.src, batch.tgt_in, trace)
    stream = [trace["embed.tgt"], *(trace[f"decoder.{i}.resid_post"] for i in range(model.config.n_layers))]
    winners = [model.output(model.decoder_norm(x)).argmax(-1) for x in stream]
    return [(winner == batch.tgt_out)[real].float().mean().item() for winner in winners]
