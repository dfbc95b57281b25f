"""The names of this server.

A web site can point its own name at this computer (DNS rebinding): a visitor's browser then sends its requests to us with
that name as Host. So only our own names are answered. Numbers cannot be rebound: where the server listens to a network, every
bare address is ours. Names come from the server's address and from PLAYGROUND_HOSTS.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Iterable

HERE = frozenset({"localhost", "127.0.0.1", "::1"})
HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:[0-9]{1,5})?")


def hostname(host: str) -> str | None:
    """The name or number in a Host header, without the port; None for anything that is no such header."""
    match = HOST.fullmatch(host.lower())
    return match[1].strip("[]").rstrip(".") if match else None


class Hosts:
    """Which names are ours. `address` is what the server listens on, `names` are further names that people may use."""

    def __init__(self, address: str = "localhost", names: Iterable[str] = ()) -> None:
        self.open = address not in HERE
        given = {found for name in names if (found := hostname(name.strip()))}
        own = {found for name in (address, *_own_names()) if self.open and (found := hostname(name))}
        self.names = HERE | given | own

    def __contains__(self, host: str) -> bool:
        name = hostname(host)
        return name is not None and (name in self.names or (self.open and _is_number(name)))


def _own_names() -> list[str]:
    name = socket.gethostname()
    return [name, f"{name.partition('.')[0]}.local"]


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def hosts() -> Hosts:
    """From the options this server was started with."""
    import streamlit as st  # slow to load, and the command line needs none of it

    names = [os.environ.get("PLAYGROUND_HOSTS", ""), st.get_option("browser.serverAddress") or ""]
    return Hosts(st.get_option("server.address") or "0.0.0.0", ",".join(names).split(","))
