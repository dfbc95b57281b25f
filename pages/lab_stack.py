"""Lab 7: the stack. The stream through all layers, what each would answer, what a block is worth, where the parameters are."""

from playground.lessons import stack_view as view
from playground.lessons.frame import lab_page
from playground.lessons.stack import LAB

ctx = lab_page(LAB)
ctx.show({"stream": view.stream, "lens": view.lens, "without": view.without, "parameters": view.parameters})
