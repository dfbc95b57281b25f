"""The two data flows: one training step taken apart on a copy of the model, and generation held against it."""

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.attention import MultiHeadAttention
from core.lab import by_hand
from core.lab.heads import exactly_right
from core.lab.measure import instead
from core.model import Transformer
from core.tasks import Batch
from core.tokens import BOS, EOS, FIRST, PAD
from core.trace import Edit, Trace
from core.train import token_loss

STAGES = ("encode", "decode", "loss", "backward", "update")
WATCHED = 5  # weights whose gradient and update are shown one by one


@dataclass(frozen=True)
class Watched:
    """One weight through backward and update: the gradient as it is and as it is used after clipping."""

    name: str
    index: tuple[int, ...]
    before: float
    gradient: float
    used: float
    m: float
    v: float
    after: float


@dataclass(frozen=True)
class Step:
    """One training step taken apart. losses (B, T): nats a token, 0 where the target is padding; norms: gradient by part.

    update_error: largest difference of any weight to the AdamW formula in float64. loss_after: the same batch again with
    the new weights.
    """

    number: int
    trace: Trace
    losses: Tensor
    loss: float
    norms: dict[str, float]
    norm: float
    clipped: float
    watched: tuple[Watched, ...]
    moved: dict[str, float]
    update_error: float
    loss_after: float
    weights: dict[str, Tensor]


PARTS = {
    "src_embedding": "source embedding",
    "tgt_embedding": "target embedding",
    "encoder": "encoder",
    "encoder_norm": "encoder",
    "decoder": "decoder",
    "decoder_norm": "decoder",
    "output": "output",
}


class Practice:
    """A copy of a model that learns from one frozen batch; the model itself stays as it is. Dropout is off.

    The optimizer is the one of `Trainer`, fresh: a saved step holds weights, not the moments of that time.
    """

    def __init__(self, model: Transformer, batch: Batch, lr: float, clip: float = 1.0, decay: float = 0.0) -> None:
        self.model, self.batch = copy.deepcopy(model).eval().requires_grad_(True), batch
        self.lr, self.clip, self.decay = lr, clip, decay
        self.parameters = dict(self.model.named_parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=lr, betas=(0.9, 0.98), weight_decay=decay, fused=True
        )
        self.steps: list[Step] = []

    def step(self, number: int) -> Step:
        """Step 1, 2, …; taken when first asked for."""
        while len(self.steps) < number:
            self.steps.append(self._take(len(self.steps) + 1))
        return self.steps[number - 1]

    def _take(self, number: int) -> Step:
        batch, weights = self.batch, {name: p.detach().clone() for name, p in self.parameters.items()}
        trace = Trace()
        logits = self.model(batch.src, batch.tgt_in, trace)
        loss = token_loss(logits, batch.tgt_out)
        losses = F.cross_entropy(logits.transpose(1, 2), batch.tgt_out, reduction="none", ignore_index=PAD)
        self.optimizer.zero_grad()
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in self.parameters.items() if p.grad is not None}
        norm = torch.nn.utils.get_total_norm(gradients.values())
        if 0 < self.clip < norm.item():
            torch.nn.utils.clip_grads_with_norm_(self.parameters.values(), self.clip, norm)
        used = {name: p.grad.clone() for name, p in self.parameters.items() if p.grad is not None}
        moments = {name: self._moments(name) for name in used}
        self.optimizer.step()
        again = {
            name: by_hand.adamw(weights[name], g, *moments[name], number, self.lr, self.decay)
            for name, g in used.items()
        }
        error = max((self.parameters[n].detach().double() - w).abs().max().item() for n, (w, _m, _v) in again.items())
        with torch.no_grad():
            after = token_loss(self.model(batch.src, batch.tgt_in), batch.tgt_out).item()
        detached = Trace()
        for name, x in trace.items():
            detached.put(name, x.detach())
        return Step(
            number,
            detached,
            losses.detach(),
            loss.item(),
            {
                part: _size([g for n, g in gradients.items() if part_of(n) == part])
                for part in dict.fromkeys(PARTS.values())
            },
            norm.item(),
            _size(list(used.values())),
            tuple(self._watch(name, weights, gradients, used) for name in self._chosen(gradients)),
            {
                part: _size([self.parameters[n].detach() - w for n, w in weights.items() if part_of(n) == part])
                for part in dict.fromkeys(PARTS.values())
            },
            error,
            after,
            weights,
        )

    def _moments(self, name: str) -> tuple[Tensor, Tensor]:
        """AdamW's two running means for a parameter; zeros before the first update."""
        weight = self.parameters[name]
        state = self.optimizer.state.get(weight)
        if not state:
            return torch.zeros_like(weight), torch.zeros_like(weight)
        return state["exp_avg"].clone(), state["exp_avg_sq"].clone()

    def _chosen(self, gradients: dict[str, Tensor]) -> list[str]:
        """One matrix of each part: the one with the largest gradient of any weight, so that there is something to see."""
        best: dict[str, str] = {}
        for name, g in gradients.items():
            part = part_of(name)
            if g.dim() > 1 and (part not in best or g.abs().max() > gradients[best[part]].abs().max()):
                best[part] = name
        return list(best.values())[:WATCHED]

    def _watch(
        self, name: str, weights: dict[str, Tensor], gradients: dict[str, Tensor], used: dict[str, Tensor]
    ) -> Watched:
        g = gradients[name]
        flat = int(g.abs().argmax())
        index = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), g.shape))
        state = self.optimizer.state[self.parameters[name]]
        values = (weights[name], g, used[name], state["exp_avg"], state["exp_avg_sq"], self.parameters[name].detach())
        return Watched(name, index, *(x[index].item() for x in values))


