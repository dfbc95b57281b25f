"""Lab 1: attention, step by step. One head, every number from the tokens to what the head says."""

from playground.lessons.attention import LAB
from playground.lessons.attention_formulas import FORMULAS
from playground.lessons.attention_shapes_view import draw_shapes
from playground.lessons.attention_view import draw_step
from playground.lessons.frame import lab_page

ctx = lab_page(LAB)
ctx.show({**dict.fromkeys(FORMULAS, draw_step), "shapes": draw_shapes})
