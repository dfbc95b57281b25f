"""Lab 5, "Positions": what is measured on the encodings and on the person's model (S14).

Tables come from core/positions.py, or from the model where the run uses that encoding; every number is held against
core/lab/positions_plain.py, which knows only loops and `math`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from core.config import Positions
from core.lab import measure, positions_plain, recompute
from core.lab.experiments import at_length
from core.lab.positions import neighbour_distances, rotation, wishes
from core.model import Transformer
from core.positions import alibi_bias, rotate, table, wavenumbers
from core.tasks import Data
from core.tokens import PAD
from core.trace import Trace

SOURCE: tuple[Positions, ...] = ("integer", "unit", "binary", "sine", "sincos")  # the rungs, in their order
BEYOND: tuple[Positions, ...] = ("none", "learned", "rotary", "alibi")
KINDS = SOURCE + BEYOND
LENGTHS = (2, 3, 5, 10, 15, 20, 32, 64)
SHORT, LONG = 10, 20  # what the source's experiment trains on at most, and where its curve ends
EVEN, BOUND, SMALL = 1.1, 1.05, 1e-9  # limits of what counts as even, as bounded, as nothing
STRINGS = 40  # of each length, when the person's own model is measured


def even(width: int) -> int:
    """Pairs need an even width; the odd feature of a model that has no pairs is left out."""
    return max(2, width - width % 2)


@dataclass(frozen=True)
class Rung:
    """One encoding as a table (T, W) and the product of every two rows (T, T). own: taken from the model, not from the formula.

    For rotary the table is what becomes of features (1, 0, 1, 0, …); for alibi it is (T, H), what each head adds to a score
    asked by the last token, and `products` is what the first head adds to every score.
    """

    kind: Positions
    table: Tensor
    products: Tensor
    own: bool


def uses(model: Transformer, kind: str) -> bool:
    return model.config.positions == kind


@torch.no_grad()
def rung(kind: Positions, length: int, model: Transformer) -> Rung:
    """The encoding as this model has it, or as a model of this width would."""
    config, own = model.config, uses(model, kind)
    if kind == "alibi":
        bias = alibi_bias(config.n_heads, length, length, torch.zeros(1, dtype=torch.float64))[0]  # (H, T, T)
        return Rung(kind, bias[:, -1].T, bias[0], own)
    if kind == "rotary":
        start = torch.zeros(1, 1, length, even(config.d_k), dtype=torch.float64)
        start[..., 0::2] = 1.0
        rows = rotate(start)[0, 0]  # (T, d_k)
    elif kind == "learned" and not own:
        generator = torch.Generator().manual_seed(0)  # as a model begins: N(0, 0.3²)
        rows = torch.randn(length, config.d_model, generator=generator, dtype=torch.float64) * 0.3
    elif own and kind != "none":
        found = model.src_embedding.position(0, length, torch.tensor([length - 1]))
        assert found is not None
        rows = found.reshape(-1, config.d_model)[:length].double()
    else:
        width = even(config.d_model) if kind == "sincos" else config.d_model
        rows = table(kind, length, width, torch.float64)
    return Rung(kind, rows, rows @ rows.T, own)


def rung_errors(found: Rung, model: Transformer) -> dict[str, float]:
    """Largest difference of table and products to the loops; "table" is missing where a table has no formula."""
    rows, (length, width) = found.table, found.table.shape
    errors = {}
    if found.kind != "learned":
        along = [1.0] * width
        if found.own and model.config.position_placement == "one_direction":
            along = model.src_embedding.position.direction.tolist()
        plain = positions_plain.rows(found.kind, length, width)
        expected = [[x * u for x, u in zip(row, along, strict=True)] for row in plain]
        errors["table"] = (rows - torch.tensor(expected, dtype=torch.float64)).abs().max().item()
    if found.kind == "alibi":
        slope = 0.5 ** (8 / width)
        again = [[-slope * abs(i - j) for j in range(length)] for i in range(length)]
    else:
        again = positions_plain.products(rows.tolist())
    errors["products"] = (found.products - torch.tensor(again, dtype=torch.float64)).abs().max().item()
    return errors


# LayerNorm and the number on every feature


def direction(model: Transformer) -> Tensor:
    """The direction that carries the number: the model's own if it has learned one, else one as a model begins with. (d_model,)"""
    part = model.src_embedding.position
    if part.placement == "one_direction":
        return part.direction.detach()
    return torch.randn(model.config.d_model, generator=torch.Generator().manual_seed(0)) / model.config.d_model**0.5


