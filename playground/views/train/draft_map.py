"""The model to be trained, for the map of the board to show beside the one of the run in view."""

from typing import Any

from core.config import RunConfig
from playground.board import facts
from playground.draft import Draft, changes_text
from playground.i18n import _

DRAWN = ("layers", "heads", "parts", "parameters", "block_parameters")  # of the facts: what the map shows of a model


def next_run(draft: Draft, seen: RunConfig, off: str) -> dict[str, Any] | None:
    """What the map is told of the next run; None while it would be like the one in view. off: why it cannot be trained.

    `facts` are None where both have the same map. While the form is wrong they are those of the last one that was right.
    """
    if not draft.changes and not off:
        return None
    told, now = facts(draft.valid or seen), facts(seen)
    differs = any(told[name] != now[name] for name in DRAWN)
    return {
        "facts": told if differs else None,
        "more": told["parameters"]["all"] - now["parameters"]["all"],
        "text": _("Cannot be trained: {reason}").format(reason=off) if off else changes_text(draft),
        "off": bool(off),
    }
