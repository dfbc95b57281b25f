"""Weights and training state on disk: safetensors (no code inside), each file whole or not there at all."""

import json
import math
import mmap
import os
import struct
import tempfile
import zlib
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from core.config import ModelConfig, RunConfig
from core.files import open_plain
from core.model import Transformer, WithoutMemory, parameter_counts
from core.train import TrainingState

UMASK = os.umask(0o022)  # it can only be read by setting it
os.umask(UMASK)
ALIGN = 64  # bytes: where a tensor may begin in memory
TYPES = {"F32": torch.float32, "F16": torch.float16}  # as safetensors calls them
HALF = {"bits": "16"}  # among the remarks of a file whose weights are rounded
CHECKSUM = "crc32"  # its name among a file's remarks; files without one, of older versions, are read all the same


class CheckpointError(ValueError):
    """A file of weights that cannot be used, and why: an English template and what fills it, as in core.messages.Problem."""

    def __init__(self, template: str, **values: int | float | str) -> None:
        self.template, self.values = template, values
        super().__init__(template.format(**values))


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
    with WithoutMemory():
        model = Transformer(config)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def save_weights(path: Path, model: Transformer, step: int, half: bool = False) -> None:
    """Publish the weights of a step. `half` as in `packed_weights`. Raises OSError."""
    write_atomic(path, packed_weights(model, step, half))


def packed_weights(model: Transformer, step: int, half: bool = False) -> bytes:
    """`half`: rounded to 16 bits, three digits: enough to look at, half the bytes. Not where that would make infinities."""
    weights, remarks = model.state_dict(), {"step": str(step)}
    if half:
        rounded = {name: value.half() for name, value in weights.items()}
        if all(value.isfinite().all() for value in rounded.values()):
            return packed(rounded, remarks | HALF)
    return packed(weights, remarks)


def packed(tensors: dict[str, Tensor], remarks: dict[str, str]) -> bytes:
    """A safetensors file, with a checksum of all it says: a flipped bit inside a number would look like a number."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return save(tensors, remarks | {CHECKSUM: checksum(tensors, remarks)})


def checksum(tensors: dict[str, Tensor], remarks: dict[str, str]) -> str:
    """It finds damage, not forgery: anyone can work it out anew."""
    crc = zlib.crc32(json.dumps(remarks, sort_keys=True).encode())
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].numpy().data, zlib.crc32(name.encode(), crc))
    return f"{crc:08x}"


def load_weights(path: Path, config: ModelConfig, longest_target: int = 0) -> Transformer:
    """The model of a config with the weights of a file, on the CPU, in evaluation mode. `longest_target`: as in Transformer.

    Names, shapes and types must be those that the config builds, and every number finite. Raises CheckpointError.
    """
    weights, _ = read_tensors(path, shapes(config), 4 * sum(parameter_counts(config).values()), half=True)
    with WithoutMemory():  # no second copy of the weights, and no random numbers that are overwritten at once
        model = Transformer(config, longest_target)
    model.load_state_dict(weights, assign=True)
    return model.eval()


def check_weights(path: Path, config: ModelConfig) -> str | None:
    """Are these the weights of such a model? As `load_weights`, without building the model. Returns the step that they say
    they are of. Raises CheckpointError.
    """
    _, remarks = read_tensors(path, shapes(config), 4 * sum(parameter_counts(config).values()), half=True)
    return remarks.get("step")


def save_state(path: Path, state: TrainingState) -> None:
    """Publish a training state. Raises OSError."""
    write_atomic(path, packed_state(state))


def packed_state(state: TrainingState) -> bytes:
    tensors = {f"weights/{name}": value for name, value in state.weights.items()}
    for name, moments in state.moments.items():
        tensors |= {f"moments/{name}/{key}": value for key, value in moments.items()}
    return packed(tensors, {"step": str(state.step), "lr": repr(state.lr)})


def load_state(path: Path, run: RunConfig, steps: int | None = None) -> TrainingState:
    """The state that `save_state` wrote for this run, of so many steps where some were added. Raises CheckpointError."""
    built = shapes(run.model)
    expected = {f"weights/{name}": shape for name, shape in built.items()}
    moments = {
        f"moments/{n}/{k}": built[n] if k != "step" else () for n in built for k in ("step", "exp_avg", "exp_avg_sq")
    }
    tensors, remarks = read_tensors(path, expected, 13 * sum(parameter_counts(run.model).values()), optional=moments)
    try:
        if len(remarks["step"]) > 20 or len(remarks["lr"]) > 40:
            raise ValueError
        step, lr = int(remarks["step"]), float(remarks["lr"])
    except (KeyError, ValueError):
        raise CheckpointError(template="The training state does not say its step.") from None
    state = TrainingState(step, {}, {}, lr)
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "weights":
            state.weights[rest] = value
        else:
            parameter, _, key = rest.rpartition("/")
            state.moments.setdefault(parameter, {})[key] = value
    # What would make numbers that are not finite at the next step: AdamW takes the square root of the second moment.
    counts = all(m.keys() == {"step", "exp_avg", "exp_avg_sq"} for m in state.moments.values())
    if not (
        counts
        and 0 <= step <= (run.train.steps if steps is None else steps)
        and 0 < lr <= 1e6
        and all((m[key] >= 0).all() for m in state.moments.values() for key in ("step", "exp_avg_sq"))
    ):
        raise CheckpointError(template="This is no state that training leaves.")
    return state


def numbers(path: Path, wanted: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose header was checked, in memory of their own. Raises OSError, CheckpointError.

    Safetensors itself maps the file: both copies would count, and the process would die if somebody cut the file meanwhile.
    """
    tensors = {}
    with path.open("rb") as file:
        try:
            length = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(length))
            begins = {name: 8 + length + header[name]["data_offsets"][0] for name in wanted}
            types = {name: TYPES[header[name]["dtype"]] for name in wanted}
        except (struct.error, ValueError, KeyError, TypeError):  # another file since the header was checked
            raise CheckpointError(template="This is not a whole safetensors file.") from None
        sizes = {name: types[name].itemsize * math.prod(shape) for name, shape in wanted.items()}
        room = anonymous(sum(size + ALIGN for size in sizes.values()))
        place = 0
        for name, shape in wanted.items():
            file.seek(begins[name])
            if file.readinto(memoryview(room)[place : place + sizes[name]]) != sizes[name]:
                raise CheckpointError(template="This is not a whole safetensors file.")
            value = torch.frombuffer(room, dtype=types[name], count=math.prod(shape), offset=place)
            tensors[name] = value.reshape(shape)
            place += -(-sizes[name] // ALIGN) * ALIGN
    return tensors


def anonymous(size: int) -> mmap.mmap:
    """Zeroed memory beside the heap: it goes back to the system when its last tensor goes, where a heap would keep it."""
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)