def first_norm(model: Transformer) -> nn.LayerNorm:
    """The first LayerNorm that the embedding of a source token meets."""
    norm = model.block("encoder", 0).norms[0]
    assert isinstance(norm, nn.LayerNorm)
    return norm


@dataclass(frozen=True)
class Shifted:
    """A token's vector, the same with its position, and both after LayerNorm. (d_model,)

    change: largest difference of the two after LayerNorm, as the model computes (float32); exact: the same in float64.
    error: largest difference of all that is shown to the loops.
    """

    before: Tensor
    after: Tensor
    norm_before: Tensor
    norm_after: Tensor
    change: float
    exact: float
    error: float


@torch.no_grad()
def shifted(model: Transformer, token: int, t: float, every: bool) -> Shifted:
    """Add t to every feature of a token's vector, or t along one direction, and look at it through the first LayerNorm."""
    part, norm = model.src_embedding, first_norm(model)
    x = part.token(torch.tensor([token]))[0] * model.config.d_model**0.5  # (d_model,)
    along = torch.ones_like(x) if every else direction(model)
    y = x + t * along
    a, b = norm(x), norm(y)
    exact_x = part.token.weight[token].double() * math.sqrt(model.config.d_model)
    exact_y = exact_x + t * along.double()
    pair = recompute.layer_norm(torch.stack((exact_x, exact_y)), norm.weight, norm.bias)
    error = max(
        (shown.double() - again).abs().max().item()
        for shown, again in ((x, exact_x), (y, exact_y), (a, pair[0]), (b, pair[1]))
    )
    return Shifted(x, y, a, b, (a - b).abs().max().item(), (pair[0] - pair[1]).abs().max().item(), error)


# [0, 1]: the step


def root_mean_square_step(kind: Positions, length: int, width: int) -> float:
    """How far apart two neighbours are, per feature: for [0, 1] just 1 / (length - 1)."""
    rows = table(kind, length, width, torch.float64)
    return (rows[1] - rows[0]).square().mean().sqrt().item()


def step_by_hand(kind: str, length: int, width: int) -> float:
    a, b = ([positions_plain.value(kind, t, i, width, length) for i in range(width)] for t in (0, 1))
    return positions_plain.distance(a, b) / math.sqrt(width)


def neighbours(kind: Positions, length: int, width: int) -> tuple[list[float], float]:
    """The distance of each position to the next, and the largest difference to the loops."""
    shown = neighbour_distances(kind, length, width).tolist()
    plain = positions_plain.rows(kind, length, width)
    return shown, max(
        abs(x - positions_plain.distance(a, b)) for x, (a, b) in zip(shown, itertools.pairwise(plain), strict=True)
    )


# One sine


@dataclass(frozen=True)
class Wave:
    """One feature of the sine encoding: its ω and wavelength, the value at each position (T,), |difference| of every two (T, T)."""

    omega: float
    wavelength: float
    values: Tensor
    apart: Tensor
    error: float

    @property
    def step(self) -> float:
        """The largest change from one position to the next."""
        return self.values.diff().abs().max().item()

    @property
    def twins(self) -> tuple[int, int]:
        """The two positions that are hardest to tell apart."""
        n = len(self.values)
        lonely = self.apart + torch.eye(n, dtype=torch.float64) * 9
        return divmod(int(lonely.argmin()), n)


def wave(feature: int, width: int, length: int) -> Wave:
    omega = wavenumbers(width, width, torch.float64)[feature].item()
    values = table("sine", length, width, torch.float64)[:, feature]
    plain = [math.sin(t / 10_000 ** (feature / width)) for t in range(length)]
    apart = (values[:, None] - values).abs()
    again = torch.tensor([[abs(a - b) for b in plain] for a in plain], dtype=torch.float64)
    error = max(
        (values - torch.tensor(plain, dtype=torch.float64)).abs().max().item(), (apart - again).abs().max().item()
    )
    return Wave(omega, 2 * math.pi / omega, values, apart, error)


def all_waves(width: int, length: int) -> tuple[Tensor, float]:
    """Distance of every two positions with all sines together (T, T), and its difference to the loops."""
    rows = table("sine", length, width, torch.float64)
    apart = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    plain = positions_plain.rows("sine", length, width)
    again = torch.tensor([[positions_plain.distance(a, b) for b in plain] for a in plain], dtype=torch.float64)
    return apart, (apart - again).abs().max().item()


# Sine and cosine: the turn


