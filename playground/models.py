"""The models that somebody looks at: one copy in memory for everybody, and no more bytes of them than there is room for.

Weights are loaded by one thread at a time; who wants the same ones waits and gets the same copy. The least recently used
go before others are loaded, so that a room of viewers, each at another step, costs no more than one viewer does.
"""

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import streamlit as st

from core.checkpoint import CheckpointError, load_weights
from core.config import ModelConfig
from core.model import Transformer
from playground import estimate
from playground.estimate import LARGEST_WEIGHTS
from playground.i18n import N_

LARGE = 16 * 2**20  # bytes of weights
ROOM = 96 * 2**20  # bytes of weights that stay loaded; one model may be larger, and then it is alone
TOO_LARGE = N_(
    "This model is too large to look inside: its weights take {size}, and the limit is {most}. Choose a smaller run, or the sample."
)
GONE = N_("These weights are gone.")


class Models:
    """Models by file, and when that was written. `room`: bytes of weights that are kept together."""

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self.kept: OrderedDict[tuple[str, int], tuple[Transformer, int]] = OrderedDict()
        self.lock, self.loading = threading.Lock(), threading.Lock()

    def get(self, path: Path, config: ModelConfig, longest_target: int = 0) -> Transformer:
        """The model, in evaluation mode; shared, never change its weights. Raises CheckpointError."""
        size = estimate.weights(config)
        if size > LARGEST_WEIGHTS:
            raise CheckpointError(TOO_LARGE, size=estimate.size(size), most=estimate.size(LARGEST_WEIGHTS))
        try:
            key = (str(path), path.stat().st_mtime_ns)
        except OSError:
            raise CheckpointError(GONE) from None
        found = self.find(key)
        if found is None:
            with self.loading:
                found = self.find(key)  # another thread may have loaded it meanwhile
                if found is None:
                    self.make_room(size)
                    found = load_weights(path, config, longest_target)
                    with self.lock:
                        self.kept[key] = found, size
        return found

    def find(self, key: tuple[str, int]) -> Transformer | None:
        with self.lock:
            if key not in self.kept:
                return None
            self.kept.move_to_end(key)
            return self.kept[key][0]

    def make_room(self, size: int) -> None:
        with self.lock:
            while self.kept and size + sum(other for _model, other in self.kept.values()) > self.room:
                self.kept.popitem(last=False)


@contextmanager
def heavy(config: ModelConfig) -> Iterator[None]:
    """One visitor at a time computes with a large model: what it takes on the way is then bounded, however many look."""
    if estimate.weights(config) <= LARGE:
        yield
        return
    with turn():
        try:
            yield
        finally:
            trim()


def trim() -> None:
    """Give back what was freed: the heaps of threads keep it otherwise, hundreds of megabytes of it."""
    with suppress(AttributeError, OSError):  # there is no such call beside Linux
        ctypes.CDLL(None).malloc_trim(0)


@st.cache_resource(show_spinner=False)
def turn() -> threading.RLock:
    return threading.RLock()


@st.cache_resource(show_spinner=False)
def models() -> Models:
    return Models()
