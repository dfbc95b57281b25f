"""People's own text inside Streamlit's markdown, shown as it is, whatever it looks like; and lengths of time."""

import re

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|$:~<>^=&\"'])")


def plain(text: str) -> str:
    """Escape markdown, math, colours and icons, HTML; line breaks and control characters become spaces."""
    return _SPECIAL.sub(r"\\\1", "".join(c if c.isprintable() else " " for c in text))


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.2g} h"
