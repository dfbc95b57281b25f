"""Lab 3, many heads: what its panels draw."""

import math
import time
from collections.abc import Sequence
from typing import Any

import streamlit as st
from torch import Tensor

from core.lab import heads as lab
from core.model import Transformer
from core.tasks import Batch, Data, Vocab
from core.trace import Edit
from playground.attention_view import KINDS
from playground.components import component
from playground.i18n import _
from playground.lessons import experiment, frame, heads
from playground.lessons.frame import LabContext, PanelView
from playground.lessons.heads import STRINGS, Example, Outcome
from playground.look import palette

TABLE_HEIGHT = 270
SLICE_S = 0.25  # how long a page computes ahead once it is drawn


def grid(ctx: LabContext, p: PanelView) -> None:
    """Every head of an attention, one of them large."""
    place, seen = place_of(ctx), example(ctx)
    pattern = seen.trace[f"{place}.pattern"][0]  # (H, Tq, Tk)
    found = heads.looks(pattern, place)
    head = min(ctx.url("head", 1, list(range(1, ctx.model.config.n_heads + 1))), len(found)) - 1
    key = f"lab.heads.grid.{place}"

    def picked() -> None:
        chosen = st.session_state[key].pick
        if type(chosen) is int and 0 <= chosen < len(found):
            ctx.put("head", chosen + 1)
            st.session_state["lab.heads.picked"] = place

    sharpest = min(found, key=lambda look: look.bits)
    task = ctx.run.config.task.name
    ideal = task if place.endswith("cross") and task in ("copy", "reverse") else ""
    with st.container(horizontal=True, gap="medium"):
        component("knockout")(
            key=key,
            data=maps(ctx, seen, place, [under(look, pattern.shape[-1], ideal) for look in found])
            | {"mode": "look", "chosen": head, "height": 330, "ideal": ideal_cells(ideal, pattern)},
            on_pick_change=picked,
        )
    if st.session_state.get("lab.heads.picked") == place:
        if found[head].bits <= sharpest.bits:
            p.done()
            said(True, verdict(found[head], ideal, head))
        else:
            said(
                False,
                _("Head {head} spreads over {bits} bits. Another one is sharper.").format(
                    head=head + 1, bits=f"{found[head].bits:.2f}"
                ),
            )
    p.numbers(grid_numbers(pattern[head], found[head], place, ideal))
    p.checked(heads.looks_error(ctx.model, seen, place, found, head), _("patterns and scores"))


def verdict(look: heads.Look, ideal: str, head: int) -> str:
    if not ideal:
        return _("Right: head {head} is the sharpest of this attention.").format(head=head + 1)
    weight = look.diagonal if ideal == "copy" else look.anti
    sentence = _(
        "Right: head {head} is the sharpest of this attention. {share} of its weight lies on the cells that the task asks for."
    )
    return sentence.format(head=head + 1, share=f"{weight or 0:.0%}")


def under(look: heads.Look, keys: int, ideal: str) -> str:
    """What stands under a map."""
    lines = [_("{bits} of {most} bits").format(bits=f"{look.bits:.2f}", most=f"{math.log2(keys):.2f}")]
    diagonal = _("diagonal {share}").format(share=f"{look.diagonal:.0%}")
    anti = "" if look.anti is None else _("anti-diagonal {share}").format(share=f"{look.anti:.0%}")
    both = [anti, diagonal] if ideal == "reverse" else [diagonal, anti]
    lines += (
        both if keys > 2 else both[: bool(ideal)]
    )  # of two columns every cell lies on one of them: only what is asked for
    return "\n".join(filter(None, lines))


def grid_numbers(pattern: Tensor, look: heads.Look, place: str, ideal: str) -> str:
    """The formula with the weights of the chosen head."""
    rows, keys = pattern.shape
    n, anti = min(rows, keys), ideal == "reverse"
    cells = [float(pattern[t, keys - 1 - t if anti else t]) for t in range(n)]
    shown = [f"{c:.2f}" for c in cells]
    terms = shown if n <= 6 else [*shown[:3], r"\dots", shown[-1]]
    value = look.anti if anti and look.anti is not None else look.diagonal
    name = r"\text{anti-diagonal}" if anti else r"\text{diagonal}"
    return rf"{name} = \tfrac{{1}}{{{n}}} ({' + '.join(terms)}) = {value:.3f} \qquad \text{{bits}} = {look.bits:.3f} \le \log_2 {keys} = {math.log2(keys):.2f}"