def read_tensors(
    path: Path,
    expected: dict[str, tuple[int, ...]],
    size: int,
    optional: dict[str, tuple[int, ...]] | None = None,
    half: bool = False,
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and remarks of a safetensors file, after its header was checked against what is expected. They come as float32, also from
    a file of rounded ones where `half` allows it.

    Nothing larger than what the configuration builds is ever read, so a file cannot take more memory than that.
    """
    allowed = expected | (optional or {})
    most = 4096 + sum(200 + len(name) for name in allowed)  # bytes that describe them: about 100 a tensor
    try:
        with open_plain(path) as opened:  # a pipe would let us wait for ever
            length = os.fstat(opened.fileno()).st_size
            if length > size + most + 8:
                raise CheckpointError(template="The file is larger than these weights can be.")
            first = opened.read(8)
        if len(first) < 8 or struct.unpack("<Q", first)[0] > min(most, length - 8):
            raise CheckpointError(template="This is not a whole safetensors file.")
        with safe_open(path, framework="pt") as file:
            names, remarks = set(file.keys()), file.metadata() or {}
            kind = "F16" if half and remarks.items() >= HALF.items() else "F32"
            if not set(expected) <= names <= set(allowed):
                raise CheckpointError(template="The file holds other tensors than this configuration builds.")
            for name in names:
                view = file.get_slice(name)
                if tuple(view.get_shape()) != allowed[name] or view.get_dtype() != kind:
                    raise CheckpointError(
                        template="The tensor {tensor} has another shape or type than this configuration builds.",
                        tensor=name,
                    )
        tensors = numbers(path, {name: allowed[name] for name in names})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(template="The file cannot be read: {error}", error=str(error)) from None
    for name, value in tensors.items():
        if value.numel() and not torch.stack(value.aminmax()).isfinite().all():  # both pass NaN on, and make no copy
            raise CheckpointError(template="The tensor {tensor} holds numbers that are not finite.", tensor=name)
    found = remarks.pop(CHECKSUM, None)
    if found is not None and found != checksum(tensors, remarks):
        raise CheckpointError(template="The file is damaged: it does not hold what was once written.")
    return {name: value.float() for name, value in tensors.items()}, remarks
