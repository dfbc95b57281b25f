"""The words of settings and states stand in one table each, and none is missing."""

import ast
import types
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest

import playground
from core.config import RunConfig
from core.tasks import TASKS
from playground.differences import flat
from playground.runs import states, store
from playground.settings import words

ROOT = Path(playground.__file__).parent
SETTINGS = [
    (f"{part}.{name}", field.annotation)
    for part in ("task", "model", "train")
    for name, field in RunConfig.model_fields[part].annotation.model_fields.items()  # type: ignore[union-attr]
]
CHOICES = [(name, choice) for name, kind in SETTINGS if get_origin(kind) is Literal for choice in get_args(kind)]


def test_every_setting_has_its_words_and_no_other_has() -> None:
    assert set(words.SETTINGS) == {name for name, _kind in SETTINGS} == set(flat(RunConfig()))
    assert all(setting.short for setting in words.SETTINGS.values())
    assert set(words.SETTINGS) - set(words.IN_FORM) == {"model.max_len", "task.pairs"}  # fitted to the task; uploaded


@pytest.mark.parametrize(("name", "choice"), CHOICES)
def test_every_choice_has_a_word(name: str, choice: str) -> None:
    if name == "task.name":
        assert words.shown(name, choice) == TASKS[choice].title
    else:
        assert words.shown(name, choice) == words.SETTINGS[name].choices[choice] != ""


def test_no_word_is_left_of_a_choice_that_is_gone() -> None:
    known = {(name, choice) for name, setting in words.SETTINGS.items() for choice in setting.choices}
    assert known == {(name, choice) for name, choice in CHOICES if name != "task.name"}


@pytest.mark.parametrize("name", words.SETTINGS)
def test_choices_of_a_setting_can_be_told_apart(name: str) -> None:
    choices = words.SETTINGS[name].choices
    assert len(set(choices.values())) == len(choices)


def test_settings_can_be_told_apart() -> None:
    for called in (words.short, words.options):
        assert len({called(name) for name in words.SETTINGS}) == len(words.SETTINGS)
    assert len({words.label(name) for name in words.IN_FORM}) == len(words.IN_FORM)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("train.lr", 8e-3, "0.008"),
        ("train.lr", 8e-5, "0.00008"),  # beside 0.00024: one style
        ("train.lr", 1e-30, "1e-30"),
        ("train.steps", 1_000_000, "1000000"),
        ("model.causal_mask", False, "off"),
        ("model.padding_mask", True, "on"),
        ("train.stop_at_exact_match", None, "off"),
        ("task.pairs", (("a", "b"), ("c", "d")), "2"),
        ("task.pairs", [["a", "b"]], "1"),
        ("task.name", "nonsense", "nonsense"),
        ("model.d_model", "none", "none"),  # typed: no choice of this setting
        ("train.device", "cuda", "GPU (CUDA)"),
    ],
)
def test_values_as_people_read_them(name: str, value: Any, text: str) -> None:
    assert words.shown(name, value) == text


def test_only_a_setting_that_can_be_off_is_without_a_value() -> None:
    optional = [
        name for name, kind in SETTINGS if get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind)
    ]
    assert optional == ["train.stop_at_exact_match"]  # shown as "off"


@pytest.mark.parametrize("name", store.STATES)
def test_every_state_has_all_its_words(name: str) -> None:
    state = states.STATES[name]
    assert all(getattr(state, part.name) for part in fields(state) if part.name != "phase")
    assert states.word(name) == f"{state.sign} {state.word}"


def test_states_can_be_told_apart_and_every_one_but_a_draft_is_active_or_over() -> None:
    for part in ("sign", "word", "board", "sentence"):
        assert len({getattr(state, part) for state in states.STATES.values()}) == len(states.STATES)
    assert ("draft", *store.ACTIVE, *store.ENDED) == store.STATES
    assert store.ACTIVE == ("queued", "running", "paused")
    assert store.ENDED == ("finished", "stopped", "failed", "interrupted")


def tables(keys: set[str], least: int) -> Iterator[str]:
    """The files of the app with a dict that has so many of these keys: a configuration that is patched has one or two."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):
                found = {key.value for key in node.keys if isinstance(key, ast.Constant)}
                if len(keys & found) >= least:
                    yield path.relative_to(ROOT).as_posix()


def test_there_is_one_table_of_settings() -> None:
    assert list(tables(set(words.SETTINGS), 3)) == ["settings/words.py"]


def test_there_is_one_table_of_states() -> None:
    assert list(tables(set(states.STATES), 3)) == ["runs/states.py"]


def test_the_tables_need_neither_streamlit_nor_torch() -> None:
    """They stand below everything: they import core and the translations only."""
    for path in (ROOT / "settings" / "words.py", ROOT / "runs" / "states.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        ours = {name for name in imported if name and name.split(".")[0] in ("core", "pages", "playground")}
        assert ours <= {"core.tasks", "playground.i18n"}, path
