"""The controls: configuration fields become widgets, with the bounds and the help that stand in the field."""

import types
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st

from core.config import RunConfig
from core.messages import ConfigError
from core.tasks import TASKS, Data
from core.train import pick_device
from playground import estimate
from playground.draft import Draft, check_draft, matching_preset, prepared, preset_settings
from playground.i18n import N_, _, ngettext
from playground.pairs import MAX_TEXT, PairsError, parse
from playground.presets import PRESETS
from playground.runs import branches
from playground.settings import scales, usual, words
from playground.settings.scales import field_of, heads_for
from playground.settings.words import IN_FORM, SLIDERS
from playground.text import plain

MORE_PAIRS = N_("Upload at least 10 pairs to train on.")
# Numbers as words: small, regular enough to learn something, irregular enough to be fun.
ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SAMPLE = "".join(
    f"{n},{ONES[n] if n < 20 else TENS[n // 10 - 2] + (ONES[n % 10] if n % 10 else '')}\n" for n in range(100)
)
LENGTHS = usual.LENGTHS  # two settings, one slider with two ends


def form(draft: Draft) -> RunConfig | None:
    """Draw all controls of a draft, put what was changed into it; the configuration, or None if something is wrong."""
    gather(draft)
    config, problems = check_draft(draft)
    notes = usual.without_effect(config) if config else {}
    preset_control(draft)
    task = draft.data["task"]["name"]
    control(st, draft, "task.name", problems)
    explain_task(draft)
    left, right = st.columns(2)
    symbols(left, draft, problems)
    if task == "pairs":
        upload(draft, problems, config)
    else:
        lengths(right, draft, problems)
    row(draft, problems, "model.d_model", "model.n_heads")
    row(draft, problems, "model.n_layers", "model.d_ff")
    placed = draft.data["model"]["positions"] in ("integer", "unit")
    if placed:
        row(draft, problems, "model.positions", "model.position_placement")
        row(draft, problems, "model.norm", "model.scale")
    else:
        row(draft, problems, "model.positions", "model.norm")
        row(draft, problems, "model.scale", "model.dropout")
    row(draft, problems, "model.causal_mask", "model.padding_mask")
    say(notes, "model.scale", "model.padding_mask")
    cost(config)
    row(draft, problems, "train.steps", "train.batch_size")
    row(draft, problems, "train.lr", "train.warmup")
    say(notes, "train.warmup")
    row(draft, problems, "train.seed", "train.device")
    with st.expander(_("Advanced")):
        if placed:
            control(st, draft, "model.dropout", problems)
        row(draft, problems, "train.schedule", "model.activation")
        row(draft, problems, "train.weight_decay", "train.clip")
        row(draft, problems, "train.eval_every", "train.stop_at_exact_match")
        say(notes, "train.eval_every")
        exact_values(draft)
    drawn = {*IN_FORM, "task.pairs"}
    for loc, sentence in problems.items():  # at no field of this form
        if loc not in drawn:
            st.error(plain(sentence))
    usable = config if config and not too_large(config) else None
    draft.valid = usable or draft.valid
    return usable


def row(draft: Draft, problems: dict[str, str], *names: str) -> None:
    for column, name in zip(st.columns(len(names)), names, strict=True):
        control(column, draft, name, problems)


def say(notes: dict[str, str], *names: str) -> None:
    for name in names:
        if name in notes:
            st.caption(notes[name])


def key_of(draft: Draft, name: str) -> str:
    """Widgets of another version are other widgets; so are those of a value set from outside, and the heads of another width."""
    key = f"{name}#{draft.version}"
    if made := draft.made.get(name, 0) + (draft.made.get(LENGTHS[1], 0) if name == LENGTHS[0] else 0):
        key += f".{made}"
    return key + (f"#{draft.data['model']['d_model']}" if name == "model.n_heads" else "")


def exact_key(draft: Draft, name: str) -> str:
    """The box of an exact value is another one for every value: what it holds is either in force or was just typed."""
    return f"exact.{name}#{draft.version}.{draft.made.get(name, 0)}#{draft.get(name)}"


