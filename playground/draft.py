"""The settings in the form: those of the run in view until a control is changed, then a draft of the next run.

A draft is plain nested data ({"model": {"n_heads": 4, …}, …}), so it may be wrong for a while; `check` says what is wrong.
In the URL stand only the settings that differ from the run in view. The sample that one sees first is the default run.
"""

import copy
import re
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from core.config import RunConfig
from core.messages import ConfigError
from core.read import build, fit
from playground import address, state
from playground.i18n import _
from playground.pairs import PairsError
from playground.presets import PRESETS, Settings
from playground.runs import branches, store, stretches
from playground.runs.store import Run
from playground.settings import words

# URL name -> part and field. The longest sequence follows from the task; pairs are too many for a URL.
URL_NAMES = {
    ("task" if (part, name) == ("task", "name") else name): (part, name)
    for part in ("task", "model", "train")
    for name in RunConfig.model_fields[part].annotation.model_fields  # type: ignore[union-attr]
    if (part, name) not in (("model", "max_len"), ("task", "pairs"))
}
BRANCH = "branch"  # in the URL: the saved step that the next run grows from
CHANGES_SHOWN = 4
NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?(e-?[0-9]{1,3})?")


@dataclass
class Draft:
    run_id: str
    base: Settings  # what the run in view was made with
    data: Settings
    version: int  # of the widgets: a new one makes them all anew, with the values of `data`
    written: dict[str, str] = field(default_factory=dict)  # what we put into the URL
    upload: str = ""  # the file in the uploader of this version, as Streamlit names it
    file: str = ""  # the name of the file that the pairs are from, to be shown
    refused: PairsError | None = None  # why the file in the uploader is not used
    made: dict[str, int] = field(
        default_factory=dict
    )  # how often a setting was set from outside its widget: a new one each time
    task_set: dict[str, Any] = field(default_factory=dict)  # what the choice of the task set
    task_kept: tuple[str, ...] = ()  # what it left as the person had made it
    valid: RunConfig | None = None  # the last configuration that could be trained
    brought: dict[str, Any] = field(default_factory=dict)  # settings, as "train.lr", that the branch brought with it
    branch: int | None = None  # the saved step of the run in view whose weights the next run begins with

    @property
    def changes(self) -> list[tuple[str, Any, Any]]:
        """("model.n_heads", 4, 8) for every setting that is no longer that of the run in view."""
        now, base = prepared(self.data), prepared(self.base)
        return [
            (f"{part}.{name}", base[part][name], value)
            for part in ("task", "model", "train")
            for name, value in now[part].items()
            if value != base[part][name] and (part, name) != ("model", "max_len")
        ]

    def load(self, data: Settings) -> None:
        self.data, self.version = copy.deepcopy(data), self.version + 1
        self.upload, self.file, self.refused = "", "", None
        self.made, self.task_set, self.task_kept = {}, {}, ()

    def put(self, name: str, value: Any) -> None:
        """Set one setting from outside its widget, which is made anew; the others stand as they are."""
        part, key = name.split(".")
        self.data[part][key], self.made[name] = value, self.made.get(name, 0) + 1

    def get(self, name: str) -> Any:
        part, key = name.split(".")
        return self.data[part][key]


def settings(config: RunConfig) -> Settings:
    data: Settings = config.model_dump(mode="json")
    return data


def preset_settings(index: int) -> Settings:
    data = settings(RunConfig())
    for part, values in PRESETS[index].settings.items():
        data[part] |= values
    return data


def matching_preset(data: Settings) -> int | None:
    wanted = prepared(data)
    return next((i for i in range(len(PRESETS)) if prepared(preset_settings(i)) == wanted), None)


def prepared(data: Settings) -> Settings:
    """The data as a run would get it: what a control that is not shown was set to before does not count."""
    model, task, train = ({**data[part]} for part in ("model", "task", "train"))
    if task["name"] != "pairs":
        task["pairs"] = []
    if model["positions"] not in ("integer", "unit"):
        model["position_placement"] = "every_dimension"
    return fit({"model": model, "task": task, "train": train})


def check(data: Settings) -> tuple[RunConfig | None, dict[str, str]]:
    """The configuration, or the sentences that say what is wrong, by field."""
    try:
        return build(prepared(data)), {}
    except ConfigError as error:
        return None, {p.loc: _(p.template).format(**p.values) for p in error.problems}


def check_draft(draft: Draft) -> tuple[RunConfig | None, dict[str, str]]:
    """As `check`; and of a branch, what the weights it begins with do not allow."""
    config, problems = check(draft.data)
    parent = store.find(draft.run_id) if draft.branch is not None else None
    if config is None or parent is None:
        return config, problems
    if fixed := branches.branch_problems(parent.config, config):
        return None, {loc: _(branches.KEEPS) for loc in fixed}
    if draft.branch is not None and config.train.steps <= draft.branch:
        return None, {"train.steps": _(branches.TOO_SHORT).format(step=draft.branch)}
    return config, {}