def ideal_cells(task: str, pattern: Tensor) -> list[list[int]] | None:
    """The cells to outline, where the task says where to look."""
    if not task:
        return None
    ideal = lab.ideal_pattern(task, *pattern.shape[-2:])
    assert ideal is not None
    cells: list[list[int]] = ideal.nonzero().tolist()
    return cells


def knockout(ctx: LabContext, p: PanelView) -> None:
    """Silence heads and see which strings break."""
    place = place_of(ctx)
    n = ctx.model.config.n_heads
    nobody: tuple[int, ...] = ()
    out = tuple(h for h in ctx.url("out", nobody, some_heads) if h < n)
    options = {
        "few": _("Hardly any: at most 5 of 100"),
        "some": _("Some: 6 to 50 of 100"),
        "most": _("More than half"),
    }
    question = _("One of the heads is silenced. How many of the strings that were right will break?")
    expected = frame.predict("heads.knockout", question, options)
    if expected is None and not out:
        return
    batch, before = batch_of(ctx), plain_outcome(ctx)
    after = silenced_outcome(ctx, place, out) if out else before
    alone: dict[int, float] = st.session_state.setdefault(f"lab.heads.alone.{ctx.stamp}.{place}", {})
    if len(out) == 1:
        alone[out[0]] = after.exact
    notes = [_("alone out: {share}").format(share=f"{alone[h]:.0%}") if h in alone else " " for h in range(n)]
    key = f"lab.heads.knockout.{place}"

    def toggled() -> None:
        told = st.session_state[key].out
        if isinstance(told, list):
            chosen = sorted({h for h in told if type(h) is int and 0 <= h < n})
            ctx.put("out", ",".join(str(h + 1) for h in chosen))

    left, right = st.columns([1, 2], gap="medium")
    with left:
        component("knockout")(
            key=key,
            data=maps(ctx, example(ctx), place, notes, out) | {"mode": "silence", "chosen": None},
            on_out_change=toggled,
        )
    moved = heads.change(before, after, batch)
    with right:
        broken = (before.right & ~after.right).sum().item()
        figures(
            (_("right with all heads"), f"{before.exact:.0%}", ""),
            (_("right without"), f"{after.exact:.0%}" if out else "–", ""),
            (_("strings that break"), str(broken) if out else "–", ""),
            (
                _("largest change of a logit"),
                f"{moved:.2f}" if out else "–",
                _("Logits are the scores of the next tokens before softmax; here with the right tokens before them."),
            ),
        )
        if not before.right.any():
            st.caption(
                _("At this step the model gets no string right, so nothing can break. Choose a later training step.")
            )
        if out:
            show_strings(ctx, before, after)
    if not out:
        prepare(ctx, place)
        return
    p.done()
    if len(out) == 1 and expected is not None:
        share = broken / max(1, int(before.right.sum()))
        frame.reveal(
            "heads.knockout",
            "few" if share <= 0.05 else "some" if share <= 0.5 else "most",
            _(
                "Try the others, too: maps that look alike need not be equally important. A map shows where a head reads, not "
                "what it writes."
            ),
            options,
        )
    speak = [rf"z_{{{h + 1}}} W_O^{{({h + 1})}}" for h in range(n) if h not in out]
    total = " + ".join([*(speak if len(speak) < 8 else [speak[0], r"\dots", speak[-1]]), "b_O"])
    p.numbers(
        rf"\text{{out}} = {total}, \qquad \max|\Delta \text{{logit}}| = {moved:.3f}, \qquad "
        rf"\text{{exact match}}: {before.exact:.2f} \to {after.exact:.2f}"
    )
    p.checked(knockout_error(ctx, place, out), _("strings and logits"))
    prepare(ctx, place)


