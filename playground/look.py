"""How things look: one colour per role and per head, the two scales of heat maps. Pages and components take them from here.

The palette is Okabe and Ito's, which stays apart for the common kinds of colour blindness; a sign, a label or a line
pattern always stands beside a colour.
"""

from typing import Any

QUERY, KEY, VALUE = "#0072B2", "#E69F00", "#009E73"
ENCODER, DECODER = "#56B4E9", "#CC79A7"
RIGHT, WRONG = "#009E73", "#D55E00"
ROLES = {
    "query": QUERY,
    "key": KEY,
    "value": VALUE,
    "encoder": ENCODER,
    "decoder": DECODER,
    "right": RIGHT,
    "wrong": WRONG,
}

HEADS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#9A8700", "#6F4FB0")

# Attention weights, 0 to 1: the page's own background at 0, so that what matters stands out in both themes.
SEQUENTIAL_LIGHT = ("#f7fbff", "#d9e8f5", "#b7d4ea", "#86b8dc", "#5196c8", "#2273b3", "#0d4f93", "#08306b")
SEQUENTIAL_DARK = ("#141922", "#14294a", "#153f78", "#1a5aa9", "#3a80d2", "#6aa6ec", "#a6cdf8", "#eef7ff")
# Scores, around 0: blue below, orange above.
DIVERGING_LIGHT = ("#0b4f8a", "#4292c6", "#a9cfe8", "#f7f7f7", "#fdc98f", "#e6862b", "#a34700")
DIVERGING_DARK = ("#9ad0ff", "#3f8fd6", "#1f4f80", "#1b1f27", "#80450f", "#d27a24", "#ffc88a")


def head_colour(head: int) -> str:
    """The fixed colour of a head; the eight repeat after the eighth."""
    return HEADS[head % len(HEADS)]


def palette() -> dict[str, Any]:
    """What a component needs to draw: pass it on as `data["look"]`; common.js picks light or dark itself."""
    return {
        "roles": ROLES,
        "heads": HEADS,
        "sequential": {"light": SEQUENTIAL_LIGHT, "dark": SEQUENTIAL_DARK},
        "diverging": {"light": DIVERGING_LIGHT, "dark": DIVERGING_DARK},
    }
