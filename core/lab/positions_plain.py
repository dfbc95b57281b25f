"""The encodings and what is measured on them by an independent route: numbers, loops and `math`, no tensors."""

import itertools
import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def value(kind: str, t: int, i: int, width: int, length: int) -> float:
    """Feature i of position t in a sequence of this length.

    rotary: what becomes of features (1, 0, 1, 0, …). alibi: what head i of `width` heads adds to the score of key t, asked
    by the last token.
    """
    if kind == "none":
        return 0.0
    if kind == "integer":
        return float(t)
    if kind == "unit":
        return t / (length - 1) if length > 1 else 0.0
    if kind == "binary":
        return float((t // 2**i) % 2) if i < 64 else 0.0
    if kind == "sine":
        return math.sin(t / 10_000 ** (i / width))
    angle = t / 10_000 ** ((i - i % 2) / width)
    if kind == "sincos":
        return math.cos(angle) if i % 2 else math.sin(angle)
    if kind == "rotary":
        return math.sin(angle) if i % 2 else math.cos(angle)
    if kind == "alibi":
        return -(0.5 ** (8 * (i + 1) / width)) * (length - 1 - t)
    raise ValueError(f"{kind} positions have no formula")


def rows(kind: str, length: int, width: int) -> list[list[float]]:
    return [[value(kind, t, i, width, length) for i in range(width)] for t in range(length)]


def products(table: Rows) -> list[list[float]]:
    """The dot product of every two rows."""
    return [[math.fsum(x * y for x, y in zip(a, b, strict=True)) for b in table] for a in table]


def distance(a: Sequence[float], b: Sequence[float]) -> float:
    return math.sqrt(math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def wishes(short: Rows, long: Rows) -> dict[str, float]:
    """As core.lab.positions.wishes says."""
    n, width = len(short), len(short[0])
    steps, more = ([distance(a, b) for a, b in itertools.pairwise(x)] for x in (short, long))
    means = [math.fsum(row) / width for row in short]
    left = math.fsum((x - m) ** 2 for row, m in zip(short, means, strict=True) for x in row)
    whole = math.fsum(x * x for row in short for x in row)
    beyond = 0.0
    for i in range(width):
        seen = [row[i] for row in short]
        beyond = max(beyond, *(max(row[i] - max(seen), min(seen) - row[i]) for row in long))
    return {
        "distinct": min(distance(short[a], short[b]) for a in range(n) for b in range(a)),
        "same_step": max(abs(a - b) for a, b in zip(steps, more, strict=False)),
        "bounded": max(abs(x) for row in long for x in row) / max(1e-12, *(abs(x) for row in short for x in row)),
        "even": max(more) / max(min(more), 1e-12),
        "kept": math.sqrt(left) / max(math.sqrt(whole), 1e-12),
        "beyond": beyond,
    }


def turned(row: Sequence[float], k: int) -> list[float]:
    """PE(t + k) from PE(t), pair by pair: sin(a + b) = sin a cos b + cos a sin b, cos(a + b) = cos a cos b - sin a sin b."""
    new = []
    for i in range(0, len(row), 2):
        b = k / 10_000 ** (i / len(row))
        new += [
            row[i] * math.cos(b) + row[i + 1] * math.sin(b),
            row[i + 1] * math.cos(b) - row[i] * math.sin(b),
        ]
    return new
