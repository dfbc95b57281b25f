"""What the Generate page shows: the output so far, the distribution at each of its positions, the attention that was used."""

import base64
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import streamlit as st
import torch
from torch import Tensor

from core.decode import Beam, DecodeOptions, choose, distribution, generate_steps, limit, written
from core.model import Transformer
from core.tasks import Vocab
from core.tokens import EOS
from core.trace import Trace
from playground import estimate, fields
from playground.fields import Field
from playground.i18n import _
from playground.kept import Kept

WHOLE_CELLS = 60_000  # cells of cross-attention, over all positions, up to which every layer and head is sent
MOST_CELLS = 3_000_000  # of one layer, over all positions: what a browser is sent at most
KEPT_BYTES = 24 * 2**20  # positions remembered by the server, for everybody
SEARCH_BYTES = 80 * 2**20  # what beam search may remember

METHODS = ("greedy", "sample", "beam")


@dataclass(frozen=True)
class Place:
    """One position of the output: logits (V,) of the token to be written there; cross (L, H, S), the attention it used.

    Of a large model on a long text only one layer is kept, see `layer_of`.
    """

    logits: Tensor
    cross: Tensor


@dataclass(frozen=True)
class Draft:
    """An output being written: its tokens, and which of them a person chose by hand."""

    tokens: tuple[int, ...] = ()
    hand: frozenset[int] = field(default_factory=frozenset)

    @property
    def ended(self) -> bool:
        return self.tokens[-1:] == (EOS,)

    @property
    def fixed(self) -> tuple[int, ...]:
        """The tokens up to the last one chosen by hand: beam search goes on from there."""
        return self.tokens[: max(self.hand, default=-1) + 1]

    def cut(self, n: int) -> "Draft":
        return Draft(self.tokens[:n], frozenset(i for i in self.hand if i < n))

    def put(self, index: int, token: int) -> "Draft":
        """Another token at a position: what followed it is gone."""
        before = self.cut(index)
        return Draft((*before.tokens, token), before.hand | {index})


@torch.no_grad()
def write(
    model: Transformer,
    src: Sequence[int],
    tokens: Sequence[int],
    options: DecodeOptions | None,
    n: int,
    layer: int | None = None,
) -> tuple[tuple[int, ...], tuple[Place, ...]]:
    """Go on from `tokens` until there are n, or the end. -> all tokens, and a place for each and for the one after them.

    One token at a time with a key/value cache, exactly as `generate` does it, so also a model trained without a causal mask
    shows here what it does when it is used. Each forward pass is traced. Nothing is drawn when tokens has n already.
    With a `layer` only its cross-attention is kept.
    """
    layers = range(model.config.n_layers) if layer is None else [layer]
    names = {f"decoder.{i}.cross.pattern" for i in layers}
    source, so_far, places = torch.tensor([list(src)]), list(tokens), list[Place]()  # (1, S)
    chosen = replace(options or DecodeOptions(), max_len=model.config.max_len)
    passes = written(model, source, chosen, tokens, look=lambda: Trace(keep=names.__contains__))
    for index, (logits, token, trace) in enumerate(passes):
        assert trace is not None
        cross = torch.stack([trace[f"decoder.{i}.cross.pattern"][0, :, -1] for i in layers])  # (L, H, S)
        places.append(Place(logits[0], cross))
        if index == len(so_far):
            if index >= n or options is None:
                break
            so_far.append(int(token))
        if so_far[index] == EOS:
            break
    return tuple(so_far), tuple(places)


def draw(logits: Tensor, options: DecodeOptions, index: int) -> int:
    """The token for position `index`: the same as in `generate` with this seed, wherever one starts. logits (V,)"""
    generator = torch.Generator().manual_seed(options.seed)
    for _i in range(index if options.method == "sample" else 0):  # the random numbers of the positions before
        torch.multinomial(torch.ones(1, len(logits)), 1, generator=generator)
    return int(choose(logits[None], options, generator))


@st.cache_resource(show_spinner=False)
def kept_places() -> Kept[tuple[Place, ...]]:
    return Kept(KEPT_BYTES, lambda places: 1000 + sum(4 * (p.logits.numel() + p.cross.numel()) for p in places))


