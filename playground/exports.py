"""What leaves the app as a file: a run as a zip, its metrics as CSV. Cells that a spreadsheet would take for a formula are quoted."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from playground.history import METRICS, history
from playground.runs import changes, store
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
    """One row a step. Where a person set the learning rate while it trained, a column says when and to what."""
    frame, columns = history(run.metrics()), list(METRICS)
    if by_hand := dict(changes.rates(run.path / "metrics.jsonl")):
        columns.append("lr_set")
        frame["lr_set"] = frame["step"].map(by_hand)
    return csv_text(columns, frame.astype(object).where(frame.notna(), None).itertuples(index=False))


def zipped(run: Run) -> bytes:
    """The run as an archive. Raises OSError, and KeyError where the run is gone."""
    path = store.archive(run.id)
    try:
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)
