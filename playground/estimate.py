"""What a run will cost, known before anything is allocated: parameters, memory, time a step."""

import os
from pathlib import Path

from core.config import ModelConfig, RunConfig
from core.messages import ConfigError, Problem
from core.model import memory_estimate, parameter_counts
from core.train import pick_device
from playground.i18n import N_
from playground.text import duration as duration

LAPTOP = 5e10  # floating point operations a second of a laptop's CPU in training; a guess within a factor of three
LARGEST_WEIGHTS = 512 * 2**20  # bytes: what is larger is not looked at
LAB_WEIGHTS = 32 * 2**20  # bytes: labs compute everything twice, the second time in double precision
LAB_CELLS = 150_000  # attention weights of all layers and heads on one input, of one kind: a lab draws and checks them
LARGE_STEP, LARGE_MEMORY = 1.0, 2 * 2**30  # seconds and bytes above which the form warns
LONGEST_LOOK = 3.0  # seconds: a replay shows several steps a second, and keeps what it has seen
UNTOLD = 16 * 2**30  # bytes of memory that a computer is taken to have where the system does not tell

TOO_LARGE = N_("Training needs about {size} of memory; this computer has {have}. Choose a smaller model or batch.")


def parameters(config: RunConfig) -> int:
    return sum(parameter_counts(config.model).values())


def weights(config: ModelConfig) -> int:
    """Bytes of the weights in memory and on disk."""
    return 4 * sum(parameter_counts(config).values())


def lab_too_large(config: ModelConfig, n_source: int, n_target: int) -> bool:
    """Whether a lab with this model and an input of these lengths would keep everybody waiting, or take the memory."""
    cells = config.n_layers * config.n_heads * max(n_source, n_target) ** 2
    return weights(config) > LAB_WEIGHTS or cells > LAB_CELLS


def memory(config: RunConfig) -> int:
    """Bytes for training."""
    return memory_estimate(config.model, config.train.batch_size, config.task.longest)


def step_seconds(config: RunConfig) -> float:
    """Seconds a training step takes on a laptop: two operations per weight and token forward, four backward."""
    counts, tokens = parameter_counts(config.model), config.train.batch_size * config.task.longest
    weights = counts["encoder"] + counts["decoder"] + counts["output"]
    return 6 * weights * tokens / LAPTOP


def look_seconds(config: RunConfig) -> float:
    """Seconds of a laptop for a look inside: the weights are read, one example goes through, six answers are written anew at
    every token. At a fifth of the speed of training: the pieces are small.
    """
    layers, tokens = weights(config.model) / 4, config.task.longest
    return weights(config.model) / 5e8 + 2 * layers * (2 * tokens + 6 * tokens * (tokens + 1) / 2) / (LAPTOP / 5)


def refuse_too_large(config: RunConfig) -> None:
    """Before anything is allocated: form, command line and trainer all ask here. Raises ConfigError.

    A GPU has a memory of its own and says itself when that is not enough, which harms nobody.
    """
    need, have = memory(config), installed_memory()
    if need > have and pick_device(config.train.device).type != "cuda":
        raise ConfigError([Problem(loc="", template=TOO_LARGE, values={"size": size(need), "have": size(have)})])


def installed_memory() -> int:
    """Bytes of memory this computer has, or this container may use."""
    try:
        have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return UNTOLD
    try:
        return min(have, int(Path("/sys/fs/cgroup/memory.max").read_bytes()))
    except (OSError, ValueError):  # no container, or one without a limit
        return have


def size(n: int) -> str:
    """Bytes as a person reads them, three digits."""
    value, unit = float(n), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}"
