"""What the Attention page shows: one frame a saved step, measured with the weights of that step and the person's input."""

import base64
import json
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import streamlit as st
import torch
from torch import Tensor

from core.checkpoint import CheckpointError
from core.decode import cap_of, generate
from core.lab import distance_to_ideal, entropy, ideal_pattern
from core.model import Transformer
from core.tasks import TASKS, SymbolError, Vocab
from core.tokens import BOS, EOS
from core.trace import Trace
from playground import attention_part, estimate, fields, pick
from playground import kept as kept_
from playground.attention_part import Part
from playground.fields import field
from playground.i18n import _
from playground.models import heavy
from playground.runs.store import Run
from playground.text import plain

# Which attention: the name of its tensors in a trace, by layer.
KINDS = {"encoder": "encoder.{}.self", "decoder": "decoder.{}.self", "cross": "decoder.{}.cross"}
SHOWS = ("pattern", "scores")
TARGETS = ("own", "answer", "typed")  # what the decoder writes: its own output, the right answer, a typed text
BLOCKED = 65535  # where a weight stands in a packed pattern, the mark of a masked cell
UNIT = 50_000  # packed weights are whole fifty-thousandths: finer than the three decimals shown
FRAME_BYTES = 6_000_000  # all frames sent to a browser at once
KEPT_BYTES = 64 * 2**20  # frames remembered by the server, for everybody
OUTPUT_BYTES = 2**20  # written outputs remembered by the server
AHEAD_BYTES = 32 * 2**20  # a model of larger weights is looked at only at the steps that are asked for
SLICE_S = 0.25  # how long one run of the page computes frames before it shows what is there


@dataclass(frozen=True)
class Frame:
    """All attention of one forward pass. scores, pattern: kind -> (L, H, Tq, Tk); mask: kind -> (Tq, Tk), True = may attend.

    Decoder query t reads token reads[t] and is about to predict writes[t]. capped: the output was cut before its end token.
    """

    step: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    capped: bool
    scores: Mapping[str, Tensor]
    pattern: Mapping[str, Tensor]
    mask: Mapping[str, Tensor]


@torch.no_grad()
def look(model: Transformer, step: int, src: Sequence[int], target: Sequence[int] | None = None) -> Frame:
    """The attention over `src` while the decoder writes `target`, or, without one, what the model itself generates."""
    source = torch.tensor([list(src)])  # (1, S)
    # What it generates is greedy and ends with EOS, unless it had to be cut.
    written = generate(model, source)[0].tolist() if target is None else [*target, EOS]
    reads = [BOS, *written[:-1]]
    trace = Trace(keep=lambda name: name.endswith((".mask", ".scores", ".pattern")))
    model(source, torch.tensor([reads]), trace)
    layers = range(model.config.n_layers)

    def stack(kind: str, what: str) -> Tensor:
        return torch.stack([trace[f"{KINDS[kind].format(i)}.{what}"][0] for i in layers])  # (L, H, Tq, Tk)

    pattern = {kind: stack(kind, "pattern") for kind in KINDS}
    mask = {
        kind: torch.broadcast_to(trace[f"{KINDS[kind].format(0)}.mask"], (1, 1, *pattern[kind].shape[-2:]))[0, 0]
        for kind in KINDS
    }
    scores = {kind: stack(kind, "scores") for kind in KINDS}
    return Frame(step, tuple(reads), tuple(written), written[-1] != EOS, scores, pattern, mask)


def patterns_over_time(
    run: Run, steps: Sequence[int], src: Sequence[int], target: Sequence[int] | None = None
) -> Iterator[Frame]:
    """One frame for each saved step, in the order asked. A step whose weights cannot be read is left out."""
    for step in steps:
        try:
            model = pick.model_at(run, step)
        except CheckpointError:
            continue
        yield look(model, step, src, target)


@dataclass(frozen=True)
class HeadRow:
    """One head in numbers. entropy: bits, mean over its queries; copy, reverse: distance to those ideals, cross only."""

    kind: str
    layer: int
    head: int
    entropy: float
    copy: float | None
    reverse: float | None


