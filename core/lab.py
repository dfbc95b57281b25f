"""Measurements behind the pictures: how sharp a head looks, and how near it is to the pattern its task asks for."""

import torch
from torch import Tensor


def entropy(pattern: Tensor) -> Tensor:
    """How spread out each row of attention is: 0 bits on one key, log2(n) over n keys alike. (…, Tk) -> (…)"""
    return -(torch.special.xlogy(pattern, pattern)).sum(-1) / torch.log(torch.tensor(2.0, dtype=pattern.dtype))


def ideal_pattern(task: str, n_queries: int, n_keys: int) -> Tensor | None:
    """Where cross-attention must look to copy or reverse n_keys symbols, or None for other tasks. -> (Tq, Tk)

    Query t is about to predict the target's token t: source token t for copy, n_keys - 1 - t for reverse. The query that
    predicts the end token has no right key; its row is zero.
    """
    t = torch.arange(n_queries)[:, None]
    key = {"copy": t, "reverse": n_keys - 1 - t}.get(task)
    return None if key is None else (torch.arange(n_keys) == key).float()


def distance_to_ideal(pattern: Tensor, ideal: Tensor) -> Tensor:
    """Mean total-variation distance over the rows that have a right key: 0 the ideal, 1 elsewhere. (…, Tq, Tk) -> (…)"""
    rows = ideal.sum(-1) > 0
    return (pattern[..., rows, :] - ideal[rows]).abs().sum(-1).mean(-1) / 2
