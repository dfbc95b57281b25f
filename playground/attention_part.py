"""A part of the attention: one head whole and its layer small. What the Attention page shows where all heads are too much.

How much that is is worked out before anything is computed: a model of 24 layers and 64 heads has more than a gigabyte to
show for 128 symbols, which no browser wants and no server should build while others wait.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core.config import ModelConfig
from core.decode import cap_of, generate
from core.lab import distance_to_ideal, entropy, ideal_pattern
from core.model import Transformer
from core.tasks import Vocab
from core.tokens import BOS, EOS
from core.trace import Trace

WHOLE_BYTES = 2_500_000  # a saved step whose packed attention is larger is sent in parts
WHOLE_HEADS = 128  # more small maps than this are no picture any more
MAP = 24  # a small map has so many rows and columns at most
HEAD_CELLS = 400_000  # of one head: more can neither be drawn nor be seen
LAYER_BYTES = 128 * 2**20  # what the attention of one layer may take while it is computed
COPIES = 4  # of its scores: before and after the mask, after softmax, and once more while that is made


@dataclass(frozen=True)
class Part:
    """Which attention ("encoder", "decoder" or "cross"), and layer and head from 0."""

    where: str
    layer: int
    head: int


def whole(config: ModelConfig, n_source: int, n_target: int) -> bool:
    """Whether all heads of a saved step can be sent at once: 8 bytes a cell as text, pattern and scores together."""
    heads = config.n_layers * config.n_heads
    cells = heads * (n_source**2 + n_target**2 + n_source * n_target)
    return heads <= WHOLE_HEADS and 8 * cells <= WHOLE_BYTES


def fits(config: ModelConfig, n_source: int, n_target: int) -> bool:
    """Whether even one head of one layer can be computed and sent."""
    cells = max(n_source, n_target) ** 2
    return cells <= HEAD_CELLS and COPIES * 4 * config.n_heads * cells <= LAYER_BYTES


def longest(config: ModelConfig, longest_target: int) -> int:
    """How many symbols a source may have so that whatever the model writes for it `fits`."""
    most = config.max_len - 1
    while most > 1 and not fits(config, most, cap_of(config, most, longest_target)):
        most -= 1
    return most


@dataclass(frozen=True)
class Piece:
    """One head, pattern and scores (Tq, Tk), mask (Tq, Tk); of all heads of its layer small maps (H, r, c) and numbers.

    maps: the strongest weight of each field; score_maps: the mean score of those cells that are not masked; blocked (r, c).
    numbers (H): entropy, distances to copy and reverse (None beside cross-attention). reach: the largest score of the layer.
    """

    step: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    capped: bool
    pattern: Tensor
    scores: Tensor
    mask: Tensor
    maps: Tensor
    score_maps: Tensor
    blocked: Tensor
    numbers: list[tuple[float, float | None, float | None]]
    reach: float


@torch.no_grad()
def look_at(model: Transformer, step: int, src: Sequence[int], written: Sequence[int], part: Part, place: str) -> Piece:
    """One head while the decoder writes `written` (with its end token). place: the name of that attention in a trace."""
    reads = (BOS, *written[:-1])
    names = {f"{place}.{what}" for what in ("mask", "scores", "pattern")}
    trace = Trace(keep=names.__contains__)
    model(torch.tensor([list(src)]), torch.tensor([reads]), trace)
    pattern, scores = trace[f"{place}.pattern"][0], trace[f"{place}.scores"][0]  # (H, Tq, Tk)
    mask = torch.broadcast_to(trace[f"{place}.mask"], (1, 1, *pattern.shape[1:]))[0, 0]
    small = (min(mask.shape[0], MAP), min(mask.shape[1], MAP))
    seen = F.adaptive_avg_pool2d(mask[None].float(), small)[0]  # (r, c): the share that is not masked
    spread = entropy(pattern).mean(-1).tolist()
    far = [[None] * len(spread)] * 2
    if part.where == "cross":
        ideals = [ideal_pattern(task, *mask.shape) for task in ("copy", "reverse")]
        far = [distance_to_ideal(pattern, ideal).tolist() for ideal in ideals if ideal is not None]
    scores.masked_fill_(~mask, 0.0)  # nobody else looks at this trace
    return Piece(
        step,
        reads,
        tuple(written),
        written[-1] != EOS,
        pattern[part.head].clone(),
        scores[part.head].clone(),
        mask,
        F.adaptive_max_pool2d(pattern[None], small)[0],
        F.adaptive_avg_pool2d(scores[None], small)[0] / seen.clamp(min=1e-9),
        seen == 0,
        list(zip(spread, *far, strict=True)),
        max(scores.max().item(), -scores.min().item()),
    )


def written_by(model: Transformer, src: Sequence[int]) -> tuple[int, ...]:
    """What the model itself writes."""
    return tuple(generate(model, torch.tensor([list(src)]))[0].tolist())


def packed(piece: Piece, vocab: Vocab, unit: int, blocked: int) -> dict[str, Any]:
    """For the browser, in the numbers of `attention_view.pack`; base64, little endian."""

    def weights(x: Tensor, mask: Tensor) -> str:
        units = (x * unit).round().to(torch.int32).masked_fill(mask, blocked)
        return base64.b64encode(units.flatten().numpy().astype("<u2").tobytes()).decode()

    def floats(x: Tensor) -> str:
        return base64.b64encode(x.flatten().numpy().astype("<f4").tobytes()).decode()

    return {
        "step": piece.step,
        "reads": [vocab.name(i) for i in piece.reads],
        "writes": [vocab.name(i) for i in piece.writes],
        "capped": piece.capped,
        "pattern": weights(piece.pattern, ~piece.mask),
        "scores": floats(piece.scores),
        "maps": weights(piece.maps, piece.blocked),
        "score_maps": floats(piece.score_maps),
        "map": list(piece.blocked.shape),
        "reach": piece.reach,
        "heads": [[None if x is None else round(x, 4) for x in row] for row in piece.numbers],
    }