def prepare(ctx: LabContext, place: str) -> None:
    """Everything is drawn: silence heads that may be clicked next, for one slice of time."""
    until = time.monotonic() + SLICE_S
    for h in range(ctx.model.config.n_heads):
        if time.monotonic() < until:
            _ = silenced_outcome(ctx, place, (h,)).written


def some_heads(text: str) -> tuple[int, ...]:
    """ "1,3" -> (0, 2)"""
    if len(text) > 200:
        raise ValueError(text)
    found = sorted({int(part) - 1 for part in text.split(",") if part})
    if any(not 0 <= h < 64 for h in found):
        raise ValueError(text)
    return tuple(found)


def show_strings(ctx: LabContext, before: Outcome, after: Outcome, whole: str = "") -> None:
    """The strings that changed their fate, side by side."""
    batch, vocab = batch_of(ctx), ctx.data.vocab
    chosen = heads.ordered(before, after)
    answers = any(kind != "broken" for _i, kind in chosen)  # where the model was right before, the answer stands there
    rows = []
    for i, _kind in chosen:
        want = batch.tgt_out[i].tolist()
        row = [
            {"tokens": names(vocab, heads.until_end(batch.src[i].tolist()))},
            {"tokens": names(vocab, heads.until_end(want))},
            written(vocab, before.written[i].tolist(), want),
            written(vocab, after.written[i].tolist(), want),
        ]
        rows.append(row if answers else [row[0], *row[2:]])
    if not rows:
        st.caption(_("All {n} strings stay right: the other heads can do without it.").format(n=len(batch.src)))
        return
    titles = [_("input"), _("right answer"), whole or _("with all heads"), _("without")]
    strings("strings", titles if answers else [titles[0], *titles[2:]], rows)


def skip(ctx: LabContext, p: PanelView) -> None:
    """All heads out against no attention at all."""
    place = place_of(ctx)
    n = ctx.model.config.n_heads
    options = {
        "same": _("The same numbers"),
        "near": _("Similar, but not the same"),
        "other": _("Something else altogether"),
    }
    question = _("All heads of this attention are silenced. Compared with skipping the attention, what comes out?")
    expected = frame.predict("heads.skip", question, options)
    ways = {"plain": _("All heads speak"), "silent": _("All heads silenced"), "skip": _("Attention skipped")}
    if expected is None and ctx.field("way", "plain", tuple(ways)).now == "plain":
        return
    way = ctx.choose("way", _("What to do with this attention"), ways, bare=True)
    looked: set[str] = st.session_state.setdefault(f"lab.heads.looked.{ctx.stamp}.{place}", set())
    looked.add(way)
    batch, before = batch_of(ctx), plain_outcome(ctx)
    edits = {"silent": lab.without_heads(place, range(n)), "skip": lab.skipping(ctx.model, place)}
    found = {"plain": before} | {w: edited_outcome(ctx, f"{place} {w}", edits[w]) for w in edits if w in looked}
    left, right = st.columns([1, 2], gap="medium")
    with left:
        vocab, want = ctx.data.vocab, list(example(ctx).writes)
        own = own_outputs(ctx, place)
        figures(
            (_("right"), f"{found[way].exact:.0%}", _("Of {n} strings the model has never seen.").format(n=STRINGS)),
            (_("largest change of a logit"), f"{heads.change(before, found[way], batch):.3f}", ""),
        )
        strings(
            "own",
            ["", _("on your input")],
            [[{"text": ways[w]}, written(vocab, own[w], want)] for w in ways if w in found],
        )
        if {"silent", "skip"} <= looked:
            p.done()
            apart = heads.change(found["silent"], found["skip"], batch)
            bias = ctx.model.attention(place).out.bias.detach().norm().item()
            st.markdown(
                _("Largest difference between the two, over every logit of {n} strings: **{apart}**").format(
                    n=STRINGS, apart=f"{apart:.1e}" if apart else "0"
                )
            )
            p.numbers(
                rf"\max|\text{{silenced}} - \text{{skipped}}| = {apart:.1e} \qquad \lVert b_O \rVert = {bias:.3f}"
            )
            p.checked(apart, _("silenced against skipped"))
    with right:
        if way != "plain":
            show_strings(ctx, before, found[way])
            p.checked(knockout_error(ctx, place, tuple(range(n))), _("strings and logits"))
    if {"silent", "skip"} <= looked and expected is not None:
        frame.reveal(
            "heads.skip",
            "same" if heads.change(found["silent"], found["skip"], batch) <= frame.LIMIT else "near",
            _("Without its heads an attention adds the same constant everywhere, and that carries no token."),
            options,
        )


