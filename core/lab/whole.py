"""The whole model by an independent route: float64, one head at a time, softmax and LayerNorm by their definitions.

`recompute.py` follows one head down to its sums of products; this goes through all of them, so that outputs and gradients
can be held against it too. Projections are plain matrix products; nothing of attention.py or model.py is called. It starts
from traced embeddings, which `recompute.embedding` checks.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from core.lab.recompute import divisor, layer_norm, turned
from core.model import Block, Transformer
from core.trace import Trace


def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (T, d) against the rows of weight (n, d). -> (T, n)"""
    return x.double() @ weight.detach().double().T + bias.detach().double()


def softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """exp over its sum, allowed keys only; zeros in a row that allows nothing. scores, mask (Tq, Tk)"""
    top = scores.detach().masked_fill(~mask, -torch.inf).amax(-1, keepdim=True).clamp(min=-1e300)
    shifted = torch.where(mask, scores - top, torch.zeros_like(scores))  # no inf may reach the gradient
    e = torch.where(mask, shifted.exp(), torch.zeros_like(scores))
    total = e.sum(-1, keepdim=True)
    return e / torch.where(total > 0, total, torch.ones_like(total))


def attention(model: Transformer, place: str, x: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """One attention with all its heads. x (Tq, d), other (Tk, d), mask (Tq, Tk) -> (Tq, d)"""
    config, module = model.config, model.attention(place)
    d, width, own = config.d_model, config.d_k, place.endswith(".self")
    weight, bias = module.qkv.weight, module.qkv.bias
    q = product(x, weight[:d], bias[:d])
    k, v = (product(other, weight[i * d : (i + 1) * d], bias[i * d : (i + 1) * d]) for i in (1, 2))
    heads = []
    for h in range(config.n_heads):
        part = slice(h * width, (h + 1) * width)
        qh, kh = q[:, part], k[:, part]
        if config.positions == "rotary" and own:
            qh, kh = turned(qh), turned(kh)
        scores = (qh[:, None] * kh[None]).sum(-1) / divisor(config.scale, d, config.n_heads)
        if config.positions == "alibi" and own:
            i, j = torch.arange(len(x))[:, None], torch.arange(len(other))
            scores = scores - 2.0 ** (-8.0 * (h + 1) / config.n_heads) * (i - j).abs()
        heads.append((softmax(scores, mask)[..., None] * v[None, :, part]).sum(1))  # (Tq, D)
    return product(torch.cat(heads, -1), module.out.weight, module.out.bias)


def parts(
    model: Transformer, name: str, x: Tensor, masks: dict[str, Tensor], memory: Tensor | None
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The parts of one block in their order: place ("decoder.0.cross", "decoder.0.ffn"), what it adds, the stream after it.

    `name` as in traces ("decoder.0"); masks by the names of its attentions. x (T, d)
    """
    stack, layer = name.split(".")
    block: Block = model.block(stack, int(layer))
    pre, norms = model.config.norm == "pre", iter(block.norms)

    def normed(x: Tensor, norm: nn.Module) -> Tensor:
        assert isinstance(norm, nn.LayerNorm)
        return layer_norm(x, norm.weight.detach(), norm.bias.detach())

    for kind in ["self"] if memory is None else ["self", "cross"]:
        norm, place = next(norms), f"{name}.{kind}"
        y = normed(x, norm) if pre else x
        added = attention(model, place, y, memory if kind == "cross" and memory is not None else y, masks[place])
        x = x + added if pre else normed(x + added, norm)
        yield place, added, x
    norm = next(norms)
    hidden = product(normed(x, norm) if pre else x, block.ffn.up.weight, block.ffn.up.bias)
    if model.config.activation == "relu":
        hidden = hidden.clamp(min=0)
    else:
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    added = product(hidden, block.ffn.down.weight, block.ffn.down.bias)
    yield f"{name}.ffn", added, x + added if pre else normed(x + added, norm)


def masks_of(trace: Trace, row: int = 0) -> dict[str, Tensor]:
    """The masks that a traced pass used for its example `row`: place -> (Tq, Tk)."""
    masks = {
        name.removesuffix(".mask"): mask.expand(len(trace["embed.src"]), 1, *mask.shape[-2:])[row, 0]
        for name, mask in trace.items()
        if name.endswith(".mask")
    }
    for place in masks:  # a padding mask has one row for all queries
        masks[place] = masks[place].expand(trace[f"{place}.scores"].shape[-2:])
    return masks


def stages(
    model: Transformer,
    trace: Trace,
    stack: str,
    x: Tensor,
    memory: Tensor | None = None,
    row: int = 0,
    without: str = "",
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """`parts` of every block of a stack, with the masks that a traced pass used for its example `row`. x (T, d)

    `without` names a block ("decoder.0") that is left out.
    """
    x = x.double()
    masks = masks_of(trace, row)
    for i in range(model.config.n_layers):
        if f"{stack}.{i}" != without:
            for stage in parts(model, f"{stack}.{i}", x, masks, memory):
                x = stage[2]
                yield stage


def through(
    model: Transformer,
    trace: Trace,
    stack: str,
    x: Tensor,
    memory: Tensor | None = None,
    row: int = 0,
    without: str = "",
) -> Tensor:
    """All blocks of a stack, as `stages` goes through them. x (T, d) -> (T, d)"""
    x = x.double()
    for _, _, after in stages(model, trace, stack, x, memory, row, without):
        x = after
    if model.config.norm == "pre":
        norm = model.encoder_norm if stack == "encoder" else model.decoder_norm
        assert isinstance(norm, nn.LayerNorm)
        x = layer_norm(x, norm.weight.detach(), norm.bias.detach())
    return x


def memory(model: Transformer, trace: Trace, row: int = 0, without: str = "") -> Tensor:
    """The encoder's output for example `row`, from its traced embedding. -> (S, d_model)"""
    return through(model, trace, "encoder", trace["embed.src"][row].detach(), row=row, without=without)


def logits(model: Transformer, trace: Trace, row: int = 0, x: Tensor | None = None, without: str = "") -> Tensor:
    """Every logit of example `row`, encoder included; x (T, d_model) may stand for the embedded target. -> (T, V)"""
    x = trace["embed.tgt"][row].detach() if x is None else x
    stream = through(model, trace, "decoder", x, memory(model, trace, row, without), row, without)
    return product(stream, model.output.weight, model.output.bias)


def influence(model: Transformer, trace: Trace, row: int = 0) -> Tensor:
    """`measure.influence` again: ‖∂ logit_t / ∂ embedding_j‖, of the logits that won in the traced pass. -> (T, T)"""
    return logits_and_influence(model, trace, row)[1]


def logits_and_influence(model: Transformer, trace: Trace, row: int = 0) -> tuple[Tensor, Tensor]:
    """Both from one pass. -> (T, V), (T, T)"""
    x = trace["embed.tgt"][row].detach().double().requires_grad_()
    mine = logits(model, trace, row, x)
    winning = mine.gather(1, trace["logits"][row].argmax(-1)[:, None])[:, 0]  # (T,)
    each = torch.eye(len(x)).double()  # one gradient a prediction, all in one go: 17 ms where a loop takes 44
    (gradients,) = torch.autograd.grad(winning, x, each, is_grads_batched=True)  # (T, T, d_model)
    return mine.detach(), (gradients * gradients).sum(-1).sqrt()
