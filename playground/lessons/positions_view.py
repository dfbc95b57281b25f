"""Lab 5 on the page, from counting to binary: controls, figures, formulas with this model's numbers."""

import math

import streamlit as st

from core.lab import positions_plain
from core.lab.positions import bit_flips
from core.positions import table
from playground.i18n import _
from playground.lessons import experiment
from playground.lessons import positions_measure as measure
from playground.lessons.frame import LIMIT, LabContext, PanelView, ticks
from playground.lessons.positions_figures import (
    FINE,
    bar,
    figures,
    heat,
    line,
    names,
    row_of_controls,
    seen,
    side,
    tiny,
    within,
)
from playground.lessons.positions_measure import LONG, SHORT, SOURCE
from playground.lessons.positions_wishes import facts
from playground.look import ENCODER, KEY, QUERY

MOST_FEATURES = 128  # columns of a heat map: more are thinner than a pixel
BITS = 5  # columns of the binary table that change within LONG positions


def ladder(ctx: LabContext, p: PanelView) -> None:
    with row_of_controls():
        kind = ctx.choose(
            "rung",
            _("Encoding"),
            names(),
            "integer",
            _("Five rungs that lead to the paper's encoding, then four other ways."),
        )
        possible = lengths(ctx)
        length = ctx.slide("length", _("Sequence length"), possible, max(n for n in possible if n <= LONG))
    seen(p).add(kind)
    if seen(p) >= set(SOURCE):
        p.done()
    found = measure.rung(measure.base(kind), length, ctx.model)
    n_columns = min(found.table.shape[1], MOST_FEATURES)
    t, i = ctx.url("cell", (min(3, length - 1), min(1, n_columns - 1)), within(length, n_columns))

    def pick(figure: int, row: int, column: int) -> None:
        if figure == 0:
            ctx.put("cell", f"{row},{column}")

    heads = kind == "alibi"
    left, right = st.columns([3.4, 1], gap="medium")
    with left:
        figures(
            p,
            [
                heat(
                    table_title(kind),
                    found.table[:, :n_columns],
                    _("position {row}, head {column}: {value}")
                    if heads
                    else _("position {row}, feature {column}: {value}"),
                    _("head") if heads else _("feature i"),
                    _("position t"),
                    picked=[t, i],
                    pick=True,
                    flex=1.25,
                    help=table_help(kind),
                ),
                heat(
                    _("Added to the scores, head 0")
                    if heads
                    else _("Scores of equal tokens")
                    if kind == "rotary"
                    else _("PE · PEᵀ: who is alike"),
                    found.products,
                    _("positions {row} and {column}: {value}"),
                    _("position"),
                    _("position"),
                    square=True,
                    help=_(
                        "The dot product of every two rows. Far from the diagonal it should fall: far positions, less alike."
                    ),
                ),
            ],
            pick,
        )
    with right:
        own = found.own and kind != "none"
        st.markdown(f"**{names()[kind]}**" + (f" · {_('from this run')}" if own else ""))
        for line in facts(kind, ctx.model):
            st.markdown(line)
        st.caption(remark(kind, own, n_columns, found.table.shape[1]))
    p.numbers(cell_formula(kind, t, i, length, found))
    worst = max(measure.rung_errors(found, ctx.model).values())
    p.checked(worst, _("both maps"), LIMIT if found.own else FINE)


def lengths(ctx: LabContext) -> list[int]:
    return [n for n in measure.LENGTHS if n <= ctx.model.config.max_len]


def table_title(kind: str) -> str:
    if kind == "rotary":
        return _("What rotary makes of (1, 0, 1, 0, …)")
    if kind == "alibi":
        return _("What ALiBi adds to a score, asked by the last token")
    return _("The table PE: one row a position")


def table_help(kind: str) -> str:
    if kind == "rotary":
        return _(
            "Nothing is added to the embedding. Queries and keys are turned, pair by pair, by an angle that grows with t."
        )
    if kind == "alibi":
        return _(
            "Nothing is added to the embedding. Each head lowers its scores with the distance, at a slope of its own."
        )
    return _("Row t is added to the vector of the token at position t. Positions count from 0, as in the formula.")


def remark(kind: str, own: bool, n_columns: int, width: int) -> str:
    """One sentence about where the numbers come from, or what is special."""
    if kind == "learned" and not own:
        return _(
            "These are random numbers, as a model begins. Choose a run with learned positions to see what it made of them."
        )
    if kind in ("rotary", "alibi"):
        return _("It acts inside self-attention, on queries and keys: there is no table to add.")
    if kind == "none":
        return _("Nothing is added. The encoder then sees a bag of tokens without an order.")
    text = _("Measured on sequences of {short} and {long}.").format(short=SHORT, long=LONG)
    if n_columns < width:
        text += " " + _("The first {n} of {width} features are shown.").format(n=n_columns, width=width)
    return text