def subspaces(ctx: LabContext, p: PanelView) -> None:
    """How much the heads' subspaces overlap."""
    place = place_of(ctx)
    side = ctx.choose(
        "side",
        _("Which subspace"),
        {"writes": _("what a head writes into"), "reads": _("what a head reads")},
        bare=True,
    )
    config = ctx.model.config
    n, d_k, d = config.n_heads, config.d_k, config.d_model
    overlap = overlaps(ctx.stamp, place, side, ctx.model)
    g, h = ctx.url("pair", (0, min(1, n - 1)), frame.pair)
    g, h = (g, h) if 0 <= g < n and 0 <= h < n else (0, 0)
    key = f"lab.heads.overlap.{place}.{side}"

    def picked() -> None:
        told = st.session_state[key].pick
        if isinstance(told, list) and len(told) == 2 and all(type(x) is int and 0 <= x < n for x in told):
            ctx.put("pair", f"{told[0]},{told[1]}")
            st.session_state["lab.heads.pair"] = (place, side)

    shares = [c * c for c in heads.cosines(heads.maps(ctx.model, place, side), d_k, g, h)]
    chance = d_k / d
    component("overlap")(
        key=key,
        data={
            "overlap": [[round(v, 6) for v in row] for row in overlap.tolist()],
            "pair": [g, h],
            "shares": shares,
            "angles": [math.degrees(math.acos(min(1.0, math.sqrt(s)))) for s in shares],
            "mean": sum(shares) / d_k,
            "mean_text": _("mean = overlap {value}").format(value=f"{sum(shares) / d_k:.2f}"),
            "caption": _("Heads {g} and {h}: shared directions, best matching first").format(g=g + 1, h=h + 1),
            "note": _(
                "Each bar is one pair of directions: 1 means the same direction (angle 0°), 0 means at right angles. Two "
                "subspaces of {d_k} directions chosen at random in {d} dimensions would overlap by {chance} on average."
            ).format(d_k=d_k, d=d, chance=f"{chance:.2f}"),
            "look": palette(),
            "t": {
                "title": _("Overlap of the heads' subspaces"),
                "head": _("head {head}"),
                "cell": _("head {g} and head {h}: {value}"),
                "bar": _("direction {i}: cos² {value}, angle {angle}°"),
                "low": _("0 nothing shared"),
                "high": _("1 the same"),
            },
        },
        on_pick_change=picked,
    )
    best = heads.most_alike(overlap)
    if n == 1:
        st.caption(_("This run has one head: there is nothing to compare it with. Choose a run with more."))
    elif st.session_state.get("lab.heads.pair") == (place, side):
        if abs(float(overlap[g, h]) - float(overlap[best])) < 1e-9 and g != h:
            p.done()
            sentence = _(
                "Right: no other pair shares more than heads {g} and {h}: {value}, against {chance} by chance."
            )
            more = (
                _("Even these two work mostly in directions of their own.")
                if float(overlap[g, h]) < 0.5
                else _("These two do much of their work in the same directions.")
            )
            value = f"{float(overlap[g, h]):.2f}"
            said(True, f"{sentence.format(g=g + 1, h=h + 1, value=value, chance=f'{chance:.2f}')} {more}")
        else:
            said(
                False,
                _("A head always shares everything with itself; look beside the diagonal.")
                if g == h
                else _("These two share {value}. Another pair shares more.").format(
                    value=f"{float(overlap[g, h]):.2f}"
                ),
            )
    terms = [f"{s:.2f}" for s in shares]
    terms = terms if d_k <= 8 else [*terms[:4], r"\dots", terms[-1]]
    p.numbers(
        rf"\text{{overlap}}({g + 1}, {h + 1}) = \tfrac{{1}}{{{d_k}}} ({' + '.join(terms)}) = {float(overlap[g, h]):.3f} \qquad "
        rf"\text{{chance}} = \frac{{d_k}}{{d_\text{{model}}}} = \frac{{{d_k}}}{{{d}}} = {chance:.3f}"
    )
    again = overlaps_again(ctx.stamp, place, side, ctx.model)
    error = (overlap - again).abs().max().item()
    p.checked(heads.largest([error, abs(sum(shares) / d_k - float(again[g, h]))]), _("overlaps"))


