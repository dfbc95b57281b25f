"""Lab 6: training and inference side by side, on the same weights and the same example."""

from playground.lessons.flows import LAB
from playground.lessons.flows_view import PANELS
from playground.lessons.frame import lab_page

lab_page(LAB).show(PANELS)