def cell_formula(kind: str, t: int, i: int, length: int, found: measure.Rung) -> str:
    """One cell of the table, with its numbers."""
    value, width = found.table[t, i].item(), found.table.shape[1]
    left = rf"PE_{{{t},{i}}} = "
    middle = {
        "integer": f"{t}",
        "unit": rf"\frac{{{t}}}{{{length} - 1}}",
        "binary": rf"\left\lfloor \frac{{{t}}}{{2^{{{i}}}}} \right\rfloor \bmod 2",
        "sine": rf"\sin \frac{{{t}}}{{10000^{{{i}/{width}}}}}",
        "sincos": rf"\{'cos' if i % 2 else 'sin'} \frac{{{t}}}{{10000^{{{i - i % 2}/{width}}}}}",
        "rotary": rf"\{'sin' if i % 2 else 'cos'} \frac{{{t}}}{{10000^{{{i - i % 2}/{width}}}}}",
        "alibi": rf"-2^{{-8 \cdot {i + 1}/{width}}} \cdot |{length - 1} - {t}|",
    }.get(kind, "")
    plain = positions_plain.value(kind, t, i, width, length) if kind != "learned" else value
    if middle and abs(plain - value) > 1e-3:  # along one direction: the number times a feature of that direction
        middle += rf" \cdot {value / plain:.4g}" if plain else ""
    return left + (middle + " = " if middle else "") + f"{value:.6g}"


def norm(ctx: LabContext, p: PanelView) -> None:
    with row_of_controls():
        if side(ctx, p):
            trained = True
        else:
            trained = False
            options = {"every": _("to every feature"), "one": _("along one direction")}
            every = ctx.choose("how", _("Add t"), options) == "every"
            t = ctx.slide("t", _("Position t"), list(range(0, 64)), 0)
            texts = [ctx.data.vocab.name(i) for i in ctx.ids]
            at = 0
            if len(texts) > 1:  # a slider needs two ends
                at = ctx.slide("token", _("Token of the input"), list(range(1, len(texts) + 1)), 1) - 1
    if trained:
        experiment.show("positions", "lab.positions.experiment.positions")
        return
    if t:
        seen(p).add("every" if every else "one")
    if seen(p) >= {"every", "one"}:
        p.done()
    found = measure.shifted(ctx.model, ctx.ids[at], float(t), every)
    limit = max(found.before.abs().max().item(), found.after.abs().max().item())
    limit_norm = max(found.norm_before.abs().max().item(), found.norm_after.abs().max().item())
    added = "t·1" if every else "t·u"
    rows = [
        (_("x: the vector of this token"), found.before, limit, ENCODER),
        (_("x + {added}: with its position").format(added=added), found.after, limit, QUERY),
        ("LayerNorm(x)", found.norm_before, limit_norm, ENCODER),
        (f"LayerNorm(x + {added})", found.norm_after, limit_norm, QUERY),
    ]
    sentence = (
        _(
            "Largest difference between the two lower rows: {change} as the model computes (float32), {exact} in float64."
        )
    ).format(change=tiny(found.change), exact=tiny(found.exact))
    figures(
        p,
        [
            {
                "kind": "bars",
                "title": _("Token {token} before and after the first LayerNorm").format(token=texts[at]),
                "help": _("Each bar is one feature. The two upper rows share one scale, and so do the two lower ones."),
                "rows": [bar(*row) for row in rows],
                "x_title": _("feature"),
                "tip": _("feature {column}"),
                "under": sentence,
            }
        ],
    )
    if ctx.model.config.norm == "post":
        st.caption(
            _(
                "This run has LayerNorm after each part (post): its first attention still sees the number, what follows does not."
            )
        )
    elif t and every:
        st.markdown(_("The position is **gone**: only rounding is left, whatever number is added to every feature."))
    elif t:
        st.markdown(_("The position is **still there**: LayerNorm cannot take away what only some features carry."))
    mean_x, mean_y = found.before.double().mean().item(), found.after.double().mean().item()
    sd_x, sd_y = (v.double().std(correction=0).item() for v in (found.before, found.after))
    p.numbers(
        rf"\mu(x) = {mean_x:.4f},\;\; \mu(x + {added.replace('·', ' ')}) = {mean_y:.4f} \qquad "
        rf"\sigma(x) = {sd_x:.4f},\;\; \sigma(x + {added.replace('·', ' ')}) = {sd_y:.4f} \qquad t = {t}"
    )
    p.checked(found.error, "LayerNorm")


