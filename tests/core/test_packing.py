"""Packed training computes what padded training computes; every token has one place."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.model import Transformer
from core.packing import Packing, first_fit
from core.tasks import Data
from core.tokens import PAD
from core.train import Trainer, token_loss
from tests.core.conftest import make, run_of
from tests.core.test_attention import variants

MASKED = [config for config in variants() if config.get("padding_mask", True)]


def packed(model: Transformer, src: torch.Tensor, tgt: torch.Tensor, length: int = 32) -> torch.Tensor:
    return model(src, tgt, packing=Packing(src, tgt, model.config.causal_mask, length=length))


@pytest.mark.parametrize("config", MASKED, ids=lambda c: "-".join(map(str, c.values())))
@pytest.mark.parametrize("length", [1, 16, 32])
def test_logits_and_gradients_are_those_of_the_padded_batch(batch, config, length):
    model = make(dtype=torch.float64, **config)
    real = batch.tgt_in != PAD
    found = []
    for logits in (model(batch.src, batch.tgt_in), packed(model, batch.src, batch.tgt_in, length)):
        model.zero_grad()
        token_loss(logits, batch.tgt_out).backward()
        found.append((logits[real].detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    (logits, gradients), (other_logits, other_gradients) = found
    assert (logits - other_logits).abs().max() <= 1e-10
    for name, gradient in gradients.items():
        assert (gradient - other_gradients[name]).abs().max() <= 1e-10, name


def test_a_string_sees_itself_alone(batch):
    """Exchanging the other strings of its row leaves a string's logits as they are, bit for bit."""
    model = make()
    changed = batch.src.clone()
    changed[1:][changed[1:] != PAD] = 3
    with torch.no_grad():
        one, other = packed(model, batch.src, batch.tgt_in), packed(model, changed, batch.tgt_in)
    n = (batch.tgt_in[0] != PAD).sum()
    assert torch.equal(one[0, :n], other[0, :n])
    assert not torch.equal(one[1:], other[1:])


def test_a_source_without_symbols_gives_no_nan():
    model = make(dtype=torch.float64)
    src, tgt = torch.tensor([[3, 4, 5], [PAD, PAD, PAD]]), torch.tensor([[1, 5, 4], [1, PAD, PAD]])
    real = tgt != PAD
    logits = packed(model, src, tgt)
    assert (logits - model(src, tgt))[real].abs().max() <= 1e-10
    logits[real].sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_packing_leaves_little_empty():
    """What it is for: of the padded batch of the figure, d 64, 38 % is padding; of its rows, less than a tenth."""
    run = run_of(task={"min_len": 3, "max_len": 12}, train={"batch_size": 64, "device": "cpu"})
    data, empty = Data(run), []
    for step in range(20):
        batch = data.train_batch(step)
        rows = Packing(batch.src, batch.tgt_in, True)
        empty += [(side.string < 0).mean() for side in (rows.source, rows.target)]
    assert sum(empty) / len(empty) < 0.1


lengths = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=60)


@given(lengths, st.integers(1, 40))
def test_every_token_has_a_place_of_its_own(sizes, length):
    sources, targets = [s for s, _ in sizes], [t for _, t in sizes]
    places, n_rows, fullest = first_fit(sources, targets, length)
    for side, lens in ((1, sources), (2, targets)):
        taken = [(place[0], place[side] + i) for place, n in zip(places, lens, strict=True) for i in range(n)]
        assert len(set(taken)) == len(taken) == sum(lens)
        assert max((at for _, at in taken), default=-1) == fullest[side - 1] - 1 < max(length, *sources, *targets)
    assert {place[0] for place in places} == set(range(n_rows))


@pytest.mark.parametrize(
    ("padding_mask", "lengths", "packs"), [(True, (3, 10), True), (True, (10, 10), False), (False, (3, 10), False)]
)
def test_training_packs_where_padding_is_much_and_not_to_be_seen(padding_mask, lengths, packs):
    task = {"min_len": lengths[0], "max_len": lengths[1]}
    trainer = Trainer(run_of(model={"padding_mask": padding_mask}, task=task, train={"device": "cpu"}))
    assert (trainer.packing(trainer.data.train_batch(0)) is not None) == packs
