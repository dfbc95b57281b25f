"""Lab 2: how its panels are drawn."""

from collections.abc import Mapping
from math import log
from statistics import fmean
from typing import Any

import pandas as pd
import streamlit as st
import torch

from core.decode import DecodeOptions, generate
from core.lab import heads, recompute
from core.model import EOS
from playground import charts, look
from playground.charts import THEME
from playground.i18n import _
from playground.lessons import experiment, scaling
from playground.lessons.frame import LabContext, PanelView
from playground.lessons.scaling import DIVISORS, WIDTHS, Statistics

COLOURS = {"none": look.WRONG, "sqrt_d_k": look.QUERY, "sqrt_d_model": look.KEY}
DASHES = {"none": [1, 0], "sqrt_d_k": [6, 3], "sqrt_d_model": [2, 2]}
LIMIT = 100.0  # of the histograms: three times the spread at d_k 1024
HEIGHT = 300

Spec = dict[str, Any]


def names() -> dict[str, str]:
    return {"none": _("not divided"), "sqrt_d_k": _("divided by √d_k"), "sqrt_d_model": _("divided by √d_model")}


@st.cache_data(max_entries=64, show_spinner=False)
def ladder(seed: int) -> dict[tuple[int, str], Statistics]:
    """Every width with every divisor."""
    found = {}
    for d_k in WIDTHS:
        raw = scaling.products(d_k, seed)
        for name in DIVISORS:
            found[d_k, name] = scaling.statistics(raw / scaling.divisor(name, d_k))
    return found


def controls(ctx: LabContext, with_divisor: bool) -> tuple[int, str, int]:
    """d_k, divisor and the seed of the random vectors, shared by the first three panels."""
    name = "sqrt_d_k"
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        with st.container(width=420):
            d_k = ctx.slide(
                "d_k", _("d_k, features of a query and a key"), WIDTHS, WIDTHS[0], _("The width of one attention head.")
            )
        if with_divisor:
            name = ctx.choose(
                "divisor",
                _("Scores are"),
                names(),
                "sqrt_d_k",
                _(
                    "√d_model is a common mistake. Here the model has {heads} heads, so d_model is {heads} · d_k."
                ).format(heads=scaling.HEADS),
            )
        seed = ctx.url("draw", 0, range(10_000))
        st.button(
            _("Draw new vectors"),
            on_click=lambda: ctx.put("draw", (seed + 1) % 10_000),
            help=_(
                "Other random numbers: {rows} queries with {keys} keys each, features independent, mean 0, variance 1."
            ).format(rows=scaling.ROWS, keys=scaling.KEYS),
        )
    return d_k, name, seed


def check(p: PanelView, d_k: int, seed: int, *shown: str) -> list[Statistics]:
    """The statistics of what is shown, held against the other route."""
    found = [ladder(seed)[d_k, name] for name in shown]
    again = [scaling.statistics_again(d_k, name, seed) for name in shown]
    p.checked(max(map(scaling.difference, found, again)), _("float64"), limit=1e-9)
    return found


def draw_grow(ctx: LabContext, p: PanelView) -> None:
    d_k, _name, seed = controls(ctx, with_divisor=False)
    raw, scaled = check(p, d_k, seed, "none", "sqrt_d_k")
    if d_k == WIDTHS[-1]:
        p.done()
    p.numbers(
        rf"\operatorname{{std}}(q \cdot k) = {raw.std:.3g} \approx \sqrt{{{d_k}}} = {d_k**0.5:.3g}, \qquad "
        rf"\frac{{{raw.std:.3g}}}{{\sqrt{{{d_k}}}}} = {scaled.std:.3g}"
    )
    left, right = st.columns([3, 2], gap="medium")
    values = scaling.products(d_k, seed).flatten().numpy()
    with left:
        for name, found in (("none", raw), ("sqrt_d_k", scaled)):
            shown = values / scaling.divisor(name, d_k)
            sentence = _("{what}: standard deviation {std}").format(what=names()[name], std=f"{found.std:.3g}")
            st.markdown(f"**{sentence}**")
            st.vega_lite_chart(
                pd.DataFrame(scaling.histogram(shown, LIMIT)),
                bins(COLOURS[name], LIMIT, _("score"), _("share"), 160),
                alt=sentence,
                key=f"scaling.bins.{name}",
            )
    with right:
        st.markdown(f"**{_('Spread of the scores for every d_k')}**")
        lines(
            {name: [ladder(seed)[w, name].std for w in WIDTHS] for name in ("none", "sqrt_d_k")},
            d_k,
            _("standard deviation"),
            log_y=True,
        )
        st.caption(_("Both axes are logarithmic: a straight line that rises half as fast as d_k is its square root."))


