"""What a choice of the task brings with it: the settings that teach it, where the person has not made their own."""

from typing import Any

from core.config import RunConfig
from playground.draft import URL_NAMES, Draft, check, prepared, settings
from playground.i18n import N_, _
from playground.runs import branches
from playground.settings import scales, words
from playground.settings.recipes import settings_for

OWN_SYMBOLS = ("add", "pairs")  # these tasks decide themselves how many symbols there are
LENGTHS = ("task.min_len", "task.max_len")
NAMES = tuple(f"{part}.{key}" for part, key in URL_NAMES.values() if (part, key) != ("task", "name"))


def usual(task: str) -> dict[str, Any]:
    """Every setting but the task as it is for whoever chooses the task and changes nothing: "train.lr" -> 0.008."""
    data = settings(RunConfig())
    for part, values in settings_for(task).items():
        data[part] |= values
    return {name: data[name.split(".")[0]][name.split(".")[1]] for name in NAMES}


def choose_task(draft: Draft, task: str) -> None:
    """The settings of the old task become those of the new one. What differs from the old ones the person has made: it stays,
    unless the new task cannot be trained with it; the form says both.
    """
    old, new, before = draft.data["task"]["name"], usual(task), usual(draft.data["task"]["name"])
    fixed = prepared(draft.data)["model"]["n_symbols"] if old in OWN_SYMBOLS else None
    draft.data["task"]["name"], draft.task_set, kept = task, {}, []
    for name in NAMES:
        if draft.branch is not None and name in branches.FIXED:
            continue
        now = draft.get(name)
        if now == new[name] or (name == "model.n_symbols" and task in OWN_SYMBOLS):
            continue
        if now == before[name] or (name == "model.n_symbols" and now == fixed):
            set_to(draft, name, new[name])
        elif new[name] != before[name]:
            kept.append(name)
    if problems := {loc for loc in check(draft.data)[1] if loc in LENGTHS}:
        for name in LENGTHS:
            if problems and draft.get(name) != new[name]:
                set_to(draft, name, new[name])
    draft.task_kept = tuple(name for name in kept if name not in draft.task_set)


def set_to(draft: Draft, name: str, value: Any) -> None:
    draft.put(name, value)
    draft.task_set[name] = value


def told(draft: Draft) -> str:
    """What the choice of the task did, as far as it still stands; empty if nothing."""
    task, parts = draft.data["task"]["name"], []
    stands = {name: value for name, value in draft.task_set.items() if draft.get(name) == value}
    if set(stands) & set(LENGTHS):
        low, high = (draft.get(name) for name in LENGTHS)
        parts.append(_("lengths {low} to {high}").format(low=low, high=high))
    parts += [
        f"{words.short(name)} {scales.text(value) if name in words.SLIDERS else words.shown(name, value)}"
        for name, value in stands.items()
        if name not in LENGTHS
    ]
    sentences = []
    if parts:
        sentences.append(
            _("Set for {task}: {settings}.").format(task=words.shown("task.name", task), settings=", ".join(parts))
        )
    if kept := [name for name in draft.task_kept if draft.get(name) != usual(task)[name]]:
        listed = ", ".join(words.short(name) for name in kept)
        sentences.append(_("Kept as you set it: {settings}.").format(settings=listed))
    return " ".join(sentences)


def without_effect(config: RunConfig) -> dict[str, str]:
    """Settings that change nothing, or less than they seem to: one sentence each, to stand at the field."""
    model, task, train = config.model, config.task, config.train
    found: dict[str, str] = {}
    if train.warmup >= train.steps:
        found["train.warmup"] = _(WARMUP)
    if model.n_heads == 1 and model.scale == "sqrt_d_model":
        found["model.scale"] = _(ONE_HEAD)
    one_length = task.min_len == task.max_len and task.name in ("copy", "reverse", "sort", "shift", "caesar")
    if one_length and not model.padding_mask:
        found["model.padding_mask"] = _(NO_PADDING)
    if train.eval_every >= train.steps:
        found["train.eval_every"] = _(ONE_TEST)
    return found


WARMUP = N_("Warm-up fills the whole run: the schedule never begins.")
ONE_HEAD = N_("With one head d_k is d_model: this is the same as √d_k.")
NO_PADDING = N_("All strings have one length, so there is no padding to mask.")
ONE_TEST = N_("The only test is the one at the last step.")
