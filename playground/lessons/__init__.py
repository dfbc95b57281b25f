"""The labs: each has a page in pages/, its texts and computations here. `LABS` is their order and their names."""

from typing import NamedTuple

from playground.i18n import N_


class Entry(NamedTuple):
    """id: `pages/lab_<id>.py`, `playground/lessons/<id>.py` and the URL `lab_<id>`; title: English, translated when shown."""

    id: str
    title: str


LABS = (
    Entry("attention", N_("Attention, step by step")),
    Entry("scaling", N_("Why divide by √d_k")),
    Entry("heads", N_("Many heads")),
    Entry("masks", N_("Masks and leaks")),
    Entry("positions", N_("Positions")),
    Entry("flows", N_("Two data flows")),
    Entry("stack", N_("The stack")),
)
