"""Lab 2: how its panels are drawn."""

from contextlib import suppress
from dataclasses import asdict
from math import log
from statistics import fmean
from typing import Any

import pandas as pd
import streamlit as st
import torch

from core.decode import DecodeOptions, generate
from core.lab import heads, recompute
from core.tokens import until_end
from playground import charts, look
from playground.components import component
from playground.i18n import _
from playground.lessons import experiment, scaling
from playground.lessons.frame import LabContext, PanelView
from playground.lessons.scaling import DIVISORS, WIDTHS, Statistics

COLOURS = {"none": look.WRONG, "sqrt_d_k": look.QUERY, "sqrt_d_model": look.KEY}
DASHES: dict[str, list[int]] = {"none": [], "sqrt_d_k": [6, 3], "sqrt_d_model": [2, 2]}
LIMIT = 100.0  # of the histograms: three times the spread at d_k 1024
MOST = 0.6  # of the gradients: the largest possible is 0.5, where a query wavers between two keys


def names() -> dict[str, str]:
    return {"none": _("not divided"), "sqrt_d_k": _("divided by √d_k"), "sqrt_d_model": _("divided by √d_model")}


@st.cache_data(max_entries=64, show_spinner=False)
def ladder(seed: int) -> tuple[dict[tuple[int, str], Statistics], float]:
    """Every width with every divisor, and the largest difference to the other route."""
    found, error = {}, 0.0
    for d_k in WIDTHS:
        raw, again = scaling.products(d_k, seed), scaling.statistics_again(d_k, seed)
        for name in DIVISORS:
            found[d_k, name] = scaling.statistics(raw / scaling.divisor(name, d_k))
            error = max(error, scaling.difference(found[d_k, name], again[name]))
    return found, error


@st.cache_data(max_entries=64, show_spinner=False)
def bars(panel: str, seed: int) -> dict[str, list[list[float]]]:
    """What the bars on the left show: divisor -> for each width its bars."""
    shown: dict[str, list[list[float]]] = {name: [] for name in DIVISORS}
    for d_k in WIDTHS:
        raw = scaling.products(d_k, seed)
        for name in DIVISORS:
            scores = raw / scaling.divisor(name, d_k)
            if panel == "grow":
                found = scaling.histogram(scores.flatten(), -LIMIT, LIMIT, 80)
            elif panel == "saturate":
                found = scores[0].softmax(-1).tolist()
            else:
                found = scaling.histogram(scaling.gradients(scores), 0.0, MOST, 60)
            shown[name].append([round(value, 6) for value in found])
    return shown


def dial(ctx: LabContext, p: PanelView, **more: Any) -> tuple[int, str, Statistics]:
    """d_k, divisor and what they do: one component. -> the choice, which the first three panels share, and its statistics."""
    d_k = ctx.url("d_k", WIDTHS[0], WIDTHS)
    divisor = ctx.url("divisor", "sqrt_d_k", DIVISORS)
    seed = ctx.url("draw", 0, range(10_000))
    found, error = ladder(seed)
    p.checked(error, _("float64"), limit=1e-9)
    key, shown = f"scaling.dial.{p.id}", bars(p.id, seed)

    def told() -> None:
        with suppress(ValueError):
            width, name = str(st.session_state[key].set).split(" ")
            if int(width) in WIDTHS and name in DIVISORS:
                ctx.put("d_k", int(width))
                ctx.put("divisor", name)

    def again() -> None:
        if st.session_state[key].again == seed:  # the same click told twice draws once
            ctx.put("draw", (seed + 1) % 10_000)

    def row(name: str, at: int) -> dict[str, Any]:
        each = found[WIDTHS[at], name]
        texts = {
            "std": f"{each.std:.3g}",
            "largest": f"{each.largest:.3f}",
            "entropy": f"{each.entropy:.3f}",
            "silent": f"{each.silent:.0%}",
        }
        return {**asdict(each), "text": texts, "bars": shown[name][at]}

    component("scaling")(
        key=key,
        data={
            "panel": p.id,
            "seed": seed,
            "said": f"{d_k} {divisor}",
            "widths": list(WIDTHS),
            "at": WIDTHS.index(d_k),
            "divisor": divisor,
            "divisors": [
                {"id": name, "label": text, "colour": COLOURS[name], "dash": DASHES[name]}
                for name, text in names().items()
            ],
            "table": {name: [row(name, at) for at in range(len(WIDTHS))] for name in DIVISORS},
            "look": look.palette(),
            **more,
            "t": {
                "label": _("d_k, the divisor, and what they do to random scores"),
                "width": _("d_k, features of a query and a key"),
                "again": _("Draw new vectors"),
                "again_help": _(
                    "Other random numbers: {rows} queries with {keys} keys each, features independent, mean 0, variance 1. "
                    "The model has {heads} heads here, so d_model is {heads} · d_k."
                ).format(rows=scaling.ROWS, keys=scaling.KEYS, heads=scaling.HEADS),
                **more["t"],
            },
        },
        on_set_change=told,
        on_again_change=again,
    )
    return d_k, divisor, found[d_k, divisor]


