"""The whole model again by an independent route: outputs and influence, for every kind of model and of mask."""

import pytest
import torch

from core.config import Positions
from core.lab import measure, whole
from core.trace import Trace
from tests.core.conftest import make

KINDS = Positions.__args__
VARIANTS = [{"positions": kind} for kind in KINDS] + [
    {"norm": "post", "activation": "gelu"},
    {"scale": "none", "causal_mask": False},
    {"scale": "sqrt_d_model", "padding_mask": False},
]


@pytest.mark.parametrize(("dtype", "bar"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_outputs_and_influence(batch, config, dtype, bar):
    model, trace = make(dtype=dtype, **config), Trace()
    with torch.no_grad():
        model(batch.src, batch.tgt_in, trace)
        assert (whole.memory(model, trace, 2) - trace["memory"][2]).abs().max() <= bar
        assert (whole.logits(model, trace, 2) - trace["logits"][2]).abs().max() <= bar
    expected = measure.influence(model, batch.src[2:3], batch.tgt_in[2:3])
    mine = whole.influence(model, trace, 2)
    assert (mine - expected).abs().max() <= bar
    assert torch.equal(mine == 0, expected == 0)


def test_a_painted_mask_with_an_empty_row(batch):
    model, length = make(dtype=torch.float64), batch.tgt_in.shape[1]
    painted = torch.rand(length, length, generator=torch.Generator().manual_seed(3)) > 0.4
    painted[2] = False
    edits = {f"decoder.{i}.self.mask": lambda _: painted for i in range(2)}
    trace = Trace(edits)
    with torch.no_grad():
        model(batch.src[:1], batch.tgt_in[:1], trace)
    assert (whole.logits(model, trace) - trace["logits"][0]).abs().max() <= 1e-9
    expected = measure.influence(model, batch.src[:1], batch.tgt_in[:1], edits)
    assert (whole.influence(model, trace) - expected).abs().max() <= 1e-9
    assert expected.isfinite().all()
    assert expected[2].count_nonzero() == 1  # a position that may look nowhere still sees itself, past attention
