"""The catalogues are complete: every text a person may read has a translation that keeps its {values}."""

import ast
import re

import pytest

from playground import catalogue, i18n
from playground.i18n import LANGUAGES

OTHERS = [language for language in LANGUAGES if language != catalogue.SOURCE]
VALUES = re.compile(r"\{(\w*)\}")


def texts(message: catalogue.Message) -> tuple[str, ...]:
    return (message,) if isinstance(message, str) else message


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated(language: str) -> None:
    known = {message.id: message for message in catalogue.load(language) if message.id}
    missing = [message for message in catalogue.used() if message not in known]
    assert not missing, "run `python -m playground.catalogue`, then translate these"
    empty = [m.id for m in known.values() if not (all(m.string) if isinstance(m.string, tuple) else m.string)]
    assert not empty
    assert not [message.id for message in known.values() if message.fuzzy]
    assert not set(known) - set(catalogue.used()), "run `python -m playground.catalogue`: these texts are gone"


@pytest.mark.parametrize("language", OTHERS)
def test_translations_keep_values_and_shape(language: str) -> None:
    for message in catalogue.load(language):
        if not message.id:
            continue
        source, translated = texts(message.id), texts(message.string)
        wanted = set(VALUES.findall(source[-1]))
        for text in translated:
            assert set(VALUES.findall(text)) == wanted, message.id
            assert text.count("\n") == source[-1].count("\n"), message.id
            assert text.count("**") == source[-1].count("**"), message.id
            text.format(**dict.fromkeys(wanted, "x"))


@pytest.mark.parametrize("language", OTHERS)
def test_a_catalogue_has_one_word_for_a_thing(language: str) -> None:
    """Translated, not copied: only names that are the same everywhere stay as they are."""
    same = {m.id for m in catalogue.load(language) if m.id and m.id == m.string}
    assert same <= {"Dropout", "dropout", "logit", "Top-k", "Top-p"}


def test_texts_are_marked_whole() -> None:
    """`_(f"…")` and `_("…" + x)` can never be found in a catalogue."""
    for folder in catalogue.FOLDERS:
        for path in (catalogue.ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_", "N_"):
                    bad = isinstance(node.args[0], (ast.JoinedStr, ast.BinOp))
                    assert not bad, f"{path.name}:{node.lineno}"


def test_what_the_command_finds() -> None:
    source = 'x = _("one"); N_("two" " three"); ngettext("a run", "runs", n); Problem(template="four"); _(other); print("no")'
    assert list(catalogue._marked(ast.parse(source))) == ["one", "two three", ("a run", "runs"), "four"]


def test_settings_tasks_and_messages_are_among_them() -> None:
    used = catalogue.used()
    for text in (
        "Peak learning rate.",
        "Write the string backwards.",
        "There is no such setting.",
        "This is not JSON.",
    ):
        assert text in used


@pytest.mark.parametrize(
    ("tag", "language"),
    [("zh", "zh_CN"), ("zh-Hans-CN", "zh_CN"), ("zh_CN.UTF-8", "zh_CN"), ("en-GB", "en"), ("fr", None), ("", None), (None, None)],
)  # fmt: skip
def test_language_tags(tag: object, language: str | None) -> None:
    assert i18n.match(tag) == language


def test_without_an_app_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert i18n._("Learning rate") == "学习率"
    assert i18n.ngettext("{n} run cannot be shown", "{n} runs cannot be shown", 2).format(n=2) == "2 个实验无法显示"
    monkeypatch.setenv("LANG", "C")
    assert i18n._("Learning rate") == "Learning rate"
    assert i18n._("no catalogue has this") == "no catalogue has this"
    assert i18n._("") == ""
