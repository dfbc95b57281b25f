"""What leaves the app as a file: a run as a zip, its metrics as CSV. Cells that a spreadsheet would take for a formula are quoted."""

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from playground.history import METRICS
from playground.runs import changes, store
from playground.runs.archive import export
from playground.runs.log import each
from playground.runs.store import Run


def safe_cell(value: Any) -> Any:
    """A text starting with = + - @ would run as a formula in a spreadsheet: an apostrophe makes it plain text."""
    if isinstance(value, str) and value.lstrip("\t\r\n ").startswith(("=", "+", "-", "@")):
        return f"'{value}"
    return "" if value is None else value


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(map(safe_cell, columns))
    writer.writerows(map(safe_cell, row) for row in rows)
    return file.getvalue()


def metrics_csv(run: Run) -> str:
    """All records, also those of a run so long that the pages draw only a part of them. Where a person set the learning rate
    while it trained, a column says after which step and to what. Raises OSError.
    """
    path = run.path / "metrics.jsonl"
    by_hand = dict(changes.rates(path))
    rows = ([record[name] for name in METRICS] + [by_hand.get(record["step"])] * bool(by_hand) for record in each(path))
    return csv_text([*METRICS, "lr_set"] if by_hand else METRICS, rows)


def zipped(run: Run, steps: Collection[int] | None = None, state: bool = True) -> bytes:
    """The run as an archive, as `archive.export` makes it. Raises OSError, and KeyError where the run is gone."""
    if store.find(run.id) is None:
        raise KeyError(run.id)
    path = export(run, steps=steps, state=state)
    try:
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)
