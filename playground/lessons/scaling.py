"""Lab 2, "Why divide by √d_k" (S7): texts, and the computations behind its panels."""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from core.attention import attend
from core.config import ModelConfig
from core.decode import DecodeOptions, generate
from core.lab import heads, measure, recompute
from core.lab.experiments import train
from core.model import Transformer
from core.tokens import BOS, until_end
from core.trace import Edit, Trace
from playground.i18n import N_
from playground.lessons.frame import Lab, Mistake, Panel

WIDTHS = tuple(2**n for n in range(2, 11))  # d_k 4 … 1024
HEADS = 8  # of the imagined model, so that √d_model is another number than √d_k
ROWS, KEYS = 192, 16  # random queries, and keys for each
SILENT = 0.01  # a gradient through softmax below this is next to none; with d_k features divided away it is about 0.3
DIVISORS = ("none", "sqrt_d_k", "sqrt_d_model")

LAB = Lab(
    "scaling",
    N_("Why divide by √d_k"),
    N_(
        "Every score is divided by √d_k before softmax. It looks like a detail, but without it a wide model hardly learns."
    ),
    (
        Panel(
            "grow",
            N_("Scores grow"),
            N_(
                "A score is a sum with one product for every feature of the two vectors. Some products are positive, some "
                "negative, and they cancel only in part: the more of them, the farther the sum strays from zero. Dividing by "
                "the square root of their number takes exactly that growth away."
            ),
            r"s = q \cdot k = \sum_{i=1}^{d_k} q_i k_i, \qquad \operatorname{Var}(q_i k_i) = 1 \;\Rightarrow\; "
            r"\operatorname{std}(s) = \sqrt{d_k}, \quad \operatorname{std}\!\left(\tfrac{s}{\sqrt{d_k}}\right) = 1",
            ((measure.score_statistics, "q, k =", "q * k"), (attend, "scores = q @"), ModelConfig.score_scale),
            N_("Move d_k from 4 to 1024 and compare the two histograms: same scale, same vectors."),
        ),
        Panel(
            "saturate",
            N_("Softmax saturates"),
            N_(
                "Softmax looks at the gaps between scores. Small gaps give every key a share; large gaps give nearly everything "
                "to the one largest score, as if the others were not there. Attention that should weigh becomes a hard choice, "
                "and a random one before anything is learned."
            ),
            r"a_j = \frac{e^{s_j / c}}{\sum_m e^{s_m / c}}, \qquad H = -\sum_j a_j \log_2 a_j, \qquad "
            r"c \in \{1,\ \sqrt{d_k},\ \sqrt{d_{\text{model}}}\}",
            ((measure.statistics_of, "p = ", "bits ="), (attend, "pattern = scores")),
            N_("Choose “not divided” and raise d_k until one key takes more than 0.9 on average."),
        ),
        Panel(
            "vanish",
            N_("Gradients vanish"),
            N_(
                "Learning needs to know what would happen if a score were a little larger. Where softmax has made a hard choice, "
                "the answer is: nothing. Most queries then get no gradient at all and are never told how to ask better; only "
                "the few that happen to waver between two keys still learn."
            ),
            r"\frac{\partial a_i}{\partial s_j} = a_i (\delta_{ij} - a_j), \qquad a \to \text{one-hot} "
            r"\;\Rightarrow\; \frac{\partial a}{\partial s} \to 0",
            ((measure.statistics_of, "p = ", "jacobian"), ModelConfig.score_scale),
            N_("Compare the three divisors at d_k 1024: choose each of them once."),
        ),
        Panel(
            "yours",
            N_("Your model"),
            N_(
                "The same on your own model and input. It was trained with one divisor; everything it has learned relies on it. "
                "Give its scores another one and see what its attention and its output become."
            ),
            r"\text{pattern} = \operatorname{softmax}\!\left(\frac{q k^\top}{c}\right)",
            (ModelConfig.score_scale, (attend, "scores = q @", "pattern = scores")),
            N_("Choose something that goes wrong, and look at the pattern and at what the model writes."),
        ),
        Panel(
            "train",
            N_("Train without"),
            N_(
                "Whether it matters is decided by training. The same model learns the same task twice, once with the division and "
                "once without. Then both again with narrow heads."
            ),
            r"\mathcal{L} = -\frac{1}{T}\sum_t \ln p(y_t \mid y_{<t}, x) \qquad \text{guessing: } \ln V",
            (ModelConfig.score_scale, (train, "trainer.advance")),
            N_("Say what you expect; then look, and run it yourself if you like."),
        ),
    ),
)

MISTAKES = (
    Mistake(
        "none",
        N_("No division"),
        N_(
            "Look for patterns that are harder than before: nearly all weight on one key. At small d_k the model often still "
            "writes the right thing, because a trained pattern already points at the right key; training is where the harm is done."
        ),
    ),
    Mistake(
        "sqrt_d_model",
        N_("√d_model instead of √d_k"),
        N_(
            "Look for patterns that are flatter: the scores are too small by √heads. With one head both roots are the same number, "
            "so the mistake is invisible there. Trained from the start like this, small models cope: the weights grow to make up for it."
        ),
    ),
)


@dataclass(frozen=True)
class Statistics:
    """Of the scores of random vectors after division: their spread; of softmax over KEYS of them entropy (bits) and mean
    largest weight; of the gradients through it the median over queries, and the share of queries that get next to none."""

    std: float
    entropy: float
    largest: float
    gradient: float
    silent: float


