"""One training step against torch.nn.Transformer: same sizes, same data, one run, alternating.

The reference is torch.nn.Transformer in its fast configuration: batch first, no attention weights asked for, masks built
once, is_causal announced. On the CPU ours packs short strings into full rows (core/packing.py), which nn.Transformer does
not. It is trained twice, with AdamW as torch gives it and with fused AdamW (ours is fused), so that what the model saves and
what the optimizer saves can be told apart.

    python -m tests.benchmarks.train_step [--device cuda] [--rounds N]
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.positions import table
from core.read import build, fit
from core.tasks import Batch, Data
from core.tokens import PAD
from core.train import Trainer

SIZES = {
    "d 64, 4 heads, 2 layers, batch 64": ({"d_model": 64, "n_heads": 4, "n_layers": 2, "d_ff": 256}, 64, 12, 1.3),
    "d 512, 8 heads, 6 layers, batch 16": ({"d_model": 512, "n_heads": 8, "n_layers": 6, "d_ff": 2048}, 16, 16, 1.0),
}


class Reference(nn.Module):
    """torch.nn.Transformer with embeddings, sine and cosine positions and an output layer like ours."""

    def __init__(self, d_model: int, n_heads: int, n_layers: int, d_ff: int, n_vocab: int) -> None:
        super().__init__()
        self.body = nn.Transformer(
            d_model, n_heads, n_layers, n_layers, d_ff, dropout=0.0, batch_first=True, norm_first=True
        )
        self.src, self.tgt = nn.Embedding(n_vocab, d_model), nn.Embedding(n_vocab, d_model)
        self.output = nn.Linear(d_model, n_vocab)
        self.scale = d_model**0.5
        self.register_buffer("positions", table("sincos", 64, d_model))
        self.register_buffer("causal", nn.Transformer.generate_square_subsequent_mask(64))

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        padding = torch.zeros(src.shape, device=src.device).masked_fill(src == PAD, float("-inf"))
        n = tgt.shape[1]
        hidden = self.body(
            self.src(src) * self.scale + self.positions[: src.shape[1]],
            self.tgt(tgt) * self.scale + self.positions[:n],
            tgt_mask=self.causal[:n, :n],
            tgt_is_causal=True,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return self.output(hidden)


def reference_step(model: Reference, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    loss = F.cross_entropy(model(batch.src, batch.tgt_in).flatten(0, 1), batch.tgt_out.flatten(), ignore_index=PAD)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    loss.item()


def compare(model: dict[str, int], batch_size: int, length: int, device: str, rounds: int) -> list[float]:
    """Median seconds a step: ours, reference, reference with fused AdamW."""
    run = build(
        fit(
            {
                "model": model,
                "task": {"min_len": 3, "max_len": length},
                "train": {
                    "batch_size": batch_size,
                    "device": device,
                    "eval_every": 100_000,
                    "steps": 100_000,
                    "lr": 1e-4,
                },
            }
        )
    )
    trainer, data = Trainer(run), Data(run, device)
    steps: list[Callable[[int], object]] = [lambda i: trainer.advance()]
    for fused in (False, True):
        reference = Reference(**model, n_vocab=run.model.n_vocab).to(device)
        optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-4, fused=fused or None)
        # Drawing the batch is part of every side, as it is of ours.
        steps.append(lambda i, m=reference, o=optimizer: reference_step(m, o, data.train_batch(i)))
    times: list[list[float]] = [[] for _ in steps]
    for i in range(rounds + 3):
        for step, seconds in zip(steps, times, strict=True):
            start = time.perf_counter()
            step(i)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds[3:]) for seconds in times]


def main() -> None:
    warnings.filterwarnings("ignore", message=".*nested_tensor.*")
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}; median ms a step, and how many times faster ours is")
    for title, (model, batch_size, length, bar) in SIZES.items():
        rounds = options.rounds if model["d_model"] < 512 or options.device == "cuda" else max(6, options.rounds // 8)
        ours, plain, fused = compare(model, batch_size, length, options.device, rounds)
        print(
            f"{title}: ours {ours * 1e3:.2f}, nn.Transformer {plain * 1e3:.2f} ({plain / ours:.2f}x, bar {bar}), "
            f"with fused AdamW {fused * 1e3:.2f} ({fused / ours:.2f}x)"
        )


if __name__ == "__main__":
    main()
