"""The states of a run: ONE table of what they are called, and where. Texts are English here, translated when they are shown."""

from dataclasses import dataclass
from typing import Literal

from playground.i18n import N_, _


@dataclass(frozen=True)
class State:
    """The words of one state."""

    sign: str  # beside each word: nobody has to tell states by a colour
    word: str  # in lists
    board: str  # in the strip of the board and in legends
    sentence: str  # below the toolbar: what it means, and what to do
    phase: Literal["", "active", "ended"] = ""  # active: has a trainer or waits for one


STATES = {
    "draft": State("✎", N_("draft"), N_("Ready"), N_("Ready. Press Train.")),
    "queued": State(
        "…",
        N_("queued"),
        N_("Waiting for a free slot"),
        N_("Waiting for a free place; it starts by itself."),
        "active",
    ),
    "running": State(
        "▶",
        N_("running"),
        N_("Training"),
        N_("Training. You may change the learning rate, pause, or look at the other pages meanwhile."),
        "active",
    ),
    "paused": State(
        "⏸",
        N_("paused"),
        N_("Paused"),
        N_("Paused. Press Resume to go on, or Step for a single step."),
        "active",
    ),
    "finished": State(
        "✓",
        N_("finished"),
        N_("Finished"),
        N_("Finished. Change a setting and train again, or look inside on the other pages."),
        "ended",
    ),
    "stopped": State(
        "■",
        N_("stopped"),
        N_("Stopped"),
        N_("Stopped. Press Train for a new run with these settings."),
        "ended",
    ),
    "failed": State("✗", N_("failed"), N_("Failed"), N_("Training failed."), "ended"),
    "interrupted": State(
        "⚡",
        N_("interrupted"),
        N_("Interrupted: can be resumed"),
        N_("Interrupted. Press Resume to go on exactly where it was."),
        "ended",
    ),
}
NAMES = tuple(STATES)
ACTIVE = tuple(name for name, state in STATES.items() if state.phase == "active")
ENDED = tuple(name for name, state in STATES.items() if state.phase == "ended")


def word(name: str) -> str:
    """Its sign and its word: "✓ finished"."""
    return f"{STATES[name].sign} {_(STATES[name].word)}"


def board_words() -> dict[str, str]:
    """What the board and the curves say for each state."""
    return {name: _(state.board) for name, state in STATES.items()}


def sentence(name: str) -> str:
    return _(STATES[name].sentence)
