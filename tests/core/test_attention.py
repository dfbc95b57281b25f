"""What must hold of every attention: looking changes nothing, rows are weights, blocked is blocked, padding is nothing."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from core.attention import attend, causal_mask
from core.config import Positions
from core.tokens import PAD
from core.trace import Trace, zero_head
from tests.core.conftest import make

KINDS = Positions.__args__


def variants():
    for positions in KINDS:
        yield {"positions": positions}
    yield {"positions": "unit", "position_placement": "one_direction"}
    for norm, causal, padding, scale in itertools.product(
        ("pre", "post"), (True, False), (True, False), ("sqrt_d_model", "none")
    ):
        yield {"norm": norm, "causal_mask": causal, "padding_mask": padding, "scale": scale}


@pytest.mark.parametrize("config", list(variants()), ids=lambda c: "-".join(map(str, c.values())))
def test_trace_changes_nothing_and_is_consistent(batch, config):
    model = make(**config)
    trace = Trace()
    with torch.no_grad():
        assert torch.equal(model(batch.src, batch.tgt_in), model(batch.src, batch.tgt_in, trace))
    wide = make(dtype=torch.float64, **config)
    trace = Trace()
    with torch.no_grad():
        logits = wide(batch.src, batch.tgt_in, trace)
    assert torch.equal(trace["logits"], logits)
    patterns = [name for name in trace if name.endswith(".pattern")]
    assert len(patterns) == 3 * wide.config.n_layers
    for name in patterns:
        place = name.removesuffix(".pattern")
        pattern, mask = trace[name], trace[f"{place}.mask"].expand_as(trace[name])
        assert (pattern @ trace[f"{place}.v"] - trace[f"{place}.z"]).abs().max() <= 1e-10
        assert (pattern[~mask] == 0).all()
        seen = mask.any(-1)
        assert (pattern.sum(-1)[seen] - 1).abs().max() <= 1e-12
        kind = place.split(".")[-1]
        if kind == "self" and place.startswith("decoder") and wide.config.causal_mask:
            assert (pattern.triu(1) == 0).all()
        if kind == "cross" and wide.config.padding_mask:
            assert (pattern.masked_select((batch.src == PAD)[:, None, None, :]) == 0).all()


def test_residual_stream_adds_up(batch):
    model, trace = make(dtype=torch.float64), Trace()
    with torch.no_grad():
        model(batch.src, batch.tgt_in, trace)
    for stack, parts in (("encoder.1", ["self.out", "ffn"]), ("decoder.1", ["self.out", "cross.out", "ffn"])):
        total = trace[f"{stack}.resid_pre"] + sum(trace[f"{stack}.{part}"] for part in parts)
        assert (total - trace[f"{stack}.resid_post"]).abs().max() <= 1e-12
    assert torch.equal(trace["encoder.0.resid_pre"], trace["embed.src"])
    embedded = trace["embed.src.token"] + trace["embed.src.position"]
    assert torch.equal(embedded, trace["embed.src"])


@pytest.mark.parametrize("positions", KINDS)
def test_future_tokens_cannot_be_seen(batch, positions):
    model = make(positions=positions)
    with torch.no_grad():
        before = model(batch.src, batch.tgt_in)
        for t in range(1, batch.tgt_in.shape[1]):
            changed = batch.tgt_in.clone()
            changed[:, t] = 3 + (changed[:, t] - 2) % 10
            after = model(batch.src, changed)
            assert torch.equal(before[:, :t], after[:, :t])
            assert not torch.equal(before[:, t:], after[:, t:])


def test_without_causal_mask_the_future_is_seen(batch):
    model = make(causal_mask=False)
    changed = batch.tgt_in.clone()
    changed[:, 3] = 3 + (changed[:, 3] - 2) % 10
    with torch.no_grad():
        assert not torch.allclose(model(batch.src, batch.tgt_in)[:, :3], model(batch.src, changed)[:, :3])


@pytest.mark.parametrize("positions", KINDS)
@pytest.mark.parametrize("causal", [True, False])
def test_padding_takes_no_part(batch, positions, causal):
    model = make(positions=positions, causal_mask=causal)
    with torch.no_grad():
        a = model(batch.src, batch.tgt_in)
        b = model(F.pad(batch.src, (0, 10)), F.pad(batch.tgt_in, (0, 10)))[:, : a.shape[1]]
    real = batch.tgt_out != PAD
    assert (a - b)[real].abs().max() <= 1e-6


def test_without_padding_mask_padding_matters(batch):
    model = make(padding_mask=False)
    with torch.no_grad():
        a, b = model(batch.src, batch.tgt_in), model(F.pad(batch.src, (0, 10)), batch.tgt_in)
    assert (a - b).abs().max() > 1e-3


def test_fully_masked_row_is_zero_not_nan():
    q, k, v = (torch.randn(1, 2, 3, 8) for _ in range(3))
    mask = torch.tensor([[True, True, True], [False, False, False], [True, False, False]])
    trace = Trace()
    z = attend(q, k, v, mask, scale=0.3, trace=trace)
    assert torch.isfinite(z).all()
    assert (z[:, :, 1] == 0).all()
    assert (trace["pattern"][:, :, 1] == 0).all()


def test_edits_reach_the_output_and_leave_no_state(batch):
    model = make()
    with torch.no_grad():
        plain = model(batch.src, batch.tgt_in)
        zeroed = model(batch.src, batch.tgt_in, Trace({"decoder.1.cross.z": zero_head(2)}))
        all_open = model(batch.src, batch.tgt_in, Trace({"decoder.0.self.mask": torch.ones_like}))
        no_memory = model(batch.src, batch.tgt_in, Trace({"memory": torch.zeros_like}))
        assert torch.equal(model(batch.src, batch.tgt_in), plain)
    for changed in (zeroed, all_open, no_memory):
        assert (changed - plain).abs().max() > 1e-3


def test_derived_tensors_cannot_be_edited():
    with pytest.raises(ValueError, match="cannot be edited"):
        Trace({"encoder.0.self.pattern": torch.zeros_like})


def test_causal_mask_is_lower_triangle_with_diagonal():
    assert causal_mask(3, 3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert causal_mask(1, 3).tolist() == [[True, True, True]]
