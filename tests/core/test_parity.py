"""Encoder and decoder stacks against torch.nn's own layers with the same weights, in float64: outputs and gradients."""

import pytest
import torch
from torch import nn

from core.tokens import PAD
from tests.core.conftest import make


def copy_attention(ours, theirs):
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data.clone(), ours.qkv.bias.data.clone()
    theirs.out_proj.load_state_dict(ours.out.state_dict())


def copy_block(ours, theirs):
    copy_attention(ours.attention, theirs.self_attn)
    if ours.cross is not None:
        copy_attention(ours.cross, theirs.multihead_attn)
    theirs.linear1.load_state_dict(ours.ffn.up.state_dict())
    theirs.linear2.load_state_dict(ours.ffn.down.state_dict())
    for i, norm in enumerate(ours.norms, 1):
        getattr(theirs, f"norm{i}").load_state_dict(norm.state_dict())


def pairs_of_parameters(ours, theirs):
    yield ours.attention.qkv.weight, theirs.self_attn.in_proj_weight
    yield ours.attention.qkv.bias, theirs.self_attn.in_proj_bias
    yield ours.attention.out.weight, theirs.self_attn.out_proj.weight
    if ours.cross is not None:
        yield ours.cross.qkv.weight, theirs.multihead_attn.in_proj_weight
        yield ours.cross.out.bias, theirs.multihead_attn.out_proj.bias
    yield ours.ffn.up.weight, theirs.linear1.weight
    yield ours.ffn.down.bias, theirs.linear2.bias
    yield ours.norms[0].weight, theirs.norm1.weight


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_stacks_equal_torch_nn(batch, norm, activation):
    model = make(dtype=torch.float64, norm=norm, activation=activation)
    c = model.config
    options = {"dim_feedforward": c.d_ff, "dropout": 0.0, "activation": activation, "batch_first": True}
    options |= {"norm_first": norm == "pre", "dtype": torch.float64}
    encoder = [nn.TransformerEncoderLayer(c.d_model, c.n_heads, **options) for _ in model.encoder]
    decoder = [nn.TransformerDecoderLayer(c.d_model, c.n_heads, **options) for _ in model.decoder]
    for ours, theirs in zip([*model.encoder, *model.decoder], [*encoder, *decoder], strict=True):
        copy_block(ours, theirs)

    src, tgt = batch.src, batch.tgt_in
    padding = src == PAD
    assert padding.any(), "the test needs padding"
    x = model.src_embedding(src, (src != PAD).sum(1) - 1)
    for layer in encoder:
        x = layer(x, src_key_padding_mask=padding)
    memory = model.encoder_norm(x)
    y = model.tgt_embedding(tgt, (src != PAD).sum(1))
    causal = nn.Transformer.generate_square_subsequent_mask(tgt.shape[1], dtype=torch.float64)
    for layer in decoder:
        y = layer(y, memory, tgt_mask=causal, memory_key_padding_mask=padding)
    logits = model.output(model.decoder_norm(y))

    real = batch.tgt_out != PAD
    mine = model(src, tgt)
    assert (mine - logits)[real].abs().max() <= 1e-10
    assert (model.encode(src) - memory)[~padding].abs().max() <= 1e-10

    weight = torch.randn_like(mine[real])
    (mine[real] * weight).sum().backward()
    (logits[real] * weight).sum().backward()
    worst = 0.0
    for ours, theirs in zip([*model.encoder, *model.decoder], [*encoder, *decoder], strict=True):
        for a, b in pairs_of_parameters(ours, theirs):
            assert b.grad.abs().max() > 0
            worst = max(worst, (a.grad - b.grad).abs().max().item())
    assert worst <= 1e-10


def test_one_wide_projection_equals_separate_heads(batch):
    """Projecting to d_model and splitting is n_heads separate projections to d_k (the trick of practice)."""
    model = make(dtype=torch.float64)
    attention, d, k = model.encoder[0].attention, model.config.d_model, model.config.d_k
    x = torch.randn(2, 5, d, dtype=torch.float64)
    q = attention.split(attention.qkv(x), 3)[0]
    for h in range(model.config.n_heads):
        rows = slice(h * k, (h + 1) * k)
        assert (q[:, h] - (x @ attention.qkv.weight[rows].T + attention.qkv.bias[rows])).abs().max() <= 1e-12
