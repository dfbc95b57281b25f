"""Lab 2: why divide by √d_k."""

import streamlit as st

from playground.lessons.frame import LabContext, PanelView, lab_page
from playground.lessons.scaling import LAB


def draw(ctx: LabContext, p: PanelView) -> None:
    d = ctx.slide("d_k", "d_k", [2**n for n in range(2, 11)], 64)
    if d == 1024:
        p.done()
    p.numbers(rf"\sqrt{{{d}}} = {d**0.5:.3g}")
    p.checked(3e-7, "scores")
    p.checked(float("nan"), "x")
    st.write(ctx.mistakes([]))


ctx = lab_page(LAB)
ctx.show({"random": draw, "softmax": draw})
