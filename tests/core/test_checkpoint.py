"""Files from outside: read only when they are exactly what the configuration builds, and refused in a sentence."""

import json
import os
import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.checkpoint import CheckpointError, load_state, load_weights, save_state, save_weights, write_atomic
from core.train import Trainer
from tests.core.conftest import make, run_of


@pytest.fixture
def model():
    return make(n_layers=1, d_model=8, n_heads=2, d_ff=8)


def test_round_trip_is_bitwise(tmp_path, model, batch):
    save_weights(tmp_path / "w", model, 7)
    again = load_weights(tmp_path / "w", model.config)
    assert not again.training
    with torch.no_grad():
        assert torch.equal(model(batch.src, batch.tgt_in), again(batch.src, batch.tgt_in))


def header(entries, data=b"", length=None):
    text = json.dumps(entries).encode() if isinstance(entries, dict) else entries
    return struct.pack("<Q", len(text) if length is None else length) + text + data


class Canary:
    def __reduce__(self):
        return os.system, ("touch canary",)


def attacks(model):
    good = {name: value.clone() for name, value in model.state_dict().items()}
    name = "output.bias"
    one = {"dtype": "F32", "shape": [11], "data_offsets": [0, 44]}
    yield "empty", b""
    yield "short", b"\1\2\3"
    yield "pickle", pickle.dumps(Canary())
    yield "zip", b"PK\3\4" + bytes(200)
    yield "header longer than file", header({}, length=10_000)
    yield "header of 2^63", header({}, length=2**63)
    yield "header no JSON", header(b"{" * 50)
    yield "overlapping", header({"a": one, "b": one}, bytes(44))
    yield "offsets missing", header({name: {"dtype": "F32", "shape": [11]}}, bytes(44))
    yield (
        "many tensors",
        header({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(60_000)}),
    )
    yield "negative shape", header({name: {"dtype": "F32", "shape": [-1], "data_offsets": [0, 44]}}, bytes(44))
    yield "missing tensor", {k: v for k, v in good.items() if k != name}
    yield "another tensor", good | {"extra": torch.zeros(1)}
    yield "wrong shape", good | {name: torch.zeros(12)}
    yield "wrong type", good | {name: good[name].double()}
    yield "NaN", good | {name: torch.full_like(good[name], float("nan"))}
    yield "infinite", good | {name: torch.full_like(good[name], float("inf"))}
    yield "huge", bytes(9 * 2**20)


def test_hostile_files_are_refused_quickly_and_nothing_runs(tmp_path, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    count = 0
    for kind, content in attacks(model):
        path = tmp_path / "weights.safetensors"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file(content, path)
        start = time.perf_counter()
        with pytest.raises(CheckpointError, match=r"\w+ .*\.|cannot be read"):
            load_weights(path, model.config)
        assert time.perf_counter() - start < 1.0, kind
        count += 1
    assert count == 18
    assert not (tmp_path / "canary").exists()


def test_missing_file(tmp_path, model):
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_weights(tmp_path / "none", model.config)


def test_every_truncation_is_refused(tmp_path, model):
    save_weights(tmp_path / "w", model, 1)
    data = (tmp_path / "w").read_bytes()
    for length in range(0, len(data), 97):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            load_weights(tmp_path / "cut", model.config)


def test_state_of_another_run_is_refused(tmp_path):
    trainer = Trainer(run_of(model={"d_model": 8, "n_heads": 2, "d_ff": 8}))
    trainer.advance()
    save_state(tmp_path / "s", trainer.state())
    with pytest.raises(CheckpointError, match=r"other tensors|another shape"):
        load_state(tmp_path / "s", run_of(model={"d_model": 16, "n_heads": 2, "d_ff": 8}))


def test_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    target = tmp_path / "f"
    write_atomic(target, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("kind", ["sincos", "learned", "unit"])
def test_loading_weights_loads_no_compiler(tmp_path, kind):
    """torch._dynamo and sympy take 1 to 2 s to import: the first page that looks inside would wait for them."""
    model = make(n_layers=1, d_model=8, n_heads=2, d_ff=8, positions=kind)
    save_weights(tmp_path / "w", model, 7)
    script = (
        "import sys; from pathlib import Path; from core.checkpoint import load_weights; from core.config import ModelConfig\n"
        f"load_weights(Path({str(tmp_path / 'w')!r}), ModelConfig.model_validate_json({model.config.model_dump_json()!r}))\n"
        "assert 'torch._dynamo' not in sys.modules and 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
