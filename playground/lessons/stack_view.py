"""Lab 7, the stack: what its panels draw."""

import math
from typing import Any

import pandas as pd
import streamlit as st
from torch import Tensor

from core.config import ModelConfig
from core.lab import stream as lab
from core.lab.stream import Part
from core.model import Transformer, parameter_counts
from core.tasks import Batch
from playground import charts
from playground.components import component
from playground.i18n import _
from playground.lessons import frame, stack
from playground.lessons.frame import LabContext, PanelView
from playground.lessons.heads import Example, Outcome, change, largest, outcome, outcome_again, outcome_error
from playground.lessons.heads_view import batch_of, example, figures, names, plain_outcome, said
from playground.lessons.heads_view import show_strings as side_by_side
from playground.look import HEADS, palette
from playground.settings.words import short

BEST = 6  # tokens listed for a cell of the lens
BAR = 118  # height of the bars, in pixels
WIDTHS = (16, 32, 64, 128, 256, 512, 768, 1024)
DEPTHS = (1, 2, 3, 4, 6, 8, 12, 24)
HEAD_COUNTS = (1, 2, 4, 8, 16)
HIDDEN = (16, 32, 64, 128, 256, 512, 1024, 2048, 3072, 4096)


def stream(ctx: LabContext, p: PanelView) -> None:
    """Every part of both stacks, how much it adds, and the chosen one feature by feature."""
    seen, config = example(ctx), ctx.model.config
    parts = stack.parts(ctx.model, seen)
    places = [part.place for every in parts.values() for part in every]
    chosen = ctx.url("part", places[-1], places)
    chosen = chosen if chosen in places else places[-1]
    tokens = {"encoder": seen.src, "decoder": seen.reads}
    at = {s: min(ctx.url(f"{s}_token", 0, list(range(config.max_len))), len(tokens[s]) - 1) for s in tokens}

    def picked() -> None:
        if (told := st.session_state["lab.stack.stream"].pick) in places:
            ctx.put("part", told)
            st.session_state["lab.stack.picked"] = True

    def moved() -> None:
        told = st.session_state["lab.stack.stream"].token
        if isinstance(told, list) and len(told) == 2 and told[0] in tokens and type(told[1]) is int:
            ctx.put(f"{told[0]}_token", min(max(told[1], 0), len(tokens[told[0]]) - 1))

    part = next(x for every in parts.values() for x in every if x.place == chosen)
    where = chosen.split(".")[0]
    titles = {"encoder": _("Encoder"), "decoder": _("Decoder")}
    component("stackflow")(
        key="lab.stack.stream",
        data={
            "stacks": [
                {
                    "id": s,
                    "title": titles[s],
                    "tokens": names(ctx.data.vocab, tokens[s]),
                    "token": at[s],
                    "start": parts[s][0].before[at[s]].norm().item(),
                    "parts": [measured(x, at[s]) for x in parts[s]],
                }
                for s in tokens
            ],
            "chosen": chosen,
            "bar": BAR,
            "detail": detail(ctx, part, at[where]),
            "look": palette(),
            "t": flow_texts(),
        },
        on_pick_change=picked,
        on_token_change=moved,
    )
    lengths = {x.place: x.added[at[s]].norm().item() for s in tokens for x in parts[s]}
    if st.session_state.get("lab.stack.picked"):
        most = max(lengths, key=lambda place: lengths[place])
        if lengths[chosen] >= lengths[most]:
            p.done()
            said(True, _("Right: no other part adds a longer vector to this token."))
        else:
            said(False, _("This part adds {n}. Another one adds more.").format(n=f"{lengths[chosen]:.2f}"))
    x, added, after = (v[at[where]] for v in (part.before, part.added, part.after))
    name = chosen.split(".")[2]
    sum_ = rf"x + \text{{{name}}}(x)" if config.norm == "pre" else rf"\text{{LN}}(x + \text{{{name}}}(x))"
    p.numbers(
        rf"\lVert x \rVert = {x.norm():.2f}, \quad \lVert \text{{{name}}}(x) \rVert = {added.norm():.2f}, \quad "
        rf"\lVert {sum_} \rVert = {after.norm():.2f}"
    )
    p.checked(stream_error(ctx.stamp, seen.src, ctx.model, seen, parts), _("every part of both stacks"))


