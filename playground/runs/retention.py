"""Old runs make room, where the host asked for it: PLAYGROUND_KEEP_DAYS. Pinned ones stay, and those at work."""

import os
import time

from playground.runs import store
from playground.runs.launcher import launcher
from playground.runs.store import ACTIVE, Run, RunError

DAY = 24 * 3600.0


def keep_days() -> float | None:
    """How long runs are kept; None, and nothing is ever removed, unless a positive number was given."""
    try:
        days = float(os.environ.get("PLAYGROUND_KEEP_DAYS", ""))
    except ValueError:
        return None
    return days if 0 < days < 1e6 else None


def expired(days: float) -> list[Run]:
    """Runs that nobody pinned and that nothing was written to for so long."""
    before, found = time.time() - days * DAY, []
    for run in store.list_runs():
        try:
            if not run.is_sample and _touched(run) < before and _idle(run):
                found.append(run)
        except (RunError, OSError):  # changed or deleted just now; the others still go
            continue
    return found


def remove_old(days: float) -> int:
    """Remove them; how many those were. One that cannot be removed stays, and the others still go."""
    removed = 0
    for run in expired(days):
        try:
            removed += _idle(run) and launcher().delete(run.id)
        except (RunError, OSError):
            continue
    return removed


def _touched(run: Run) -> float:
    """When somebody last trained or changed it."""
    times = [run.created.timestamp()]
    for name in ("status.json", "label.json", "metrics.jsonl"):
        try:
            times.append((run.path / name).lstat().st_mtime)
        except OSError:
            continue
    return max(times)


def _idle(run: Run) -> bool:
    return not run.label().pinned and run.status().state not in ACTIVE and not run.alive()
