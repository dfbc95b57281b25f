"""Runs so small that a step takes two milliseconds, and how to wait for what another process does."""

import atexit
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from core.config import RunConfig
from core.read import build
from core.train import Trainer
from playground.runs import store
from playground.runs.store import Run
from playground.runs.training import Training


def config(steps: int = 40, dropout: float = 0.0, **train: Any) -> RunConfig:
    return build(
        {
            "model": {"n_symbols": 6, "d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 16, "dropout": dropout},
            "task": {"name": "reverse", "min_len": 2, "max_len": 5},
            "train": {"steps": steps, "batch_size": 8, "eval_every": 1000, "device": "cpu"} | train,
        }
    )


def until(true: Callable[[], object], seconds: float = 20.0, every: float = 0.005) -> float:
    """Wait; returns how long it took. Fails after `seconds`."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds, "waited in vain"
        time.sleep(every)
    return time.monotonic() - start


def weights_after(config: RunConfig) -> dict[str, torch.Tensor]:
    """The final weights of a run that nothing interrupts, computed with one thread as workers do."""
    with one_thread():
        trainer = Trainer(config)
        while not trainer.done:
            trainer.advance()
        return trainer.state().weights


def weights_on_disk(run: Run) -> dict[str, torch.Tensor]:
    from core.checkpoint import load_state

    return load_state(run.state_path(run.resumable_steps()[0]), run.config, run.target_steps).weights


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def steps_shown(run: Run) -> list[int]:
    return [record["step"] for record in run.metrics()]


def exists(pid: int) -> bool:
    """Is the process there? One that ended and was not yet asked about by its parent does not count."""
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except (ProcessLookupError, FileNotFoundError):
        return False


@contextmanager
def one_thread() -> Iterator[None]:
    """As workers compute. Two threads are slow to the point of standing still when something else uses a core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train_here(run: Run, leave: threading.Event | None = None) -> str | None:
    with one_thread():
        return Training(run, leave or threading.Event())()


@cache
def _trained(steps: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="trained-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    before = os.environ["PLAYGROUND_RUNS"]
    os.environ["PLAYGROUND_RUNS"] = str(folder)
    try:
        run = store.create(config(steps))
        assert train_here(run) == "finished"
    finally:
        os.environ["PLAYGROUND_RUNS"] = before
    return run.path


def trained(steps: int) -> Run:
    """A finished run of so many steps in the folder of runs: trained once, copied after."""
    run = Run(store.root() / store.new_id())
    shutil.copytree(_trained(steps), run.path)
    return run
