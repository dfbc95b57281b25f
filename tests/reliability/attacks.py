"""A folder of hostile files that claim to be weights, and a process that tries to load each, watched for time and memory (Linux).

`python -m tests.reliability.attacks FOLDER` prints one JSON line a file: what was said, seconds, and the most memory that
the process has taken meanwhile, in bytes above where it stood before.
"""

import ctypes
import io
import json
import os
import pickle
import struct
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from core.checkpoint import CheckpointError, load_state, load_weights, packed_weights
from core.config import RunConfig
from core.model import Transformer, parameter_counts
from core.read import build

TENSORS = int(os.environ.get("TENSORS", "200000"))  # in the file of very many tensors
CANARY = "canary"
CONFIG = {"model": {"d_model": 128, "n_heads": 4, "n_layers": 2, "d_ff": 512}, "train": {"device": "cpu"}}  # 3.8 MB


def config() -> RunConfig:
    return build(CONFIG)


def size_cap() -> int:
    """Bytes of the weights that the configuration builds: the most that a file may bring."""
    return 4 * sum(parameter_counts(config().model).values())


class Canary:
    """Unpickled, it leaves a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"echo dead > {CANARY}",)


def file(header: bytes | dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def pickles() -> Iterator[tuple[str, bytes]]:
    """Code that runs when it is loaded, under every wrapping that weights come in."""
    code = pickle.dumps(Canary())
    yield "pickle.safetensors", code
    yield "pickle-protocol-0.safetensors", pickle.dumps(Canary(), protocol=0)
    for name, new in (("weights.pt", True), ("weights.ckpt", False)):
        buffer = io.BytesIO()
        torch.save({"output.bias": Canary()}, buffer, _use_new_zipfile_serialization=new)
        yield name, buffer.getvalue()
        yield f"{name}.safetensors", buffer.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("archive/data.pkl", code)
        zipped.writestr("../../canary", "dead")
    yield "zip.safetensors", buffer.getvalue()
    yield "pickle-with-a-header.safetensors", file(code)
    yield "pickle-as-data.safetensors", file({"output.bias": entry([11], len(code))}, code)


def entry(shape: list[int], end: int, start: int = 0, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def headers(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Headers that lie. `good` is a file that loads."""
    (length,) = struct.unpack("<Q", good[:8])
    told, data = json.loads(good[8 : 8 + length]), good[8 + length :]
    first, second = sorted(told.keys() - {"__metadata__"}, key=lambda name: told[name]["data_offsets"])[:2]
    yield "empty", b""
    yield "seven-bytes", b"\1" * 7
    yield "only-a-length", struct.pack("<Q", 100)
    yield "header-longer-than-file", file(good[8:], length=len(good))
    for power in (31, 32, 62, 63):
        yield f"header-of-2^{power}", file(good[8:], length=2**power)
    yield "header-of-2^64-1", file(good[8:], length=2**64 - 1)
    yield "header-no-json", file(b"{" * 500)
    yield "header-deep", file(b'{"a":' * 2000 + b"1" + b"}" * 2000)
    yield "header-not-utf8", file(b'{"\xff\xfe": 1}')
    yield "header-a-list", file(b"[]")
    yield "header-null", file(b"null")
    yield "no-tensors", file({})
    yield "cut-in-half", good[: len(good) // 2]
    yield "one-byte-short", good[:-1]
    yield "one-byte-more", good + b"\0"

    def changed(name: str, **change: Any) -> bytes:
        return file(told | {name: told[name] | change}, data)

    (a, b), (c, d) = told[first]["data_offsets"], told[second]["data_offsets"]
    yield "overlapping-offsets", changed(second, data_offsets=[a, a + d - c])
    yield "offsets-backwards", changed(first, data_offsets=[b, a])
    yield "offsets-negative", changed(first, data_offsets=[-4, b])
    yield "offsets-of-2^63", changed(first, data_offsets=[2**63, 2**63 + b - a])
    yield "offsets-wrap-around", changed(first, data_offsets=[2**64 - 4, b])
    yield "offsets-beyond-the-end", changed(first, data_offsets=[len(data), len(data) + b - a])
    yield "offsets-missing", file(told | {first: {"dtype": "F32", "shape": told[first]["shape"]}}, data)
    yield "offsets-text", changed(first, data_offsets=["0", "4"])
    yield "a-hole-in-the-data", file({n: e for n, e in told.items() if n != first}, data)
    yield "shape-negative", changed(first, shape=[-1])
    yield "shape-overflows", changed(first, shape=[2**32, 2**32])
    yield "shape-huge", changed(first, shape=[2**40])
    yield "shape-of-many-dimensions", changed(first, shape=[1] * 1000)
    yield "type-unknown", changed(first, dtype="PICKLE")
    yield "type-of-other-width", changed(first, dtype="F16")
    yield "remarks-of-numbers", file(told | {"__metadata__": {"step": 1}}, data)
    names = {f"t{i}": entry([0], 0) for i in range(200)}
    yield "many-empty-tensors", file(names)


def contents(model: Transformer) -> Iterator[tuple[str, bytes]]:
    """Whole and honest safetensors files with something else inside."""
    good = {name: value.clone() for name, value in model.state_dict().items()}
    name = "output.bias"
    yield "tensor-missing", save({k: v for k, v in good.items() if k != name})
    yield "tensor-more", save(good | {"extra": torch.zeros(1)})
    yield "tensor-renamed", save({("../../x" if k == name else k): v for k, v in good.items()})
    yield "shape-wrong", save(good | {name: torch.zeros(len(good[name]) + 1)})
    yield "shape-turned", save(good | {name: good[name][None]})
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int32):
        yield f"type-{str(dtype)[6:]}", save(good | {name: good[name].to(dtype)})
    for number in ("nan", "inf", "-inf"):
        yield f"number-{number}", save(good | {name: torch.full_like(good[name], float(number))})
    yield "of-another-model", packed_weights(Transformer(build({}).model), 1)
    yield "numbers-changed-later", packed_weights(model, 1)[:-4] + struct.pack("<f", 1.0)


