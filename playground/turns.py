"""A few pages are drawn at a time, the others wait their turn: sixty scripts that share one interpreter are all slow, and the
live routes, which share it, too, wait behind every one of them.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

AT_ONCE = 3
PATIENCE = 1.0  # seconds; then a page is drawn beside the others: one that computes for long holds nobody up for longer

_turns = threading.BoundedSemaphore(AT_ONCE)


@contextmanager
def turn() -> Iterator[None]:
    mine = _turns.acquire(timeout=PATIENCE)
    try:
        yield
    finally:
        if mine:
            _turns.release()