def divisor(name: str, d_k: int) -> float:
    """What scores are divided by, in a model of HEADS heads."""
    return {"none": 1.0, "sqrt_d_k": math.sqrt(d_k), "sqrt_d_model": math.sqrt(HEADS * d_k)}[name]


def products(d_k: int, seed: int) -> Tensor:
    """Raw products q·k of random vectors. -> (ROWS, KEYS)"""
    q, k = measure.random_vectors(d_k, ROWS, KEYS, seed)
    return (q * k).sum(-1)


def statistics(scores: Tensor) -> Statistics:
    """Of divided scores (ROWS, KEYS), by core's measurement."""
    found = measure.statistics_of(scores)
    largest = scores.softmax(-1).max(-1).values.mean().item()
    silent = (found.gradients < SILENT).double().mean().item()
    return Statistics(found.std, found.entropy, largest, found.gradients.quantile(0.5).item(), silent)


def gradients(scores: Tensor) -> Tensor:
    """The gradient norm of each query. scores (ROWS, KEYS) -> (ROWS,)"""
    return measure.statistics_of(scores).gradients


def statistics_again(d_k: int, seed: int) -> dict[str, Statistics]:
    """The same for every divisor, from the vectors on, in numpy and from other formulas: ‖diag(p) - ppᵀ‖² = Σp² - 2Σp³ + (Σp²)²."""
    q, k = (x.numpy() for x in measure.random_vectors(d_k, ROWS, KEYS, seed))
    raw, found = np.einsum("rod,rkd->rk", q, k), {}
    for name in DIVISORS:
        scores = raw / divisor(name, d_k)
        p = np.exp(scores - scores.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        logs = np.log2(p, out=np.zeros_like(p), where=p > 0)
        squares = (p**2).sum(1)
        norms = np.sqrt(np.maximum(squares - 2 * (p**3).sum(1) + squares**2, 0))
        std = math.sqrt(((scores - scores.sum() / scores.size) ** 2).sum() / (scores.size - 1))
        entropy, largest = float(-(p * logs).sum(1).mean()), float(p.max(1).mean())
        found[name] = Statistics(std, entropy, largest, float(np.median(norms)), float((norms < SILENT).mean()))
    return found


def difference(a: Statistics, b: Statistics) -> float:
    """The largest difference between two measurements."""
    return max(abs(x - y) for x, y in zip(astuple(a), astuple(b), strict=True))


def histogram(values: Tensor, low: float, high: float, bins: int) -> list[float]:
    """Shares of the values in equal bins from low to high; what lies outside counts to the first or the last."""
    counts, _edges = np.histogram(np.clip(values.numpy(), low, high), bins, (low, high))
    return [float(count / values.numel()) for count in counts]


@dataclass(frozen=True)
class Divided:
    """One attention of a model with another divisor. pattern (H, Tq, Tk); spread: std of the allowed products q·k, and of
    the scores, by head; entropy: bits by head; written: ids the model generates; error: against the independent route
    (of scores above 1 relative to them: undivided ones are large)."""

    pattern: Tensor
    products_std: list[float]
    scores_std: list[float]
    entropy: list[float]
    written: tuple[int, ...]
    error: float


def rescaled(model: Transformer, name: str) -> dict[str, Edit]:
    """Edits that make every attention divide by another number: queries are stretched by old over new divisor."""
    config = model.config
    old = recompute.divisor(config.scale, config.d_model, config.n_heads)
    factor = old / recompute.divisor(name, config.d_model, config.n_heads)
    if factor == 1:
        return {}
    return {f"{place}.q": (lambda q: q * factor) for place in heads.attention_places(model)}


@torch.no_grad()
def divided(model: Transformer, src: Sequence[int], target: Sequence[int], place: str, name: str) -> Divided:
    """Every attention of the model divides by `name`; what one of them looks like while the decoder reads `target`.

    target: ids without start. The independent route recomputes every head of that place from the traced stream.
    """
    config = model.config
    source, trace = torch.tensor([list(src)]), Trace(rescaled(model, name))
    model(source, torch.tensor([[BOS, *target]]), trace)
    pattern = trace[f"{place}.pattern"][0]  # (H, Tq, Tk)
    allowed = trace[f"{place}.mask"].expand(trace[f"{place}.scores"].shape)[0]  # (H, Tq, Tk)
    c = recompute.divisor(name, config.d_model, config.n_heads)
    bias = recompute.divisor(config.scale, config.d_model, config.n_heads)
    products_std, scores_std, error = [], [], 0.0
    for head in range(config.n_heads):
        mine = recompute.head(model, trace, place, head)
        offset = mine.scores - mine.products / bias  # ALiBi's, which is not divided
        again = mine.products / c + offset
        weights = torch.stack([recompute.softmax(s, m) for s, m in zip(again, allowed[head], strict=True)])
        error = max(error, (weights - pattern[head].double()).abs().max().item())
        far = (again - trace[f"{place}.scores"][0, head].double()).abs() / again.abs().clamp(min=1.0)
        error = max(error, far.max().item())
        seen = mine.products[allowed[head]]
        products_std.append(seen.std().item() if len(seen) > 1 else 0.0)
        scores_std.append(products_std[-1] / c)
    bits = heads.entropy(pattern.double()).mean(-1).tolist()
    written = generate(model, source, DecodeOptions(), rescaled(model, name) or None)[0].tolist()
    return Divided(pattern, products_std, scores_std, bits, tuple(until_end(written)), error)