def part_of(name: str) -> str:
    """Which part of the model a parameter belongs to."""
    return PARTS[name.partition(".")[0]]


def _size(tensors: list[Tensor]) -> float:
    return math.sqrt(math.fsum(t.double().square().sum().item() for t in tensors))


@torch.no_grad()
def gradient_by_differences(
    model: Transformer, weights: dict[str, Tensor], batch: Batch, name: str, index: tuple[int, ...], h: float = 1e-5
) -> float:
    """∂ loss / ∂ one weight as (loss(w + h) - loss(w - h)) / 2h, in float64: two forward passes and no backward."""
    double = copy.deepcopy(model).double().eval()
    double.load_state_dict({**double.state_dict(), **{n: w.double() for n, w in weights.items()}})
    weight = dict(double.named_parameters())[name]
    here = weight[index].item()
    found = []
    for value in (here + h, here - h):
        weight[index] = value
        logits = double(batch.src, batch.tgt_in)
        found.append(by_hand.mean_loss(logits.tolist(), batch.tgt_out.tolist()))
    return (found[0] - found[1]) / (2 * h)


def strangers(model: Transformer, src: Tensor, seed: int = 0) -> Tensor:
    """Another random string in the place of each source, as long as it. src (B, S) -> (B, S)"""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(FIRST, model.config.n_vocab, src.shape, generator=generator).where(src != PAD, PAD)


@torch.no_grad()
def memory_switches(model: Transformer, src: Tensor, seed: int = 0) -> dict[str, dict[str, Edit]]:
    """Edits that give the decoder another memory. src (B, S)

    "layer N" (the last) is what it was trained with; a lower layer's output passes the encoder's final LayerNorm. "shuffled"
    permutes the positions of each string, "another" is the memory of another string, "zeros" holds nothing.
    """
    trace = Trace()
    model.encode(src, trace)
    layers = [model.encoder_norm(trace[f"encoder.{i}.resid_post"]) for i in range(model.config.n_layers)]
    # Real tokens only: a vector that lands on the place of a filler would be masked away, which is not about order.
    keys = torch.rand(src.shape, generator=torch.Generator().manual_seed(seed)) + 2 * (src == PAD)
    order = keys.argsort(1)[..., None].expand_as(trace["memory"])  # (B, S, d)
    return {f"layer {i}": {"memory": instead(x)} for i, x in enumerate(layers, 1)} | {
        "shuffled": {"memory": lambda m: m.gather(1, order)},
        "another": {"memory": instead(model.encode(strangers(model, src, seed)))},
        "zeros": {"memory": torch.zeros_like},
    }


def memory_experiment(model: Transformer, batch: Batch, seed: int = 0) -> dict[str, float]:
    """Generated exact match with each memory."""
    return {
        name: exactly_right(model, batch, edits).float().mean().item()
        for name, edits in memory_switches(model, batch.src, seed).items()
    }


def from_the_decoder(model: Transformer) -> Trace:
    """A trace in which cross-attention takes keys and values from the decoder itself: the well-known mistake.

    Use it for full passes only: the number of keys becomes that of the queries, with the triangle as mask.
    """
    trace = Trace()

    def own(layer: int, part: int) -> Edit:
        block = model.block("decoder", layer)
        assert block.cross is not None
        cross: MultiHeadAttention = block.cross
        d = model.config.d_model

        def edit(_x: Tensor) -> Tensor:
            x = trace[f"decoder.{layer}.resid_self"]
            x = block.norms[1](x) if block.pre else x
            rows = slice(part * d, (part + 1) * d)
            projected = F.linear(x, cross.qkv.weight[rows], cross.qkv.bias[rows])  # (B, T, d_model)
            return projected.unflatten(-1, (cross.n_heads, -1)).transpose(1, 2)  # (B, H, T, D)

        return edit

    def triangle(layer: int) -> Edit:
        return lambda _m: trace[f"decoder.{layer}.self.mask"]

    for i in range(model.config.n_layers):
        place = f"decoder.{i}.cross"
        trace.edits |= {f"{place}.k": own(i, 1), f"{place}.v": own(i, 2), f"{place}.mask": triangle(i)}
    return trace


@torch.no_grad()
def written_from_the_decoder(model: Transformer, src: Tensor, n: int) -> Tensor:
    """Greedy generation with that mistake, one full pass a token. src (B, S) -> ids (B, n): EOS, then PAD"""
    tokens = torch.full((len(src), 1), BOS)
    done = torch.zeros(len(src), dtype=torch.bool)
    for _ in range(min(n, model.config.max_len)):
        token = model(src, tokens, from_the_decoder(model))[:, -1].argmax(-1).where(~done, PAD)
        tokens = torch.cat((tokens, token[:, None]), 1)
        done = done | (token == EOS)
    return tokens[:, 1:]