def places_of(
    weights: tuple[str, int],
    src: tuple[int, ...],
    tokens: tuple[int, ...],
    model: Transformer,
    layer: int | None = None,
    places: tuple[Place, ...] | None = None,
) -> tuple[Place, ...]:
    """The places of an output. Kept by weights and tokens, not by options: another temperature needs no forward pass.

    `places`: what is known of them, from the writing.
    """
    key = (weights, src, tokens, layer)
    found = kept_places().get(key)
    if found is None:
        found = places or write(model, src, tokens, None, 0, layer)[1]
        kept_places().put(key, found)
    return found


def layer_of(model: Transformer, n_source: int, cap: int, asked: object) -> int | None:
    """The one layer whose cross-attention is kept and sent, where that of all layers would be too much; else None.

    asked: a layer as the component or the address names it, from 0; the last one where that is none.
    """
    config = model.config
    if config.n_layers * config.n_heads * n_source * (cap + 1) <= WHOLE_CELLS:
        return None
    good = isinstance(asked, int) and 0 <= asked < config.n_layers
    return asked if good and isinstance(asked, int) else config.n_layers - 1


def layer_asked(command: object) -> int | None:
    """The layer that a command of the component asks for."""
    try:
        layer = json.loads(str(command))["layer"]
    except (ValueError, TypeError, KeyError):
        return None
    return layer if type(layer) is int else None


def too_much(model: Transformer, src: Sequence[int], cap: int, options: DecodeOptions) -> str:
    """Why this is not computed, worked out before it is; empty if it is."""
    if model.config.n_heads * len(src) * (cap + 1) > MOST_CELLS:
        return _("This text is too long to be looked at in this model. Type a shorter one, or choose a smaller run.")
    need = search_bytes(model, len(src), cap, options.beams)
    if options.method == "beam" and need > SEARCH_BYTES:
        return _(
            "Beam search with {beams} beams needs {size} of memory here, and the limit is {most}. Take fewer beams, a shorter "
            "text or a smaller run."
        ).format(beams=options.beams, size=estimate.size(need), most=estimate.size(SEARCH_BYTES))
    return ""


def search_bytes(model: Transformer, n_source: int, cap: int, beams: int) -> int:
    """What beam search remembers: keys and values of every layer, token and hypothesis."""
    return 16 * model.config.n_layers * model.config.d_model * beams * (n_source + cap)


@st.cache_resource(max_entries=8, show_spinner=False)
def beams_of(
    weights: tuple[str, int], src: tuple[int, ...], fixed: tuple[int, ...], options: DecodeOptions, _model: Transformer
) -> tuple[tuple[Beam, ...], ...]:
    """The hypotheses of beam search after each step, best first, from the fixed tokens on."""
    if fixed[-1:] == (EOS,):
        return ()
    return tuple(step.beams for step in generate_steps(_model, torch.tensor([list(src)]), options, fixed))


@dataclass(frozen=True)
class Scene:
    """An output as it is now. places: for each token and the one after it; steps: the beams so far, or None; likely: what
    the next token will be."""

    draft: Draft
    places: tuple[Place, ...]
    steps: tuple[tuple[Beam, ...], ...] | None = None
    likely: int | None = None


def scene(
    model: Transformer,
    weights: tuple[str, int],
    src: tuple[int, ...],
    draft: Draft,
    n: int,
    options: DecodeOptions,
    layer: int | None = None,
) -> Scene:
    """Bring a draft to n tokens, or to its end. layer: see `layer_of`."""
    if options.method != "beam":
        written = None
        if len(draft.tokens) < n and not draft.ended:
            tokens, written = write(model, src, draft.tokens, options, n, layer)
            draft = replace(draft, tokens=tokens)
        places = places_of(weights, src, draft.tokens, model, layer, written)
        return Scene(draft, places, None, draw(places[-1].logits, options, len(draft.tokens)))
    fixed = draft.fixed
    steps = beams_of(weights, src, fixed, options, model)
    count = max(0, n - len(fixed))
    shown = steps[:count]
    draft = replace(draft, tokens=shown[-1][0].tokens if shown else fixed)
    following = steps[count][0].tokens if count < len(steps) else ()  # the best hypothesis may be another one by then
    likely = following[-1] if following[:-1] == draft.tokens else None
    return Scene(draft, places_of(weights, src, draft.tokens, model, layer), shown, likely)


