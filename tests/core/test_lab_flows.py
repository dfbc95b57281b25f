"""The training step taken apart and the wrong cross-attention, against formulas, finite differences and the trainer."""

import copy

import pytest
import torch

from core.lab import by_hand, flows
from core.lab.heads import exactly_right
from core.model import Transformer
from core.read import build
from core.tasks import Batch, Data
from core.trace import Trace
from core.train import Trainer, token_loss
from tests.core.conftest import make


@pytest.fixture
def small(batch: Batch) -> Batch:
    return Batch(batch.src[:4], batch.tgt_in[:4], batch.tgt_out[:4])


@pytest.mark.parametrize(("dtype", "bar"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_loss_by_plain_loops(small: Batch, dtype: torch.dtype, bar: float) -> None:
    logits = make(dtype=dtype)(small.src, small.tgt_in)
    again = by_hand.mean_loss(logits.tolist(), small.tgt_out.tolist())
    assert abs(token_loss(logits, small.tgt_out).item() - again) <= bar


def test_gradient_by_finite_differences_and_update_by_the_formula(small: Batch) -> None:
    model = make()
    practice = flows.Practice(model, small, lr=1e-2, clip=0.1, decay=0.1)
    for number in (1, 2, 3):
        step = practice.step(number)
        assert step.update_error <= 1e-6
        assert step.norm > 0.1
        assert step.clipped == pytest.approx(0.1, rel=1e-4)
        for w in step.watched:
            slow = flows.gradient_by_differences(model, step.weights, small, w.name, w.index)
            assert abs(w.gradient - slow) <= 1e-6, w.name
    assert len({flows.part_of(w.name) for w in step.watched}) == 5
    losses = [s.loss for s in practice.steps]
    assert losses[0] > losses[1] > losses[2] > practice.steps[-1].loss_after
    assert practice.steps[0].loss_after == losses[1]


def test_practice_is_what_the_trainer_does_and_leaves_the_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Packing rounds otherwise, and where a gradient is zero but for rounding (key biases) AdamW makes a whole step of that.
    monkeypatch.setattr(Trainer, "packing", lambda trainer, batch: None)
    run = build({"train": {"batch_size": 4, "lr": 1e-3, "warmup": 0, "schedule": "constant", "weight_decay": 0.05}})
    trainer = Trainer(run)
    before = copy.deepcopy(trainer.model.state_dict())
    practice = flows.Practice(trainer.model, Data(run).train_batch(0), 1e-3, run.train.clip, 0.05)
    step = practice.step(1)
    assert all(torch.equal(before[n], w) for n, w in trainer.model.state_dict().items())
    record = trainer.advance()
    assert record.loss == pytest.approx(step.loss, abs=1e-6)
    assert record.grad_norm == pytest.approx(step.norm, abs=1e-5)
    for name, p in practice.parameters.items():
        torch.testing.assert_close(p, dict(trainer.model.named_parameters())[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("config", [{}, {"norm": "post"}, {"activation": "gelu"}], ids=str)
def test_keys_and_values_from_the_decoder(batch: Batch, config: dict[str, object]) -> None:
    model: Transformer = make(dtype=torch.float64, **config)
    a, b = flows.from_the_decoder(model), flows.from_the_decoder(model)
    with torch.no_grad():
        model(batch.src[:1], batch.tgt_in[:1, :5], a)
        model(batch.src[1:2], batch.tgt_in[:1, :5], b)
    assert (a["logits"][0] - by_hand.decoded_from_itself(model, a)).abs().max() <= 1e-9
    assert torch.equal(a["logits"], b["logits"])  # nothing of the source arrives
    outputs = flows.written_from_the_decoder(model, batch.src, 6)
    assert (outputs == outputs[0]).all()


def test_decoder_with_another_memory(batch: Batch) -> None:
    model = make(dtype=torch.float64)
    trace = Trace({"memory": torch.zeros_like})
    with torch.no_grad():
        model(batch.src[:1], batch.tgt_in[:1], trace)
    assert (trace["logits"][0] - by_hand.decoded(model, trace, trace["memory"][0])).abs().max() <= 1e-9
    assert exactly_right(model, batch, {"memory": torch.zeros_like}).shape == (8,)


def test_memory_switches(batch: Batch) -> None:
    model: Transformer = make(dtype=torch.float64)
    switches = flows.memory_switches(model, batch.src)
    assert list(switches) == ["layer 1", "layer 2", "shuffled", "another", "zeros"]
    with torch.no_grad():
        logits = {n: model(batch.src, batch.tgt_in, Trace(edits)) for n, edits in switches.items()}
        plain = model(batch.src, batch.tgt_in)
        other = model.decode(batch.tgt_in, model.encode(flows.strangers(model, batch.src)), batch.src)
    assert torch.equal(logits["layer 2"], plain)
    assert (logits["shuffled"] - plain).abs().max() <= 1e-12  # attention reads a set
    assert torch.equal(logits["another"], other)
    assert all((logits[n] - plain).abs().max() > 1e-3 for n in ("layer 1", "another", "zeros"))
    assert set(flows.memory_experiment(model, batch)) == set(switches)
