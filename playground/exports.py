"""What leaves the app as a file: metrics as CSV. Cells that a spreadsheet would take for a formula are quoted."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

METRICS = ("step", "seconds", "loss", "lr", "grad_norm", "tokens_per_s", "token_accuracy", "exact_match")


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