def draw_saturate(ctx: LabContext, p: PanelView) -> None:
    d_k, name, seed = controls(ctx, with_divisor=True)
    (found,) = check(p, d_k, seed, name)
    if name == "none" and found.largest > 0.9:
        p.done()
    c = scaling.divisor(name, d_k)
    p.numbers(
        rf"c = {c:.4g}: \qquad H = {found.entropy:.3g}\ \text{{bits of}}\ \log_2 {scaling.KEYS} = 4, \qquad "
        rf"\overline{{\max_j a_j}} = {found.largest:.3g}"
    )
    left, right = st.columns([3, 2], gap="medium")
    weights = (scaling.products(d_k, seed)[0] / c).softmax(-1).tolist()
    with left:
        st.markdown(f"**{_('One query: how it shares its attention over {n} keys').format(n=scaling.KEYS)}**")
        st.vega_lite_chart(
            pd.DataFrame({"key": range(1, scaling.KEYS + 1), "weight": weights}),
            columns(COLOURS[name], _("key"), _("weight")),
            alt=_("Largest weight {weight}").format(weight=f"{max(weights):.3f}"),
            key="scaling.weights",
        )
        st.caption(
            _("Mean over {rows} queries: the largest weight is {largest}, the entropy {entropy} of 4 bits.").format(
                rows=scaling.ROWS, largest=f"{found.largest:.3f}", entropy=f"{found.entropy:.3f}"
            )
        )
    with right:
        st.markdown(
            f"**{_('Entropy for every d_k')}**",
            help=_("How evenly attention is spread: 4 bits over all 16 keys alike, 0 bits on one key."),
        )
        lines({n: [ladder(seed)[w, n].entropy for w in WIDTHS] for n in DIVISORS}, d_k, _("bits"), top=4.0)


def draw_vanish(ctx: LabContext, p: PanelView) -> None:
    d_k, name, seed = controls(ctx, with_divisor=True)
    (found,) = check(p, d_k, seed, name)
    seen = st.session_state.setdefault("lab.scaling.seen", set())
    if d_k == WIDTHS[-1]:
        seen.add(name)
        if seen == set(DIVISORS):
            p.done()
    p.numbers(
        rf"d_k = {d_k},\ c = {scaling.divisor(name, d_k):.4g}: \qquad \text{{median}} "
        rf"\left\lVert \tfrac{{\partial a}}{{\partial s}} \right\rVert = {found.gradient:.2g}, \qquad "
        rf"P\!\left(\left\lVert \tfrac{{\partial a}}{{\partial s}} \right\rVert < {scaling.SILENT}\right) = {found.silent:.2g}"
    )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        sentence = _("{share} of the queries get next to no gradient (below {limit})").format(
            share=f"{found.silent:.0%}", limit=scaling.SILENT
        )
        st.markdown(f"**{sentence}**")
        gradients = scaling.gradients(d_k, name, seed)
        st.vega_lite_chart(
            pd.DataFrame(scaling.histogram(gradients, 0.8, 160)[80:]),
            bins(COLOURS[name], 0.8, _("gradient through softmax, one query"), _("share of queries"), HEIGHT, low=0.0),
            alt=sentence,
            key="scaling.gradients",
        )
    with right:
        st.markdown(f"**{_('Queries without a gradient, for every d_k')}**")
        lines({n: [ladder(seed)[w, n].silent for w in WIDTHS] for n in DIVISORS}, d_k, _("share"), top=1.0)
        st.caption(_("At d_k 16 there is almost no difference: narrow heads hardly need the division."))