def follow(run: Run) -> Draft:
    """The draft of this session, brought in line with the run in view and with what stands in the URL."""
    draft: Draft | None = st.session_state.get("draft")
    asked = {name: st.query_params[name] for name in (*URL_NAMES, BRANCH) if name in st.query_params}
    if draft is None or draft.run_id != run.id:
        base = settings(run.config)
        if run.is_sample:  # where somebody else computed it says nothing about this computer
            base["train"]["device"] = RunConfig().train.device
        draft = Draft(run.id, base, base, draft.version if draft else 0, {})
        st.session_state["draft"] = draft
        take(draft, run, asked)
    elif asked != draft.written and (asked or not state.page_changed()):  # a link, or the back button
        take(draft, run, asked)
    return draft


def take(draft: Draft, run: Run, asked: dict[str, str]) -> None:
    """What stands in the URL becomes the draft. A branch from its end gets as many steps again as the run has."""
    text, settings_asked = asked.get(BRANCH, ""), {name: text for name, text in asked.items() if name != BRANCH}
    saved = run.saved_steps()
    draft.branch = int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) in saved else None
    if text and draft.branch is None:
        state.notice_bad_url(BRANCH)
    draft.load(apply(draft.base, settings_asked))
    draft.brought = {}
    if draft.branch is not None and "lr" not in asked:
        draft.brought["train.lr"] = branches.peak(run, draft.branch)  # a person may have set another
    steps = draft.data["train"]["steps"]
    if draft.branch is not None and "steps" not in asked and isinstance(steps, int) and steps <= draft.branch:
        draft.brought["train.steps"] = min(stretches.MOST_STEPS, draft.branch + draft.base["train"]["steps"])
    for name, value in draft.brought.items():
        draft.put(name, value)


def start(config: RunConfig) -> None:
    """Put a configuration into the form as a draft, for the Train page to show next."""
    run = state.current_run()
    draft = follow(run)
    draft.branch = None
    draft.load(settings(config))
    draft.written = {}


def write_url(draft: Draft) -> None:
    """Put the changed settings into the URL, take out the others."""
    values = {name: draft.data[part][key] for name, (part, key) in URL_NAMES.items()}
    base = {name: draft.base[part][key] for name, (part, key) in URL_NAMES.items()}
    wanted = {name: url_text(value) for name, value in values.items() if value != base[name]}
    if draft.branch is not None:
        wanted[BRANCH] = str(draft.branch)
    draft.written = wanted
    address.put({name: wanted.get(name) for name in (*URL_NAMES, BRANCH)})


def url_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def apply(base: Settings, asked: dict[str, str]) -> Settings:
    """The settings with those of the URL. What cannot be used is left out, with a notice."""
    data = copy.deepcopy(base)
    good: dict[str, tuple[str, str]] = {}
    for name, text in asked.items():
        part, key = URL_NAMES[name]
        value = url_value(text, base[part][key])
        if value is None or len(st.query_params.get_all(name)) > 1:
            state.notice_bad_url(name)
        else:
            data[part][key], good[name] = value[0], (part, key)
    while good and (problems := check(data)[1]):
        # Those at fault themselves; or, where a fault lies elsewhere (lengths that no longer fit …), all: it came from them.
        for name in [name for name, (part, key) in good.items() if f"{part}.{key}" in problems] or list(good):
            part, key = good.pop(name)
            data[part][key] = base[part][key]
            state.notice_bad_url(name, problems.get(f"{part}.{key}") or " ".join(problems.values()))
    return data


def url_value(text: str, like: object) -> tuple[Any] | None:
    """A setting from its text, of the kind that the form has there; None if it is of another kind."""
    if len(text) > state.MAX_URL_VALUE:
        return None
    if isinstance(like, bool):
        return ({"true": True, "false": False}[text],) if text in ("true", "false") else None
    if isinstance(like, str):
        return (text,)
    if text == "none":
        return (None,) if like is None else None
    if not NUMBER.fullmatch(text):
        return None
    if isinstance(like, int):
        return (int(text),) if text.lstrip("-").isdigit() else None
    return (float(text),)


def changes_text(draft: Draft) -> str:
    """The changes of a draft in short words, the first few."""
    changes = draft.changes
    listed = ", ".join(
        f"{words.short(name)} {change_text(name, old, new)}" for name, old, new in changes[:CHANGES_SHOWN]
    )
    return listed + (
        " " + _("and {n} more").format(n=len(changes) - CHANGES_SHOWN) if len(changes) > CHANGES_SHOWN else ""
    )


def change_text(name: str, old: object, new: object) -> str:
    return f"{words.shown(name, old)} → {words.shown(name, new)}"
