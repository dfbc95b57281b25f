"""Lab 1 on the page, panels 1 to 7: the numbers of one head for the browser, and the view in the URL."""

import base64
import inspect
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st
from torch import Tensor

from core.model import Transformer
from playground.components import component
from playground.i18n import _
from playground.lessons.attention import DROPOUT, LAB, LINES
from playground.lessons.attention_formulas import FORMULAS
from playground.lessons.attention_steps import (
    LONGEST,
    PLACES,
    Steps,
    dropped,
    dropped_error,
    errors,
    largest_after_dropout,
    steps_of,
    target_of,
)
from playground.lessons.frame import LabContext, PanelView, pair, source_lines, ticks, where
from playground.look import palette

KEY = "lab.attention.steps"
MATRIX_LIMIT = (
    400_000  # numbers of the three weight matrices that are sent to a browser; the rest of their rows is left out
)
DROPOUT_SHARE = 0.3  # of the preset where the run itself was trained without


def draw_step(ctx: LabContext, p: PanelView) -> None:
    """Panels 1 to 7: one component with the row of linked maps and the chosen cell, number by number."""
    config = ctx.model.config
    tgt = decoder_input(ctx)
    if max(len(ctx.ids), len(tgt)) > LONGEST:
        st.info(_("This lab shows every single number: at most {n} tokens. Shorten the input.").format(n=LONGEST))
        return
    body, below = st.container(), st.container()
    share = None
    if p.id == "softmax":
        with below:
            wrong = ctx.mistakes([DROPOUT])
        share = (config.dropout or DROPOUT_SHARE) if wrong else None
        if wrong != st.session_state.get(f"{KEY}.wrong") and share is not None:
            show_largest(ctx, tgt, share)
        st.session_state[f"{KEY}.wrong"] = wrong
    place = ctx.url("where", "encoder", tuple(PLACES))
    layer = ctx.url("layer", 1, tuple(range(1, config.n_layers + 1))) - 1
    head = ctx.url("head", 1, tuple(range(1, config.n_heads + 1))) - 1
    steps, found = looked(ctx, tgt, place, layer, head)
    n_q, n_k = len(steps.queries), len(steps.keys)
    i, j = (x - 1 for x in ctx.url("cell", (min(2, n_q), 1), cell_of(n_q, n_k)))
    f = ctx.url("feature", 1, tuple(range(1, config.d_k + 1))) - 1
    c = ctx.url("number", 1, tuple(range(1, config.d_model + 1))) - 1
    view = {
        **{"panel": p.id, "where": place, "layer": layer, "head": head, "i": i, "j": j, "f": f, "c": c},
        **{"side": ctx.url("side", "q", ("q", "k")), "part": ctx.url("part", "q", ("q", "k", "v"))},
    }
    with body:
        component("steps")(
            key=KEY,
            data={
                "seq": st.session_state.get(f"{KEY}.seq"),
                "view": view,
                "numbers_key": json.dumps([ctx.run.id, ctx.step, ctx.ids, tgt, place, layer, head, share]),
                **described(ctx, steps),
                **arrays(steps, share),
                "look": palette(),
                "t": texts(),
            },
            on_view_change=follow(ctx),
        )
    p.numbers(FORMULAS[p.id](steps, view))
    again = dropped_error(steps.pattern, dropped(steps.pattern, share)) if share is not None else 0.0
    p.checked(max(found[p.id], again))


def show_largest(ctx: LabContext, tgt: tuple[int, ...], share: float) -> None:
    """Go where dropout makes the largest weight: one click must show the mistake, whatever head was chosen before."""
    (where_, layer, head), (i, j) = largest_after_dropout(ctx.model, ctx.ids, tgt, share)
    for name, value in (("where", where_), ("layer", layer + 1), ("head", head + 1), ("cell", f"{i + 1},{j + 1}")):
        ctx.put(name, value)


def decoder_input(ctx: LabContext) -> tuple[int, ...]:
    """What the decoder reads: the right answer, where it is known and fits."""
    answer = ctx.data.vocab.encode(ctx.data.answer(ctx.data.vocab.decode(ctx.ids)))
    return target_of(ctx.model, ctx.ids, answer if len(answer) < ctx.model.config.max_len else ())


