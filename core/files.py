"""Files that anybody may have put there: opened only if they are plain files."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

# Windows has none of the first three; there a link is refused by the look before.
FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def is_plain(path: Path | str) -> bool:
    """Is this a regular file, and no link to one? A link may lead anywhere, a pipe or a device may never answer."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):  # ValueError: a zero in the name
        return False


def open_plain(path: Path | str) -> BinaryIO:
    """Open a regular file to read. Never waits: a pipe, a device, a folder and a link are refused. Raises OSError."""
    before = os.lstat(path)
    if not stat.S_ISREG(before.st_mode):
        raise OSError(errno.EINVAL, "This is not a regular file", str(path))
    handle = os.open(path, FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):  # replaced between the two looks
            raise OSError(errno.EINVAL, "This is not a regular file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise
