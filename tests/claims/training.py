"""Trains the runs of the experiments, each different run once, in processes of one torch thread each."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch

from core.config import RunConfig
from core.lab.experiments import EXPERIMENTS, train
from core.read import read

WORKERS = 2


@dataclass(frozen=True)
class Trained:
    """What came of one run: experiment -> metrics, the records worth drawing, seconds of training and measuring."""

    metrics: dict[str, dict[str, float]]
    records: list[dict[str, Any]]
    seconds: float


def one_thread() -> None:
    torch.set_num_threads(1)


def work(text: str, experiments: tuple[str, ...], curves: bool) -> Trained:
    """Train a run (as JSON) and measure for each of these experiments. Without curves nothing is tested on the way."""
    start = time.perf_counter()
    run = read(text)
    if not curves:
        run = run.model_copy(update={"train": run.train.model_copy(update={"eval_every": 100_000})})
    model, data, records = train(run)
    kept = [
        {name: round(value, 6) for name in ("step", "loss", "token_accuracy", "exact_match")
         if (value := getattr(record, name)) is not None}
        for record in records
    ]  # fmt: skip
    metrics = {name: EXPERIMENTS[name].measure(model, data) for name in experiments}
    return Trained(metrics, kept, time.perf_counter() - start)


Job = tuple[str, str, int]  # experiment, variant, seed


class Crew:
    """A pool of processes. `add` jobs, then ask for their results: runs that several experiments share are trained once."""

    def __init__(self, workers: int = WORKERS, curves: bool = False) -> None:
        self.curves = curves
        self.pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=one_thread)
        self.futures: dict[RunConfig, Future[Trained]] = {}

    def add(self, jobs: Iterable[Job]) -> None:
        wanted: dict[RunConfig, list[str]] = {}
        for experiment, variant, seed in jobs:
            names = wanted.setdefault(EXPERIMENTS[experiment].config(variant, seed), [])
            if experiment not in names:
                names.append(experiment)
        # The longest first, so that no process is left alone with one of them at the end.
        for run, names in sorted(wanted.items(), key=lambda item: -item[0].model.d_model * item[0].model.n_layers):
            if run not in self.futures:
                self.futures[run] = self.pool.submit(work, run.model_dump_json(), tuple(names), self.curves)

    def result(self, job: Job) -> Trained:
        experiment, variant, seed = job
        return self.futures[EXPERIMENTS[experiment].config(variant, seed)].result()

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def jobs(experiments: Iterable[str], seeds: Iterable[int] | None = None, claimed: bool = False) -> Iterator[Job]:
    """Every run of these experiments; with `claimed` only the variants that a claim is about."""
    for name in experiments:
        experiment = EXPERIMENTS[name]
        about = {v for claim in experiment.claims for v in (claim.variant, claim.minus)}
        for seed in seeds or experiment.seeds:
            for variant in experiment.variants:
                if not claimed or variant.id in about:
                    yield name, variant.id, seed