def measured(part: Part, at: int) -> dict[str, Any]:
    """One part on one token: lengths, and the angle between what was there and what is added."""
    before, added = part.before[at].double(), part.added[at].double()
    product = float(before.norm() * added.norm())
    cosine = max(-1.0, min(1.0, float(before @ added) / product)) if product else 0.0
    _stack, layer, kind = part.place.split(".")
    return {
        "place": part.place,
        "kind": kind,
        "layer": int(layer) + 1,
        "before": float(before.norm()),
        "added": float(added.norm()),
        "after": part.after[at].norm().item(),
        "angle": math.degrees(math.acos(cosine)),
    }


def detail(ctx: LabContext, part: Part, at: int) -> dict[str, Any]:
    """Before, added and after of the chosen part, feature by feature."""
    pre = ctx.model.config.norm == "pre"
    rows = ((_("before"), part.before), (_("+ what it adds"), part.added), (_("= after"), part.after))
    if not pre:
        rows = (*rows[:2], (_("LayerNorm of the sum"), part.after))
    where, layer, kind = part.place.split(".")
    words = {"encoder": _("Encoder"), "decoder": _("Decoder")} | kinds()
    return {
        "title": _("{stack}, layer {layer}, {part}: one token, {d} features").format(
            stack=words[where], layer=int(layer) + 1, part=words[kind], d=ctx.model.config.d_model
        ),
        "strips": [
            {"label": label, "values": [round(v, 5) for v in x[at].tolist()], "norm": x[at].norm().item()}
            for label, x in rows
        ],
        "limit": max(float(x[at].abs().max()) for _label, x in rows) or 1.0,
        "note": _("Blue is negative, orange positive. The third row is the sum of the first two, feature by feature.")
        if pre
        else _(
            "Blue is negative, orange positive. This model normalises after every part, so the stream stays equally long."
        ),
    }


def kinds() -> dict[str, str]:
    return {"self": _("self-attention"), "cross": _("cross-attention"), "ffn": _("feed-forward")}


def flow_texts() -> dict[str, str]:
    return {
        **kinds(),
        "token": _("token:"),
        "start": _("input"),
        "start_said": _("Embedding and position: length {norm}"),
        "self_short": _("self"),
        "cross_short": _("cross"),
        "ffn_short": _("ff"),
        "layer": _("Layer {layer}"),
        "part_said": _(
            "{part}, layer {layer}: adds a vector of length {added}, at {angle}° to the stream\nlength before {before}, after {after}"
        ),
        "self_key": _("what self-attention adds"),
        "cross_key": _("what cross-attention adds"),
        "ffn_key": _("what the feed-forward part adds"),
        "sum_key": _("the stream after it (bars: length of the vector)"),
        "length": _("length {norm}"),
        "feature": _("feature {i}: {value}"),
    }


