""" "512 · 8 · 64": the shapes of a multi-head attention, and one wide projection held against many narrow ones (S1)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.attention import MultiHeadAttention
from core.lab import recompute
from core.trace import Trace

PAPER = (512, 8)  # Vaswani et al. 2017: d_model and heads, so 64 features a head


@dataclass(frozen=True)
class Shapes:
    """d_model, heads and tokens of one attention; `shape` holds the real shapes of its tensors, without the batch axis.

    narrow: largest difference between one wide projection that is split and a narrow projection for each head; error: the
    same against sums of products in float64; sliced: largest difference to heads that see only their own slice of x.
    """

    d_model: int
    heads: int
    tokens: int
    shape: dict[str, tuple[int, ...]]
    narrow: float
    error: float
    sliced: float

    @property
    def d_k(self) -> int:
        return self.d_model // self.heads

    @property
    def weights(self) -> int:
        """Numbers in W_Q, W_K and W_V of all heads."""
        return 3 * self.d_model * self.d_model

    @property
    def weights_sliced(self) -> int:
        """The same if each head saw only its own slice of x."""
        return 3 * self.heads * self.d_k * self.d_k


def paper(tokens: int, seed: int = 0) -> tuple[MultiHeadAttention, Tensor]:
    """An untrained attention of the paper's size and random input vectors. -> attention, x (T, 512)"""
    d, heads = PAPER
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        attention = MultiHeadAttention(d, heads, 0.0, (d // heads) ** -0.5).eval()
        return attention, torch.randn(tokens, d)


@torch.no_grad()
def walk(attention: MultiHeadAttention, x: Tensor) -> Shapes:
    """Run the attention on x (T, d_model), with itself as memory, and look at every shape on the way."""
    tokens, d = x.shape
    heads, width = attention.n_heads, d // attention.n_heads
    trace = Trace()
    out = attention(x[None], None, trace=trace)[0]
    weight, bias = attention.qkv.weight, attention.qkv.bias
    wide = F.linear(x, weight, bias)  # (T, 3 d_model)
    split = torch.stack([part[0] for part in attention.split(wide[None], 3)])  # (3, H, T, D)
    rows = weight.view(3, heads, width, d)
    biases = bias.view(3, heads, width)
    narrow = torch.stack([torch.stack([F.linear(x, rows[p, h], biases[p, h]) for h in range(heads)]) for p in range(3)])
    cut = [slice(h * width, (h + 1) * width) for h in range(heads)]
    sliced = torch.stack(
        [
            torch.stack([F.linear(x[:, cut[h]], rows[p, h][:, cut[h]], biases[p, h]) for h in range(heads)])
            for p in range(3)
        ]
    )
    again = recompute.linear(x, weight, bias)  # (T, 3 d_model), float64
    return Shapes(
        d_model=d,
        heads=heads,
        tokens=tokens,
        shape={
            "x": (tokens, d),
            "projected": tuple(wide.shape),
            "q": tuple(trace["q"].shape[1:]),
            "pattern": tuple(trace["pattern"].shape[1:]),
            "z": tuple(trace["z"].shape[1:]),
            "merged": tuple(trace["z"][0].transpose(0, 1).flatten(1).shape),
            "out": tuple(out.shape),
        },
        narrow=(split - narrow).abs().max().item(),
        error=max(
            (wide.double() - again).abs().max().item(),
            *(
                (narrow[p, h].double() - again[:, p * d + h * width :][:, :width]).abs().max().item()
                for p in range(3)
                for h in range(heads)
            ),
        ),
        sliced=(split - sliced).abs().max().item(),
    )