def trained(ctx: LabContext, p: PanelView) -> None:
    """The experiment: one, four, eight heads."""
    if experiment.show("heads", "lab.heads.experiment").revealed:
        p.done()
    p.numbers(
        r"d_k = \frac{64}{1} = 64 \qquad d_k = \frac{64}{4} = 16 \qquad d_k = \frac{64}{8} = 8 \qquad \text{parameters: the same}"
    )


# What the panels share.


def place_of(ctx: LabContext) -> str:
    """Choose an attention: its trace name."""
    n = ctx.model.config.n_layers
    kinds = {
        "cross": _("Cross-attention"),
        "decoder": _("Decoder self-attention"),
        "encoder": _("Encoder self-attention"),
    }
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        kind = ctx.choose("kind", _("Which attention"), kinds, bare=True)
        layers = {str(i): _("Layer {layer}").format(layer=i) for i in range(1, n + 1)}
        layer = n
        if 1 < n <= 8:
            layer = int(ctx.choose("layer", _("Layer"), layers, str(n), bare=True))
        elif n > 8:
            layer = int(ctx.slide("layer", _("Layer"), list(layers), str(n)))
    return KINDS[kind].format(layer - 1)


def maps(ctx: LabContext, seen: Example, place: str, notes: Sequence[str], out: Sequence[int] = ()) -> dict[str, Any]:
    """What the component needs to draw every head of an attention."""
    pattern = seen.trace[f"{place}.pattern"][0]
    vocab, kind = ctx.data.vocab, "cross" if place.endswith("cross") else place.split(".")[0]
    rows = seen.src if kind == "encoder" else seen.writes if kind == "cross" else seen.reads
    titles = {
        "encoder": (_("query: the token that asks"), _("key: the token that is looked at")),
        "decoder": (_("query: the token that was read"), _("key: what has been read")),
        "cross": (_("query: about to write this"), _("key: the source")),
    }[kind]
    return {
        "heads": [
            {
                "name": _("Head {head}").format(head=h + 1),
                "matrix": [[round(v, 5) for v in row] for row in matrix],
                "under": notes[h],
                "out": h in out,
            }
            for h, matrix in enumerate(pattern.tolist())
        ],
        "rows": names(vocab, rows),
        "columns": names(vocab, seen.reads if kind == "decoder" else seen.src),
        "look": palette(),
        "t": {
            "maps": _("All heads of this attention"),
            "rows": titles[0],
            "columns": titles[1],
            "ideal": _("dashed: where this task needs it to look"),
            "cell": _("query {i} “{query}” → key {j} “{key}”: weight {weight}"),
        },
    }


def names(vocab: Vocab, ids: Sequence[int]) -> list[str]:
    return [vocab.name(i) for i in ids]


def written(vocab: Vocab, got: Sequence[int], want: Sequence[int]) -> dict[str, Any]:
    """A cell: what was written, with what is wrong in it."""
    ids, marks = heads.marked(got, want)
    return {"tokens": names(vocab, ids), "marks": marks, "right": not any(marks)}


def strings(key: str, columns: list[str], rows: list[list[dict[str, Any]]], height: int = TABLE_HEIGHT) -> None:
    """Strings side by side."""
    component("strings")(
        key=f"lab.strings.{key}",
        data={
            "columns": columns,
            "rows": rows,
            "height": height,
            "look": palette(),
            "t": {"right": _("right"), "wrong": _("wrong"), "missing": _("missing")},
        },
    )


def said(right: bool, text: str) -> None:
    """What the page says to a click."""
    st.markdown(f":{'green' if right else 'blue'}[{'✓' if right else '→'} {text}]")


def figures(*cells: tuple[str, str, str]) -> None:
    """Numbers in a row: what it is, the number, an explanation."""
    for column, (label, value, text) in zip(st.columns(len(cells)), cells, strict=True):
        column.markdown(f":small[{label}]  \n**{value}**", help=text or None)


