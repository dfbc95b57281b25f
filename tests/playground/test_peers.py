"""The benchmark's other libraries: greedy decoding is what it says, and what is not installed is said, not crashed on."""

import pytest
import torch

from core.config import RunConfig
from core.tasks import Data
from core.tokens import EOS, PAD
from tests.benchmarks import peers, time_to_solve


@pytest.mark.filterwarnings("ignore:.*nested_tensor.*")
def test_greedy_takes_the_likeliest_token_each_time() -> None:
    torch.manual_seed(0)
    run = RunConfig()
    model, batch = peers.PEERS["nn.Transformer"][1](run.model), Data(run).unseen(16)
    written = peers.greedy(model, batch.src, 8)
    assert written.shape == (16, 8)
    with torch.no_grad():
        likeliest = model(batch.src, torch.cat((batch.tgt_in[:, :1], written[:, :-1]), 1)).argmax(-1)
    going_on = torch.cat((torch.zeros(16, 1, dtype=torch.long), (written == EOS).cumsum(1)[:, :-1]), 1) == 0
    assert torch.equal(written[going_on], likeliest[going_on])
    assert (written[~going_on] == PAD).all()


def test_a_peer_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = {"Nothing": ("no_such_package_here", peers.nn_transformer)}
    monkeypatch.setattr(peers, "PEERS", gone)
    monkeypatch.setattr(time_to_solve, "PEERS", gone)
    monkeypatch.setattr(time_to_solve, "ours_until_solved", lambda run: 1.0)
    time_to_solve.against_peers()
    said = capsys.readouterr().out
    assert "Nothing is not installed: pip install -r tests/benchmarks/requirements-peers.txt" in said


def test_one_setting_is_changed_at_a_time() -> None:
    default = time_to_solve.recipe({}, seed=1)
    for change in time_to_solve.CHANGES:
        run = time_to_solve.recipe(change, seed=1)
        assert run.train == default.train
        assert len([name for name, value in run.model if value != getattr(default.model, name)]) <= 1