def draw_yours(ctx: LabContext, p: PanelView) -> None:
    config, vocab = ctx.model.config, ctx.data.vocab
    presets = [m for m in scaling.MISTAKES if m.id != config.scale]
    left, right = st.columns([1, 2], gap="medium")
    with left:
        places = heads.attention_places(ctx.model)
        place = st.selectbox(
            _("Attention"),
            places,
            key=ctx.key("place", places[-1], places),
            format_func=place_name,
            help=_("Which of the model's attentions to look at. All of them get the other divisor."),
        )
        ctx.put("place", place)
        head = 0
        if config.n_heads > 1:
            head = ctx.slide("head", _("Head"), range(1, config.n_heads + 1), 1) - 1
        wrong = ctx.mistakes(presets)
    name = wrong or config.scale
    if wrong:
        p.done()
    own = generated(ctx)
    trained = scaling.divided(ctx.model, ctx.ids, own, place, config.scale)
    found = scaling.divided(ctx.model, ctx.ids, own, place, name) if wrong else trained
    p.checked(max(trained.error, found.error), _("scores and weights of all heads"))
    c = recompute.divisor(name, config.d_model, config.n_heads)
    p.numbers(
        rf"c = {root(name, config.d_k, config.d_model)}{c:.3g}: \qquad \operatorname{{std}}(qk^\top) = "
        rf"{found.products_std[head]:.3g}, \qquad \operatorname{{std}}(qk^\top / c) = {found.scores_std[head]:.3g}"
    )
    with right:
        st.markdown(f"**{place_name(place)} · {_('head {head}').format(head=head + 1)}**")
        rows, keys = tokens(ctx, place, own)
        shown = {config.scale: trained, name: found}
        for slot, (each, result) in zip(st.columns(2, gap="small"), shown.items(), strict=False):
            with slot:
                trained_so = f" · {_('as trained')}" if each == config.scale else ""
                st.markdown(f"{names()[each]}{trained_so}")
                draw_pattern(result.pattern[head].tolist(), rows, keys, each)
                st.caption(
                    _("scores spread by {std}, entropy {bits} bits").format(
                        std=f"{result.scores_std[head]:.3g}", bits=f"{result.entropy[head]:.2f}"
                    ),
                    help=_("Standard deviation of the scores that softmax gets; entropy as the mean over the queries."),
                )
                st.text(_("writes: {text}").format(text=vocab.decode(result.written) or _("nothing")))