def head_table(frame: Frame) -> list[HeadRow]:
    """Every head of a frame, in the order kind, layer, head (all from 0)."""
    rows = []
    for kind, pattern in frame.pattern.items():
        n_layers, n_heads, n_queries, n_keys = pattern.shape
        spread = entropy(pattern).mean(-1)  # (L, H)
        far = {}
        for task in ("copy", "reverse") if kind == "cross" else ():
            ideal = ideal_pattern(task, n_queries, n_keys)
            assert ideal is not None
            far[task] = distance_to_ideal(pattern, ideal)  # (L, H)
        rows += [
            HeadRow(
                kind, i, h, float(spread[i, h]), *(float(far[t][i, h]) if far else None for t in ("copy", "reverse"))
            )
            for i in range(n_layers)
            for h in range(n_heads)
        ]
    return rows


def pack(frame: Frame, vocab: Vocab) -> dict[str, Any]:
    """A frame for the browser. Matrices follow each other by kind, layer, head, query, key; base64, little endian."""
    patterns, scores = [], []
    for kind in KINDS:
        units = (frame.pattern[kind] * UNIT).round().to(torch.int32)
        units = units.masked_fill(~frame.mask[kind], BLOCKED)
        patterns.append(units.flatten().numpy().astype("<u2"))
        scores.append(frame.scores[kind].flatten().numpy().astype("<f4"))
    return {
        "step": frame.step,
        "reads": [vocab.name(i) for i in frame.reads],
        "writes": [vocab.name(i) for i in frame.writes],
        "capped": frame.capped,
        "pattern": base64.b64encode(np.concatenate(patterns).tobytes()).decode(),
        "scores": base64.b64encode(np.concatenate(scores).tobytes()).decode(),
        "heads": [
            [None if x is None else round(x, 4) for x in (row.entropy, row.copy, row.reverse)]
            for row in head_table(frame)
        ],
    }


