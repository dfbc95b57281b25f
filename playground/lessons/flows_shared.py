"""Lab 6: what its panels share: the component and its commands, the example, small readers."""

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from playground.components import component
from playground.i18n import _
from playground.lessons import flows
from playground.lessons.flows import Example
from playground.lessons.frame import LabContext, PanelView
from playground.look import palette

SCRIPTS = ("heads.js", "flows_train.js", "flows_twin.js", "flows_cross.js", "flows_loss.js")


def draw(p: PanelView, view: str, data: dict[str, Any]) -> None:
    """Mount the component; its next command is for `obey`."""
    key = f"lab.flows.{p.id}.view"

    def take() -> None:
        st.session_state[f"{key}.command"] = st.session_state[key].act

    component("flows", *SCRIPTS)(key=key, data={"view": view, "look": palette(), **data}, on_act_change=take)


def obey(p: PanelView, act: Callable[[dict[str, Any]], None]) -> bool:
    """Carry out the command of the click that led to this run of the page; was there one? The browser is outside: anything
    malformed is ignored. Commands say where to arrive, so one that comes twice changes nothing."""
    text = st.session_state.pop(f"lab.flows.{p.id}.view.command", None)
    with contextlib.suppress(ValueError, TypeError, KeyError, IndexError, OverflowError):
        command = json.loads(str(text))
        if isinstance(command, dict):
            act(command)
            return True
    return False


def example(ctx: LabContext) -> Example:
    one = flows.example(ctx.model, ctx.data, ctx.ids)
    if not one.known:
        st.caption(_("The right answer to this text is not known: what the model writes itself stands for it."))
    return one


def names(ctx: LabContext, ids: Sequence[int]) -> list[str]:
    return [ctx.data.vocab.name(i) for i in ids]


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from the URL. ValueError: not one from low to high."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not low <= int(text) <= high:
            raise ValueError(text)
        return int(text)

    return read


def number(value: float) -> str:
    return f"{value:.3g}"


def verdict(tokens: Sequence[int], answer: Sequence[int]) -> list[str]:
    return ["right" if i < len(answer) and token == answer[i] else "wrong" for i, token in enumerate(tokens)]
