"""The live look inside: attention of one fixed unseen example, and six unseen strings the model writes itself.

It costs time that training does not get, so each part waits at least fifty times as long as it took: 2 % at most, each.
"""

import json
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from core.config import ModelConfig, RunConfig
from core.decode import DecodeOptions, generate
from core.model import Transformer
from core.tasks import Batch, Data
from core.tokens import PAD, until_end
from core.trace import Trace
from core.train import Trainer
from playground.runs.files import read_json, replace
from playground.runs.store import Run

SAMPLES = 6
EVERY = 0.25  # seconds between two looks, at least
SHARE = 50
CELLS = 60_000  # attention weights in one picture: as text about 400 kB
LEAST_HEADS = 8  # heads of a layer are shown before another layer is
COMFORTABLE = 16  # tokens: the longest example that is still a readable picture


class Example:
    """What is looked at: one unseen string for the attention, six that the model writes itself. The same ones for a task."""

    def __init__(self, config: RunConfig, data: Data) -> None:
        self.config, self.vocab = config.model, data.vocab
        batch = _different(data.unseen(48))
        lengths = (batch.src != PAD).sum(1)
        self.strings = Batch(batch.src[:SAMPLES], batch.tgt_in[:SAMPLES], batch.tgt_out[:SAMPLES])
        fitting = lengths.where(lengths <= COMFORTABLE, -lengths)  # the longest readable one, else the shortest
        row = int(fitting.argmax())
        n, t = int(lengths[row]), int((batch.tgt_out[row] != PAD).sum())
        self.src, self.tgt = batch.src[row : row + 1, :n], batch.tgt_in[row : row + 1, :t]
        self.shown = fitting_heads(config.model, n, t)
        self.fixed = {
            "src": [self.vocab.name(i) for i in self.src[0]],
            "tgt": [self.vocab.name(i) for i in self.tgt[0]],
        }
        self.sources = [self._written(row) for row in self.strings.src.tolist()]
        self.expected = [self._written(row) for row in self.strings.tgt_out.tolist()]

    def look(self, model: Transformer) -> dict[str, Any]:
        """All of it. Turns dropout off in the model."""
        return self.picture(self.patterns(model), self.samples(model))

    def picture(self, patterns: dict[str, Any], samples: list[dict[str, list[str]]]) -> dict[str, Any]:
        return {**self.fixed, "patterns": patterns, "samples": samples, "shown": self.shown}

    @torch.no_grad()
    def patterns(self, model: Transformer) -> dict[str, Any]:
        layers, heads = self.shown
        first = self.config.n_layers - layers  # the last layers are the ones that write the answer
        names = {
            f"{stack}.{i}.{kind}.pattern"
            for i in range(first, first + layers)
            for stack, kind in (("encoder", "self"), ("decoder", "self"), ("decoder", "cross"))
        }
        trace = Trace(keep=names.__contains__)
        model.eval()  # the trainer turns dropout on again at its next step
        model(self.src, self.tgt, trace)
        return {name.removesuffix(".pattern"): _rounded(x[0, :heads]) for name, x in trace.items()}

    def samples(self, model: Transformer) -> list[dict[str, list[str]]]:
        model.eval()
        ids = generate(model, self.strings.src, DecodeOptions(max_len=self.strings.tgt_out.shape[1])).tolist()
        return self.pairs([self._written(row) for row in ids])

    def pairs(self, got: list[list[str]]) -> list[dict[str, list[str]]]:
        return [{"src": s, "expected": e, "got": g} for s, e, g in zip(self.sources, self.expected, got, strict=True)]

    def _written(self, ids: list[int]) -> list[str]:
        """The tokens up to the end token, by name."""
        ids = until_end(ids)
        return [self.vocab.name(i) for i in ids if i != PAD]


class Prober:
    """Writes probe.json. Draws no random numbers, so that looking changes nothing."""

    def __init__(self, run: Run, trainer: Trainer) -> None:
        self.path, self.trainer = run.path / "probe.json", trainer
        self.example = Example(trainer.run, trainer.data)
        version = read_json(self.path).get("version")
        self.version = version if type(version) is int else 0
        self.next_look = self.next_samples = 0.0
        self.written = self.example.pairs([[] for _ in self.example.sources])

    def look(self, force: bool = False) -> None:
        """Write a new probe if it is time for one. Raises OSError."""
        start = monotonic()
        if not force and start < self.next_look:
            return
        if force or start >= self.next_samples:
            self.written = self.example.samples(self.trainer.model)
            self.next_samples = monotonic() + max(2 * EVERY, SHARE * (monotonic() - start))
            start = monotonic()
        self.version += 1
        data = {"version": self.version, "step": self.trainer.step}
        data |= self.example.picture(self.example.patterns(self.trainer.model), self.written)
        replace(self.path, json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
        self.next_look = monotonic() + max(EVERY, SHARE * (monotonic() - start))


def fitting_heads(model: ModelConfig, n: int, t: int) -> tuple[int, int]:
    """How many layers, from the last one back, and how many heads of each, are written: every viewer gets all of them, a few
    times a second. n, t: lengths of source and target."""
    room = max(1, CELLS // (n * n + t * t + n * t))  # heads of a layer, with all three kinds
    layers = min(model.n_layers, max(1, room // min(model.n_heads, LEAST_HEADS)))
    return layers, min(model.n_heads, max(1, room // layers))


def _different(batch: Batch) -> Batch:
    """Each source once, in the order they came."""
    first = {tuple(row): i for i, row in reversed(list(enumerate(batch.src.tolist())))}
    rows = torch.tensor(sorted(first.values()), device=batch.src.device)
    return Batch(batch.src[rows], batch.tgt_in[rows], batch.tgt_out[rows])


def _rounded(pattern: Tensor) -> Any:
    """(H, Tq, Tk) -> lists, three decimals. A model that went wrong has NaN, which JSON does not know: 0."""
    return pattern.double().nan_to_num().mul(1000).round().div(1000).tolist()
