"""The measured history of runs as tables: what charts draw and what is exported."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from playground.charts import smooth, thin

METRICS = ("step", "seconds", "loss", "lr", "grad_norm", "tokens_per_s", "token_accuracy", "exact_match")


def history(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row a record, in order of step, with the columns of METRICS; what was not measured is NaN."""
    frame = pd.DataFrame(records).reindex(columns=METRICS)
    return frame.apply(pd.to_numeric, errors="coerce").sort_values("step", ignore_index=True)


def line(
    frame: pd.DataFrame, metric: str, label: str, *, x: str = "step", weight: float = 0.0, log_y: bool = False
) -> pd.DataFrame:
    """Rows of one line for `charts.curves`: x, y (smoothed), raw, line. Thinned to what a screen can show."""
    measured = frame[[x, metric]].dropna()
    if log_y:
        measured = measured[measured[metric] > 0]  # a logarithm of 0 has no place on the axis
    rows = pd.DataFrame(
        {"x": measured[x], "y": smooth(measured[metric], weight), "raw": measured[metric], "line": label}
    )
    return thin(rows)


def side_by_side(lines: Sequence[pd.DataFrame], x: str) -> pd.DataFrame:
    """The same data as a table: one row an x, one column a run."""
    columns = [rows.set_index("x")["raw"].rename(rows["line"].iloc[0]) for rows in lines if len(rows)]
    return pd.concat(columns, axis=1).sort_index().rename_axis(x).reset_index() if columns else pd.DataFrame()
