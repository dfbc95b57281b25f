"""What a page shows, in its URL: read it when a link, a refresh or the back button brings it, write it when it changes."""

from collections.abc import Mapping

import streamlit as st

LONGEST = 10_000  # characters of one parameter; more is not looked at


def follow(page: str, names: tuple[str, ...]) -> dict[str, str]:
    """The parameters that came from outside: those in the URL that this page did not write there itself."""
    wrote = st.session_state.get(f"{page}.address", {})
    asked = {name: st.query_params[name] for name in names if name in st.query_params}
    return {name: value for name, value in asked.items() if wrote.get(name) != value and len(value) <= LONGEST}


def write(page: str, values: Mapping[str, str | None]) -> None:
    """Put the values into the URL (None or "": take the parameter out)."""
    for name, value in values.items():
        if not value:
            st.query_params.pop(name, None)
    changed = {name: value for name, value in values.items() if value and st.query_params.get(name) != value}
    if changed:
        st.query_params.update(changed)  # all at once: the browser's history gets an entry for each message
    st.session_state[f"{page}.address"] = {name: value for name, value in values.items() if value}