def most(model: Transformer, src: Sequence[int]) -> int:
    """How many tokens may be written for this source."""
    return limit(model, torch.tensor([list(src)]), DecodeOptions())


def act(draft: Draft, command: object, n_vocab: int, cap: int) -> tuple[Draft, int]:
    """A command of the component applied: the draft, and how many tokens it shall get. Commands say where to arrive, not
    "one more", so one that comes twice changes nothing. Anything malformed is ignored: the browser is outside."""
    try:
        data = json.loads(str(command))
        if "put" in data:
            index, token = (int(x) for x in data["put"])
            if 0 <= index <= len(draft.tokens) and index < cap and 0 <= token < n_vocab:
                draft = draft.put(index, token)
            return draft, len(draft.tokens)
        n = min(max(int(data["to"]), 0), cap)
    except (ValueError, TypeError, KeyError):
        return draft, len(draft.tokens)
    return draft.cut(n), n


def read_draft(out: str, hand: str, n_vocab: int, cap: int) -> Draft:
    """The draft that a URL describes ("out=5.3.4&hand=1"); an empty one if it is not possible here."""
    try:
        tokens = tuple(int(x) for x in out.split(".")) if out else ()
        marks = frozenset(int(x) for x in hand.split(".")) if hand else frozenset()
    except ValueError:
        return Draft()
    good = len(tokens) <= cap and all(0 <= i < n_vocab for i in tokens) and EOS not in tokens[:-1]
    return Draft(tokens, frozenset(i for i in marks if 0 <= i < len(tokens))) if good else Draft()


def place_data(place: Place, options: DecodeOptions, drawn: int | None, packed: bool = False) -> dict[str, Any]:
    """A position for the browser: probability and logit of every token, what would be drawn now, the attention rows.

    packed: these as whole ten-thousandths, little endian, base64: thousands of numbers are ten times as long as a list.
    """
    cross = place.cross.clamp(min=1e-4).where(place.cross > 0, 0.0)  # little is not nothing
    units = (cross * 10_000).round().flatten().numpy().astype("<u2") if packed else None
    shown = options if options.method == "sample" else DecodeOptions(temperature=tempered(options))
    return {
        "p": [float(f"{x:.7g}") for x in distribution(place.logits, shown).tolist()],  # 0 only where it is cut off
        "plain": [float(f"{x:.7g}") for x in place.logits.softmax(-1).tolist()],
        "logits": [round(x, 4) for x in place.logits.tolist()],
        "draw": drawn,
        "cross": [[[round(x, 4) for x in row] for row in layer] for layer in cross.tolist()]
        if units is None
        else base64.b64encode(units.tobytes()).decode(),
    }


def sidebar(asked: Mapping[str, str]) -> DecodeOptions:
    """The controls of how the next token is chosen; the URL may set them."""
    names = {"greedy": _("greedy"), "sample": _("sample"), "beam": _("beam")}
    helps = _(
        "Greedy takes the likeliest token. Sampling draws by chance. Beam search follows several outputs at once."
    )
    method = keep("method", "greedy", asked.get("method"), str, list(METHODS))
    st.segmented_control(
        _("Choose the next token by"),
        METHODS,
        default=method.start,
        required=True,
        format_func=lambda m: names[m],
        key=method.key,
        help=helps,
    )
    chosen = kept(method)
    values: dict[str, Any] = {"method": chosen}
    if chosen in ("sample", "beam"):
        slot = keep("temperature", 1.0, asked.get("temperature"), float, (0.1, 3.0))
        text = _("Logits are divided by this before softmax. Below 1: surer of itself; above 1: more adventurous.")
        st.slider(_("Temperature"), 0.1, 3.0, slot.start, 0.05, key=slot.key, help=text)
        values["temperature"] = kept(slot)
    if chosen == "sample":
        slot = keep("top_k", 0, asked.get("top_k"), int, (0, 50))
        st.slider(
            _("Top-k"),
            0,
            50,
            slot.start,
            key=slot.key,
            help=_("Only the k likeliest tokens may be drawn; 0: no limit."),
        )
        values["top_k"] = kept(slot)
        slot = keep("top_p", 1.0, asked.get("top_p"), float, (0.05, 1.0))
        text = _("Only the likeliest tokens that together reach this probability may be drawn; 1: no limit.")
        st.slider(_("Top-p"), 0.05, 1.0, slot.start, 0.05, key=slot.key, help=text)
        values["top_p"] = kept(slot)
        slot = keep("seed", 0, asked.get("seed"), int, (0, 9999))
        st.number_input(
            _("Seed"), 0, 9999, slot.start, key=slot.key, help=_("The same seed draws the same tokens again.")
        )
        values["seed"] = kept(slot)
    if chosen == "beam":
        slot = keep("beams", 4, asked.get("beams"), int, (1, 8))
        st.slider(
            _("Beams"), 1, 8, slot.start, key=slot.key, help=_("How many hypotheses are followed at once; 1 is greedy.")
        )
        values["beams"] = kept(slot)
    return DecodeOptions(**values)


