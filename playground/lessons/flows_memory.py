"""Lab 6: cross-attention with another memory, on the person's model and on one trained from the start."""

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from core.lab.flows import strangers
from core.model import Transformer
from playground.i18n import _
from playground.lessons import experiment, flows
from playground.lessons.flows import Example
from playground.lessons.flows_shared import draw, example, names, obey, verdict, whole
from playground.lessons.frame import LabContext, PanelView, predict, reveal


@st.cache_data(max_entries=32, show_spinner=False)
def measured(weights: tuple[str, int], n: int, _ctx: LabContext) -> dict[str, float]:
    return flows.exact_match_by_memory(_ctx.model, _ctx.data.unseen(n))


@st.cache_resource(max_entries=128, show_spinner=False)
def cross_of(
    weights: tuple[str, int], src: tuple[int, ...], which: str, _model: Transformer, _one: Example
) -> flows.Cross:
    return flows.cross(_model, _one, which)


def memory_names(n_layers: int) -> dict[str, str]:
    layers = {f"layer {i}": _("output of encoder layer {i}").format(i=i) for i in range(1, n_layers)}
    last = {f"layer {n_layers}": _("output of encoder layer {i}, the last: as trained").format(i=n_layers)}
    return (
        last
        | layers
        | {
            "shuffled": _("as trained, but positions shuffled"),
            "another": _("memory of another string: {text}"),
            "zeros": _("nothing but zeros"),
        }
    )


def memory(ctx: LabContext, p: PanelView) -> None:
    config, one, key = ctx.model.config, example(ctx), ctx.stamp
    switches = memory_names(config.n_layers)
    stranger = names(ctx, strangers(ctx.model, one.source)[0].tolist())
    switches["another"] = switches["another"].format(text=" ".join(stranger))
    trained = f"layer {config.n_layers}"
    question = f"flows.memory.{ctx.run.id}.{ctx.step}"
    options = {
        "strict": _("only the last encoder layer's output, in its order"),
        "order": _("the last encoder layer's output, also with its positions shuffled"),
        "layers": _("the output of any encoder layer"),
        "all": _("any of them, even zeros: the decoder also sees what it wrote"),
        "none": _("none of them, not even the right one"),
    }
    chosen = predict(question, _("With which memory will most answers still come out right?"), options)
    if chosen is None:
        return

    def act(command: dict[str, Any]) -> None:
        if "memory" in command and command["memory"] in switches and command["memory"] != flows.OPEN:
            ctx.put("memory", command["memory"])
            ctx.put("kv", "")
            if command["memory"] != trained:
                p.done()
        elif "head" in command:
            a, b = (int(x) for x in command["head"])
            if 0 <= a < config.n_layers and 0 <= b < config.n_heads:
                ctx.put("head", f"{a},{b}")

    obey(p, act)
    wrong = ctx.mistakes(flows.MEMORY_MISTAKES, "kv") == flows.OPEN
    if wrong:
        switches = {flows.OPEN: _("the decoder itself: a mistake")} | switches
    which = ctx.url("memory", trained, (*switches, flows.OPEN))
    which = flows.OPEN if wrong else trained if which == flows.OPEN else which
    layer, head = ctx.url("head", (config.n_layers - 1, 0), place(config.n_layers, config.n_heads))
    with st.spinner(_("Generating {n} unseen strings with each memory…").format(n=flows.UNSEEN)):
        exact = measured(key, flows.UNSEEN, ctx)
    shown = {name: cross_of(key, one.src, name, ctx.model, one) for name in switches}
    now = shown[which]
    p.checked(max(c.error for c in shown.values()), _("patterns and logits"))
    head_map = now.patterns[layer, head]
    best = int(head_map[0].argmax())
    p.numbers(
        rf"K, V \in \mathbb{{R}}^{{{head_map.shape[1]} \times {config.d_k}}} \qquad Q \in \mathbb{{R}}^{{{head_map.shape[0]} \times {config.d_k}}} \qquad a_{{1,{best + 1}}} = {head_map[0, best]:.3f}"
    )

    if wrong:
        p.done()
    keys = names(ctx, one.reads if which == flows.OPEN else one.src)
    draw(
        p,
        "cross",
        {
            "patterns": [
                [[[round(x, 4) for x in row] for row in h] for h in one_layer] for one_layer in now.patterns.tolist()
            ],
            "at": [layer, head],
            "thumb": 44 if config.n_layers * config.n_heads <= 24 else 24,
            "queries": [f"y{subscript(i)} = {name}" for i, name in enumerate(names(ctx, one.writes), 1)],
            "keys": keys,
            "key_axis": _("key: decoder inputs") if which == flows.OPEN else _("key: encoder memory"),
            "which": which,
            "switches": [
                {
                    "id": name,
                    "name": text,
                    "exact": exact[name],
                    "output": names(ctx, shown[name].output)[:24],
                    "marks": verdict(shown[name].output, one.writes)[:24],
                }
                for name, text in switches.items()
            ],
            "text": _("Cross-attention of one head: queries of the decoder against keys of the memory"),
            "t": {
                "layer": _("layer {layer}"),
                "head": _("head {head}"),
                "thumb": _("Cross-attention, layer {layer}, head {head}"),
                "title": _("Cross-attention, layer {layer}, head {head}, on the right prefix"),
                "title_help": _(
                    "Each row is a query of the decoder and adds up to 1. A row carries the token it is about to predict."
                ),
                "query": _("query: decoder, about to predict y_t"),
                "cell": _("{query} looks at key {k}, {key}: {value}"),
                "switches": _("Memory, and what the model then writes"),
                "switches_help": _(
                    "Percent: how many of {n} unseen strings are then generated without a mistake. Chips: what comes out for your input."
                ).format(n=flows.UNSEEN),
                "exact": _("{percent} % exact"),
                "unmeasured": "–",
            },
        },
    )
    outcome = came_out(exact, config.n_layers)
    text = _(
        "Exact match on {n} unseen strings: as trained {trained}, shuffled {shuffled}, of another string {another}, zeros {zeros}. Attention reads a set: when K and V change places together, the weights go with them and the sum stays. The order of the source is written inside the vectors, not in where they stand. Given another string's memory, the decoder answers that string."
    )
    values = {
        name: f"{100 * exact[id]:.1f} %"
        for name, id in (("trained", trained), *((x, x) for x in ("shuffled", "another", "zeros")))
    }
    reveal(question, outcome, text.format(n=flows.UNSEEN, **values), options)


def trained(ctx: LabContext, p: PanelView) -> None:
    if experiment.show("memory", "lab.flows.experiment").revealed:
        p.done()


def came_out(exact: Mapping[str, float], n_layers: int) -> str:
    """Which expectation came true: a memory "will do" if most strings come out right."""
    layers = [exact[f"layer {i}"] > 0.5 for i in range(1, n_layers + 1)]
    if not layers[-1]:
        return "none"
    if exact["zeros"] > 0.5:
        return "all"
    if n_layers > 1 and all(layers):
        return "layers"
    return "order" if exact["shuffled"] > 0.5 else "strict"


def subscript(i: int) -> str:
    return str(i).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def place(n_layers: int, n_heads: int) -> Callable[[str], tuple[int, int]]:
    """A reader of "layer,head" from the URL, both from 0."""

    def read(text: str) -> tuple[int, int]:
        a, b = text.split(",")
        return whole(0, n_layers - 1)(a), whole(0, n_heads - 1)(b)

    return read