def lens(ctx: LabContext, p: PanelView) -> None:
    """What each layer would predict if it were the last."""
    seen, n = example(ctx), ctx.model.config.n_layers
    options = {
        "embedding": _("Already from the embedding"),
        "before": _("In a layer before the last"),
        "last": _("Only in the last layer"),
    }
    if n == 1:
        del options["before"]
    question = _(
        "The output layer reads the stream after every layer. Where does the right token win for the first time?"
    )
    asked: tuple[int, int] = ctx.url("cell", (-1, 0), frame.pair)
    if frame.predict("stack.lens", question, options) is None and asked[0] < 0:
        return
    found, error = read_early(ctx.stamp, seen.src, ctx.model, seen)  # (n + 1, T, V)
    first = stack.first_wins(found, seen.writes)
    row, t = asked if 0 <= asked[0] <= n and 0 <= asked[1] < len(seen.writes) else (n, 0)
    shares = accuracy(ctx.stamp, ctx.model, batch_of(ctx))
    titles = [_("embedding"), *(_("layer {layer}").format(layer=i) for i in range(1, n + 1))]
    after = [_("After the embedding"), *(_("After layer {layer}").format(layer=i) for i in range(1, n + 1))]
    vocab, winners = ctx.data.vocab, found.argmax(-1).tolist()

    def picked() -> None:
        told = st.session_state["lab.stack.lens"].pick
        if isinstance(told, list) and len(told) == 2 and all(type(x) is int for x in told):
            ctx.put("cell", f"{told[0]},{told[1]}")
            st.session_state["lab.stack.lens.picked"] = True

    top = found[row, t].topk(min(BEST, found.shape[-1]))
    component("stacklens")(
        key="lab.stack.lens",
        data={
            "rows": [
                {
                    "title": titles[i],
                    "after": after[i],
                    "tokens": names(vocab, winners[i]),
                    "p": found[i].amax(-1).tolist(),
                    "right": [a == b for a, b in zip(winners[i], seen.writes, strict=True)],
                    "share": shares[i],
                }
                for i in range(n + 1)
            ],
            "reads": names(vocab, seen.reads),
            "wants": names(vocab, seen.writes),
            "first": first,
            "cell": [row, t],
            "height": 330,
            "title": _("{after}, position {i}: the {n} likeliest next tokens").format(
                after=after[row], i=t + 1, n=len(top.values)
            ),
            "best": [
                {"token": vocab.name(token), "p": value, "right": token == seen.writes[t]}
                for token, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)
            ],
            "note": "" if seen.known else _("The right answer is not known: ✓ marks what the model itself writes."),
            "look": palette(),
            "t": {
                "reads": _("the decoder reads"),
                "wants": _("should predict"),
                "share": _("right on {n} unseen strings").format(n=len(batch_of(ctx).src)),
                "first": _("first right after layer"),
                "cell": _("{after}, position {i}: {token}, probability {p}, {verdict}"),
                "right": _("right"),
                "wrong": _("wrong"),
            },
        },
        on_pick_change=picked,
    )
    wins = [f for f in first if f is not None]
    if st.session_state.get("lab.stack.lens.picked"):
        if first[t] == row:
            p.done()
            said(True, _("Right: up to here another token was ahead."))
        elif not wins:
            said(False, _("At this training step the right token wins nowhere. Choose a later one."))
        elif winners[row][t] == seen.writes[t]:
            said(False, _("It wins here, but not for the first time: look further up."))
        else:
            said(False, _("Here another token wins."))
    if wins:
        often = max(sorted(set(wins)), key=wins.count)
        came = "embedding" if often == 0 else "last" if often == n else "before"
        frame.reveal(
            "stack.lens",
            came,
            _(
                "That is where it happens at most positions. Only the last layer was trained to be read; the others show work in progress."
            ),
            options,
        )
    p.numbers(
        rf"p^{{({row})}}_{{{t + 1}}}(\text{{right}}) = {float(found[row, t, seen.writes[t]]):.4f} \qquad "
        rf"p^{{({n})}}_{{{t + 1}}}(\text{{right}}) = {float(found[n, t, seen.writes[t]]):.4f}"
    )
    again = accuracy_again(ctx.stamp, ctx.model, batch_of(ctx))
    p.checked(
        largest([error, *(abs(a - b) for a, b in zip(shares, again, strict=True))]), _("probabilities and shares")
    )


