"""The controls: configuration fields become widgets, with the bounds and the help that stand in the field."""

import types
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic.fields import FieldInfo

from core.config import RunConfig
from core.messages import ConfigError
from core.tasks import TASKS
from core.train import pick_device
from playground import estimate
from playground.draft import Draft, check, matching_preset, prepared, preset_settings
from playground.i18n import N_, _
from playground.pairs import MAX_TEXT, PairsError, parse
from playground.presets import PRESETS
from playground.settings import words
from playground.settings.words import IN_FORM
from playground.text import plain

MORE_PAIRS = N_("Upload at least 10 pairs to train on.")
WIDTHS = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # d_model; any other can be typed


def form(draft: Draft) -> RunConfig | None:
    """Draw all controls of a draft, put what was changed into it; the configuration, or None if something is wrong."""
    gather(draft)
    config, problems = check(draft.data)
    preset_control(draft)
    task, fixed = draft.data["task"]["name"], prepared(draft.data)["model"]["n_symbols"]
    left, right = st.columns([3, 2])
    control(left, draft, "task.name", problems)
    if task in ("add", "pairs"):
        help_text = _("The task itself decides how many symbols there are.")
        right.text_input(
            words.label("model.n_symbols"), str(fixed), key=f"fixed#{task}#{fixed}", disabled=True, help=help_text
        )
    else:
        control(right, draft, "model.n_symbols", problems)
    explain_task(task)
    if task == "pairs":
        upload(draft, problems)
    else:
        row(draft, problems, "task.min_len", "task.max_len")
    row(draft, problems, "model.d_model", "model.n_heads")
    row(draft, problems, "model.n_layers", "model.d_ff")
    if draft.data["model"]["positions"] in ("integer", "unit"):
        row(draft, problems, "model.positions", "model.position_placement")
        row(draft, problems, "model.norm", "model.scale")
    else:
        row(draft, problems, "model.positions", "model.norm")
        row(draft, problems, "model.scale", "model.dropout")
    row(draft, problems, "model.causal_mask", "model.padding_mask")
    cost(config)
    row(draft, problems, "train.steps", "train.batch_size")
    row(draft, problems, "train.lr", "train.warmup")
    row(draft, problems, "train.seed", "train.device")
    with st.expander(_("Advanced")):
        if draft.data["model"]["positions"] in ("integer", "unit"):
            control(st, draft, "model.dropout", problems)
        row(draft, problems, "train.schedule", "model.activation")
        row(draft, problems, "train.weight_decay", "train.clip")
        row(draft, problems, "train.eval_every", "train.stop_at_exact_match")
    drawn = {*IN_FORM, "task.pairs"}
    for loc, sentence in problems.items():  # at no field of this form
        if loc not in drawn:
            st.error(plain(sentence))
    return config if config and not too_large(config) else None


def row(draft: Draft, problems: dict[str, str], *names: str) -> None:
    for column, name in zip(st.columns(len(names)), names, strict=True):
        control(column, draft, name, problems)


def key_of(draft: Draft, name: str) -> str:
    """Widgets of another version are other widgets; so are the heads of another width."""
    return f"{name}#{draft.version}" + (f"#{draft.data['model']['d_model']}" if name == "model.n_heads" else "")


def asked_for(draft: Draft) -> RunConfig | None:
    """What the widgets ask for at this moment; None while something in them is wrong.

    A callback calls this when it runs: a number typed and a tap on Train come in one message, and what the last run of the
    script had found is the number before.
    """
    gather(draft)
    config = check(draft.data)[0]
    return config if config and not too_large(config) else None


def why_not(draft: Draft) -> str:
    """Why these settings cannot be trained, in one sentence; empty if they can."""
    if draft.refused is not None:
        return draft.refused.sentence
    config, problems = check(draft.data)
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
    keys = {name: key_of(draft, name) for name in IN_FORM}  # all at once: a new width makes other heads
    for name, widget in keys.items():
        part, key = name.split(".")
        if widget not in st.session_state:
            continue
        value = st.session_state[widget]
        if isinstance(value, str) and name == "model.d_model":
            value = int(value) if value.strip().isdecimal() and len(value) < 8 else value
        if value is not None or name == "train.stop_at_exact_match":
            draft.data[part][key] = value
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


def heads_for(d_model: object) -> list[int]:
    """The numbers of heads that divide this width: what the form offers."""
    bound = limits(field_of("model.n_heads"))[1]
    return [h for h in range(1, int(bound) + 1) if d_model % h == 0] if isinstance(d_model, int) and d_model > 0 else []


def field_of(name: str) -> FieldInfo:
    part, key = name.split(".")
    found: FieldInfo = RunConfig.model_fields[part].annotation.model_fields[key]  # type: ignore[union-attr]
    return found


def limits(info: FieldInfo) -> tuple[Any, Any]:
    """The bounds a number must keep, where they belong to the allowed numbers."""
    bounds = {kind: getattr(m, kind) for m in info.metadata for kind in ("ge", "le") if hasattr(m, kind)}
    return bounds.get("ge"), bounds.get("le")


def control(place: Any, draft: Draft, name: str, problems: dict[str, str]) -> None:
    """One widget of the kind that the field asks for, and below it what is wrong with its value."""
    part, key = name.split(".")
    info, value = field_of(name), draft.data[part][key]
    label, help_text = words.label(name), _(info.description or "")
    common: dict[str, Any] = {"key": key_of(draft, name), "help": help_text}
    kind = info.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(k for k in get_args(kind) if k is not type(None))
    if name == "model.d_model":
        options = sorted({*WIDTHS, value}) if isinstance(value, int) else [*WIDTHS, value]
        place.selectbox(label, options, options.index(value), accept_new_options=True, **common)
    elif name == "model.n_heads":
        heads = heads_for(draft.data["model"]["d_model"]) or [value]
        place.selectbox(label, heads, heads.index(value) if value in heads else 0, **common)
    elif get_origin(kind) is Literal:
        choices = list(get_args(kind))
        index = choices.index(value) if value in choices else 0
        place.selectbox(label, choices, index, format_func=partial(words.shown, name), **common)
    elif kind is bool:
        place.checkbox(label, value, **common)
    else:
        number = int if kind is int else float
        # No bounds: the browser would keep a number outside them to itself, and Train would take the one before it.
        place.number_input(
            label,
            value=value if value is None else number(value),
            step=number(words.SETTINGS[name].step),
            format=None if kind is int else "%g",
            placeholder=words.shown(name, None) if value is None else None,
            **common,
        )
    if name in problems:
        place.markdown(f":red[{plain(problems[name])}]")
    elif name == "train.device" and value != "auto" and pick_device(value).type != value:
        place.caption(_("Not found here: the CPU will be used."))


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
        help="\n".join(f"- **{_(p.name)}** {_(p.sentence)}" for p in PRESETS),
    )


def explain_task(name: str) -> None:
    task = TASKS[name]
    source, target = task.example
    st.caption(f"{_(task.explanation)} {source} → {target}")


def uploader_key(draft: Draft) -> str:
    return f"csv#{draft.version}"


def upload(draft: Draft, problems: dict[str, str]) -> None:
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
    if sentence := problems.get("task.pairs"):
        st.markdown(f":red[{plain(sentence)}]" if pairs else _(MORE_PAIRS))


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
