"""`python -m playground serve`: the app for a class. `streamlit run` answers this computer only; this command, the network."""

import argparse
import os
import re
import socket
import sys
from pathlib import Path

from playground import host_key
from playground.hosts import HERE, hostname
from playground.i18n import _
from playground.runs import store

APP = Path(__file__).resolve().parents[1] / "streamlit_app.py"
WILDCARDS = ("0.0.0.0", "::")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address", default="0.0.0.0", metavar="ADDRESS",
        help=_("The address to listen on. Default: all of this computer's, for the network it is in."),
    )  # fmt: skip
    parser.add_argument("--port", type=port, default=8501, metavar="N", help=_("Default: {value}.").format(value=8501))
    parser.add_argument(
        "--slots", type=count, metavar="N", help=_("How many runs train at the same time. Default: one a core.")
    )
    parser.add_argument(
        "--runs-per-person", type=count, default=0, metavar="N",
        help=_("How many runs one person may have training or waiting at a time. Default: any number."),
    )  # fmt: skip
    parser.add_argument(
        "--keep-days", type=days, metavar="N",
        help=_("Remove runs that nobody has pinned and nothing was written to for so many days. Default: keep all."),
    )  # fmt: skip
    parser.add_argument(
        "--host", action="append", default=[], type=name, metavar="NAME",
        help=_("A further name of this computer that people may use in the address. May be given several times."),
    )  # fmt: skip
    parser.add_argument("--no-browser", action="store_true", help=_("Do not open the page of the host in a browser."))


def port(text: str) -> int:
    number = count(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(_("{value} is no port: 1 to 65535.").format(value=text))
    return number


def count(text: str) -> int:
    if not re.fullmatch(r"0*[1-9]\d{0,5}", text, re.ASCII):
        raise argparse.ArgumentTypeError(_("{value} is no number from 1 up.").format(value=text))
    return int(text)


def days(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(_("{value} is no number of days above 0.").format(value=text))
    return number


def name(text: str) -> str:
    found = hostname(text)
    if found is None:
        raise argparse.ArgumentTypeError(_("{value} is no name of a computer.").format(value=text))
    return found


def serve(options: argparse.Namespace) -> int:
    """Say what to write on the blackboard, then run Streamlit in this process, to its end."""
    token = os.environ.setdefault(host_key.VARIABLE, host_key.kept(store.root()))
    settings = {
        "PLAYGROUND_HOSTS": ",".join(options.host),
        "PLAYGROUND_SLOTS": options.slots,
        "PLAYGROUND_RUNS_PER_PERSON": options.runs_per_person,
        "PLAYGROUND_KEEP_DAYS": options.keep_days,
        "PLAYGROUND_OPEN": "" if options.no_browser or not screen() else reach(options.address),
    }
    os.environ.update({name: str(value) for name, value in settings.items() if value})
    shown = options.host[0] if options.host else here(options.address)
    url = f"http://{bracketed(shown)}:{options.port}"
    print(_("For the blackboard:  {url}").format(url=url))
    if shown not in HERE:
        print(_("Everybody in this network can open it, and see, stop and delete every run: there are no logins."))
    print(_("Only for you, the host:  {url}").format(url=f"{url}/host?token={token}"), flush=True)
    from streamlit.web import cli

    sys.argv = ["streamlit", "run", str(APP)]
    cli.main(
        [
            *("run", str(APP), f"--server.address={options.address}", f"--server.port={options.port}"),
            # Its welcome would ask an outside host for this computer's address.
            *("--server.headless=true", "--server.fileWatcherType=none", "--logger.hideWelcomeMessage=true"),
        ],
        standalone_mode=False,
    )
    return 0


def screen() -> bool:
    """Is there one to open a browser on? Elsewhere Python would take a browser for terminals, and the terminal with it."""
    return sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))


def reach(address: str) -> str:
    """By which name the server's own computer reaches it."""
    return "localhost" if address in WILDCARDS or address in HERE else bracketed(address)


def bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def here(address: str) -> str:
    """What people type to reach this address: for "all of them", the one that leads to the network. Nothing is sent."""
    if address not in WILDCARDS:
        return address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            found: str = probe.getsockname()[0]
        except OSError:
            return "localhost"
    return found