def without(ctx: LabContext, p: PanelView) -> None:
    """Leave a block out and see what still works."""
    n = ctx.model.config.n_layers
    blocks = {f"encoder.{i}": _("Encoder {layer}").format(layer=i + 1) for i in range(n)}
    blocks |= {f"decoder.{i}": _("Decoder {layer}").format(layer=i + 1) for i in range(n)}
    options = {
        "few": _("Next to none: at most 5 of 100"),
        "some": _("Some: 6 to 50 of 100"),
        "most": _("More than half"),
    }
    question = _("One whole block is left out. How many of the strings that were right will still be right?")
    expected = frame.predict("stack.without", question, options)
    everything = {"none": _("All blocks"), **blocks}
    if expected is None and ctx.field("block", "none", tuple(everything)).now == "none":
        return
    if len(everything) <= 13:
        block = ctx.choose("block", _("Left out"), everything, bare=True)
    else:
        field = ctx.field("block", "none", tuple(everything))
        index = list(everything).index(field.start)
        block = st.selectbox(_("Left out"), list(everything), index, format_func=lambda b: everything[b], key=field.key)
        ctx.keep("block", field, block)
    batch, before = batch_of(ctx), plain_outcome(ctx)
    after = before if block == "none" else shortened_outcome(ctx, block)
    tried: dict[str, float] = st.session_state.setdefault(f"lab.stack.tried.{ctx.stamp}", {})
    tried["none"] = before.exact
    tried[block] = after.exact
    left, right = st.columns([1, 2], gap="medium")
    with left:
        rows = [
            {"label": everything[b], "value": tried[b], "text": f"{tried[b]:.0%}"} for b in everything if b in tried
        ]
        dark = st.context.theme.type == "dark"
        spec = charts.bars(x_title=_("exact match without it"), y_title="", share=True, dark=dark)
        spec["layer"][1]["mark"]["color"] = "#8a8f98"  # read on light and on dark
        st.vega_lite_chart(pd.DataFrame(rows), spec, alt=_("Exact match with each block left out that was tried"))
    moved = change(before, after, batch)
    with right:
        figures(
            (_("right with all blocks"), f"{before.exact:.0%}", ""),
            (_("right without"), f"{after.exact:.0%}" if block != "none" else "–", ""),
            (_("largest change of a logit"), f"{moved:.2f}" if block != "none" else "–", ""),
        )
        if block != "none":
            side_by_side(ctx, before, after, _("with all blocks"))
    if block == "none":
        return
    if len([b for b in tried if b != "none"]) >= min(2, len(blocks)):
        p.done()
    if expected is not None and before.right.any():
        share = (before.right & after.right).sum().item() / before.right.sum().item()
        frame.reveal(
            "stack.without",
            "few" if share <= 0.05 else "some" if share <= 0.5 else "most",
            _(
                "Each block was trained on what those before it leave in the stream. The fewer blocks there are, the more depends "
                "on each."
            ),
            options,
        )
    name, layer = block.split(".")
    p.numbers(
        rf"x^{{({int(layer) + 1})}} = x^{{({layer})}} \;\text{{({name})}}, \qquad \max|\Delta \text{{logit}}| = {moved:.3f}, "
        rf"\qquad \text{{exact match}}: {before.exact:.2f} \to {after.exact:.2f}"
    )
    p.checked(shortened_error(ctx.stamp, block, tuple(ctx.ids), ctx), _("strings and logits"))


