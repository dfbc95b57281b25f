"""Lab 1: each formula with this model's numbers, as LaTeX. v is the view: i, j, f, c, side, part, from 0."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from playground.lessons.attention_steps import Steps


def number(x: Tensor | float) -> str:
    """Three decimals, negative numbers in brackets."""
    text = f"{float(x):.3f}"
    return f"({text})" if text.startswith("-") else text


def products(a: Tensor, b: Tensor, most: int = 4) -> str:
    """ "0.1 · 0.5 + 0.3 · (-0.2) + …" """
    terms = [rf"{number(x)}\cdot{number(y)}" for x, y in zip(a[:most], b[:most], strict=True)]
    return " + ".join(terms) + (r" + \dots" if len(a) > most else "")


def embed_numbers(s: Steps, v: dict[str, Any]) -> str:
    part, t = (s.embedded_k, v["j"]) if v["side"] == "k" and s.place.endswith("cross") else (s.embedded_q, v["i"])
    c, d = v["c"], s.x_q.shape[1]
    row, position, total = (x[t, c] for x in (part.row, part.position, part.input))
    return rf"x_{{{t + 1},{c + 1}}} = \sqrt{{{d}}}\cdot{number(row)} + {number(position)} = {number(total)}"


def project_numbers(s: Steps, v: dict[str, Any]) -> str:
    n = "qkv".index(v["part"])
    t, x = (v["i"], s.x_q) if n == 0 else (v["j"], s.x_k)
    f = v["f"]
    out = (s.raw_q, s.raw_k, s.v)[n][t, f]
    line = (
        rf"{v['part']}_{{{t + 1},{f + 1}}} = {products(x[t], s.weight[n][f])} + {number(s.bias[n][f])} = {number(out)}"
    )
    turned = (s.q, s.k, s.v)[n][t, f]
    return (
        line if n == 2 or torch_equal(turned, out) else line + rf"\ \xrightarrow{{\text{{rotary}}}}\ {number(turned)}"
    )


def torch_equal(a: Tensor, b: Tensor) -> bool:
    return abs(float(a) - float(b)) < 1e-6


def score_numbers(s: Steps, v: dict[str, Any]) -> str:
    i, j = v["i"], v["j"]
    return rf"q_{{{i + 1}}}\cdot k_{{{j + 1}}} = {products(s.q[i], s.k[j])} = {number(s.products[i, j])}"


def scale_numbers(s: Steps, v: dict[str, Any]) -> str:
    i, j = v["i"], v["j"]
    added = f" + {number(s.bias_ij[i, j])}" if bool(s.bias_ij.any()) else ""
    return rf"s_{{{i + 1},{j + 1}}} = \frac{{{number(s.products[i, j])}}}{{{s.divisor:.3f}}}{added} = {number(s.scores[i, j])}"


def mask_numbers(s: Steps, v: dict[str, Any]) -> str:
    i, j = v["i"], v["j"]
    free = bool(s.mask[i, j])
    added, left = ("0", number(s.scores[i, j])) if free else (r"(-\infty)", r"-\infty")
    return rf"s'_{{{i + 1},{j + 1}}} = {number(s.scores[i, j])} + {added} = {left}"


def softmax_numbers(s: Steps, v: dict[str, Any]) -> str:
    i, j = v["i"], v["j"]
    row = s.scores[i].masked_fill(~s.mask[i], float("-inf"))
    power = number(row[j]).strip("()") if bool(s.mask[i, j]) else r"-\infty"
    free = [number(x).strip("()") for x in row[s.mask[i]][:3]]
    below = " + ".join(f"e^{{{x}}}" for x in free) + (r" + \dots" if int(s.mask[i].sum()) > 3 else "")
    return rf"a_{{{i + 1},{j + 1}}} = \frac{{e^{{{power}}}}}{{{below}}} = {number(s.pattern[i, j])} \qquad \sum_j a_{{{i + 1},j}} = {float(s.pattern[i].sum()):.6f}"


def weigh_numbers(s: Steps, v: dict[str, Any]) -> str:
    i, f = v["i"], v["f"]
    return rf"z_{{{i + 1},{f + 1}}} = {products(s.pattern[i], s.v[:, f])} = {number(s.z[i, f])}"


FORMULAS: dict[str, Callable[[Steps, dict[str, Any]], str]] = {
    "embed": embed_numbers,
    "project": project_numbers,
    "score": score_numbers,
    "scale": scale_numbers,
    "mask": mask_numbers,
    "softmax": softmax_numbers,
    "weigh": weigh_numbers,
}