def keep(name: str, otherwise: Any, asked: str | None, kind: type, among: Any) -> Field[Any]:
    """A field whose value comes from the URL, from before, or is `otherwise`; it outlives the page."""
    slot = f"generate.{name}"
    if asked is not None:
        with contextlib.suppress(ValueError):
            value = kind(asked)
            good = value in among if isinstance(among, list) else among[0] <= value <= among[1]
            if good:
                fields.ask(slot, value)
    return fields.field(slot, fields.kept(slot, otherwise))


def kept(found: Field[Any]) -> Any:
    """The value of a field, remembered for when the page is shown again."""
    return fields.keep(found, found.now)


def options_query(options: DecodeOptions) -> dict[str, str | None]:
    """The URL parameters of the options, where they differ from the usual ones."""
    usual = DecodeOptions()
    names = ("method", "temperature", "top_k", "top_p", "beams", "seed")
    return {
        name: None if getattr(options, name) == getattr(usual, name) else f"{getattr(options, name)}" for name in names
    }


def data_of(
    now: Scene,
    options: DecodeOptions,
    vocab: Vocab,
    cap: int,
    answer: Sequence[int] | None,
    layer: int | None = None,
    n_layers: int = 0,
) -> dict[str, Any]:
    """A scene for the component. layer: see `layer_of`; then also how many there are."""
    tokens, beam = now.draft.tokens, options.method == "beam"
    last = len(tokens)
    drawn = [
        now.likely if i == last else None if beam else draw(place.logits, options, i)
        for i, place in enumerate(now.places)
    ]
    return {
        "vocab": [vocab.name(i) for i in range(len(vocab))],
        "tokens": tokens,
        "hand": sorted(now.draft.hand),
        "marks": verdict(tokens, answer),
        "answer": answer,
        "over": now.draft.ended or last >= cap,
        "capped": not now.draft.ended and last >= cap,
        "cap": cap,
        "places": [
            place_data(place, options, d, layer is not None) for place, d in zip(now.places, drawn, strict=True)
        ],
        "beams": None if now.steps is None else tree(now.steps, vocab, len(now.draft.fixed)),
        "layer": layer,
        "layers": n_layers,
        "width": options.beams,
        "rows": 6 if beam else 13,
        "t": texts(),
    }


def tempered(options: DecodeOptions) -> float:
    """Greedy looks at the plain probabilities; beam search at those of its temperature."""
    return 1.0 if options.method == "greedy" else options.temperature


def tree(steps: Sequence[Sequence[Beam]], vocab: Vocab, fixed: int) -> list[list[dict[str, Any]]]:
    """Hypotheses by step for the beam tree. best: on the way to the best one shown; alive: it still has a descendant there."""
    marks = [[False] * len(beams) for beams in steps]
    best = [[False] * len(beams) for beams in steps]
    for level in range(len(steps) - 1, -1, -1):
        for i, beam in enumerate(steps[level]):
            if level == len(steps) - 1:
                marks[level][i], best[level][i] = True, i == 0
            if level and marks[level][i]:
                marks[level - 1][beam.parent] = True
                best[level - 1][beam.parent] |= best[level][i]
    return [
        [
            {
                "token": vocab.name(beam.tokens[-1]),
                "text": [vocab.name(t) for t in beam.tokens],
                "score": round(beam.score, 4),
                "parent": beam.parent,
                "ended": beam.finished,
                "carried": len(beam.tokens) < fixed + level + 1,  # it ended at an earlier step
                "alive": marks[level][i],
                "best": best[level][i],
            }
            for i, beam in enumerate(beams)
        ]
        for level, beams in enumerate(steps)
    ]


