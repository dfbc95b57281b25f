"""What the positional encodings can and cannot do, measured on their tables."""

import torch
from torch import Tensor

from core.config import Positions
from core.positions import table, wavenumbers


def rotation(k: int, d_model: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """M_k with PE(t + k) = M_k PE(t) for every t: one 2×2 rotation a pair of features. -> (d_model, d_model)

    Vaswani et al. 2017, §3.5: "PE(pos+k) can be represented as a linear function of PE(pos)".
    """
    angle = k * wavenumbers(d_model // 2, d_model, dtype, step=2)
    c, s = angle.cos(), angle.sin()
    blocks = torch.stack((torch.stack((c, s), -1), torch.stack((-s, c), -1)), -2)  # (d/2, 2, 2) on (sin, cos)
    return torch.block_diag(*blocks)


def rotation_error(k: int, d_model: int, length: int = 64) -> float:
    """max over t of ‖M_k PE(t) - PE(t + k)‖, in float64."""
    pe = table("sincos", length + abs(k), d_model, torch.float64)
    start = pe[:length] if k >= 0 else pe[-k : length - k]
    end = pe[k : length + k] if k >= 0 else pe[:length]
    return (start @ rotation(k, d_model).T - end).norm(dim=1).max().item()


def neighbour_distances(kind: Positions, length: int, d_model: int) -> Tensor:
    """‖PE(t + 1) - PE(t)‖ for t = 0 … length - 2. -> (length - 1,)"""
    pe = table(kind, length, d_model, torch.float64)
    return (pe[1:] - pe[:-1]).norm(dim=1)


def bit_flips(length: int) -> list[int]:
    """How many bits change from t to t + 1: 1 2 1 3 1 2 1 4 …"""
    return [(t ^ (t + 1)).bit_count() for t in range(length - 1)]


def unit_step(length: int) -> float:
    """The distance between neighbours when positions are squeezed into [0, 1]: 0.5 at length 3, 0.11 at 10."""
    return 1 / (length - 1)


def requirements(kind: Positions, d_model: int = 64, short: int = 10, long: int = 20) -> dict[str, float]:
    """The three wishes of the source, measured on the table.

    distinct: smallest distance between two positions of a sequence (0 means that order is lost). same_step: largest change
    of the distance between two neighbours when the sequence grows from short to long. bounded: largest feature at `long`
    over the largest at `short`.
    """
    a, b = table(kind, short, d_model, torch.float64), table(kind, long, d_model, torch.float64)
    apart = torch.cdist(a, a) + torch.eye(short, dtype=torch.float64) * 1e9
    return {
        "distinct": min(apart.min().item(), 1e9),
        "same_step": (a.diff(dim=0).norm(dim=1) - b[:short].diff(dim=0).norm(dim=1)).abs().max().item(),
        "bounded": (b.abs().max() / a.abs().max().clamp(min=1e-12)).item(),
    }
