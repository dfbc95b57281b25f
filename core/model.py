"""The encoder-decoder Transformer (Vaswani et al. 2017, §3.1): embeddings, one block for both stacks, a linear output."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from core.attention import Cache, MultiHeadAttention, causal_mask, padding_mask
from core.config import ModelConfig
from core.packing import Packing
from core.positions import PositionalEncoding, alibi_bias
from core.tokens import PAD
from core.trace import AnyTrace, put, scope


class Embedding(nn.Module):
    """A row per token, times √d_model (§3.4), plus the encoding of its position (§3.5)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.n_vocab, config.d_model)
        self.position = PositionalEncoding(config.positions, config.position_placement, config.d_model, config.max_len)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor, last: Tensor, start: int = 0, trace: AnyTrace = None) -> Tensor:
        """ids (B, T) at positions start, start+1, …; last (B,): where each sequence ends. -> (B, T, d_model)"""
        x = put(trace, "token", self.token(ids) * self.token.embedding_dim**0.5)  # (B, T, d_model)
        position = self.position(start, ids.shape[1], last)
        if position is not None:
            x = x + put(trace, "position", position.expand_as(x))
        return self.dropout(x)


class FeedForward(nn.Module):
    """Two linear maps with a non-linearity between, on each position alone (§3.3)."""

    def __init__(self, d_model: int, d_ff: int, dropout: float, activation: str) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)
        self.activation: Callable[[Tensor], Tensor] = F.relu if activation == "relu" else F.gelu
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.dropout(self.activation(self.up(x))))