def cell_of(n_queries: int, n_keys: int) -> Callable[[str], tuple[int, int]]:
    """Reads "2,3": query 2, key 3, both counted from 1. ValueError outside the matrix."""

    def read(text: str) -> tuple[int, int]:
        i, j = pair(text)
        if not (1 <= i <= n_queries and 1 <= j <= n_keys):
            raise ValueError(text)
        return i, j

    return read


def told(text: object) -> tuple[dict[str, str], str, set[str]] | None:
    """What the component reports: values for the URL, the number of the report, panels done. None: not of that form.

    The browser is outside, too; the values themselves are checked where they are read.
    """
    try:
        view = json.loads(str(text))
        numbers = {"layer": "layer", "head": "head", "feature": "f", "number": "c"}
        values = {name: str(int(view[key]) + 1) for name, key in numbers.items()}
        values["cell"] = f"{int(view['i']) + 1},{int(view['j']) + 1}"
        values |= {name: str(view[name])[:12] for name in ("where", "side", "part", "panel")}
        done = set(map(str, view["did"])) & {panel.id for panel in LAB.panels}
        report = str(view["seq"])[:40]
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return (values, report, done) if values["panel"] in FORMULAS and values["where"] in PLACES else None


def follow(ctx: LabContext) -> Callable[[], None]:
    """What to do when the component reports a view."""

    def keep() -> None:
        if report := told(st.session_state[KEY].view):
            values, st.session_state[f"{KEY}.seq"], done = report
            for name, value in values.items():
                ctx.put(name, value)
            ticks(LAB.id).update(done)

    return keep


def looked(ctx: LabContext, tgt: tuple[int, ...], place: str, layer: int, head: int) -> tuple[Steps, dict[str, float]]:
    """The head and its errors, computed once for a model, an input and a head."""
    changed = ctx.run.weights_path(ctx.step).stat().st_mtime_ns
    return _looked(str(ctx.run.path), ctx.step, changed, tuple(ctx.ids), tgt, place, layer, head, ctx.model)


@st.cache_resource(max_entries=64, show_spinner=False)
def _looked(
    _path: str,
    step: int,
    changed: int,
    src: tuple[int, ...],
    tgt: tuple[int, ...],
    place: str,
    layer: int,
    head: int,
    _model: Transformer,
) -> tuple[Steps, dict[str, float]]:
    steps = steps_of(_model, src, tgt, place, layer, head)
    return steps, errors(_model, steps, src, tgt)


def described(ctx: LabContext, steps: Steps) -> dict[str, Any]:
    """What the component must know beside the numbers."""
    config, vocab = ctx.model.config, ctx.data.vocab
    lines = {panel: LINES[panel] for panel in (*FORMULAS, "dropout")}
    if steps.place.endswith("cross"):
        lines["project"] = LINES["project_cross"]
    return {
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "d_model": config.d_model,
        "d_k": config.d_k,
        "divisor": steps.divisor,
        "divisor_name": {"sqrt_d_k": f"√{config.d_k}", "sqrt_d_model": f"√{config.d_model}", "none": "1"}[config.scale],
        "rotary": config.positions == "rotary" and not steps.place.endswith("cross"),
        "alibi": config.positions == "alibi" and not steps.place.endswith("cross"),
        "later": not steps.place.startswith("encoder.0"),
        "norm": config.norm == "pre",
        "two_inputs": steps.place.endswith("cross"),
        "queries": [vocab.name(t) for t in steps.queries],
        "keys": [vocab.name(t) for t in steps.keys],
        "titles": {panel.id: _(panel.title) for panel in LAB.panels},
        "code": {panel: code_line(*line) for panel, line in lines.items()},
    }


def code_line(thing: Any, needle: str) -> dict[str, str]:
    """The real line of our source, and where it stands."""
    lines, first = inspect.getsourcelines(thing)
    number = next(first + n for n, line in enumerate(lines) if needle in line)
    return {"at": f"{where(thing).split(':')[0]}:{number}", "text": source_lines(thing, needle).splitlines()[0].strip()}