def asked_for(draft: Draft) -> RunConfig | None:
    """What the widgets ask for at this moment; None while something in them is wrong.

    A callback calls this when it runs: a number typed and a tap on Train come in one message, and what the last run of the
    script had found is the number before.
    """
    gather(draft)
    config = check_draft(draft)[0]
    return config if config and not too_large(config) else None


def why_not(draft: Draft) -> str:
    """Why these settings cannot be trained, in one sentence; empty if they can."""
    if draft.refused is not None:
        return draft.refused.sentence
    config, problems = check_draft(draft)
    if config is not None:
        return too_large(config)
    loc, sentence = next(iter(problems.items()))
    return _(MORE_PAIRS) if loc == "task.pairs" and not draft.data["task"]["pairs"] else sentence


def gather(draft: Draft) -> None:
    """What people changed since the last run of the script goes into the draft."""
    chosen, now = st.session_state.get(preset_key(draft)), matching_preset(draft.data)
    if chosen is not None and chosen != now:
        draft.load(preset_settings(chosen))
        return
    task = draft.data["task"]["name"]
    typed = {name: now for name in SLIDERS if (now := st.session_state.get(exact_key(draft, name))) is not None}
    typed = {name: value for name, value in typed.items() if value != draft.get(name)}
    keys = {
        name: key_of(draft, name) for name in IN_FORM if name != LENGTHS[1]
    }  # all at once: a new width makes other heads
    for name, widget in keys.items():
        part, key = name.split(".")
        if widget not in st.session_state:
            continue
        value = st.session_state[widget]
        if name == LENGTHS[0]:
            draft.data["task"]["min_len"], draft.data["task"]["max_len"] = value
        elif name == "task.name":
            task = value or task
        elif value is not None or name == "train.stop_at_exact_match":
            draft.data[part][key] = value
    for name, value in typed.items():
        draft.put(name, value)
    if task != draft.data["task"]["name"]:  # last: what was changed in the same moment is the person's own
        usual.choose_task(draft, task)
    model = draft.data["model"]
    if (offered := heads_for(model["d_model"])) and model["n_heads"] not in offered:
        model["n_heads"] = min(offered, key=lambda heads: abs(heads - model["n_heads"]))
    gather_pairs(draft)


def gather_pairs(draft: Draft) -> None:
    """The pairs in force are those of the file that the uploader shows: none of it while it is refused; without a file, those
    of the run in view. An uploader that was just made is empty, which says nothing.
    """
    key = uploader_key(draft)
    if key not in st.session_state:
        draft.upload = ""
        return
    file = st.session_state[key]
    found = file.file_id if file is not None else ""
    if found == draft.upload:
        return
    draft.upload, draft.file, draft.refused = found, "", None
    if file is None:
        draft.data["task"]["pairs"] = draft.base["task"]["pairs"]
        return
    try:
        draft.data["task"]["pairs"], draft.file = [list(pair) for pair in parse(file.getvalue())], file.name
    except PairsError as error:
        draft.data["task"]["pairs"], draft.refused = [], error


def control(place: Any, draft: Draft, name: str, problems: dict[str, str]) -> None:
    """One widget of the kind that the field asks for, and below it what is wrong with its value."""
    part, key = name.split(".")
    info, value = field_of(name), draft.data[part][key]
    label, help_text = words.label(name), _(info.description or "")
    common: dict[str, Any] = {"key": key_of(draft, name), "help": help_text}
    if fixed(draft, name):
        common |= {"disabled": True, "help": _(branches.KEEPS)}
    kind = info.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(k for k in get_args(kind) if k is not type(None))
    if name in SLIDERS:
        slider(place, draft, name, common)
    elif get_origin(kind) is Literal:
        choices = list(get_args(kind))
        index = choices.index(value) if value in choices else 0
        place.selectbox(label, choices, index, format_func=partial(words.shown, name), **common)
    elif kind is bool:
        place.toggle(label, value, **common)
    else:
        number_box(place, name, value, words.label(name), common)
    if name in problems:
        place.markdown(f":red[{plain(problems[name])}]")
    elif name == "train.device" and value != "auto" and pick_device(value).type != value:
        place.caption(_("Not found here: the CPU will be used."))


