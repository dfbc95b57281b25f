"""The Transformer of "Attention Is All You Need" (Vaswani et al. 2017), its toy tasks, training and decoding.

PyTorch only: nothing here knows of the app. Start reading at `attention.py`, then `model.py`, then `train.py`.

    from core import RunConfig, Trainer, Transformer, Trace, generate

Each name is fetched from its module when it is first asked for: who only reads configurations does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.attention import attend
    from core.checkpoint import CheckpointError, load_weights, save_weights
    from core.config import ModelConfig, RunConfig, TaskConfig, TrainConfig
    from core.decode import DecodeOptions, DecodeStep, generate, generate_steps
    from core.messages import ConfigError
    from core.model import Transformer
    from core.tasks import TASKS, Batch, Data, Vocab
    from core.tokens import BOS, EOS, FIRST, PAD
    from core.trace import Trace
    from core.train import StepRecord, Trainer

__all__ = [
    "BOS",
    "EOS",
    "FIRST",
    "PAD",
    "TASKS",
    "Batch",
    "CheckpointError",
    "ConfigError",
    "Data",
    "DecodeOptions",
    "DecodeStep",
    "ModelConfig",
    "RunConfig",
    "StepRecord",
    "TaskConfig",
    "Trace",
    "TrainConfig",
    "Trainer",
    "Transformer",
    "Vocab",
    "attend",
    "generate",
    "generate_steps",
    "load_weights",
    "save_weights",
]

_HOMES = {
    "attention": ("attend",),
    "checkpoint": ("CheckpointError", "load_weights", "save_weights"),
    "config": ("ModelConfig", "RunConfig", "TaskConfig", "TrainConfig"),
    "decode": ("DecodeOptions", "DecodeStep", "generate", "generate_steps"),
    "messages": ("ConfigError",),
    "model": ("Transformer",),
    "tasks": ("TASKS", "Batch", "Data", "Vocab"),
    "tokens": ("BOS", "EOS", "FIRST", "PAD"),
    "trace": ("Trace",),
    "train": ("StepRecord", "Trainer"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
