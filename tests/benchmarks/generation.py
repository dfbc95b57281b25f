"""Writing a batch of answers against Hugging Face's BART of the same size: greedy and four beams, 10 and 60 tokens.

`python -m tests.benchmarks.generation` (needs `pip install -r tests/benchmarks/requirements-peers.txt`). Both models are
untrained and never choose the end token, so that each writes as many tokens as the other. Medians of turns taken one after
the other in one run.
"""

import statistics
import sys
from collections.abc import Callable
from importlib.util import find_spec
from time import process_time

import torch

from core.config import ModelConfig
from core.decode import DecodeOptions, generate
from core.model import Transformer
from core.tokens import BOS, EOS, FIRST, PAD

BARS = {(64, "greedy"): 1.5, (64, "beam"): 1.5, (1, "greedy"): 2.0, (1, "beam"): 2.0}
TURNS, SOURCE = 7, 12


def sides(
    config: ModelConfig, src: torch.Tensor, method: str, n: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    from tests.benchmarks.peers import Bart

    torch.manual_seed(0)
    ours, theirs = Transformer(config).eval(), Bart(config).eval()
    with torch.no_grad():
        ours.output.bias[EOS] = -1e9
    options = DecodeOptions("beam" if method == "beam" else "greedy", beams=4, max_len=n)
    beams = 4 if method == "beam" else 1
    mask = src != PAD
    return lambda: generate(ours, src, options), lambda: theirs.body.generate(
        src, attention_mask=mask, max_new_tokens=n, min_new_tokens=n, num_beams=beams, do_sample=False,
        decoder_start_token_id=BOS, pad_token_id=PAD, eos_token_id=EOS,
    )  # fmt: skip


def main() -> int:
    if find_spec("transformers") is None:
        print("generation: needs pip install -r tests/benchmarks/requirements-peers.txt")
        return 2
    torch.set_num_threads(1)
    config = ModelConfig(n_symbols=20, d_model=64, n_heads=4, n_layers=2, d_ff=256, max_len=128)
    missed = 0
    for batch in (64, 1):
        src = torch.randint(FIRST, config.n_vocab, (batch, SOURCE), generator=torch.Generator().manual_seed(1))
        for method in ("greedy", "beam"):
            for n in (10, 60):
                pair = sides(config, src, method, n)
                times: tuple[list[float], list[float]] = ([], [])
                for turn in range(TURNS + 1):
                    for side, kept in zip(pair, times, strict=True):
                        start = process_time()
                        side()
                        if turn:  # the first warms up
                            kept.append(process_time() - start)
                ours, theirs = map(statistics.median, times)
                ratio, bar = theirs / ours, BARS[batch, method]
                missed += ratio < bar
                print(
                    f"batch {batch:2}, {method:6}, {n} tokens: {ours * 1000:6.1f} ms, BART {theirs * 1000:6.1f} ms, "
                    f"{ratio:.2f} x (bar {bar})"
                )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
