"""The three ids that are no symbols, the first that is one, and where an output ends. Written once."""

from collections.abc import Sequence

PAD, BOS, EOS = 0, 1, 2  # padding, start, end
FIRST = 3  # id of the first symbol


def until_end(ids: Sequence[int]) -> list[int]:
    """The ids before the first end token; all of them where there is none."""
    return [*ids[: ids.index(EOS)]] if EOS in ids else [*ids]
