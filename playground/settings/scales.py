"""The stops of a slider: those of the table of words, within the bounds of the field, and every value that is in use."""

from collections.abc import Iterable
from typing import Any

from pydantic.fields import FieldInfo

from core.config import MOST_DIGITS, RunConfig
from playground.settings import words


def field_of(name: str) -> FieldInfo:
    part, key = name.split(".")
    found: FieldInfo = RunConfig.model_fields[part].annotation.model_fields[key]  # type: ignore[union-attr]
    return found


def limits(info: FieldInfo) -> tuple[Any, Any]:
    """The bounds a number must keep, where they belong to the allowed numbers."""
    bounds = {kind: getattr(m, kind) for m in info.metadata for kind in ("ge", "le") if hasattr(m, kind)}
    return bounds.get("ge"), bounds.get("le")


def heads_for(d_model: object) -> list[int]:
    """The numbers of heads that divide this width: what the form offers."""
    bound = limits(field_of("model.n_heads"))[1]
    return [h for h in range(1, int(bound) + 1) if d_model % h == 0] if isinstance(d_model, int) and d_model > 0 else []


def stops(name: str, in_use: Iterable[Any], task: str = "") -> list[Any]:
    """What the slider of this setting offers. in_use: a value from an address, a run or a keyboard has its place on it, too."""
    most = MOST_DIGITS if task == "add" and name == "task.max_len" else None
    kind = int if field_of(name).annotation is int else float
    offered = {kind(stop) for stop in words.SETTINGS[name].stops if most is None or stop <= most}
    return sorted(offered | set(in_use))


def text(value: float) -> str:
    """A number on a slider, whole and exact, for a slider tells its stops apart by their texts: 20,000 and 0.00008."""
    return (
        f"{value:,}"
        if isinstance(value, int)
        else words.number(value, f"{value:g}" if float(f"{value:g}") == value else repr(value))
    )
