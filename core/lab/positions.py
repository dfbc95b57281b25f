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


def wishes(short: Tensor, long: Tensor) -> dict[str, float]:
    """The wishes of the source and what else decides, measured on the tables of a short and of a long sequence. (T, d_model)

    distinct: smallest distance between two positions (0: order is lost). same_step: largest change of the distance between
    two neighbours when the sequence grows. bounded: largest feature of the long table over that of the short one.
    even: largest step between neighbours over the smallest. kept: share that is left once LayerNorm has subtracted the
    mean over features. beyond: how far a feature leaves the range that it had in the short table.
    """
    n, steps = len(short), long.diff(dim=0).norm(dim=1)
    apart = torch.cdist(short, short, compute_mode="donot_use_mm_for_euclid_dist")
    apart = apart + torch.eye(n, dtype=short.dtype) * 1e9
    centred = short - short.mean(dim=1, keepdim=True)
    over, under = long - short.amax(0), short.amin(0) - long
    return {
        "distinct": apart.min().item(),
        "same_step": (short.diff(dim=0).norm(dim=1) - steps[: n - 1]).abs().max().item(),
        "bounded": (long.abs().max() / short.abs().max().clamp(min=1e-12)).item(),
        "even": (steps.max() / steps.min().clamp(min=1e-12)).item(),
        "kept": (centred.norm() / short.norm().clamp(min=1e-12)).item(),
        "beyond": torch.maximum(over, under).clamp(min=0).max().item(),
    }


def requirements(kind: Positions, d_model: int = 64, short: int = 10, long: int = 20) -> dict[str, float]:
    """`wishes` of a fixed encoding."""
    return wishes(table(kind, short, d_model, torch.float64), table(kind, long, d_model, torch.float64))
