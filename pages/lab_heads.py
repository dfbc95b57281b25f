"""Lab 3: many heads. What each looks at, what is lost without it, and in which directions it works."""

from playground.lessons import heads_view as view
from playground.lessons.frame import lab_page
from playground.lessons.heads import LAB

ctx = lab_page(LAB)
ctx.show(
    {
        "grid": view.grid,
        "knockout": view.knockout,
        "skip": view.skip,
        "subspaces": view.subspaces,
        "experiment": view.trained,
    }
)
