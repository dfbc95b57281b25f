"""Who is the host: the person with the key that `serve` prints. No address makes a host, since a proxy on this computer makes
everyone look local. The key comes once, in the address; from then on it is a cookie, which outlives reloads and restarts.

A server that was not started by `serve` has no key, and so no host.
"""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from core.files import open_plain

VARIABLE = "PLAYGROUND_HOST_TOKEN"
COOKIE = "playground_host"
KEPT_SECONDS = 180 * 24 * 3600  # a term
FILE = ".host-token"
KEY = re.compile(r"[A-Za-z0-9_-]{20,100}")


def right(given: str | None) -> bool:
    """Is this the key? Takes as long for a wrong one as for the right one."""
    key = os.environ.get(VARIABLE, "")
    return bool(key and given) and secrets.compare_digest((given or "").encode(errors="replace"), key.encode())


def served() -> bool:
    """Does this server have a host at all?"""
    return bool(os.environ.get(VARIABLE))


def cookie(base: str) -> str:
    """The Set-Cookie line for the browser of the host: no script reads it, no other site's page has it sent."""
    path = f"/{base.strip('/')}"
    return f"{COOKIE}={os.environ[VARIABLE]}; Path={path}; Max-Age={KEPT_SECONDS}; HttpOnly; SameSite=Strict"


def kept(folder: Path) -> str:
    """The key in the folder of runs, which only its owner may read; a new one where there is none. Where the disk refuses,
    the key lives as long as the server.
    """
    path, new = folder / FILE, secrets.token_urlsafe(16)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if not _read(path):  # none, or a damaged one
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(new)
    return _read(path) or new


def _read(path: Path) -> str:
    """The key, if nobody else can have read it or put it there."""
    with suppress(OSError, UnicodeDecodeError), open_plain(path) as file:
        known = os.fstat(file.fileno())
        private = not hasattr(os, "getuid") or (known.st_uid == os.getuid() and not known.st_mode & 0o077)
        if private and KEY.fullmatch(key := file.read(200).decode("ascii").strip()):
            return key
    return ""
