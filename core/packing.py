"""Packing: several short strings in one row, so that training computes next to no padding.

A padded batch is as wide as its longest string. Here whole strings are laid one after another into fewer, fuller rows, and
each sees itself alone: the logits are those of the padded batch, up to rounding (Krell et al. 2021, "Efficient Sequence
Packing without Cross-contamination", §3).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROW = 32  # places in a row, or the longest string where that is longer: longer rows are fuller, but block more pairs


class Places:
    """Where the tokens of a padded batch (B, T) stand in N rows of L places; a string stands in one row, from one offset on.

    Worked out in NumPy: for so little data each operation of torch costs more than the data.
    """

    def __init__(
        self, real: NDArray[np.bool_], row: NDArray[np.int64], offset: NDArray[np.int64], n_rows: int, length: int
    ) -> None:
        place = (row * length + offset)[:, None] + np.arange(real.shape[1])  # (B, T), counted through all rows
        taken = place[real]
        token = np.zeros(n_rows * length, dtype=np.int64)
        string = np.full(n_rows * length, -1)
        token[taken] = np.flatnonzero(real)
        string[taken] = np.nonzero(real)[0]
        self.place = torch.from_numpy(np.where(real, place, 0))  # (B, T)
        self.token = torch.from_numpy(token.reshape(n_rows, length))  # (N, L), counted through the batch
        self.string = string.reshape(n_rows, length)  # (N, L), -1 where nothing stands

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, d) -> (N, L, d). What an empty place gets is read by nobody."""
        return take(x, self.token)

    def unpack(self, x: Tensor) -> Tensor:
        """(N, L, d) -> (B, T, d). What padding gets means nothing."""
        return take(x, self.place)


class Packing:
    """How a batch of pairs is packed: a source and its target in rows of the same number, and the masks that part the strings.

    src (B, S), tgt (B, T); `causal` as in the model. For a model that masks padding, on the CPU. `share` is how many places
    the rows have of those of the padded batch.
    """

    def __init__(self, src: Tensor, tgt: Tensor, causal: bool, pad: int = 0, length: int = ROW) -> None:
        real = src.numpy() != pad, tgt.numpy() != pad
        places, n_rows, (n_source, n_target) = first_fit(real[0].sum(1).tolist(), real[1].sum(1).tolist(), length)
        row, source, target = np.array(places).T
        self.source = Places(real[0], row, source, n_rows, n_source)
        self.target = Places(real[1], row, target, n_rows, n_target)
        self.share = n_rows * (n_source + n_target) / (src.numel() + tgt.numel())
        own = sees(self.target, self.target)
        self.source_mask = torch.from_numpy(sees(self.source, self.source))  # (N, 1, Ls, Ls)
        self.target_mask = torch.from_numpy(np.tril(own) if causal else own)  # (N, 1, Lt, Lt)
        self.cross_mask = torch.from_numpy(sees(self.target, self.source))  # (N, 1, Lt, Ls)


def sees(query: Places, key: Places) -> NDArray[np.bool_]:
    """True where both belong to one string; an empty place sees all, as a row that sees nothing has no softmax."""
    q, k = query.string[:, None, :, None], key.string[:, None, None, :]
    seen: NDArray[np.bool_] = (q == k) | (q < 0)
    return seen


def take(x: Tensor, index: Tensor) -> Tensor:
    return x.flatten(0, 1).index_select(0, index.flatten()).unflatten(0, index.shape)


def first_fit(
    sources: list[int], targets: list[int], length: int
) -> tuple[list[tuple[int, int, int]], int, tuple[int, int]]:
    """Longest pair first, each into the first row with room for its source and its target.

    -> for each pair (row, offset of the source, offset of the target); rows; places used in the fullest row of each side.
    """
    length = max(length, *sources, *targets)
    least_source, least_target = min(sources), min(targets)
    places = [(0, 0, 0)] * len(sources)
    used: list[tuple[int, int]] = []
    open_rows: list[int] = []
    for pair in sorted(range(len(sources)), key=lambda i: sources[i] + targets[i], reverse=True):
        s, t = sources[pair], targets[pair]
        for row in open_rows:
            source, target = used[row]
            if source + s <= length and target + t <= length:
                break
        else:
            row, source, target = len(used), 0, 0
            used.append((0, 0))
            open_rows.append(row)
        places[pair] = row, source, target
        used[row] = source + s, target + t
        if source + s + least_source > length or target + t + least_target > length:
            open_rows.remove(row)  # full for everybody: keeps the search short for large batches
    return places, len(used), (max(s for s, _ in used), max(t for _, t in used))