def verdict(tokens: Sequence[int], answer: Sequence[int] | None) -> list[str]:
    """Token by token against the right answer (with its end token): "right" or "wrong"; "" where it is unknown."""
    if answer is None:
        return [""] * len(tokens)
    return ["right" if i < len(answer) and token == answer[i] else "wrong" for i, token in enumerate(tokens)]


def texts() -> dict[str, str]:
    """Everything the component says."""
    return {
        "play": _("Play"),
        "pause": _("Pause"),
        "next": _("Next token"),
        "back": _("Back"),
        "restart": _("Restart"),
        "finish": _("To the end"),
        "source": _("Source"),
        "output": _("Output"),
        "answer": _("Right answer"),
        "answer_unknown": _("not known for this text"),
        "start": _("Nothing written yet. Press “Next token”, or “Play” to watch."),
        "written": _("{n} tokens written; the next one is for position {next}."),
        "right": _("✓ Right: the output is the right answer."),
        "wrong": _("✗ Wrong: {n} tokens differ from the right answer."),
        "put_right": _("✎ Tokens you chose: {put}. All that the model wrote itself is right: it recovered."),
        "put_wrong": _("✎ Tokens you chose: {put}. Of the others {n} differ from the right answer."),
        "given": _("The beginning that you gave: {text}"),
        "ended": _("The model wrote the end token ⟨/s⟩: it is done."),
        "capped": _("⚠ Stopped at {n} tokens without an end token: this generation may never end."),
        "edited": _("chosen by you"),
        "chip": _("Position {i}: {token}. Click to see the choice made here, or to write another token."),
        "open": _("Position {i}: to be written next"),
        "bars_next": _("Probabilities of the next token, position {i}"),
        "bars_past": _("Probabilities at position {i}, where {token} was written"),
        "bars_help": _(
            "The last decoder output gives one number a token, the logit; softmax(logits / temperature) makes them "
            "probabilities. Top-k and top-p then set all but the likeliest to 0. · stands for padding, ⟨s⟩ for the start, ⟨/s⟩ for the end."
        ),
        "choose": _("Click a token to write it at this position; the rest is then written anew."),
        "bar": _("{token}: probability {p}\nlogit {logit}\nat temperature 1, without limits: {plain}"),
        "cut": _("cut off"),
        "will": _("will be written"),
        "would": _("would be drawn now"),
        "was": _("written"),
        "outline": _("outline: at temperature 1, without limits"),
        "more": _("{n} less likely tokens: in the table below"),
        "cross": _("Cross-attention used for position {i}"),
        "cross_help": _(
            "Which source tokens the decoder looked at as it computed these probabilities: one row of the cross-attention "
            "pattern for each layer and head. Each row adds up to 1."
        ),
        "sofar": _("So far: {row}"),
        "open_short": _("position {i}"),
        "mean": _("layer {layer}, mean of its heads"),
        "one": _("layer {layer}, head {head}"),
        "cell": _("{row}\nlooks at {token} (position {k}): {value}"),
        "layer": _("Layer"),
        "layer_help": _("The attention of one layer is shown; another is computed when you choose it."),
        "row": _("Shown large: {row}. Click a row to see it."),
        "beams": _("Beam search: the {beams} best hypotheses after each token"),
        "beams_help": _(
            "A score is the sum of the log probabilities of all tokens so far (0 is certain, lower is less likely). Thick: the "
            "best hypothesis. Faded: given up. Dashed: ended earlier and kept."
        ),
        "beams_start": _("Press “Next token”: the hypotheses appear here."),
        "node": _("{text}\nscore {score}, probability {p}"),
        "best": _("best"),
        "given_up": _("given up"),
        "was_ended": _("ended"),
        "table": _("The whole distribution as a table"),
        "column_token": _("token"),
        "column_p": _("probability"),
        "column_plain": _("at temperature 1"),
        "column_logit": _("logit"),
        "summary": _("Position {i}: {rows}"),
    }
