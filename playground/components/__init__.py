"""Small st.components.v2 parts. Each has its own name.html, name.css and JavaScript files in this folder."""

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent


def source(name: str, *js_parts: str) -> dict[str, str]:
    """The texts of one component. The JavaScript is common.js, the parts in the order given, then name.js: one module.

    Inline texts must hold a line break, or Streamlit takes them for a file name.
    """
    scripts = ["common.js", *js_parts, f"{name}.js"]
    styles = ["common.css", f"{name}.css"]
    return {
        "html": (FOLDER / f"{name}.html").read_text(encoding="utf-8") + "\n<!-- -->",
        "css": "\n".join((FOLDER / style).read_text(encoding="utf-8") for style in styles),
        "js": "\n".join((FOLDER / script).read_text(encoding="utf-8") for script in scripts),
    }


@cache
def component(name: str, *js_parts: str) -> Any:
    """The mounting command of a component, registered once: `component("board", "curves.js")(key=…, data=…)`."""
    text = source(name, *js_parts)
    return st.components.v2.component(name, html=text["html"], css=text["css"], js=text["js"])