@dataclass(frozen=True)
class Turn:
    """matrix M_k (d, d); start PE(t), moved M_k PE(t), end PE(t + k), each (d,). error: ‖moved − end‖ here; worst: over all t
    up to `reach`. hand: largest difference of moved and end to the loops."""

    matrix: Tensor
    start: Tensor
    moved: Tensor
    end: Tensor
    error: float
    worst: float
    reach: int
    hand: float


def turn(k: int, t: int, width: int, reach: int = 64) -> Turn:
    pe, matrix = table("sincos", reach + k, width, torch.float64), rotation(k, width)
    moved = pe[:reach] @ matrix.T  # (reach, d): the same matrix for every t
    off = (moved - pe[k : reach + k]).norm(dim=1)
    plain = positions_plain.rows("sincos", t + k + 1, width)
    hand = max(
        (moved[t] - torch.tensor(positions_plain.turned(plain[t], k), dtype=torch.float64)).abs().max().item(),
        (pe[t + k] - torch.tensor(plain[t + k], dtype=torch.float64)).abs().max().item(),
    )
    return Turn(matrix, pe[t], moved[t], pe[t + k], off[t].item(), off.max().item(), reach, hand)


def factors(k: int, omega: float, positions: Sequence[int]) -> list[float]:
    """With the sine alone: what sin(tω) would have to be multiplied by to become sin((t + k)ω)."""
    return [math.sin((t + k) * omega) / math.sin(t * omega) for t in positions]


# The wishes

COLUMNS = ("distinct", "same_step", "bounded", "even", "kept", "beyond")


@dataclass(frozen=True)
class Cell:
    """value: what was measured; good: whether the wish is met; None where the question does not arise."""

    value: float | None
    good: bool | None


def judge(column: str, value: float) -> bool:
    return {
        "distinct": value > 1e-3,
        "same_step": value <= SMALL,
        "bounded": 0 < value <= BOUND,
        "even": 0 < value <= EVEN,
        "kept": value > 0.05,
        "beyond": value <= 0.05,
    }[column]


ROWS = ("integer", "integer_one", "unit", "unit_one", "binary", "sine", "sincos", *BEYOND)


def base(row: str) -> Positions:
    """The encoding of a row of the table of wishes."""
    kind: Positions = next(k for k in KINDS if k == row.removesuffix("_one"))
    return kind


