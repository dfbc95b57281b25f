"""People's own text inside Streamlit's markdown: shown as it is, whatever it looks like."""

import re

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|$:~<>^=&\"'])")


def plain(text: str) -> str:
    """Escape markdown, math, colours and icons, HTML; line breaks and control characters become spaces."""
    return _SPECIAL.sub(r"\\\1", "".join(c if c.isprintable() else " " for c in text))
