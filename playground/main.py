"""The script Streamlit runs for every visitor: page settings, navigation, the language switch."""

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from playground import address, keys, state
from playground.components import component
from playground.i18n import LANGUAGES, SESSION_KEY, _, language, settle
from playground.lessons import LABS
from playground.turns import turn

ROOT = Path(__file__).resolve().parents[1]

# Streamlit keeps wide margins for reading; a workbench needs the room. Nothing here hides or moves a control.
CSS = """
<style>
[data-testid="stMainBlockContainer"] { padding-left: 1rem; padding-right: 1rem; max-width: none; }
[data-testid="stMainBlockContainer"] > [data-testid="stVerticalBlock"] { gap: 0.5rem; }
[data-testid="stSidebarContent"] { padding-left: 0.9rem; padding-right: 0.9rem; }
[data-testid="stSidebarHeader"] { height: 1.4rem; min-height: 0; margin: 0; }
[data-testid="stSidebarUserContent"] { padding-left: 0; padding-right: 0; }
[data-testid="stSidebarUserContent"] [data-testid="stVerticalBlock"] { gap: 0.4rem; }
[data-testid="stSidebarUserContent"] [data-testid="stHorizontalBlock"] { gap: 0.6rem; }
[data-testid="stSidebarUserContent"] [data-testid="stWidgetLabel"] { min-height: 0; margin-bottom: 0.05rem; }
/* Sliders as close as the boxes: the value stands right above its knob. Help appears where the pointer or the focus is, and is
   no stop of Tab on the way to Train (Shift+Tab reaches it). */
[data-testid="stSidebarUserContent"] [data-testid="stSlider"] > [role="group"] { padding-top: 0; padding-bottom: 0; margin: 3px 0 -11px; }
[data-testid="stSidebarUserContent"] [data-testid="stSliderThumbValue"] p { font-size: 0.8rem; line-height: 1rem; }
[data-testid="stSidebarUserContent"] [data-testid="stSliderTickBar"] { display: none; }
[data-testid="stSidebarUserContent"] [data-testid="stCheckbox"] label { gap: 3px; }
[data-testid="stSidebarUserContent"] [data-testid="stWidgetLabel"] [data-testid="stTooltipIcon"] { visibility: hidden; }
[data-testid="stSidebarUserContent"] [data-testid="stElementContainer"]:is(:hover, :focus-within) [data-testid="stWidgetLabel"] [data-testid="stTooltipIcon"] { visibility: visible; }
[data-testid="stLayoutWrapper"]:has(> .st-key-language) { position: absolute; }
.st-key-language { position: fixed; top: 0.75rem; right: 1.25rem; width: auto; z-index: 1000000; }
.st-key-switch { margin-left: 0.7rem; }
.st-key-panel_title h3 { padding: 0; }
.st-key-panel_title [data-testid="stMarkdownContainer"] { margin-bottom: 0; }
[data-testid="stMarkdownContainer"] .katex-display { margin: 0.3em 0; }
.st-key-message { min-height: 1.6rem; }
.st-key-message [data-testid="stMarkdown"] p, .st-key-message [data-testid="stCaptionContainer"] p {
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.st-key-intro [data-testid="stMarkdown"] p { font-size: 0.875rem; }
@media (max-width: 1100px) { /* a projector: one row for both */
  .st-key-toolbar > [data-testid="stElementContainer"]:has([data-testid="stTextInput"]) { min-width: 0; flex: 1 1 4.5rem; }
  .st-key-intro > [data-testid="stElementContainer"]:nth-child(2) { display: none; }
  [data-testid="stVerticalBlock"]:has(.st-key-intro) .st-key-message:has([data-testid="stCaptionContainer"]) { display: none; }
}
.st-key-message button { min-height: 0; padding: 0; }
.st-key-message .st-key-coach [data-testid="stMarkdown"] p { white-space: normal; }
.st-key-message .st-key-coach { gap: 0.2rem 0.6rem; }
.st-key-message .st-key-coach [data-testid="stMarkdown"] p { font-size: 0.875rem; }
.st-key-message .st-key-coach button { min-height: 1.6rem; padding: 0 0.6rem; white-space: nowrap; }
.st-key-message .st-key-coach a { padding: 0 0.5rem; min-height: 1.6rem; border: 1px solid var(--st-border-color, rgba(128,128,128,.35)); border-radius: 0.5rem; }
</style>
"""


def main() -> None:
    with turn():
        draw()


def draw() -> None:
    st.set_page_config(page_title="Transformer Playground", page_icon="🔬", layout="wide", initial_sidebar_state=300)
    st.html(CSS)
    with st.container(key="language", width="content", horizontal=True, gap=None):
        component("history")(key="history", width=1, height=1)
        list_of_keys()
        switch()
    pages = [
        ("train", _("Train"), ""),
        ("attention", _("Attention"), "attention"),
        ("generate", _("Generate"), "generate"),
        ("runs", _("Runs"), "runs"),
    ]
    labs = [(f"lab_{lab.id}", f"{number} · {_(lab.title)}", f"lab_{lab.id}") for number, lab in enumerate(LABS, 1)]
    host = st.Page(ROOT / "pages" / "host.py", title=_("Host"), url_path="host", visibility="hidden")
    page = st.navigation({"": [*existing(pages), host], _("Labs"): existing(labs)}, position="top")
    state.visit(page.url_path)
    page.run()


def existing(pages: list[tuple[str, str, str]]) -> list[StreamlitPage]:
    """Name of the file, title, path of the URL (none for the first page) -> the pages whose file is there."""
    return [
        st.Page(ROOT / "pages" / f"{name}.py", title=title, url_path=path or None, default=not path)
        for name, title, path in pages
        if (ROOT / "pages" / f"{name}.py").is_file()
    ]


def list_of_keys() -> None:
    with st.popover(_("Keys"), icon=":material/keyboard:", type="tertiary"):
        st.caption(_("Keys of a page work while nothing has the focus: boxes, buttons and sliders keep theirs."))
        lines = [f"| {_(page)} | `{_(key)}` | {_(what)} |" for page, key, what in keys.LISTED]
        st.markdown("\n".join(["| | | |", "|---|---|---|", *lines]))


def switch() -> None:
    """The other language. The URL beats the switch, so the switch rewrites a `?lang=` that stands there."""
    asked = address.current("lang")
    if asked and st.session_state.get("url_language") != asked:  # followed a link: stay with it on the other pages
        st.session_state["url_language"] = asked
        st.session_state[SESSION_KEY] = asked
    settle(None)
    now = language()
    settle(now)
    other = next(name for name in LANGUAGES if name != now)
    names = {"en": "Switch to English", "zh_CN": "切换到中文"}  # each in its own language, whatever is shown now
    st.button(LANGUAGES[other], key="switch", type="tertiary", help=names[other], on_click=choose, args=(other,))


def choose(name: str) -> None:
    settle(None)
    st.session_state[SESSION_KEY] = name
    if "lang" in st.query_params:
        st.session_state["url_language"] = name
        address.put({"lang": name})


if __name__ == "__main__":
    main()