@lru_cache(8)
def grid(width: int, d_k: int, n_heads: int) -> tuple[dict[str, dict[str, Cell]], float]:
    """Every wish measured for every encoding at this width, and the largest difference to the loops. Rows as in ROWS."""
    found: dict[str, dict[str, Cell]] = {}
    worst = 0.0
    along = torch.randn(width, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / width**0.5
    for row in ROWS:
        kind = base(row)
        if kind == "rotary":
            found[row], error = relative(*(turned_products(n, even(d_k)) for n in (SHORT, LONG)))
        elif kind == "alibi":
            found[row], error = relative(*(alibi_products(n, n_heads) for n in (SHORT, LONG)))
        elif kind == "learned":
            generator = torch.Generator().manual_seed(0)
            rows = torch.randn(LONG, width, generator=generator, dtype=torch.float64) * 0.3
            found[row], error = measured(rows[:SHORT], rows, rows[:SHORT].tolist(), rows.tolist())
            found[row]["bounded"] = Cell(None, False)  # a table ends: there is no row for a length never seen
        else:
            wide = even(width) if kind == "sincos" else width
            tables = [table(kind, n, wide, torch.float64) for n in (SHORT, LONG)]
            plain = [positions_plain.rows(kind, n, wide) for n in (SHORT, LONG)]
            if row.endswith("_one"):
                tables = [rows * along for rows in tables]
                plain = [[[x * u for x, u in zip(r, along.tolist(), strict=True)] for r in rows] for rows in plain]
            found[row], error = measured(tables[0], tables[1], *plain)
        worst = max(worst, error)
    return found, worst


def measured(short: Tensor, long: Tensor, *plain: positions_plain.Rows) -> tuple[dict[str, Cell], float]:
    mine, again = wishes(short, long), positions_plain.wishes(*plain)
    cells = {c: Cell(mine[c], judge(c, mine[c])) for c in COLUMNS}
    if not short.any():  # nothing is added: nothing to be even, bounded or kept
        cells |= {c: Cell(None, None) for c in COLUMNS if c != "distinct"}
    return cells, max(abs(mine[c] - again[c]) for c in COLUMNS)


def turned_products(length: int, d_k: int) -> tuple[Tensor, list[list[float]]]:
    """Rotary: q·k of equal tokens (1, 0, 1, 0, …) at every two positions, and the same by loops."""
    start = torch.zeros(1, 1, length, d_k, dtype=torch.float64)
    start[..., 0::2] = 1.0
    rows = rotate(start)[0, 0]
    plain = [
        [math.fsum(math.cos((i - j) / 10_000 ** (p / d_k)) for p in range(0, d_k, 2)) for j in range(length)]
        for i in range(length)
    ]
    return rows @ rows.T, plain


def alibi_products(length: int, n_heads: int) -> tuple[Tensor, list[list[float]]]:
    bias = alibi_bias(n_heads, length, length, torch.zeros(1, dtype=torch.float64))[0, 0]
    return bias, [[-(0.5 ** (8 / n_heads)) * abs(i - j) for j in range(length)] for i in range(length)]


def relative(
    short: tuple[Tensor, list[list[float]]], long: tuple[Tensor, list[list[float]]]
) -> tuple[dict[str, Cell], float]:
    """What acts inside attention is measured on the scores (T, T): does moving both tokens by one place, or a longer
    sequence, change any, and how large do they get?"""
    (a, plain_a), (b, plain_b) = short, long
    n = len(a)
    moved = (b[1:, 1:] - b[:-1, :-1]).abs().max().item()
    cells = {
        "distinct": Cell(0.0 if moved <= SMALL else moved, moved > SMALL),
        "same_step": Cell(value := (b[:n, :n] - a).abs().max().item(), judge("same_step", value)),
        "bounded": Cell(value := (b.abs().max() / a.abs().max()).item(), judge("bounded", value)),
        "even": Cell(None, None),
        "kept": Cell(None, None),
        "beyond": Cell(
            value := max((b - a.max()).max().item(), (a.min() - b).max().item(), 0.0), judge("beyond", value)
        ),
    }
    errors = [
        (mine - torch.tensor(plain, dtype=torch.float64)).abs().max().item()
        for mine, plain in ((a, plain_a), (b, plain_b))
    ]
    return cells, max(errors)


def beyond_by_length(kind: Positions, width: int) -> list[float]:
    """How far a feature leaves the range it had at SHORT, for lengths SHORT … LONG."""
    wide = even(width) if kind == "sincos" else width
    short = table(kind, SHORT, wide, torch.float64)
    return [wishes(short, table(kind, n, wide, torch.float64))["beyond"] for n in range(SHORT, LONG + 1)]


def beyond_error(kind: str, width: int, shown: Sequence[float]) -> float:
    wide = even(width) if kind == "sincos" else width
    short, worst = positions_plain.rows(kind, SHORT, wide), 0.0
    for n, value in zip(range(SHORT, LONG + 1), shown, strict=True):
        long = positions_plain.rows(kind, n, wide)
        off = 0.0
        for i in range(wide):
            seen = [row[i] for row in short]
            off = max(off, *(max(row[i] - max(seen), min(seen) - row[i]) for row in long))
        worst = max(worst, abs(off - value))
    return worst


# The person's own model, by length


def measurable(model: Transformer, data: Data) -> list[int]:
    """The lengths at which this model can be asked; none where strings of every length are not to be had."""
    if data.run.task.name in ("add", "pairs"):
        return []
    return [n for n in range(2, LONG + 1) if n < model.config.max_len]


@torch.no_grad()
def by_length(model: Transformer, data: Data) -> dict[int, float]:
    """Generated exact match by the length of the source."""
    return measure.length_curve(model, {n: at_length(data, n, STRINGS) for n in measurable(model, data)})


@torch.no_grad()
def by_length_error(model: Transformer, data: Data, shown: dict[int, float]) -> float:
    """The same in one pass: a string is generated without a mistake exactly when every token, told the right ones before
    it, is predicted right. (Generation never looks ahead, also where the model was trained without the mask.)"""
    worst = 0.0
    for n, value in shown.items():
        batch = at_length(data, n, STRINGS)
        edits = {
            f"decoder.{i}.self.mask": lambda mask: mask.new_ones(mask.shape[-2:]).tril()
            for i in range(model.config.n_layers)
        }
        predicted = model(batch.src, batch.tgt_in, Trace(edits)).argmax(-1)  # (B, T)
        right = sum(
            all(p == want for p, want in zip(row, wanted, strict=True) if want != PAD)
            for row, wanted in zip(predicted.tolist(), batch.tgt_out.tolist(), strict=True)
        )
        worst = max(worst, abs(right / len(batch.src) - value))
    return worst