def parameters(ctx: LabContext, p: PanelView) -> None:
    """Closed form against count, for this run, for the sliders and for the paper."""
    run = ctx.model.config
    mine = sliders(ctx, run)
    paper = stack.resized(run, **stack.PAPER)
    models = {_("this run"): run, _("your sliders"): mine, _("paper: 512 · 8 · 6"): paper}
    titles = {
        "source embedding": _("source embedding"),
        "target embedding": _("target embedding"),
        "encoder": _("encoder"),
        "decoder": _("decoder"),
        "output": _("output layer"),
    }
    left, right = st.columns([5, 4], gap="medium")
    with left:
        every = {name: parameter_counts(config) for name, config in models.items()}
        lines = [f"| {_('part')} | {' | '.join(models)} |", "|---|" + "---:|" * len(models)]
        for part, title in titles.items():
            lines.append(f"| {title} | " + " | ".join(f"{c[part]:,}" for c in every.values()) + " |")
        lines.append(
            f"| **{_('closed form')}** | " + " | ".join(f"**{sum(c.values()):,}**" for c in every.values()) + " |"
        )
        counts = [sum(count(c)[0].values()) for c in models.values()]
        lines.append(f"| **{_('counted one by one')}** | " + " | ".join(f"**{n:,}**" for n in counts) + " |")
        st.markdown("\n".join(lines))
        st.caption(
            _(
                "V = {v} tokens here{extra}. With the paper's vocabulary of about 37,000 pieces, in one table for both sides and "
                "the output, 512 · 8 · 6 has {n} million; the paper reports 65."
            ).format(
                v=run.n_vocab,
                extra=extra(run),
                n=f"{(parameter_counts(paper)['encoder'] + parameter_counts(paper)['decoder'] + stack.PAPER_VOCABULARY * 512) / 1e6:.0f}",
            )
        )
    sizes = (mine.d_model, mine.n_heads, mine.n_layers, mine.d_ff)
    if sizes == (512, 8, 6, 2048):
        p.done()
    with right:
        options = {
            "embedding": _("the embeddings"),
            "attention": _("the attentions"),
            "feed-forward": _("the feed-forward parts"),
        }
        expected = frame.predict(
            "stack.parameters", _("In 512 · 8 · 6: which hold the most parameters, all layers together?"), options
        )
        if expected is not None or p.is_done:
            kinds_bars(models)
    if expected is not None:
        by = stack.by_kind(paper)
        frame.reveal(
            "stack.parameters",
            max(options, key=lambda k: by[k]),
            _(
                "There are three attentions for two feed-forward parts, but each of these is twice as large: 2 · 512 · 2048 "
                "against 4 · 512²."
            ),
            options,
        )
    d, ff, n = mine.d_model, mine.d_ff, mine.n_layers
    own = parameter_counts(mine)
    final = rf" + 2 \cdot {d}" if mine.norm == "pre" else ""
    for title in ("encoder", "decoder"):
        a, norms = (1, 2) if title == "encoder" else (2, 3)
        p.numbers(
            rf"\text{{{title}}} = {n}\,({a} \cdot (4 \cdot {d}^2 + 4 \cdot {d}) + 2 \cdot {d} \cdot {ff} + {ff} + {d} + {norms} \cdot 2 "
            rf"\cdot {d}){final} = {own[title]:,}".replace(",", r"{,}").replace(r"\{,}", r"\,")
        )
    p.checked(max(stack.count_error(c, *count(c)) for c in models.values()), _("closed form against one by one"), 0)


def extra(run: ModelConfig) -> str:
    """What the formulas of the table leave out for this kind of model."""
    parts = []
    if run.norm == "pre":
        parts.append(_("encoder and decoder each end in one more LayerNorm, 2d"))
    if run.positions == "learned":
        parts.append(_("learned positions add {n} rows to either embedding").format(n=run.max_len))
    if run.position_placement == "one_direction":
        parts.append(_("the direction of the positions adds d to either embedding"))
    return "".join(f"; {part}" for part in parts)


def sliders(ctx: LabContext, run: ModelConfig) -> ModelConfig:
    """Sizes to play with; they begin at those of the run."""

    def with_own(options: tuple[int, ...], own: int) -> list[int]:
        return sorted({*options, own})

    def preset(sizes: dict[str, int]) -> None:
        for name, size in sizes.items():
            ctx.put(name, size)

    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        widths = [d for d in with_own(WIDTHS, run.d_model) if d % 2 == 0 or d == run.d_model]
        n = ctx.slide("n_layers", _("N, layers in each stack"), with_own(DEPTHS, run.n_layers), run.n_layers)
        d = ctx.slide("d_model", _("d, width of a token (d_model)"), widths, run.d_model)
        ff = ctx.slide("d_ff", _("d_ff, hidden width of feed-forward"), with_own(HIDDEN, run.d_ff), run.d_ff)
        h = ctx.slide("n_heads", short("model.n_heads"), with_own(HEAD_COUNTS, run.n_heads), run.n_heads)
        own = {"n_layers": run.n_layers, "d_model": run.d_model, "d_ff": run.d_ff, "n_heads": run.n_heads}
        st.button(_("As this run"), on_click=preset, args=(own,))
    sizes = {"n_layers": n, "d_model": d, "d_ff": ff, "n_heads": h}
    even = 2 if run.positions == "rotary" else 1
    if d % (h * even):
        fits = max(x for x in range(1, h + 1) if d % (x * even) == 0)
        st.caption(
            _("{d} features cannot be shared out among {h} heads: counted with {fits}. The sum is the same.").format(
                d=d, h=h, fits=fits
            )
        )
        sizes["n_heads"] = fits
    return stack.resized(run, **sizes)