def write(folder: Path) -> int:
    """All attacks as files; how many."""
    torch.manual_seed(1)
    model = Transformer(config().model)
    good = packed_weights(model, 1)
    (folder / "good").write_bytes(good)
    for part in (pickles(), headers(good), contents(model)):
        for name, data in part:
            assert not (folder / name).exists(), name
            (folder / name).write_bytes(data)
    with (folder / "many-tensors").open("wb") as many:  # too many to hold: written a piece at a time
        names = (b'"t%08d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},' % i for i in range(TENSORS))
        one = len(b'"t%08d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},' % 0)
        many.write(struct.pack("<Q", 1 + TENSORS * one) + b"{")
        many.writelines(names)
        many.seek(-1, os.SEEK_END)
        many.write(b"}")
    with (folder / "hole-of-a-terabyte").open("wb") as sparse:
        sparse.write(good)
        sparse.truncate(2**40)
    return len(list(folder.iterdir())) - 1


def memory(what: str) -> int:
    """VmRSS (now) or VmHWM (the most since it was reset) of this process, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(f"{what}:"))


def main(folder: Path) -> None:
    loads = {
        "weights": lambda path: load_weights(path, config().model),
        "state": lambda path: load_state(path, config()),
    }
    for load in loads.values():  # code and tables that are loaded once and for good are not a file's doing
        with suppress(CheckpointError):
            load(folder / "good")
    give_back = ctypes.CDLL(None).malloc_trim  # free memory that is only kept would hide what the next file takes
    for kind, load in loads.items():
        for path in sorted(folder.iterdir()):
            give_back(0)
            with open("/proc/self/clear_refs", "w") as refs:
                refs.write("5")  # forget the most so far
            base, start, said = memory("VmRSS"), time.perf_counter(), ""
            try:
                load(path)
            except CheckpointError as error:
                said = str(error)
            except BaseException as error:
                said = f"CRASH {error!r}"
            took, grown = time.perf_counter() - start, memory("VmHWM") - base
            print(
                json.dumps({"kind": kind, "name": path.name, "said": said, "seconds": took, "grown": grown}), flush=True
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