def arrays(steps: Steps, share: float | None) -> dict[str, Any]:
    """The numbers of a head, packed."""
    rows = max(1, MATRIX_LIMIT // (3 * steps.x_q.shape[1]))
    tensors = {
        name: getattr(steps, name)
        for name in ("x_q", "x_k", "raw_q", "raw_k", "q", "k", "v", "products", "scores", "mask", "pattern", "z")
    }
    tensors |= {f"w_{n}": w[:rows] for n, w in zip("qkv", steps.weight, strict=True)}
    tensors |= {f"b_{n}": b[None] for n, b in zip("qkv", steps.bias, strict=True)}
    tensors["bias_ij"] = steps.bias_ij
    for name in ("row", "token", "position", "input"):
        tensors[f"q_{name}"] = getattr(steps.embedded_q, name)
        tensors[f"k_{name}"] = getattr(steps.embedded_k, name)
    if share is not None:
        after = dropped(steps.pattern, share)
        tensors |= {"kept": after.kept, "after": after.after}
    return {
        "arrays": {name: pack(tensor) for name, tensor in tensors.items()},
        "dropped": None if share is None else {"share": share},
    }


def pack(tensor: Tensor) -> dict[str, Any]:
    """A matrix for the browser: float32, little endian, base64."""
    values = tensor.detach().cpu().float().numpy().astype("<f4")
    return {"shape": list(values.shape), "data": base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()}


def unpack(packed: dict[str, Any]) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """`pack` undone."""
    return np.frombuffer(base64.b64decode(packed["data"]), "<f4").reshape(packed["shape"])


def texts() -> dict[str, str]:
    """Everything the component of panels 1 to 7 says."""
    return {
        "where": _("Which attention"),
        "encoder": _("Encoder self"),
        "decoder": _("Decoder self"),
        "cross": _("Cross"),
        "encoder_help": _("Each source token asks, every source token answers."),
        "decoder_help": _("Each position of the output asks, the output written so far answers."),
        "cross_help": _("Each position of the output asks, the encoder's memory of the source answers."),
        "layer": _("layer"),
        "head": _("head"),
        "query": _("query"),
        "key": _("key"),
        "value": _("value"),
        "weight": _("weight"),
        "input": _("input x"),
        "side": _("Whose input"),
        "side_q": _("the query's token (target)"),
        "side_k": _("the key's token (source)"),
        "row_of": _("row of {token} · √d"),
        "position_of": _("+ position {n}"),
        "op_mask": _("blocked → −∞"),
        "op_softmax": _("each row adds up to 1"),
        "blocked": _("blocked by the mask"),
        "times": _("q · k, each"),
        "reads": _("{name} of token {token}"),
        "bias": _("bias"),
        "turned": _("rotary positions turn it into {value}"),
        "not_sent": _("(this matrix is too large to be shown whole)"),
        "more": _("{n} more: {value}"),
        "contributions": _("contributions a · v: one row a key, one column a feature"),
        "running": _("running sum of feature {f}"),
        "sum": _("sum"),
        "line_product": _("q · k"),
        "line_divisor": _("divisor, the same everywhere"),
        "line_alibi": _("ALiBi: further away, less"),
        "line_score": _("score"),
        "line_allowed": _("may be seen?"),
        "line_masked": _("score after the mask"),
        "line_less": _("minus the largest of the row"),
        "line_exp": _("e to that power"),
        "line_weight": _("weight = that ÷ Σ"),
        "line_kept": _("kept by dropout?"),
        "line_after": _("÷ {share}, as training sees it"),
        "may": _("may be seen"),
        "may_not": _("blocked: softmax will give it exactly 0"),
        "model_has": _("the model has {value}"),
        "dropout_has": _("PyTorch's dropout gives {value}"),
        "what_embed": _(
            "The table's row for this token, multiplied by √d, plus the pattern of its place. What enters the stack is their sum."
        ),
        "what_embed_later": _("(What the chosen layer reads is what the layers before it have made of this.)"),
        "what_project_norm": _("Before each layer, LayerNorm brings x to a common size."),
        "what_project": _(
            "x is what this layer reads. Every row of a matrix W makes one number: multiply it with x, number by number, and add. "
            "Blue and orange are negative and positive."
        ),
        "what_score": _("Query {i} against key {j}: {d} products, then their sum."),
        "what_scale": _("The row of query {i}: every product is divided by {divisor}."),
        "what_mask": _("The row of query {i}: which keys may it see?"),
        "what_softmax": _(
            "The row of query {i}. Taking off the largest score changes no weight and keeps the powers small."
        ),
        "what_weigh": _("What query {i} takes from each of {n} keys. Blue is negative, orange positive."),
        "what_dropout": _(
            "The same row as training would see it, with dropout {share}: what is kept is divided by what share is kept."
        ),
    }