def draw_grow(ctx: LabContext, p: PanelView) -> None:
    d_k, _name, _found = dial(
        ctx,
        p,
        choice=False,
        lines=["none", "sqrt_d_k"],
        bars={
            "low": -LIMIT,
            "high": LIMIT,
            "ticks": [-100, -50, 0, 50, 100],
            "percent": True,
            "x": _("score"),
            "y": _("share"),
        },
        right={"field": "std", "log": True, "y": _("standard deviation")},
        t={
            "title": _("{divisor}: standard deviation {std}"),
            "right": _("Spread of the scores for every d_k"),
            "bar": _("{low} to {high}: {value}"),
        },
    )
    if d_k == WIDTHS[-1]:
        p.done()
    found, _error = ladder(ctx.url("draw", 0, range(10_000)))
    raw, scaled = found[d_k, "none"], found[d_k, "sqrt_d_k"]
    p.numbers(
        rf"\operatorname{{std}}(q \cdot k) = {raw.std:.3g} \approx \sqrt{{{d_k}}} = {d_k**0.5:.3g}, \qquad "
        rf"\frac{{{raw.std:.3g}}}{{\sqrt{{{d_k}}}}} = {scaled.std:.3g}"
    )


def draw_saturate(ctx: LabContext, p: PanelView) -> None:
    d_k, name, found = dial(
        ctx,
        p,
        choice=True,
        lines=list(DIVISORS),
        bars={
            "low": 0.5,
            "high": scaling.KEYS + 0.5,
            "ticks": list(range(1, scaling.KEYS + 1)),
            "top": 1,
            "whole": True,
            "x": _("key"),
            "y": _("weight"),
        },
        right={"field": "entropy", "top": 4, "y": _("bits")},
        t={
            "title": _(
                "One query shares its attention. Mean of all: largest weight {largest}, entropy {entropy} of 4 bits"
            ),
            "right": _("Entropy for every d_k: 4 bits is all 16 keys alike, 0 one key"),
            "bar": _("key {low}: weight {value}"),
        },
    )
    if name == "none" and found.largest > 0.9:
        p.done()
    p.numbers(
        rf"c = {scaling.divisor(name, d_k):.4g}: \qquad H = {found.entropy:.3g}\ \text{{bits of}}\ \log_2 {scaling.KEYS} = 4, "
        rf"\qquad \overline{{\max_j a_j}} = {found.largest:.3g}"
    )


def draw_vanish(ctx: LabContext, p: PanelView) -> None:
    d_k, name, found = dial(
        ctx,
        p,
        choice=True,
        lines=list(DIVISORS),
        bars={
            "low": 0,
            "high": MOST,
            "ticks": [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
            "percent": True,
            "x": _("gradient through softmax, one query"),
            "y": _("share of queries"),
        },
        right={"field": "silent", "top": 1, "y": _("share")},
        t={
            "title": _("{silent} of the queries get next to no gradient"),
            "right": _("Queries without a gradient, for every d_k"),
            "bar": _("{low} to {high}: {value}"),
        },
    )
    st.caption(
        _(
            "“Next to none” is a gradient below {limit}. At d_k 16 there is almost no difference: narrow heads hardly need the division."
        ).format(limit=scaling.SILENT)
    )
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


def draw_yours(ctx: LabContext, p: PanelView) -> None:
    config, vocab = ctx.model.config, ctx.data.vocab
    presets = [m for m in scaling.MISTAKES if m.id != config.scale]
    left, right = st.columns([1, 2], gap="medium")
    with left:
        places = heads.attention_places(ctx.model)
        field = ctx.field("place", places[-1], places)
        place = st.selectbox(
            _("Attention"),
            places,
            places.index(field.start),
            key=field.key,
            format_func=place_name,
            help=_("Which of the model's attentions to look at. All of them get the other divisor."),
        )
        ctx.keep("place", field, place)
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
    return until_end(written)


def tokens(ctx: LabContext, place: str, own: list[int]) -> tuple[list[str], list[str]]:
    """Names of the queries and of the keys of an attention, with their places."""
    vocab = ctx.data.vocab
    source, target = [vocab.name(i) for i in ctx.ids], ["⟨s⟩", *(vocab.name(i) for i in own)]
    queries, keys = (source, source) if place.startswith("encoder") else (target, source)
    return charts.positions(queries), charts.positions(queries if place.endswith("self") else keys)