class Kept(kept_.Kept[dict[str, Any] | Literal[False]]):
    """Packed frames by their key, or False for weights that cannot be read."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        super().__init__(limit, weigh)


def weigh(frame: dict[str, Any] | Literal[False]) -> int:
    """About how many bytes a packed frame takes."""
    texts = ("pattern", "scores", "maps", "score_maps")
    return sum(len(frame.get(name, "")) for name in texts) + 2000 if frame else 0


@st.cache_resource(show_spinner=False)
def kept() -> Kept:
    return Kept()


def order_of(steps: Sequence[int], wanted: int) -> list[int]:
    """In which order to compute frames: the wanted one, the ends, then halves of what is between: coarse first."""
    order = [wanted, *(s for s in (steps[-1], steps[0]) if s != wanted)] if steps else []
    gap = len(steps)
    while gap > 1:
        gap = (gap + 1) // 2
        order += [s for s in steps[::gap] if s not in order]
    return order + [s for s in steps if s not in order]


def frames(
    run: Run,
    vocab: Vocab,
    steps: Sequence[int],
    wanted: int,
    src: Sequence[int],
    target: Sequence[int] | None,
    part: Part | None = None,
) -> tuple[list[dict[str, Any]], bool]:
    """Packed frames that are ready, and whether these are all that will come. The wanted step always comes.

    Of a model that is looked at in parts, or whose weights are large, a step is computed only when it is asked for.
    """
    ahead = computed_ahead(run, part)
    found: dict[int, dict[str, Any]] = {}
    weight = 0
    for step in order_of(steps, wanted):
        key = key_of(run, step, src, target, part)
        frame = False if key is None else kept().get(key)
        if frame is None and step == wanted:
            frame = compute(run, vocab, step, src, target, part) or False
        if frame is None:
            if not ahead:
                continue
            return in_order(found), False
        if frame:
            weight += weigh(frame)
            if found and weight > FRAME_BYTES:
                break
            found[step] = frame
    return in_order(found), True


def computed_ahead(run: Run, part: Part | None) -> bool:
    """Whether the steps nobody has asked for yet are computed, too."""
    return part is None and estimate.weights(run.config.model) <= AHEAD_BYTES


def damaged(
    run: Run, steps: Sequence[int], src: Sequence[int], target: Sequence[int] | None, part: Part | None = None
) -> list[int]:
    """The steps whose weights turned out to be unreadable, or are gone."""
    keys = {step: key_of(run, step, src, target, part) for step in steps}
    return [step for step, key in keys.items() if key is None or kept().get(key) is False]


def prepare(
    run: Run, vocab: Vocab, steps: Sequence[int], wanted: int, src: Sequence[int], target: Sequence[int] | None
) -> None:
    """Compute more frames, for one slice of time: the next run of the page will show them.

    The page calls this after everything is drawn, so that nothing on it waits or fades meanwhile.
    """
    until = time.monotonic() + SLICE_S
    for step in order_of(steps, wanted):
        key = key_of(run, step, src, target)
        if key is not None and kept().get(key) is None:
            compute(run, vocab, step, src, target)
            if time.monotonic() > until:
                return


def compute(
    run: Run, vocab: Vocab, step: int, src: Sequence[int], target: Sequence[int] | None, part: Part | None = None
) -> dict[str, Any] | None:
    """A packed frame, also kept; None for weights that cannot be read."""
    key = key_of(run, step, src, target, part)
    if part is None:
        frame = next((pack(f, vocab) for f in patterns_over_time(run, [step], src, target)), None)
    else:
        frame = piece(run, vocab, step, src, target, part)
    if key is not None:
        kept().put(key, frame or False)
    return frame


def piece(
    run: Run, vocab: Vocab, step: int, src: Sequence[int], target: Sequence[int] | None, part: Part
) -> dict[str, Any] | None:
    """One head of a step, packed; None for weights that cannot be read. One visitor at a time: what it takes is bounded."""
    with heavy(run.config.model):
        try:
            model = pick.model_at(run, step)
        except CheckpointError:
            return None
        written: tuple[int, ...] | None = None if target is None else (*target, EOS)
        key = key_of(run, step, src, None)
        if written is None and (written := outputs().get(key)) is None:
            written = attention_part.written_by(model, src)
            outputs().put(key, written)
        place = KINDS[part.where].format(part.layer)
        found = attention_part.look_at(model, step, src, written, part, place)
    return attention_part.packed(found, vocab, UNIT, BLOCKED)


@st.cache_resource(show_spinner=False)
def outputs() -> kept_.Kept[tuple[int, ...]]:
    """What models have written: many times dearer than to look at one more head of it."""
    return kept_.Kept(OUTPUT_BYTES, lambda written: 200 + 8 * len(written))


def key_of(
    run: Run, step: int, src: Sequence[int], target: Sequence[int] | None, part: Part | None = None
) -> tuple[Any, ...] | None:
    """What a frame depends on; None if the weights are gone."""
    try:
        written = run.weights_path(step).stat().st_mtime_ns
    except OSError:
        return None
    return run.id, step, written, tuple(src), None if target is None else tuple(target), part


def in_order(found: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [found[step] for step in sorted(found)]


def part_of(run: Run, view: Mapping[str, Any], src: Sequence[int], target: Sequence[int] | None) -> Part | None:
    """What of a view is computed and sent: None for all heads at once."""
    n_target = longest_written(run, src) if target is None else len(target) + 1
    if attention_part.whole(run.config.model, len(src), n_target):
        return None
    return Part(view["where"], view["layer"], view["head"])


def too_much(run: Run, src: Sequence[int], target: Sequence[int] | None) -> str:
    """Why the attention over this text is not shown, worked out before anything is computed; empty if it is."""
    config, longest = run.config.model, run.config.task.longest_target
    n_target = longest_written(run, src) if target is None else len(target) + 1
    if attention_part.fits(config, len(src), n_target):
        return ""
    most = attention_part.longest(config, longest)
    return _(
        "This text is too long to be looked at in this model: of {heads} heads the attention over at most {most} symbols can be "
        "shown. Type a shorter one, or choose a smaller run."
    ).format(heads=config.n_heads, most=most)


def longest_written(run: Run, src: Sequence[int]) -> int:
    """How many tokens the model writes at most for this text."""
    return cap_of(run.config.model, len(src), run.config.task.longest_target)


def source(run: Run, page: str, asked: Mapping[str, str]) -> list[int] | None:
    """The field for the source text, filled from the URL when that asks for a text. Its ids, or None (a hint is shown)."""
    if "text" in asked:
        fields.ask(f"{page}.source.{run.id}", asked["text"])
    ids = pick.source_text(run, page, _("Source text"))
    st.caption(plain(_(TASKS[run.config.task.name].explanation)))
    return ids


def target(run: Run, src: Sequence[int] | None, asked: Mapping[str, str]) -> tuple[str, list[int] | None]:
    """The choice of what the decoder writes. -> one of TARGETS and its ids; None stands for the model's own output,
    or for a typed text that cannot be used (a hint is shown)."""
    choice, slot = f"attention.writes.{run.id}", f"attention.target.{run.id}"
    if asked.get("write") in TARGETS:
        fields.ask(choice, asked["write"])
    if "target" in asked:
        fields.ask(slot, asked["target"])
    chosen = field(choice, fields.kept(choice, TARGETS[0]))
    names = {"own": _("what the model writes"), "answer": _("the right answer"), "typed": _("my own text")}
    writes = st.radio(
        _("Target"),
        TARGETS,
        TARGETS.index(chosen.start),
        format_func=lambda name: names[name],
        key=chosen.key,
        help=_(
            "The decoder reads the output written so far. Let the model write it, as when it is used; or give it the text, "
            "token by token, as in training (teacher forcing)."
        ),
    )
    fields.keep(chosen, writes)
    data = pick.data_of(run)
    if writes == "answer" and src is not None:
        answer = data.answer(data.vocab.decode(src))
        if not answer:
            st.caption(_("The right answer to this text is not known: the model writes."))
            return "own", None
        return "answer", data.vocab.encode(answer)
    if writes != "typed":
        return "own", None
    typed = field(slot, fields.kept(slot, ""))
    text = fields.keep(typed, st.text_input(_("Target text"), typed.start, key=typed.key))
    ids, hint = check_target(run, text)
    if hint:
        st.warning(hint)
    return "typed", ids


def check_target(run: Run, text: str) -> tuple[list[int] | None, str]:
    """Ids of a typed target; or None and why not."""
    text, limit = unicodedata.normalize("NFC", text), run.config.model.max_len - 1
    vocab = pick.data_of(run).vocab
    if not text.strip() and not (text and " " in vocab.symbols):
        return None, _("Type what the decoder shall write.")
    if len(text) > limit:
        return None, _("At most {limit} symbols: this model accepts no more.").format(limit=limit)
    try:
        return vocab.encode(text), ""
    except SymbolError as error:
        sentence = _("{symbol} at position {position} is not one of this run's symbols: {symbols}")
        known = plain(pick.shown(vocab.symbols))
        symbol = plain(pick.named(error.symbol))
        return None, sentence.format(symbol=symbol, position=error.position + 1, symbols=known)


def input_query(run: Run, writes: str) -> dict[str, str | None]:
    """The URL parameters of the input fields."""
    return {
        "text": fields.kept(f"attention.source.{run.id}"),
        "write": writes if writes != "own" else None,
        "target": fields.kept(f"attention.target.{run.id}") if writes == "typed" else None,
    }


def read_view(query: Mapping[str, str], steps: Sequence[int], n_layers: int, n_heads: int) -> dict[str, Any]:
    """What the URL asks to see, or the nearest that exists. Layers and heads count from 1 in the URL, from 0 here."""

    def number(name: str, otherwise: int) -> int:
        text = query.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else otherwise

    step = number("step", steps[-1])
    return {
        "step": min(steps, key=lambda s: (abs(s - step), s)),
        "where": where if (where := query.get("where", "")) in KINDS else "cross",
        "layer": min(max(number("layer", n_layers), 1), n_layers) - 1,
        "head": min(max(number("head", 1), 1), n_heads) - 1,
        "show": show if (show := query.get("show", "")) in SHOWS else "pattern",
    }


def view_query(view: Mapping[str, Any]) -> dict[str, str]:
    """The URL parameters of a view: `read_view` undone."""
    return {
        "step": str(view["step"]),
        "where": view["where"],
        "layer": str(view["layer"] + 1),
        "head": str(view["head"] + 1),
        "show": view["show"],
    }


def clean_view(text: object, steps: Sequence[int], n_layers: int, n_heads: int) -> dict[str, Any] | None:
    """A view as the component reports it (JSON), checked like the URL: the browser is outside too."""
    try:
        data = json.loads(str(text))
        query = {name: str(data[name]) for name in ("step", "where", "show")}
        query |= {name: str(int(data[name]) + 1) for name in ("layer", "head")}
    except (ValueError, KeyError, TypeError):
        return None
    return read_view(query, steps, n_layers, n_heads)


def texts() -> dict[str, str]:
    """Everything the component says."""
    return {
        "play": _("Play training"),
        "pause": _("Pause"),
        "step": _("Step {step} of {steps}"),
        "slider": _("Training step: the weights that were saved there"),
        "ready": _("{n} of {all} saved steps ready"),
        "loading": _("Computing step {step} …"),
        "encoder": _("Encoder self"),
        "decoder": _("Decoder self"),
        "cross": _("Cross"),
        "where": _("Which attention"),
        "encoder_help": _("Each source token asks, every source token answers."),
        "decoder_help": _("Each position of the output asks, the output written so far answers."),
        "cross_help": _("Each position of the output asks, the encoder's memory of the source answers."),
        "show": _("What the colours mean"),
        "pattern": _("Pattern"),
        "scores": _("Scores"),
        "pattern_help": _("Attention weights after softmax: each row adds up to 1."),
        "scores_help": _("Query times key, scaled, before softmax and mask: any number, large ones win."),
        "query_encoder": _("query: encoder"),
        "key_encoder": _("key: encoder"),
        "query_decoder": _("query: decoder, about to predict yₜ"),
        "key_decoder": _("key: decoder, what it has read"),
        "key_cross": _("key: encoder memory"),
        "layer": _("layer {layer}"),
        "head": _("head {head}"),
        "layer_head": _("Layer {layer}, head {head}"),
        "entropy": _("Entropy {value} bits"),
        "entropy_help": _(
            "How spread out the attention is, averaged over the queries: 0 bits means every query looks at one key only, "
            "{most} bits would mean at all {n} keys alike."
        ),
        "copy": _("distance to copy {value}"),
        "reverse": _("distance to reverse {value}"),
        "distance_help": _(
            "How much attention lies elsewhere than in the ideal pattern: 0 is the ideal, 1 is nothing in common. Ideal for "
            "copying: the query about to predict token t looks at source token t. Ideal for reversing: at token t from the end. "
            "Only cross-attention has such an ideal, and the query that predicts the end has none."
        ),
        "under": _("Under each head: entropy in bits"),
        "under_cross": _("Under each head: entropy in bits · distance to the nearer ideal (c copy, r reverse)"),
        "preview": _("Preview; click to lock"),
        "locked": _("Locked"),
        "locked_help": _(
            "Pointing at a small map shows that head for as long as you point. A click locks it: it stays until you click another."
        ),
        "all_heads": _("all heads of the layer"),
        "isolate": _("Click a token to see its lines only"),
        "release": _("Show all tokens"),
        "lines": _("Lines: the pattern; the thicker and stronger a line, the more attention"),
        "cell": _("query {query}\nkey {key}\nweight {pattern}\nscore {score}"),
        "predicts": _("reads {reads}, about to predict {writes}"),
        "is_blocked": _("blocked by the mask: the decoder may not look ahead"),
        "blocked": _("blocked"),
        "hatched": _("hatched: blocked by the mask"),
        "strongest": _("{query} looks at {key} ({value})"),
        "summary": _(
            "{where} attention, layer {layer}, head {head}, step {step}: {queries} queries by {keys} keys. {rows}."
        ),
        "table": _("Data as a table"),
        "heads_table": _("All heads at this step"),
        "query": _("query"),
        "key": _("key"),
        "column_layer": _("layer"),
        "column_head": _("head"),
        "column_entropy": _("entropy, bits"),
        "column_copy": _("distance to copy"),
        "column_reverse": _("distance to reverse"),
        "weight": _("weight"),
        "score": _("score"),
        "layers": _("Layer whose heads are shown"),
        "fetching": _("Fetching this head …"),
        "parts": _("All heads of one layer, small, and one of them large. Another is computed when you choose it."),
        "save": _("Save this picture or its numbers"),
        "capped": _("Cut at {n} tokens: with these weights the model never wrote an end token."),
        "own": _("Target: what the model itself writes with the weights of this step."),
        "answer": _("Target: the right answer, given token by token (teacher forced)."),
        "typed": _("Target: your own text, given token by token (teacher forced)."),
        "output": _("output"),
        "source": _("source"),
    }
