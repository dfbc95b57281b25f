"""Lab 5: how a model that adds things up can know their order."""

from playground.lessons.frame import lab_page
from playground.lessons.positions import LAB
from playground.lessons.positions_lengths import length, wishes
from playground.lessons.positions_view import binary, ladder, norm, unit
from playground.lessons.positions_waves import sine, turn

ctx = lab_page(LAB)
ctx.show(
    {
        "ladder": ladder,
        "norm": norm,
        "unit": unit,
        "binary": binary,
        "sine": sine,
        "turn": turn,
        "wishes": wishes,
        "length": length,
    }
)