def unit(ctx: LabContext, p: PanelView) -> None:
    before = (3, 10)
    with row_of_controls():
        a, b = (
            ctx.slide(name, label, list(range(2, LONG + 1)), n)
            for name, label, n in (("one", _("First sequence"), before[0]), ("two", _("Second sequence"), before[1]))
        )
    if (a, b) != before:
        p.done()
    width, text = ctx.model.config.d_model, [ctx.data.vocab.name(i) for i in ctx.ids]
    rows = []
    for n, colour in ((a, KEY), (b, QUERY)):
        at = table("unit", n, 1).double()[:, 0].tolist()
        rows.append(
            {
                "name": _("{n} tokens").format(n=n),
                "tokens": [text[i % len(text)] for i in range(n)],
                "at": at,
                "step": _("one step = 1/{n} = {step}").format(n=n - 1, step=f"{1 / (n - 1):.3g}"),
                "colour": colour,
            }
        )
    span = list(range(2, LONG + 1))
    kinds = ("integer", "unit", "sincos")
    wide = measure.even(width)
    steps = {kind: [measure.root_mean_square_step(measure.base(kind), n, wide) for n in span] for kind in kinds}
    figures(
        p,
        [
            {
                "kind": "ruler",
                "title": _("The same two tokens in a short and in a longer sequence"),
                "rows": rows,
                "tip": _("position {column}, token {token}: {value}"),
                "flex": 1.3,
            },
            {
                "kind": "plot",
                "title": _("One step, by length of the sequence"),
                "help": _(
                    "Distance between two neighbours per feature (root mean square), so that encodings can be compared."
                ),
                "x": span,
                "lines": [line(kind, steps[kind]) for kind in kinds],
                "min": 0,
                "max": 1.05,
                "x_title": _("length of the sequence"),
                "y_title": _("step per feature"),
            },
        ],
        below=90,
        most=440,
    )
    st.markdown(
        _(
            "{n} tokens: step **{a}**. {m} tokens: step **{b}**. A model that has learned “my neighbour is {a} away” looks "
            "{ratio} places too far in the second string."
        ).format(n=a, m=b, a=f"{1 / (a - 1):.3g}", b=f"{1 / (b - 1):.3g}", ratio=f"{(b - 1) / (a - 1) - 1:.3g}")
        if b > a
        else _("{n} tokens: step **{a}**. {m} tokens: step **{b}**.").format(
            n=a, m=b, a=f"{1 / (a - 1):.3g}", b=f"{1 / (b - 1):.3g}"
        )
    )
    p.numbers(
        rf"T = {a}:\; \frac{{1}}{{{a} - 1}} = {1 / (a - 1):.4g} \qquad T = {b}:\; \frac{{1}}{{{b} - 1}} = {1 / (b - 1):.4g}"
    )
    p.checked(
        max(
            abs(value - measure.step_by_hand(kind, n, wide))
            for kind in kinds
            for n, value in zip(span, steps[kind], strict=True)
        ),
        _("steps between neighbours"),
        FINE,
    )


def binary(ctx: LabContext, p: PanelView) -> None:
    with row_of_controls():
        trained = side(ctx, p)
    if trained:
        experiment.show("binary", "lab.positions.experiment.binary")
        return
    flips = bit_flips(LONG)
    t = ctx.url("flip", 3, range(LONG - 1))

    def pick(figure: int, row: int, column: int) -> None:
        at = column if figure else row
        ctx.put("flip", min(at, LONG - 2))
        if flips[min(at, LONG - 2)] == max(flips):
            ticks("positions").add(p.id)

    width = measure.even(ctx.model.config.d_model)
    kinds = ("binary", "sine", "sincos")
    rows = {kind: measure.neighbours(measure.base(kind), LONG, width) for kind in kinds}
    bits = table("binary", LONG, BITS).flip(1)
    figures(
        p,
        [
            heat(
                _("Positions in binary"),
                bits,
                _("position {row}, bit worth {column}: {value}"),
                _("bit worth …"),
                _("position t"),
                limit=1.0,
                marked=[t, t + 1],
                pick=True,
                flex=0.6,
            )
            | {"x": {"title": _("bit worth …"), "labels": [str(2 ** (BITS - 1 - i)) for i in range(BITS)]}},
            {
                "kind": "plot",
                "title": _("How far is the next position?"),
                "help": _("Distance ‖PE(t+1) − PE(t)‖. Click a step."),
                "x": list(range(LONG - 1)),
                "labels": [f"{i}→{i + 1}" for i in range(LONG - 1)],
                "lines": [line(kind, values[0], dots=True) for kind, values in rows.items()],
                "min": 0,
                "max": max(max(values[0]) for values in rows.values()) * 1.08,
                "x_title": _("from t to t + 1"),
                "y_title": _("distance"),
                "picked": [0, t],
                "pick": True,
                "flex": 1.4,
            },
        ],
        pick,
        below=80,
    )
    st.markdown(
        _("{t} → {next}: `{a}` → `{b}`, bits that flip: **{n}**, distance √{n} = **{distance}**.").format(
            t=t, next=t + 1, a=f"{t:0{BITS}b}", b=f"{t + 1:0{BITS}b}", n=flips[t], distance=f"{math.sqrt(flips[t]):.3g}"
        )
        + " "
        + _("Sine and cosine: **{distance}** here and everywhere.").format(distance=f"{rows['sincos'][0][t]:.3g}")
    )
    p.numbers(rf"\lVert PE_{{{t + 1}}} - PE_{{{t}}} \rVert = \sqrt{{{flips[t]}}} = {rows['binary'][0][t]:.6g}")
    p.checked(max(values[1] for values in rows.values()), _("distances"), FINE)
