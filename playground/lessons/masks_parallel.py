"""Panel 5: one pass against T passes, timed on this machine."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from playground import look
from playground.components import component
from playground.i18n import _
from playground.lessons import masks_measure as lab
from playground.lessons.frame import LabContext, PanelView, predict, reveal
from playground.lessons.masks_view import KEY, example, small, tokens
from playground.look import palette

LENGTHS = (2, 4, 8, 16, 32, 64)  # targets whose passes are timed
FEW, MANY = 2.0, 8.0  # how many times longer: the bounds of the three guesses


def parallel(ctx: LabContext, p: PanelView) -> None:
    """Panel 5: one pass against T passes, timed on this machine."""
    this = example(ctx)
    slot = f"{KEY}.twins.{ctx.run.id}.{ctx.step}.{ctx.ids}"
    if slot not in st.session_state:
        for old in [k for k in st.session_state if str(k).startswith(f"{KEY}.twins.")]:
            del st.session_state[old]
        st.session_state[slot] = lab.twins(ctx.model, this)
    own: lab.Twins = st.session_state[slot]
    p.checked(own.error, _("logits"))
    p.checked(own.difference, _("one pass against {n}").format(n=own.length))
    p.numbers(
        rf"T = {own.length}: \quad \frac{{{own.many_s * 1000:.2f}\ \text{{ms}}}}{{{own.one_s * 1000:.2f}\ \text{{ms}}}} = {own.many_s / own.one_s:.1f}"
    )
    note = _("measured here, fastest of 5")
    component("twins")(
        key=f"{KEY}.twins",
        data={
            "reads": tokens(ctx.data.vocab, this.reads),
            "sides": [
                twin_side("one", _("Training: one pass, every prediction"), own.one_s, 1, note),
                twin_side(
                    "many", _("One token at a time: {n} passes").format(n=own.length), own.many_s, own.length, note
                ),
            ],
            "look": palette(),
            "t": {
                "pass": _("pass {i}"),
                "asked": _("the prediction after position {j} is read off here"),
                "more": _("… and so on, {n} positions in all"),
            },
        },
    )
    st.markdown(
        _(
            "The predictions are the same: with the triangle the largest difference between both sides is {same}. With all cells open it is {open}: then one pass predicts something else than a model that writes token by token."
        ).format(same=small(own.difference), open=small(own.difference_open))
    )
    longer(ctx, p)


def longer(ctx: LabContext, p: PanelView) -> None:
    """Guess, then measure targets of growing length."""
    longest = max(n for n in LENGTHS if n <= ctx.model.config.max_len)
    options = {
        "same": _("about as long (less than {few:g} times)").format(few=FEW),
        "some": _("{few:g} to {many:g} times as long").format(few=FEW, many=MANY),
        "many": _("more than {many:g} times as long").format(many=MANY),
    }
    question = _("A target of {n} tokens: how long do {n} passes take, against one?").format(n=longest)
    if predict(f"{KEY}.parallel", question, options) is None:
        return
    slot = f"{KEY}.lengths.{ctx.run.id}.{ctx.step}"
    if st.button(_("Measure"), key=f"{KEY}.measure", type="primary") or slot in st.session_state:
        if slot not in st.session_state or st.session_state.get(f"{KEY}.measure"):
            with st.spinner(_("Measuring …")):
                st.session_state[slot] = [
                    lab.twins(ctx.model, lab.long_example(ctx.model, ctx.data, ctx.ids, n), rounds=3)
                    for n in LENGTHS
                    if n <= longest
                ]
        p.done()
        found: list[lab.Twins] = st.session_state[slot]
        ratio = found[-1].many_s / found[-1].one_s
        outcome = "same" if ratio < FEW else "some" if ratio <= MANY else "many"
        left, right = st.columns(2)
        with right:
            reveal(
                f"{KEY}.parallel",
                outcome,
                _("{ratio:.1f} times. While training, this is done for every string of every batch.").format(
                    ratio=ratio
                ),
                options,
            )
        left.altair_chart(
            times(found), height=210, alt=_("Milliseconds of one pass and of T passes by length of the target.")
        )


def times(found: Sequence[lab.Twins]) -> alt.Chart:
    """Milliseconds by length of the target: one pass, T passes, T passes that remember keys and values."""
    names = {"one_s": _("one pass"), "many_s": _("T passes"), "cached_s": _("T passes, keys and values kept")}
    data = pd.DataFrame(
        [
            {"length": twin.length, "ms": 1000 * getattr(twin, field), "how": name}
            for twin in found
            for field, name in names.items()
        ]
    )
    chart: alt.Chart = (
        alt.Chart(data)
        .mark_line(point=True)
        .encode(
            x=alt.X("length:Q", title=_("tokens of the target"), scale=alt.Scale(type="log", base=2)),
            y=alt.Y("ms:Q", title=_("milliseconds"), scale=alt.Scale(type="log")),
            color=alt.Color(
                "how:N",
                title=None,
                scale=alt.Scale(domain=list(names.values()), range=list(look.HEADS[:3])),
                legend=alt.Legend(orient="top"),
            ),
            shape=alt.Shape("how:N", title=None, scale=alt.Scale(domain=list(names.values()))),
            tooltip=[
                alt.Tooltip("how:N", title=_("how")),
                alt.Tooltip("length:Q", title=_("tokens of the target")),
                alt.Tooltip("ms:Q", title=_("milliseconds"), format=".3g"),
            ],
        )
    )
    return chart


def twin_side(name: str, title: str, seconds: float, passes: int, note: str) -> dict[str, Any]:
    return {
        "id": name,
        "title": title,
        "seconds": seconds,
        "time": f"{1000 * seconds:.2f} ms",
        "passes": passes,
        "note": note,
        "mask": _("the mask inside: row t sees no later column") if passes == 1 else "",
    }