def example(ctx: LabContext) -> Example:
    """The person's input with all intermediate numbers: computed at its first look, not at every click."""
    return _example(ctx.stamp, tuple(ctx.ids), ctx.model, ctx.data)


@st.cache_resource(max_entries=16, show_spinner=False)
def _example(stamp: tuple[str, int], ids: tuple[int, ...], _model: Transformer, _data: Data) -> Example:
    return heads.example(_model, _data, ids)


def batch_of(ctx: LabContext) -> Batch:
    return _batch(ctx.run.id, ctx.data)


@st.cache_resource(max_entries=16, show_spinner=False)
def _batch(run_id: str, _data: Data) -> Batch:
    return _data.unseen(STRINGS)


def plain_outcome(ctx: LabContext) -> Outcome:
    """What the model makes of the unseen strings."""
    return edited_outcome(ctx, "plain", {})


def edited_outcome(ctx: LabContext, what: str, edits: dict[str, Edit]) -> Outcome:
    """The same with edits, which `what` names."""
    return _outcome(ctx.stamp, what, ctx.model, batch_of(ctx), edits)


@st.cache_resource(max_entries=24, show_spinner=False)
def _outcome(stamp: tuple[str, int], what: str, _model: Transformer, _batch: Batch, _edits: dict[str, Edit]) -> Outcome:
    return heads.outcome(_model, _batch, _edits)


def silenced_outcome(ctx: LabContext, place: str, out: tuple[int, ...]) -> Outcome:
    """Without these heads, by changed weights: an edit needs a trace, and tracing makes writing half as slow again."""
    return _silenced(ctx.stamp, place, out, ctx.model, batch_of(ctx))


@st.cache_resource(max_entries=64, show_spinner=False)
def _silenced(stamp: tuple[str, int], place: str, out: tuple[int, ...], _model: Transformer, _batch: Batch) -> Outcome:
    return heads.outcome(altered(stamp, place, out, _model), _batch)


@st.cache_resource(max_entries=16, show_spinner=False)
def altered(stamp: tuple[str, int], place: str, out: tuple[int, ...], _model: Transformer) -> Transformer:
    return heads.altered(_model, place, out)


def knockout_error(ctx: LabContext, place: str, out: tuple[int, ...]) -> float:
    """Largest difference between a copy with changed weights and the edited model: strings, logits, and in float64."""
    return _knockout_error(ctx.stamp, place, out, tuple(ctx.ids), ctx)


@st.cache_data(max_entries=200, show_spinner=False)
def _knockout_error(
    stamp: tuple[str, int], place: str, out: tuple[int, ...], ids: tuple[int, ...], _ctx: LabContext
) -> float:
    edits, batch = lab.without_heads(place, out), batch_of(_ctx)
    silenced = silenced_outcome(_ctx, place, out)
    edited = heads.outcome_again(_ctx.model, batch, silenced.written, edits)
    return heads.largest(
        [
            heads.outcome_error(silenced, edited, batch),
            heads.logits_error(altered(stamp, place, out, _ctx.model), example(_ctx), edits, _ctx.model),
        ]
    )


def own_outputs(ctx: LabContext, place: str) -> dict[str, list[int]]:
    """What is written for the person's input in each of the three ways."""
    n = ctx.model.config.n_heads
    edits: dict[str, dict[str, Edit]] = {
        "plain": {},
        "silent": lab.without_heads(place, range(n)),
        "skip": lab.skipping(ctx.model, place),
    }
    return {way: heads.own_output(ctx.model, example(ctx), edit) for way, edit in edits.items()}


@st.cache_data(max_entries=200, show_spinner=False)
def overlaps(stamp: tuple[str, int], place: str, side: str, _model: Transformer) -> Tensor:
    return lab.subspace_overlap(heads.maps(_model, place, side), _model.config.d_k)


@st.cache_data(max_entries=200, show_spinner=False)
def overlaps_again(stamp: tuple[str, int], place: str, side: str, _model: Transformer) -> Tensor:
    return heads.overlap_again(_model, place, side)
