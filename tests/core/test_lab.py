"""The lab's measurements, held against what the syllabus says and against the independent route."""

import pytest
import torch

from core.config import Positions
from core.lab import heads, measure, positions, recompute
from core.model import Transformer
from core.positions import table
from core.tokens import PAD
from core.trace import Trace
from tests.core.conftest import make

KINDS = Positions.__args__
VARIANTS = [{"positions": kind} for kind in KINDS] + [
    {"norm": "post"},
    {"scale": "none", "causal_mask": False},
    {"scale": "sqrt_d_model", "padding_mask": False},
]


def traced(model: Transformer, batch, dtype=torch.float32):
    trace = Trace()
    with torch.no_grad():
        model(batch.src[:3], batch.tgt_in[:3], trace)
    return trace


@pytest.mark.parametrize(("dtype", "bar"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_every_step_of_every_head_by_an_independent_route(batch, config, dtype, bar):
    """S1 to S6."""
    model = make(dtype=dtype, **config)
    trace = traced(model, batch)
    for place in heads.attention_places(model):
        for index in (0, 3):
            errors = recompute.largest_errors(model, trace, place, index, row=1)
            assert set(errors) == {"q", "k", "v", "scores", "pattern", "z"}
            assert max(errors.values()) <= bar, (place, errors)


def test_the_independent_route_notices_a_wrong_divisor(batch):
    model = make(dtype=torch.float64)
    trace = traced(model, batch)
    model.config = model.config.model_copy(update={"scale": "none"})
    assert recompute.largest_errors(model, trace, "encoder.0.self", 0)["scores"] > 1e-3


@pytest.mark.parametrize("kind", ["none", "integer", "binary", "sine", "sincos", "learned"])
def test_embedding_plus_position(batch, kind):
    """S15."""
    model = make(dtype=torch.float64, positions=kind)
    if kind in ("binary", "integer", "sine", "sincos"):  # tables were made in float32
        for part in (model.src_embedding, model.tgt_embedding):
            part.position.table = table(kind, 64, model.config.d_model, torch.float64)
    trace = traced(model, batch)
    for side, ids in (("src", batch.src[0]), ("tgt", batch.tgt_in[0])):
        again = recompute.embedding(model, ids.tolist(), side)
        assert (trace[f"embed.{side}"][0] - again).abs().max() <= 1e-9


def test_influence_is_zero_above_the_diagonal_and_nowhere_without_the_mask(batch):
    """S12."""
    longest = (batch.src != PAD).sum(1).argmax()
    src, tgt = batch.src[longest][None], batch.tgt_in[longest][None, :7]
    with_mask = measure.influence(make(), src, tgt)
    assert (with_mask.triu(1) == 0).all()
    assert (with_mask.diagonal() > 0).all()
    without = measure.influence(make(causal_mask=False), src, tgt)
    assert (without.triu(1)[:-1].sum(1) > 0).all()


def test_influence_of_a_painted_mask(batch):
    src, tgt = batch.src[:1], batch.tgt_in[:1, :5]
    blocked = torch.ones(5, 5, dtype=torch.bool).tril()
    blocked[3, 1] = False
    edits = {f"decoder.{i}.self.mask": lambda m: blocked for i in range(2)}
    changed = measure.influence(make(), src, tgt, edits)
    assert (changed.triu(1) == 0).all()
    one_layer = make(n_layers=1)
    assert measure.influence(one_layer, src, tgt, {"decoder.0.self.mask": lambda m: blocked})[3, 1] == 0


def test_padding_difference(batch):
    assert measure.padding_difference(make(), batch.src, batch.tgt_in, 10) <= 1e-6
    assert measure.padding_difference(make(padding_mask=False), batch.src, batch.tgt_in, 10) > 1e-3


@pytest.mark.parametrize("d_k", [16, 64, 256, 1024])
def test_dot_products_grow_with_the_root_of_d_k(d_k):
    """S7: std 4, 8, 16, 32; about 1 after scaling; softmax saturates and its gradient vanishes without."""
    raw, scaled = measure.score_statistics(d_k, 1.0), measure.score_statistics(d_k, d_k**-0.5)
    assert raw.std == pytest.approx(d_k**0.5, rel=0.05)
    assert scaled.std == pytest.approx(1.0, rel=0.05)
    assert raw.entropy < scaled.entropy
    assert raw.gradient < scaled.gradient or d_k == 16


def test_both_data_flows_give_the_same_logits(batch):
    """S10: teacher forcing and one token at a time, on the same prefixes."""
    flows = measure.two_flows(make(dtype=torch.float64), batch.src[:1], batch.tgt_in[:1], rounds=1)
    assert (flows.parallel - flows.sequential).abs().max() <= 1e-10
    assert flows.sequential_s > 0


def test_all_heads_out_is_skipping_the_attention(batch):
    """S8."""
    model = make(dtype=torch.float64)
    for place in heads.attention_places(model):
        with torch.no_grad():
            a = model(batch.src, batch.tgt_in, Trace(heads.without_heads(place, range(4))))
            b = model(batch.src, batch.tgt_in, Trace(heads.skipping(model, place)))
            plain = model(batch.src, batch.tgt_in)
        assert (a - b).abs().max() <= 1e-12
        assert (a - plain).abs().max() > 1e-3


def test_heads_add_up_through_the_value_output_map(batch):
    """A head's part of the output is its pattern times the source times W_V W_O."""
    model = make(dtype=torch.float64, norm="post")
    trace = traced(model, batch)
    place = "encoder.0.self"
    maps = heads.value_output_maps(model, place)  # (H, d, d)
    attention = model.attention(place)
    x, pattern = trace["encoder.0.resid_pre"], trace[f"{place}.pattern"]
    bias = attention.out.weight @ attention.qkv.bias[-model.config.d_model :] + attention.out.bias
    out = sum(pattern[:, h] @ x @ maps[h].T for h in range(4)) + bias
    real = (batch.src[:3] != PAD)[..., None]
    assert ((out - trace[f"{place}.out"]) * real).abs().max() <= 1e-9
    overlap = heads.subspace_overlap(maps, model.config.d_k)
    assert torch.allclose(overlap.diagonal(), torch.ones(4, dtype=torch.float64))
    assert torch.allclose(overlap, overlap.T)


def test_ideal_patterns():
    copy, reverse = heads.ideal_pattern("copy", 4, 3), heads.ideal_pattern("reverse", 4, 3)
    assert copy.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert reverse.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert heads.ideal_pattern("sort", 4, 3) is None
    assert heads.distance_to_ideal(copy, copy) == 0
    assert heads.distance_to_ideal(copy, reverse) == pytest.approx(2 / 3)
    assert heads.entropy(torch.full((2, 8), 1 / 8)).tolist() == pytest.approx([3.0, 3.0])
    assert heads.entropy(torch.tensor([1.0, 0.0])).item() == 0.0


def test_sine_and_cosine_turn_by_a_fixed_matrix():
    """S14e: one matrix M_k for every t."""
    for k in (1, 3, 10, -4):
        assert positions.rotation_error(k, 64) <= 1e-6
    assert positions.rotation_error(5, 512) <= 1e-6


def test_the_ladder_of_encodings():
    """S14a to S14d, S14f."""
    assert positions.unit_step(3) == 0.5
    assert positions.unit_step(10) == pytest.approx(0.11, abs=0.002)
    assert positions.bit_flips(8) == [1, 2, 1, 3, 1, 2, 1]
    jumps = positions.neighbour_distances("binary", 16, 64)
    assert torch.allclose(jumps**2, torch.tensor(positions.bit_flips(16)).double())
    smooth = positions.neighbour_distances("sincos", 16, 64)
    assert (smooth - smooth[0]).abs().max() <= 1e-9
    assert positions.requirements("integer")["bounded"] > 2
    assert positions.requirements("unit")["same_step"] > 0.01
    for kind in ("sine", "sincos"):
        found = positions.requirements(kind)
        assert found["bounded"] <= 1.05
        assert found["same_step"] == 0
        assert found["distinct"] > 0.1
    assert positions.requirements("none")["distinct"] == 0


def test_logit_lens_ends_with_the_model(batch):
    model = make(dtype=torch.float64)
    lens = measure.logit_lens(model, batch.src[:1], batch.tgt_in[:1])
    with torch.no_grad():
        expected = model(batch.src[:1], batch.tgt_in[:1])[0].softmax(-1)
    assert lens.shape == (3, batch.tgt_in.shape[1], 13)
    assert (lens[-1] - expected).abs().max() <= 1e-12


def test_first_divergence():
    assert measure.first_divergence([1, 2, 3], [1, 2, 3]) is None
    assert measure.first_divergence([1, 2, 3], [1, 5, 3]) == 1
    assert measure.first_divergence([1, 2], [1, 2, 3]) == 2
