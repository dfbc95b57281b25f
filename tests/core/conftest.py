"""Small models and batches shared by the core tests."""

import pytest
import torch

from core.config import ModelConfig
from core.model import Transformer
from core.read import build, fit
from core.tasks import Batch, Data


@pytest.fixture
def batch() -> Batch:
    """Eight reversals of 3 to 10 symbols, padded."""
    return Data(build({"train": {"batch_size": 8}})).train_batch(0)


def make(seed: int = 0, dtype: torch.dtype = torch.float32, **config: object) -> Transformer:
    """A random model in evaluation mode; every parameter is random, biases and norms too, so that none hides."""
    torch.manual_seed(seed)
    model = Transformer(ModelConfig.model_validate({"d_model": 32, "n_heads": 4, "n_layers": 2, "d_ff": 48, **config}))
    for p in model.parameters():
        if p.dim() == 1:
            torch.nn.init.normal_(p, std=0.3)
    return model.to(dtype).eval()


def run_of(**parts: dict[str, object]):
    return build(fit(dict(parts)))
