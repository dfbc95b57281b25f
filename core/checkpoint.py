"""Weights and training state on disk: safetensors (no code inside), each file whole or not there at all."""

import json
import os
import struct
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from core.config import ModelConfig, RunConfig
from core.model import Transformer, parameter_counts
from core.train import TrainingState

UMASK = os.umask(0o022)  # it can only be read by setting it
os.umask(UMASK)
HEADER_LIMIT = 4 * 2**20  # bytes; a header describes each tensor in about 100


class CheckpointError(ValueError):
    """A file that cannot be used, and why, in one sentence."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write beside the target, flush to disk, then rename: readers see the old file or the new one, never half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~UMASK)  # mkstemp makes files that only their owner can read
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@lru_cache(maxsize=64)
def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The tensors that a config builds, without building them."""
    with torch.device("meta"):
        model = Transformer(config)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def save_weights(path: Path, model: Transformer, step: int) -> None:
    """Publish the weights of a step. Raises OSError."""
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomic(path, save(weights, {"step": str(step)}))


def load_weights(path: Path, config: ModelConfig) -> Transformer:
    """The model of a config with the weights of a file, on the CPU, in evaluation mode.

    Names, shapes and types must be those that the config builds, and every number finite. Raises CheckpointError.
    """
    weights, _ = read_tensors(path, shapes(config), 4 * sum(parameter_counts(config).values()))
    model = Transformer(config)
    model.load_state_dict(weights)
    return model.eval()


def save_state(path: Path, state: TrainingState) -> None:
    """Publish a training state. Raises OSError."""
    tensors = {f"weights/{name}": value for name, value in state.weights.items()}
    for name, moments in state.moments.items():
        tensors |= {f"moments/{name}/{key}": value for key, value in moments.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomic(path, save(tensors, {"step": str(state.step), "lr": json.dumps(state.lr)}))


def load_state(path: Path, run: RunConfig) -> TrainingState:
    """The state that `save_state` wrote for this run. Raises CheckpointError."""
    built = shapes(run.model)
    expected = {f"weights/{name}": shape for name, shape in built.items()}
    moments = {
        f"moments/{n}/{k}": built[n] if k != "step" else () for n in built for k in ("step", "exp_avg", "exp_avg_sq")
    }
    tensors, meta = read_tensors(path, expected, 13 * sum(parameter_counts(run.model).values()), optional=moments)
    try:
        step, lr = int(meta["step"]), json.loads(meta["lr"])
    except (KeyError, ValueError):
        raise CheckpointError("The training state does not say its step.") from None
    state = TrainingState(step, {}, {}, float(lr) if isinstance(lr, (int, float)) else None)
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "weights":
            state.weights[rest] = value
        else:
            parameter, _, key = rest.rpartition("/")
            state.moments.setdefault(parameter, {})[key] = value
    return state


def read_tensors(
    path: Path, expected: dict[str, tuple[int, ...]], size: int, optional: dict[str, tuple[int, ...]] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, after its header was checked against what is expected."""
    try:
        length = path.stat().st_size
        if length > size + HEADER_LIMIT:
            raise CheckpointError("The file is larger than these weights can be.")
        with path.open("rb") as file:
            first = file.read(8)
        if len(first) < 8 or struct.unpack("<Q", first)[0] > min(HEADER_LIMIT, length - 8):
            raise CheckpointError("This is not a whole safetensors file.")
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            allowed = expected | (optional or {})
            if not set(expected) <= names <= set(allowed):
                raise CheckpointError("The file holds other tensors than this configuration builds.")
            for name in names:
                view = file.get_slice(name)
                if tuple(view.get_shape()) != allowed[name] or view.get_dtype() != "F32":
                    raise CheckpointError(
                        f"The tensor {name} has another shape or type than this configuration builds."
                    )
            tensors = {name: file.get_tensor(name) for name in names}
            meta = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"The file cannot be read: {error}") from None
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise CheckpointError(f"The tensor {name} holds numbers that are not finite.")
    return tensors, meta