class Block(nn.Module):
    """Self-attention, cross-attention (decoder only), feed-forward; each with LayerNorm and a residual connection.

    norm "post" is the paper's x = LN(x + f(x)); "pre" is x = x + f(LN(x)) (Xiong et al. 2020).
    """

    def __init__(self, config: ModelConfig, cross: bool) -> None:
        super().__init__()
        d, h, p, scale = config.d_model, config.n_heads, config.dropout, config.score_scale
        self.pre = config.norm == "pre"
        self.attention = MultiHeadAttention(d, h, p, scale, rotary=config.positions == "rotary")
        self.cross = MultiHeadAttention(d, h, p, scale) if cross else None
        self.ffn = FeedForward(d, config.d_ff, p, config.activation)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(3 if cross else 2))
        self.dropout = nn.Dropout(p)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        bias: Tensor | None = None,
        caches: tuple[Cache, Cache] | None = None,
        triangle: bool = False,
        trace: AnyTrace = None,
    ) -> Tensor:
        """x (B, T, d_model), memory (B, S, d_model) -> (B, T, d_model)"""
        own, other = caches or (None, None)
        norms = iter(self.norms)
        x = put(trace, "resid_pre", x)
        x = self.residual(
            x, next(norms), lambda y: self.attention(y, mask, None, bias, own, triangle, scope(trace, "self"))
        )
        if (cross := self.cross) is not None:
            x = put(trace, "resid_self", x)
            x = self.residual(
                x, next(norms), lambda y: cross(y, memory_mask, memory, trace=scope(trace, "cross"), cache=other)
            )
        x = put(trace, "resid_mid", x)
        x = self.residual(x, next(norms), lambda y: put(trace, "ffn", self.ffn(y)))
        return put(trace, "resid_post", x)

    def residual(self, x: Tensor, norm: nn.Module, f: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre:
            return x + self.dropout(f(norm(x)))
        y: Tensor = norm(x + self.dropout(f(x)))
        return y


class Transformer(nn.Module):
    """`encode` a source, `decode` a target beside it. Token ids are int64: PAD 0, BOS 1, EOS 2, then symbols.

    `longest_target`: tokens of the longest answer that its task has (0: not known), see `core.decode.limit`.
    """

    def __init__(self, config: ModelConfig, longest_target: int = 0) -> None:
        super().__init__()
        self.config, self.longest_target = config, longest_target
        self.src_embedding, self.tgt_embedding = Embedding(config), Embedding(config)
        self.encoder = nn.ModuleList(Block(config, cross=False) for _ in range(config.n_layers))
        self.decoder = nn.ModuleList(Block(config, cross=True) for _ in range(config.n_layers))
        # With LayerNorm before each part, the sum that leaves the stack is still unnormalised.
        self.encoder_norm, self.decoder_norm = (
            nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity() for _ in range(2)
        )
        self.output = nn.Linear(config.d_model, config.n_vocab)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for every matrix (each of q, k, v by itself), zero biases, embeddings of variance 1 / d_model."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                parts = (
                    module.weight.split(module.in_features)
                    if module.out_features == 3 * module.in_features
                    else [module.weight]
                )
                for part in parts:
                    nn.init.xavier_uniform_(part)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)

    def encode(self, src: Tensor, trace: AnyTrace = None, packing: Packing | None = None) -> Tensor:
        """src (B, S) -> memory (B, S, d_model), from the last encoder layer. Packed: the rows of the packing instead."""
        mask = padding_mask(src) if self.config.padding_mask else None
        x = self.src_embedding(src, (src != PAD).sum(1) - 1, trace=scope(trace, "embed.src"))
        x = put(trace, "embed.src", x)
        if packing is not None:
            x, mask = packing.source.pack(x), packing.source_mask
        bias = self.bias(x.shape[1], x.shape[1], x)
        for i, block in enumerate(self.encoder):
            x = block(x, mask, bias=bias, trace=scope(trace, f"encoder.{i}"))
        return put(trace, "memory", self.encoder_norm(x))

    def decode(
        self,
        tgt: Tensor,
        memory: Tensor,
        src: Tensor,
        trace: AnyTrace = None,
        cache: "DecoderCache | None" = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """tgt (B, T) starts with BOS; memory (B, S, d_model) belongs to src (B, S). -> logits (B, T, V) of the next tokens.

        Every decoder layer reads the same memory, that of the last encoder layer. With a cache, tgt holds only the tokens
        that came since the last call; after the first one it may hold several hypotheses for each source, one after the other.
        """
        start = 0 if cache is None else cache.length
        n_keys = start + tgt.shape[1]
        mask = None
        if self.config.causal_mask and tgt.shape[1] == 1:  # the newest token sees all before it: nothing to mask
            pass
        elif self.config.causal_mask:  # padding comes last, so no real token sees any
            mask = causal_mask(tgt.shape[1], n_keys, tgt.device)
        elif self.config.padding_mask and cache is None:  # generated tokens are never padding
            mask = padding_mask(tgt)
        triangle = self.config.causal_mask and cache is None
        memory_mask = None
        if self.config.padding_mask and (cache is None or cache.padded or trace is not None):
            memory_mask = padding_mask(src)
            if cache is not None and cache.length == 0:  # looked at once: without a mask attention is faster
                cache.padded = not bool(memory_mask.all())
        # A target is as long as its source for most tasks; while generating, its own length is not known yet.
        last = (src != PAD).sum(1)
        if len(tgt) > len(src):
            last = last.repeat_interleave(len(tgt) // len(src))
        x = self.tgt_embedding(tgt, last, start, scope(trace, "embed.tgt"))
        x = put(trace, "embed.tgt", x)
        if packing is not None:
            x, mask, memory_mask = packing.target.pack(x), packing.target_mask, packing.cross_mask
            n_keys, triangle = x.shape[1], False
        bias = self.bias(x.shape[1], n_keys, x)
        for i, block in enumerate(self.decoder):
            caches = None if cache is None else cache.layers[i]
            x = block(x, mask, memory, memory_mask, bias, caches, triangle, scope(trace, f"decoder.{i}"))
        if cache is not None:
            cache.length = n_keys
        logits = put(trace, "logits", self.output(self.decoder_norm(x)))
        return logits if packing is None else packing.target.unpack(logits)

    def forward(self, src: Tensor, tgt: Tensor, trace: AnyTrace = None, packing: Packing | None = None) -> Tensor:
        """src (B, S), tgt (B, T) -> logits (B, T, V): every position at once, as in training (teacher forcing).

        With the packing of this very batch it computes the same logits of real tokens with less work.
        """
        return self.decode(tgt, self.encode(src, trace, packing), src, trace, packing=packing)

    def block(self, stack: str, layer: int) -> Block:
        """The block that traces call `{stack}.{layer}`."""
        block = (self.encoder if stack == "encoder" else self.decoder)[layer]
        assert isinstance(block, Block)
        return block

    def attention(self, place: str) -> MultiHeadAttention:
        """The attention that traces call e.g. "decoder.0.cross". Raises KeyError."""
        stack, layer, kind = place.split(".")
        block = self.block(stack, int(layer))
        attention = block.attention if kind == "self" else block.cross
        if attention is None:
            raise KeyError(place)
        return attention

    def bias(self, n_queries: int, n_keys: int, like: Tensor) -> Tensor | None:
        return alibi_bias(self.config.n_heads, n_queries, n_keys, like) if self.config.positions == "alibi" else None


class DecoderCache:
    """What `decode` remembers between tokens: the key/value caches of every layer (self, cross)."""

    def __init__(self, n_layers: int) -> None:
        self.length = 0
        self.padded = True  # is any source?
        self.layers = [(Cache(), Cache()) for _ in range(n_layers)]

    def reorder(self, rows: Tensor) -> None:
        """Row b becomes what row rows[b] was. What all beams of a source read of it stays."""
        for own, _cross in self.layers:
            own.reorder(rows)


def parameter_counts(config: ModelConfig) -> dict[str, int]:
    """Parameters by part, in closed form; the values add up to `sum(p.numel() for p in Transformer(config).parameters())`."""
    d, ff, v, n = config.d_model, config.d_ff, config.n_vocab, config.n_layers
    attention = 4 * d * d + 4 * d  # q, k, v and output, with biases
    ffn = 2 * d * ff + ff + d
    norm = 2 * d
    embedding = v * d
    if config.positions == "learned":
        embedding += config.max_len * d
    if config.position_placement == "one_direction":
        embedding += d
    final = norm if config.norm == "pre" else 0
    return {
        "source embedding": embedding,
        "target embedding": embedding,
        "encoder": n * (attention + ffn + 2 * norm) + final,
        "decoder": n * (2 * attention + ffn + 3 * norm) + final,
        "output": d * v + v,
    }


def memory_estimate(config: ModelConfig, batch_size: int, length: int) -> int:
    """Bytes that training needs, roughly: weights, gradients and two AdamW moments, plus what backward keeps.

    Estimated before anything is allocated. Activations per token and block: about 16 d_model + 4 d_ff numbers, and a
    score and a weight for every pair of positions and head.
    """
    weights = 4 * sum(parameter_counts(config).values())
    per_token = 16 * config.d_model + 4 * config.d_ff + 3 * config.n_heads * length
    activations = batch_size * length * (2 * config.n_layers * per_token + 4 * config.n_vocab + 8 * config.d_model)
    return 4 * weights + 4 * activations


class WithoutMemory(TorchFunctionMode):
    """Inside, weights are made with a shape but without memory (device "meta"), so that a model of any size is built at once.

    Only weights: `torch.device("meta")` around everything would load a large part of PyTorch (torch._dynamo, sympy: a second
    or two) for a table of positions, and so would random values for weights that have none.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.normal_, nn.init.normal_):
            return args[0] if args else kwargs["tensor"]
        if func in (torch.empty, torch.randn):
            return torch.empty(*args, **{**kwargs, "device": "meta"})
        if func in (Tensor.mul, Tensor.div) and args[0].is_meta:  # random values of another size
            return args[0]
        return func(*args, **kwargs)
