"""Three other encoder-decoders of the same size, each as forward(src, tgt) -> logits: torch's own, x-transformers, BART.

The last two need `pip install -r tests/benchmarks/requirements-peers.txt`.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.tokens import BOS, EOS, PAD
from tests.benchmarks.train_step import Reference


class XTransformers(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        from x_transformers import XTransformer

        half = {
            "num_tokens": config.n_vocab,
            "depth": config.n_layers,
            "heads": config.n_heads,
            "max_seq_len": config.max_len,
            "attn_dim_head": config.d_k,
            "attn_flash": True,
            "ff_mult": config.d_ff // config.d_model,
        }
        both: dict[str, Any] = {f"{side}_{name}": value for side in ("enc", "dec") for name, value in half.items()}
        self.body = XTransformer(dim=config.d_model, **both)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        mask = src != PAD
        memory = self.body.encoder(src, mask=mask, return_embeddings=True)
        logits: Tensor = self.body.decoder.net(tgt, context=memory, context_mask=mask)
        return logits


class Bart(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        from transformers import BartConfig, BartForConditionalGeneration

        half = {"layers": config.n_layers, "attention_heads": config.n_heads, "ffn_dim": config.d_ff}
        both: dict[str, Any] = {
            f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in half.items()
        }
        ids = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "decoder_start_token_id": BOS}
        self.body = BartForConditionalGeneration(
            BartConfig(
                vocab_size=config.n_vocab,
                d_model=config.d_model,
                max_position_embeddings=config.max_len,
                dropout=0.0,
                forced_eos_token_id=None,
                **both,
                **ids,
            )
        )

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        found = self.body(input_ids=src, attention_mask=(src != PAD).long(), decoder_input_ids=tgt, use_cache=False)
        logits: Tensor = found.logits
        return logits


def nn_transformer(config: ModelConfig) -> nn.Module:
    return Reference(config.d_model, config.n_heads, config.n_layers, config.d_ff, config.n_vocab)


PEERS: dict[str, tuple[str, Callable[[ModelConfig], nn.Module]]] = {
    "nn.Transformer": ("torch", nn_transformer),
    "x-transformers": ("x_transformers", XTransformers),
    "BART": ("transformers", Bart),
}


def missing() -> list[str]:
    """The peers whose package is not installed."""
    return [name for name, (package, _make) in PEERS.items() if find_spec(package) is None]


@torch.no_grad()
def greedy(model: nn.Module, src: Tensor, width: int) -> Tensor:
    """src (B, S) -> the likeliest tokens one by one, PAD after the end. (B, width)"""
    model.eval()
    tgt = torch.full((len(src), 1), BOS)
    ended = torch.zeros(len(src), dtype=torch.bool)
    for _ in range(width):
        token = model(src, tgt)[:, -1].argmax(-1).where(~ended, PAD)
        tgt = torch.cat((tgt, token[:, None]), 1)
        ended |= token == EOS
    return tgt[:, 1:]
