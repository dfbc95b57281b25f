"""What the stack lab measures, held against the whole model in float64 and against a model that lacks a block."""

import copy

import pytest
import torch

from core.lab import stream, whole
from core.tokens import PAD
from core.trace import Trace
from tests.core.conftest import make


@pytest.mark.parametrize(("dtype", "bar"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_every_part_by_an_independent_route(batch, norm, dtype, bar):
    model, trace = make(norm=norm, dtype=dtype), Trace()
    with torch.no_grad():
        model(batch.src, batch.tgt_in, trace)
    for stack, side, memory in (("encoder", "src", None), ("decoder", "tgt", whole.memory(model, trace, 2))):
        again = whole.stages(model, trace, stack, trace[f"embed.{side}"][2], memory, 2)
        for part, (place, added, after) in zip(stream.parts(model, trace, stack, 2), again, strict=True):
            assert part.place == place
            assert (part.added - added).abs().max() <= bar
            assert (part.after - after).abs().max() <= bar
            if norm == "pre":
                assert (part.before + part.added - part.after).abs().max() <= bar


@torch.no_grad()
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_leaving_a_block_out_is_a_model_without_it(batch, norm):
    model = make(norm=norm, dtype=torch.float64)
    for stack in ("encoder", "decoder"):
        for i in range(2):
            short = copy.deepcopy(model)
            del getattr(short, stack)[i]
            got = model(batch.src, batch.tgt_in, Trace(stream.without_block(f"{stack}.{i}")))
            assert (got - short(batch.src, batch.tgt_in)).abs().max() <= 1e-12
            assert (got - model(batch.src, batch.tgt_in)).abs().max() > 1e-3


@torch.no_grad()
def test_lens_accuracy_ends_with_that_of_the_model(batch):
    model = make()
    found, real = stream.lens_accuracy(model, batch), batch.tgt_out != PAD
    assert len(found) == 3
    winners = model(batch.src, batch.tgt_in).argmax(-1)
    assert found[-1] == pytest.approx((winners == batch.tgt_out)[real].float().mean().item())
