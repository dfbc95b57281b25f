"""Which language is spoken, with Streamlit and without."""

import subprocess
import sys

import pytest

from playground import i18n

VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("zh", "zh_CN"),
        ("zh-CN", "zh_CN"),
        ("zh_CN.UTF-8", "zh_CN"),
        ("zh-Hant-TW", "zh_CN"),
        ("en", "en"),
        ("en-GB", "en"),
        ("C.UTF-8", None),
        ("de", None),
        ("", None),
        ("../../etc", None),
        (None, None),
    ],
)
def test_match(tag: str | None, language: str | None) -> None:
    assert i18n.match(tag) == language


def test_english_without_any_wish() -> None:
    assert i18n.language() == "en"
    assert i18n._("Train") == "Train"
    assert i18n._("") == ""
    assert i18n.ngettext("{n} run", "{n} runs", 2) == "{n} runs"


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_command_line_follows_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "zh_CN.UTF-8")
    assert i18n.language() == "zh_CN"


def test_texts_need_no_streamlit() -> None:
    code = "import sys; from playground.i18n import _; print(_('Train'), 'streamlit' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "Train False\n"
    )