def fixed(draft: Draft, name: str) -> bool:
    """Is the setting that of the parent, because a branch begins with its weights?"""
    return draft.branch is not None and name in branches.FIXED


def slider(place: Any, draft: Draft, name: str, common: dict[str, Any]) -> None:
    """Its stops, and among them the value of the run in view and the one in force, wherever that came from."""
    value, label = draft.get(name), words.label(name)
    part, key = name.split(".")
    if name == "model.n_heads":
        options = heads_for(draft.data["model"]["d_model"]) or [value]
    else:
        options = scales.stops(name, (draft.base[part][key], value))
    if len(options) > 1:
        place.select_slider(
            label, options, value if value in options else options[0], format_func=scales.text, **common
        )
    else:  # a slider needs two ends
        only = _("{heads}: d_model cannot be split").format(heads=value)
        place.text_input(label, only, key=f"fixed.{name}#{only}", disabled=True, help=common["help"])


def lengths(place: Any, draft: Draft, problems: dict[str, str]) -> None:
    task, now = draft.data["task"]["name"], tuple(draft.get(name) for name in LENGTHS)
    label = _("Digits") if task == "add" else _("Length")
    was = draft.base["task"]
    if now[0] > now[1]:  # typed so
        place.text_input(label, f"{now[0]} – {now[1]}", key=f"fixed.lengths#{now}", disabled=True)
    in_use = (*now, was["min_len"], was["max_len"]) if was["name"] == task else now
    if now[0] <= now[1]:
        place.select_slider(
            label,
            scales.stops(LENGTHS[1], in_use, task),
            now,
            format_func=scales.text,
            key=key_of(draft, LENGTHS[0]),
            help=_("Shortest and longest number to add, in digits.")
            if task == "add"
            else _("Shortest and longest source string, in symbols."),
        )
    for name in LENGTHS:
        if name in problems:
            place.markdown(f":red[{plain(problems[name])}]")


def symbols(place: Any, draft: Draft, problems: dict[str, str]) -> None:
    task = draft.data["task"]["name"]
    if task not in usual.OWN_SYMBOLS:
        control(place, draft, "model.n_symbols", problems)
        return
    fixed = prepared(draft.data)["model"]["n_symbols"]
    help_text = _("The task itself decides how many symbols there are.")
    place.text_input(
        words.label("model.n_symbols"), str(fixed), key=f"fixed#{task}#{fixed}", disabled=True, help=help_text
    )


def exact_values(draft: Draft) -> None:
    """Any value between the stops of a slider. The slider of the heads has them all."""
    task = draft.data["task"]["name"]
    unused = {"model.n_heads"} | ({"model.n_symbols"} if task in usual.OWN_SYMBOLS else set())
    unused |= set(LENGTHS) if task == "pairs" else set()
    with st.popover(_("Type exact values"), width="stretch"):
        columns = st.columns(3)
        for i, name in enumerate(name for name in SLIDERS if name not in unused):
            label = _("{setting}, exact").format(setting=words.label(name))
            number_box(
                columns[i % 3],
                name,
                draft.get(name),
                label,
                {"key": exact_key(draft, name), "disabled": fixed(draft, name)},
            )


def number_box(place: Any, name: str, value: Any, label: str, common: dict[str, Any]) -> None:
    """No bounds: the browser would keep a number outside them to itself, and Train would take the one before it."""
    number = int if field_of(name).annotation is int else float
    place.number_input(
        label,
        value=value if value is None else number(value),
        step=number(words.SETTINGS[name].step),
        format=None if number is int else "%g",
        placeholder=words.shown(name, None) if value is None else None,
        **common,
    )


def preset_key(draft: Draft) -> str:
    return f"preset#{draft.version}#{matching_preset(draft.data)}"  # changed by hand: another box, which says so


