"""Lab 2: why divide by √d_k."""

from playground.lessons.frame import lab_page
from playground.lessons.scaling import LAB
from playground.lessons.scaling_view import DRAW

ctx = lab_page(LAB)
ctx.show(DRAW)
