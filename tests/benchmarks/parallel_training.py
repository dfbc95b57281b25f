"""What the causal mask buys (S13): one teacher-forced pass over T positions against T passes that each add one token.

Both give the same logits; the largest difference is printed beside the ratio. Encoder and one source are part of either side.

    python -m tests.benchmarks.parallel_training [--device cuda] [--rounds N]
"""

import argparse

import torch

from core.config import ModelConfig
from core.lab.measure import TwoFlows, two_flows
from core.model import Transformer
from core.tokens import BOS

SIZES = {
    "d 32, 4 heads, 2 layers (the sample run)": {"d_model": 32, "n_heads": 4, "n_layers": 2, "d_ff": 64},
    "d 64, 4 heads, 2 layers": {"d_model": 64, "n_heads": 4, "n_layers": 2, "d_ff": 256},
    "d 512, 8 heads, 6 layers (the paper)": {"d_model": 512, "n_heads": 8, "n_layers": 6, "d_ff": 2048},
}
LENGTHS = (8, 16, 32, 64)


def measure(settings: dict[str, int], length: int, device: str, rounds: int) -> TwoFlows:
    """A random source of `length` symbols, and as many target positions."""
    torch.manual_seed(0)
    model = Transformer(ModelConfig.model_validate({**settings, "max_len": max(LENGTHS)})).to(device).eval()
    src = torch.randint(3, 13, (1, length), device=device)
    tgt = torch.cat((torch.full((1, 1), BOS, device=device), torch.randint(3, 13, (1, length - 1), device=device)), 1)
    two_flows(model, src, tgt, rounds=1)  # the first pass of a process is slower
    return two_flows(model, src, tgt, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--small", action="store_true", help="leave the size of the paper out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU, 1 thread"
    print(f"{name}, torch {torch.__version__}; fastest of {options.rounds} rounds")
    for title, settings in SIZES.items():
        if options.small and settings["d_model"] > 64:
            continue
        print(title)
        for length in LENGTHS:
            found = measure(settings, length, options.device, options.rounds)
            error = (found.parallel - found.sequential).abs().max().item()
            print(
                f"  T {length:2d}: one pass {found.parallel_s * 1e3:7.2f} ms, {length} passes {found.sequential_s * 1e3:8.2f} ms "
                f"= {found.sequential_s / found.parallel_s:5.1f}x, with a cache {found.cached_s * 1e3:8.2f} ms "
                f"= {found.cached_s / found.parallel_s:5.1f}x; logits differ by {error:.0e}"
            )


if __name__ == "__main__":
    main()