def draw_pattern(weights: list[list[float]], rows: list[str], keys: list[str], key: str) -> None:
    """A pattern as a heat map with its tokens."""
    size = max(7, min(22, 250 // max(len(rows), len(keys))))
    spec = charts.heatmap(
        x_title=_("key"), y_title=_("query"), value_title=_("weight"), dark=st.context.theme.type == "dark"
    )
    spec["width"] = spec["height"] = {"step": size}
    spec["encoding"]["color"]["legend"] = None
    if size >= 20:
        for side in "xy":
            spec["encoding"][side]["axis"] = {**spec["encoding"][side].get("axis", {}), "labelOverlap": False}
    st.vega_lite_chart(
        pd.DataFrame(
            [
                {"row": row, "column": column, "value": weight}
                for row, line in zip(rows, weights, strict=True)
                for column, weight in zip(keys, line, strict=True)
            ]
        ),
        spec,
        alt=_("Attention weights, query by key; the darker or brighter, the more weight."),
        key=f"scaling.pattern.{key}",
        width="content",
    )


def draw_train(ctx: LabContext, p: PanelView) -> None:
    shown = experiment.show("scaling", "scaling.train")
    if not shown.revealed:
        return
    p.done()
    if shown.shipped:
        loss = {name: fmean(m["loss"] for m in seeds) for name, seeds in shown.shipped.metrics.items()}
        p.numbers(
            rf"d_k = 256:\quad \mathcal{{L}} = {loss['with_256']:.3g}\ \text{{divided}},\quad {loss['without_256']:.3g}\ "
            rf"\text{{not}} \qquad d_k = 16:\quad {loss['with_16']:.2g},\quad {loss['without_16']:.2g} \qquad \ln 13 = {log(13):.3g}"
        )


DRAW = {
    "grow": draw_grow,
    "saturate": draw_saturate,
    "vanish": draw_vanish,
    "yours": draw_yours,
    "train": draw_train,
}


def root(name: str, d_k: int, d_model: int) -> str:
    return {"none": "", "sqrt_d_k": rf"\sqrt{{{d_k}}} = ", "sqrt_d_model": rf"\sqrt{{{d_model}}} = "}[name]


def place_name(place: str) -> str:
    stack, layer, kind = place.split(".")
    name = {"encoder": _("Encoder self"), "self": _("Decoder self"), "cross": _("Cross")}[
        stack if stack == "encoder" else kind
    ]
    return f"{name} · {_('layer {layer}').format(layer=int(layer) + 1)}"


def generated(ctx: LabContext) -> list[int]:
    """What the model, as it was trained, writes for the input."""
    source = torch.tensor([ctx.ids])
    written = generate(ctx.model, source, DecodeOptions())[0].tolist()
    return written[: written.index(EOS)] if EOS in written else written


def tokens(ctx: LabContext, place: str, own: list[int]) -> tuple[list[str], list[str]]:
    """Names of the queries and of the keys of an attention, with their places."""
    vocab = ctx.data.vocab
    source, target = [vocab.name(i) for i in ctx.ids], ["⟨s⟩", *(vocab.name(i) for i in own)]
    queries, keys = (source, source) if place.startswith("encoder") else (target, source)
    return charts.positions(queries), charts.positions(queries if place.endswith("self") else keys)


def lines(
    values: Mapping[str, list[float]], now: int, title: str, top: float | None = None, log_y: bool = False
) -> None:
    """A value along d_k for some divisors; the chosen width is marked."""
    words = names()
    frame = pd.DataFrame(
        [
            {"d_k": w, "value": max(v, 1e-6) if log_y else v, "line": words[name]}
            for name, found in values.items()
            for w, v in zip(WIDTHS, found, strict=True)
        ]
    )
    last = "; ".join(f"{words[name]} {found[WIDTHS.index(now)]:.3g}" for name, found in values.items())
    st.vega_lite_chart(
        frame,
        along_widths(tuple(values), now, title, top, log_y),
        alt=_("{what} at d_k {d_k}: {values}").format(what=title, d_k=now, values=last),
        key=f"scaling.lines.{'-'.join(values)}",
    )


def along_widths(shown: tuple[str, ...], now: int, title: str, top: float | None, log_y: bool) -> Spec:
    words = names()
    colour = {
        "field": "line",
        "type": "nominal",
        "scale": {"domain": [words[n] for n in shown], "range": [COLOURS[n] for n in shown]},
        "legend": {"orient": "bottom", "title": None, "symbolType": "stroke", "columns": 2},
    }
    dash = {**colour, "scale": {"domain": [words[n] for n in shown], "range": [DASHES[n] for n in shown]}}
    y: Spec = {"field": "value", "type": "quantitative", "title": title}
    y["scale"] = {"type": "log", "base": 2, "domain": [0.5, 64]} if log_y else {"domain": [0, top]}
    y["axis"] = {"values": [0.5, 1, 2, 4, 8, 16, 32, 64]} if log_y else {}
    x = {
        "field": "d_k",
        "type": "quantitative",
        "title": "d_k",
        "scale": {"type": "log", "base": 2},
        "axis": {"values": list(WIDTHS), "format": "d"},
    }
    tip = [{"field": "line", "title": " "}, {"field": "d_k"}, {"field": "value", "title": title, "format": ".4~g"}]
    return {
        "height": HEIGHT + 30,
        "config": THEME,
        "encoding": {"x": x, "y": y, "color": colour, "tooltip": tip},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"strokeDash": dash}},
            {"mark": {"type": "point", "filled": True, "size": 30, "opacity": 1}},
            {
                "transform": [{"filter": f"datum.d_k == {now}"}],
                "mark": {"type": "point", "filled": True, "size": 170, "opacity": 1},
            },
        ],
    }


def bins(colour: str, limit: float, x_title: str, y_title: str, height: int, low: float | None = None) -> Spec:
    """A histogram from ready bins: fields low, high, share."""
    scale = {"domain": [-limit if low is None else low, limit], "nice": False}
    return {
        "height": height,
        "config": THEME,
        "mark": {"type": "bar", "color": colour, "binSpacing": 0.5},
        "encoding": {
            "x": {"field": "low", "type": "quantitative", "bin": {"binned": True}, "title": x_title, "scale": scale},
            "x2": {"field": "high"},
            "y": {
                "field": "share",
                "type": "quantitative",
                "title": y_title,
                "axis": {"format": ".0%", "tickCount": 4},
            },
            "tooltip": [
                {"field": "low", "title": "≥", "format": ".3~g"},
                {"field": "high", "title": "<", "format": ".3~g"},
                {"field": "share", "title": y_title, "format": ".1%"},
            ],
        },
    }


def columns(colour: str, x_title: str, y_title: str) -> Spec:
    """Standing bars: fields key, weight."""
    return {
        "height": HEIGHT,
        "config": THEME,
        "mark": {"type": "bar", "color": colour},
        "encoding": {
            "x": {"field": "key", "type": "ordinal", "title": x_title, "axis": {"labelAngle": 0}},
            "y": {"field": "weight", "type": "quantitative", "title": y_title, "scale": {"domain": [0, 1]}},
            "tooltip": [{"field": "key"}, {"field": "weight", "format": ".4f", "title": y_title}],
        },
    }
