"""Lab 4: masks and leaks."""

from playground.lessons.frame import lab_page
from playground.lessons.masks import LAB
from playground.lessons.masks_leak import leak
from playground.lessons.masks_padding import padding
from playground.lessons.masks_paint import paint
from playground.lessons.masks_parallel import parallel
from playground.lessons.masks_row import infinity

ctx = lab_page(LAB)
ctx.show({"infinity": infinity, "paint": paint, "leak": leak, "padding": padding, "parallel": parallel})
