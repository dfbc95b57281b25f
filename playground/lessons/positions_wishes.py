"""The table of wishes in words: what a column measures, what a cell says, how it was measured."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from core.model import Transformer
from playground.i18n import _
from playground.lessons import positions_measure as measure
from playground.lessons.experiment import Shipped
from playground.lessons.positions_measure import COLUMNS, LONG, SHORT, Cell

VARIANTS = {"integer": "integer_every", "unit": "unit_every"}  # a row of the table -> a variant of the experiment
TRAINED = ("length_10", "length_12")
LEARNED = 0.9  # exact match from which a task counts as solved


class Column(NamedTuple):
    title: str
    help: str


def column_texts(revealed: bool) -> dict[str, Column]:
    """The columns by id; those of trained models only after the person has said what they expect of them."""
    between = {"short": SHORT, "long": LONG}
    columns = {
        "distinct": Column(
            _("1 · absolute place"),
            _("The smallest distance between two of {short} positions. 0: some look the same.").format(**between),
        ),
        "same_step": Column(
            _("2 · same distance at every length"),
            _("By how much a step between neighbours changes from a sequence of {short} to one of {long}.").format(
                **between
            ),
        ),
        "bounded": Column(
            _("3 · lengths never seen"),
            _("The largest number at length {long} over the largest at length {short}. 1: it stays bounded.").format(
                **between
            ),
        ),
        "even": Column(
            _("even steps"),
            _("The largest step between neighbours over the smallest. 1: all alike; more: it jumps."),
        ),
        "kept": Column(
            _("left after LayerNorm"),
            _("The share of the encoding that is left when the mean over the features is subtracted."),
        ),
        "beyond": Column(
            _("new values when longer"),
            _("How far a feature at length {long} lies outside the range it had at length {short}.").format(**between),
        ),
    }
    if revealed:
        columns["length_10"] = Column(_("trained: length 10"), _("Strings of length 10 reversed without a mistake."))
        columns["length_12"] = Column(
            _("trained: length 12"), _("The same at length 12, trained on 3 to 10: measured, mean of the seeds.")
        )
    return columns


def shown(row: str, cells: Mapping[str, Cell], ids: Sequence[str], result: Shipped | None) -> list[dict[str, Any]]:
    """The cells of a row, for the browser."""
    found = []
    for column in ids:
        cell = cells[column] if column in COLUMNS else trained(row, column, result)
        found.append(
            {
                "value": cell.value,
                "good": cell.good,
                "text": text(row, column, cell),
                "exact": "" if cell.value is None else f"{cell.value:.8g}",
            }
        )
    return found


def trained(row: str, column: str, result: Shipped | None) -> Cell:
    rows = result.metrics.get(VARIANTS.get(row, row), ()) if result else ()
    values = [r[column] for r in rows if column in r]
    if not values:
        return Cell(None, None)
    mean = sum(values) / len(values)
    return Cell(mean, mean >= LEARNED)


def text(row: str, column: str, cell: Cell) -> str:
    if row == "learned" and column == "bounded":
        return _("no such row")
    if cell.value is None:
        return "–"
    value = cell.value
    if column == "bounded":
        return f"×{value:.3g}"
    if column == "kept" or column in TRAINED:
        return f"{value:.0%}"
    if column == "even":
        return f"{value:.3g} : 1"
    return "0" if abs(value) <= measure.SMALL else f"{value:.3g}"


def explained(row: str, column: str, cell: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """How the chosen cell was measured and what it means, in a sentence or two."""
    name = names[measure.base(row)] + (f" ({_('along one direction')})" if row.endswith("_one") else "")
    sign = "" if cell["good"] is None else ":green[✓] " if cell["good"] else ":red[✗] "
    title, how = column_texts(True)[column]
    return f"{sign}**{name} · {title}: {cell['text']}**  \n{meaning(row, column, cell)}  \n:gray[{how}]"


def meaning(row: str, column: str, cell: Mapping[str, Any]) -> str:
    good, kind = cell["good"], measure.base(row)
    if kind in ("rotary", "alibi") and column == "distinct":
        return _(
            "Moving both tokens by one place changes no score: only their distance counts, by design. It never says “third”."
        )
    if kind == "alibi" and column in ("bounded", "beyond"):
        return _("The penalty grows with the distance, on purpose: what is very far away gets next to no weight.")
    if kind == "learned" and column == "bounded":
        return _("A learned table ends at its last row, and rows beyond the training lengths were never trained.")
    if good is None:
        return _("The question does not arise here: nothing is added to the embedding, or nothing was measured.")
    return {
        "distinct": (
            _("Every position has a vector of its own."),
            _("All positions look the same: the order is lost."),
        ),
        "same_step": (
            _("A neighbour is as far away in a sequence of {long} as in one of {short}.").format(
                short=SHORT, long=LONG
            ),
            _(
                "The step shrinks as the sequence grows, so what was learned about neighbours at one length is wrong at another."
            ),
        ),
        "bounded": (
            _("The numbers do not grow with the sequence."),
            _("The numbers grow with the sequence without end: at double length they are about twice as large."),
        ),
        "even": (
            _("From each position to the next it is equally far."),
            _("Some neighbours are much further apart than others."),
        ),
        "kept": (
            _("The features differ from each other, so subtracting their mean leaves most of it."),
            _("All features carry the same number: LayerNorm subtracts their mean, and nothing is left."),
        ),
        "beyond": (
            _("Longer sequences only bring numbers from the range that was seen before."),
            _(
                "Longer sequences bring numbers that the model has never met, bounded or not: the slow waves have only begun."
            ),
        ),
        "length_10": (
            _("Learned: this length was among those trained on."),
            _("Not learned in 600 steps, although this length was among those trained on."),
        ),
        "length_12": (
            _("It works two symbols beyond what was trained on."),
            _("Two symbols beyond what was trained on it fails."),
        ),
    }[column][0 if good else 1]


def facts(kind: str, model: Transformer) -> list[str]:
    """For and against one encoding, each with its number: lines of markdown."""
    config = model.config
    grid, _error = measure.grid(config.d_model, config.d_k, config.n_heads)
    row = kind + ("_one" if measure.uses(model, kind) and config.position_placement == "one_direction" else "")
    lines = []
    for column, cell in grid[row].items():
        if cell.good is not None and column != "beyond":
            sign = ":green[✓]" if cell.good else ":red[✗]"
            lines.append(f"{sign} {fact(row, column, cell.good).format(x=text(row, column, cell))}")
    return lines


def fact(row: str, column: str, good: bool) -> str:
    """A template with {x} for the number."""
    if row in ("rotary", "alibi") and column == "distinct":
        return _("No absolute place: moving both tokens changes a score by **{x}**.")
    if row == "learned" and column == "bounded":
        return _("No row for a length beyond its last.")
    return {
        "distinct": (_("Two positions are at least **{x}** apart."), _("All positions look the same: **{x}** apart.")),
        "same_step": (
            _("A longer sequence changes no step: **{x}**."),
            _("A longer sequence changes a step by **{x}**."),
        ),
        "bounded": (_("Bounded: **{x}** from length 10 to 20."), _("Grows with the length: **{x}** from 10 to 20.")),
        "even": (_("Even steps, **{x}**."), _("Uneven steps, **{x}**.")),
        "kept": (_("LayerNorm leaves **{x}** of it."), _("LayerNorm leaves **{x}** of it.")),
    }[column][0 if good else 1]
