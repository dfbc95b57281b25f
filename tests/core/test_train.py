"""Training: it learns, it is reproducible bit for bit, it stops before it breaks anything."""

import math

import pytest
import torch

from core.checkpoint import load_state, save_state
from core.config import ModelConfig
from core.model import Transformer, parameter_counts
from core.train import Diverged, Trainer, evaluate, learning_rate, pick_device, token_loss, train
from tests.core.conftest import run_of


def weights(trainer):
    return trainer.model.state_dict()


def test_copy_is_learned_in_a_few_steps():
    run = run_of(
        task={"name": "copy", "min_len": 2, "max_len": 4}, model={"n_symbols": 5}, train={"steps": 220, "seed": 3}
    )
    records = list(train(run))
    assert [r.step for r in records] == list(range(1, 221))
    assert math.log(8) < records[0].loss < math.log(8) + 1.5  # random weights do a little worse than guessing, ln V
    assert records[-1].loss < 0.1
    assert records[-1].exact_match > 0.9
    assert records[0].exact_match is None


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_resumed_run_is_bit_for_bit_the_same(tmp_path, dropout):
    run = run_of(model={"dropout": dropout}, train={"steps": 12, "device": "cpu", "batch_size": 8})
    whole = Trainer(run)
    losses = [whole.advance().loss for _ in range(12)]
    first = Trainer(run)
    for _ in range(5):
        first.advance()
    save_state(tmp_path / "state", first.state())
    torch.manual_seed(99)  # whatever else draws random numbers meanwhile
    second = Trainer(run, load_state(tmp_path / "state", run))
    assert second.step == 5
    assert [second.advance().loss for _ in range(7)] == losses[5:]
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(second)[name]), name


def test_changed_learning_rate_survives_resume(tmp_path):
    run = run_of(train={"steps": 10, "warmup": 0, "schedule": "constant"})
    trainer = Trainer(run)
    trainer.advance()
    trainer.set_lr(1e-4)
    assert trainer.advance().lr == 1e-4
    save_state(tmp_path / "state", trainer.state())
    assert Trainer(run, load_state(tmp_path / "state", run)).advance().lr == 1e-4


def test_training_leaves_the_global_generator_alone_when_it_can():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    Trainer(run_of(train={"steps": 2})).advance()
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("lr", [1e6])
def test_divergence_stops_before_the_weights_are_spoiled(lr):
    trainer = Trainer(run_of(train={"lr": lr, "warmup": 0, "clip": 0.0, "steps": 200}))
    with pytest.raises(Diverged, match="at step"):
        while not trainer.done:
            trainer.advance()
    assert all(value.isfinite().all() for value in weights(trainer).values())


def test_stops_early_at_the_wanted_exact_match():
    run = run_of(
        task={"name": "copy", "min_len": 2, "max_len": 4},
        model={"n_symbols": 5},
        train={"steps": 400, "eval_every": 10, "stop_at_exact_match": 0.5},
    )
    records = list(train(run))
    assert records[-1].exact_match >= 0.5
    assert records[-1].step < 400


def test_schedules():
    config = run_of(train={"warmup": 10, "steps": 110, "schedule": "cosine"}).train
    assert learning_rate(config, 5, 1.0) == pytest.approx(0.5)
    assert learning_rate(config, 10, 1.0) == pytest.approx(1.0)
    assert learning_rate(config, 60, 1.0) == pytest.approx(0.5)
    assert learning_rate(config, 110, 1.0) == pytest.approx(0.0)
    root = run_of(train={"warmup": 25, "schedule": "inverse_sqrt"}).train
    assert learning_rate(root, 100, 1.0) == pytest.approx(0.5)


def test_evaluation_counts_generated_strings():
    trainer = Trainer(run_of())
    batch = trainer.data.unseen(50)
    result = evaluate(trainer.model, batch)
    assert result.exact_match == 0.0
    assert result.generated.shape == batch.tgt_out.shape
    with torch.no_grad():
        logits = trainer.model(batch.src, batch.tgt_in)
    assert result.loss == pytest.approx(token_loss(logits, batch.tgt_out).item())


def test_missing_device_becomes_cpu():
    assert pick_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        assert pick_device("cuda").type == "cpu"
    assert pick_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"positions": "learned", "max_len": 32, "norm": "post"},
        {"positions": "integer", "position_placement": "one_direction", "n_layers": 3},
        {"d_model": 512, "n_heads": 8, "n_layers": 6, "d_ff": 2048, "n_symbols": 50, "norm": "post"},
    ],
)
def test_closed_form_parameter_count(config):
    config = ModelConfig.model_validate(config)
    with torch.device("meta"):
        model = Transformer(config)
    assert sum(parameter_counts(config).values()) == sum(p.numel() for p in model.parameters())
