"""The value of a widget that outlives its page and can also be set from outside: by a link, a button, Back.

Streamlit's way is `st.session_state[key] = value`. That value travels beside the widget, once. Where this one message is
dropped because the next run of the script has begun, or where the person clicks before the browser has taken it, the widget
stands there with its own default, and the next click of any kind reports that default as if the person had chosen it: the
text of a link was gone, `None` was written over a choice. So here a value from outside is the default of the widget, which
every drawing carries, and another value is another widget. What one that was just made reports is then what it was made with.
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import streamlit as st

T = TypeVar("T")


@dataclass
class Field(Generic[T]):
    """Make the widget with `key` and the default `start`; then set `told` to what it returned, and keep that."""

    slot: str
    n: int
    start: T
    told: T

    @property
    def key(self) -> str:
        return f"{self.slot}#{self.n}" if self.n else self.slot

    @property
    def now(self) -> T:
        """What the widget will return: what the person chose, or what it starts with."""
        value: T = st.session_state.get(self.key, self.start)
        return value


def field(slot: str, now: T, among: Container[T] | None = None) -> Field[T]:
    """The field of a value that is kept elsewhere and is `now`. among: what the widget offers, if that may change."""
    fields: dict[str, Field[Any]] = st.session_state.setdefault("fields", {})
    known: Field[T] | None = fields.get(slot)
    if known is not None and known.key in st.session_state:
        if now == known.told:
            if among is not None and known.start not in among:
                known.start = now
            return known
        known = Field(slot, known.n + 1, now, now)  # from outside
    else:  # the page is new, or opened again: Streamlit forgot the widget
        known = Field(slot, known.n if known else 0, now, now)
    fields[slot] = known
    return known


def ask(slot: str, value: object) -> None:
    """Set a value from outside; also from a callback."""
    st.session_state[f"{slot}.kept"] = value


def kept(slot: str, otherwise: Any = None) -> Any:
    """The value as it was left, or was asked for."""
    return st.session_state.get(f"{slot}.kept", otherwise)


def keep(found: Field[T], value: T) -> T:
    """Keep what the widget returned. Nothing is sent between the two lines: a run may end wherever something is."""
    found.told = value
    ask(found.slot, value)
    return value
