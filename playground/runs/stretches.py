"""Steps that were added to a run: `added.json` beside run.json, which is written once. core.train.added_rate says how they are trained."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from core.config import TrainConfig
from playground.runs import bounds
from playground.runs.files import read_json, write_json

NAME = "added.json"
MOST = 500  # stretches
MOST_STEPS = 1_000_000  # of a run in all, as in TrainConfig


def read(folder: Path, config: TrainConfig) -> tuple[int, ...]:
    """Where the run would have ended, then the end of every stretch; empty where nothing was added."""
    return added_of(read_json(folder / NAME), config) or ()


def added_of(data: dict[str, Any], config: TrainConfig) -> tuple[int, ...] | None:
    """What such a file says, or None where no run of ours says that."""
    ends = data.get("ends", [])
    if not isinstance(ends, list) or len(ends) == 1 or len(ends) > MOST + 1:
        return None
    try:
        found = tuple(bounds.whole(end, 0, MOST_STEPS) for end in ends)
    except bounds.Damaged:
        return None
    rising = all(a < b for a, b in pairwise(found))
    return found if rising and (not found or found[0] <= config.steps) else None


def write(folder: Path, ends: tuple[int, ...]) -> None:
    """Raises OSError."""
    write_json(folder / NAME, {"ends": list(ends)})