def preset_control(draft: Draft) -> None:
    st.selectbox(
        _("Preset"),
        range(len(PRESETS)),
        matching_preset(draft.data),
        format_func=lambda index: _(PRESETS[index].name),
        key=preset_key(draft),
        placeholder=_("Your own settings"),
        disabled=draft.branch is not None,
        help="\n".join(f"- **{_(p.name)}** {_(p.sentence)}" for p in PRESETS),
    )


def explain_task(draft: Draft) -> None:
    task = TASKS[draft.data["task"]["name"]]
    source, target = task.example
    st.caption(f"{_(task.explanation)} {source} → {target}")
    if sentence := usual.told(draft):
        st.caption(plain(sentence))


def uploader_key(draft: Draft) -> str:
    return f"csv#{draft.version}"


def upload(draft: Draft, problems: dict[str, str], config: RunConfig | None) -> None:
    """A CSV becomes the pairs of the draft (see `gather_pairs`). Below it: what is in force, or why nothing is."""
    help_text = _("Two columns, source and target, at most {limit} symbols each.").format(limit=MAX_TEXT)
    st.file_uploader(_("Pairs as CSV"), "csv", key=uploader_key(draft), help=help_text, max_upload_size=1)
    pairs = draft.data["task"]["pairs"]
    if draft.refused is not None:
        st.markdown(f":red[{plain(draft.refused.sentence)}]")
        st.caption(_("No pairs are in use: mend the file and upload it again, or remove it."))
        return
    if pairs:
        source, target = pairs[0]
        first = f"{source[:12]} → {target[:12]}"
        if draft.file:
            text = _("{file}: {n} pairs, the first: {pair}").format(
                file=plain(draft.file[-40:]), n=len(pairs), pair=plain(first)
            )
        elif pairs == draft.base["task"]["pairs"]:
            text = _("{n} pairs of the run in view, the first: {pair}").format(n=len(pairs), pair=plain(first))
        else:
            text = _("{n} pairs, the first: {pair}").format(n=len(pairs), pair=plain(first))
        st.caption(text)
        if config is not None:
            kept = kept_apart(config)
            st.caption(
                ngettext(
                    "{n} of them is kept for the test and never trained on.",
                    "{n} of them are kept for the test and never trained on.",
                    kept,
                ).format(n=kept)
            )
    else:
        st.caption(_("One pair a line, for example: one,uno. Until you press Train, a reload forgets the file."))
        st.download_button(
            _("A sample (.csv)"), SAMPLE, "pairs.csv", "text/csv", key="csv.sample", on_click="ignore", type="tertiary"
        )
    if sentence := problems.get("task.pairs"):
        st.markdown(f":red[{plain(sentence)}]" if pairs else _(MORE_PAIRS))


@st.cache_data(max_entries=32, show_spinner=False)
def kept_apart(config: RunConfig) -> int:
    """How many pairs the run is never trained on."""
    return int(Data(config).pairs_unseen.sum())


def cost(config: RunConfig | None) -> None:
    """Parameters and memory, at once; a warning where it is much, the reason where it is too much."""
    if config is None:
        st.caption(_("The size of the model appears here once these settings can be used."))
        return
    n, size, seconds = estimate.parameters(config), estimate.memory(config), estimate.step_seconds(config)
    st.caption(_("**{n}** parameters · **{size}** to train").format(n=f"{n:,}", size=estimate.size(size)))
    if sentence := too_large(config):
        st.error(sentence)
    elif seconds > estimate.LARGE_STEP or size > estimate.LARGE_MEMORY:
        sentence = _("A large model: without a GPU about {step} a step, {all} for {steps} steps.")
        whole = estimate.duration(seconds * config.train.steps)
        st.warning(sentence.format(step=estimate.duration(seconds), all=whole, steps=config.train.steps))


def too_large(config: RunConfig) -> str:
    """Why this computer cannot train it, or nothing."""
    try:
        estimate.refuse_too_large(config)
    except ConfigError as error:
        return " ".join(_(p.template).format(**p.values) for p in error.problems)
    return ""
