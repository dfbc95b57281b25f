"""Texts in the reader's language: English in the source, other languages in `locale/<language>/LC_MESSAGES/messages.po`.

The .po files are read directly, so there is nothing to compile. Without Streamlit (command line) the environment decides.
"""

import gettext as gettext_module
import io
import os
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

LANGUAGES = {"en": "English", "zh_CN": "中文"}
LOCALE = Path(__file__).parent / "locale"
SESSION_KEY = "language"
_page = threading.local()  # what was settled for the page that this thread draws


def _(text: str) -> str:
    """The text in the reader's language. For sentences with values: `_("Step {step}").format(step=3)`."""
    return translations(language()).gettext(text) if text else ""


def ngettext(one: str, many: str, n: int) -> str:
    """The form of the text that fits the number n."""
    return translations(language()).ngettext(one, many, n)


def N_(text: str) -> str:
    """Marks a text for translation where it stands as data; `_()` translates it when it is shown."""
    return text


def language() -> str:
    """`?lang=` of the URL, else the switch in the app, else the browser's language, else English."""
    return getattr(_page, "language", None) or next((known for asked in _wishes() if (known := match(asked))), "en")


def settle(name: str | None) -> None:
    """Every text of the page this thread draws is in this language, until None. Asking for each was a fifth of its time."""
    _page.language = name


def match(tag: object) -> str | None:
    """The language we have for a tag such as "zh-Hans-CN" or "en_GB.UTF-8", or None."""
    if not isinstance(tag, str):
        return None
    base = tag.replace("_", "-").split("-")[0].split(".")[0].lower()
    return {"en": "en", "zh": "zh_CN"}.get(base)


def _wishes() -> Iterator[object]:
    if "streamlit" in sys.modules:  # the command line does not load it
        from streamlit.runtime.scriptrunner import get_script_run_ctx

        if get_script_run_ctx(suppress_warning=True) is not None:
            import streamlit as st

            yield st.query_params.get("lang")
            yield st.session_state.get(SESSION_KEY)
            yield st.context.locale
            return
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        yield os.environ.get(name)


@cache
def ours() -> frozenset[str]:
    """Every text of ours, in English. What a file from elsewhere gives for a text of ours is shown only if it is one."""
    from babel.messages.pofile import read_po

    with (LOCALE / "zh_CN" / "LC_MESSAGES" / "messages.po").open("rb") as file:
        return frozenset(message.id for message in read_po(file) if isinstance(message.id, str) and message.id)


@cache
def translations(name: str) -> gettext_module.NullTranslations:
    """The catalogue of a language, read once; English, the source, needs none."""
    path = LOCALE / name / "LC_MESSAGES" / "messages.po"
    if not path.is_file():
        return gettext_module.NullTranslations()
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    buffer = io.BytesIO()
    with path.open("rb") as file:
        write_mo(buffer, read_po(file, locale=name))
    buffer.seek(0)
    return gettext_module.GNUTranslations(buffer)
