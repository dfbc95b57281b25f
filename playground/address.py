"""What a page shows, in its URL: read it when a link, a refresh or the back button brings it, write it when it changes.

A click carries the URL that the browser had at that moment, which may be older than what the page wrote since. Taken at its
word it would undo the click before. So only this module writes the URL, and remembers what it wrote until the browser has
shown that it knows.
"""

from collections.abc import Mapping

import streamlit as st

LONGEST = 10_000  # characters of one parameter; more is not looked at
WENT = "back"  # components/history.js puts it into the URL that Back and Forward bring

Values = tuple[str, ...]  # of one parameter; () where it is not there


def arrive(page: str) -> None:
    """At the start of each run of the script: an URL that is only late is put right, one from outside is left as it is."""
    went = WENT in st.query_params
    if went:
        del st.query_params[WENT]
    asked: dict[str, Values] = {name: tuple(st.query_params.get_all(name)) for name in st.query_params}
    before: str | None = st.session_state.get("address.page")
    sent = _sent()
    names = {*asked, *sent}
    if not went and before == page and all(asked.get(name, ()) in sent.get(name, [()]) for name in names):
        newest = {name: sent[name][-1] if name in sent else () for name in names}
        if all(asked.get(name, ()) == value for name, value in newest.items()):
            st.session_state["address.sent"] = {name: [value] for name, value in newest.items()}
        else:
            st.query_params.from_dict({name: list(value) for name, value in newest.items() if value})
        return
    st.session_state["address.page"] = page
    st.session_state["address.sent"] = {name: [value] for name, value in asked.items()}


def _sent() -> dict[str, list[Values]]:
    """Every value that the browser may still believe in, by parameter, the newest last."""
    found: dict[str, list[Values]] = st.session_state.setdefault("address.sent", {})
    return found


def current(name: str) -> str | None:
    """A parameter as `arrive` will put it right, for what must be known before the page is."""
    values, asked = _sent().get(name, []), tuple(st.query_params.get_all(name))
    if values and WENT not in st.query_params and asked in values:
        asked = values[-1]
    return asked[-1] if asked else None


def put(values: Mapping[str, str | None]) -> None:
    """Put the values into the URL (None or "": take the parameter out)."""
    now = {name: tuple(st.query_params.get_all(name)) for name in values}
    wanted = {name: (value,) if value else () for name, value in values.items()}
    for name, value in wanted.items():
        if value != now[name]:
            _sent().setdefault(name, [now[name]]).append(value)
    for name in [name for name, value in wanted.items() if now[name] and not value]:
        del st.query_params[name]
    changed = {name: list(value) for name, value in wanted.items() if value and value != now[name]}
    if changed:
        st.query_params.update(changed)  # all at once: the browser's history gets an entry for each message


def wrote(page: str) -> dict[str, str]:
    """What this page wrote, or claimed, last."""
    found: dict[str, str] = st.session_state.get(f"{page}.address", {})
    return found


def claim(page: str, values: Mapping[str, str]) -> None:
    """These values came from outside and are taken: from now on they are the page's own."""
    st.session_state[f"{page}.address"] = {**wrote(page), **values}


def follow(page: str, names: tuple[str, ...]) -> dict[str, str]:
    """The parameters that came from outside: those in the URL that this page did not write there itself."""
    own = wrote(page)
    asked = {name: st.query_params[name] for name in names if name in st.query_params}
    return {name: value for name, value in asked.items() if own.get(name) != value and len(value) <= LONGEST}


def write(page: str, values: Mapping[str, str | None]) -> None:
    """As `put`, and from now on these are the page's own."""
    st.session_state[f"{page}.address"] = {name: value for name, value in values.items() if value}
    put(values)