def kinds_bars(models: dict[str, ModelConfig]) -> None:
    """Shares of the parameters by what they do, one bar for each model."""
    titles = {
        "embedding": _("embeddings"),
        "attention": _("attention"),
        "feed-forward": _("feed-forward"),
        "norm": _("LayerNorm"),
        "output": _("output layer"),
    }
    rows = []
    for model, config in models.items():
        found = stack.by_kind(config)
        for kind, title in titles.items():
            rows.append(
                {
                    "model": model,
                    "kind": title,
                    "order": list(titles).index(kind),
                    "n": found[kind],
                    "share": found[kind] / sum(found.values()),
                }
            )
    st.vega_lite_chart(pd.DataFrame(rows), shares_spec(titles), alt=_("Share of the parameters by what they do"))


def shares_spec(titles: dict[str, str]) -> dict[str, Any]:
    return {
        "config": charts.THEME,
        "height": {"step": 30},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "model", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 140}},
            "x": {
                "field": "n",
                "type": "quantitative",
                "stack": "normalize",
                "title": _("share of all parameters"),
                "axis": {"format": "%"},
            },
            "order": {"field": "order"},
            "color": {
                "field": "kind",
                "type": "nominal",
                "sort": list(titles.values()),
                "scale": {"domain": list(titles.values()), "range": [HEADS[i] for i in (5, 0, 2, 3, 1)]},
                "legend": {"orient": "bottom", "title": None, "columns": 3},
            },
            "tooltip": [
                {"field": "model", "title": " "},
                {"field": "kind", "title": _("part")},
                {"field": "n", "title": _("parameters"), "format": ",d"},
                {"field": "share", "title": _("share"), "format": ".1%"},
            ],
        },
    }


@st.cache_data(max_entries=64, show_spinner=False)
def stream_error(
    stamp: tuple[str, int], src: tuple[int, ...], _model: Transformer, _seen: Example, _shown: dict[str, list[Part]]
) -> float:
    return stack.parts_error(_model, _seen, _shown)


@st.cache_resource(max_entries=16, show_spinner=False)
def read_early(
    stamp: tuple[str, int], src: tuple[int, ...], _model: Transformer, _seen: Example
) -> tuple[Tensor, float]:
    """What the output layer says after each layer, and its largest error."""
    found = stack.lens(_model, _seen)
    return found, (found.double() - stack.lens_again(_model, _seen)).abs().max().item()


@st.cache_data(max_entries=64, show_spinner=False)
def accuracy(stamp: tuple[str, int], _model: Transformer, _batch: Batch) -> list[float]:
    return lab.lens_accuracy(_model, _batch)


@st.cache_data(max_entries=64, show_spinner=False)
def accuracy_again(stamp: tuple[str, int], _model: Transformer, _batch: Batch) -> list[float]:
    return stack.lens_accuracy_again(_model, _batch)


def shortened_outcome(ctx: LabContext, block: str) -> Outcome:
    """What a model built without the block makes of the unseen strings."""
    return _shortened(ctx.stamp, block, ctx.model, batch_of(ctx))


@st.cache_resource(max_entries=24, show_spinner=False)
def _shortened(stamp: tuple[str, int], block: str, _model: Transformer, _batch: Batch) -> Outcome:
    return outcome(stack.shortened(_model, block), _batch)


@st.cache_data(max_entries=200, show_spinner=False)
def shortened_error(stamp: tuple[str, int], block: str, ids: tuple[int, ...], _ctx: LabContext) -> float:
    """Largest difference to the complete model with an edit that passes by the block, and of its logits to float64."""
    batch = batch_of(_ctx)
    shortened = shortened_outcome(_ctx, block)
    edited = outcome_again(_ctx.model, batch, shortened.written, lab.without_block(block))
    return largest(
        [
            outcome_error(shortened, edited, batch),
            stack.shortened_error(_ctx.model, example(_ctx), block),
        ]
    )


def count(config: ModelConfig) -> tuple[dict[str, int], dict[str, int]]:
    return _count(config.model_dump_json())


@st.cache_data(max_entries=200, show_spinner=False)
def _count(config: str) -> tuple[dict[str, int], dict[str, int]]:
    return stack.counted(ModelConfig.model_validate_json(config))
