"""Trains the experiments and writes the results that ship with the app: `python -m tests.claims.ship [experiment …]`.

`--keep FOLDER` takes runs that are there already and puts new ones there, so that a long session can be interrupted.
"""

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from core.lab.experiments import EXPERIMENTS
from playground.runs.files import read_json, write_json
from playground.runs.store import samples, versions
from tests.claims.training import WORKERS, Crew, Job, Trained, jobs

FOLDER = samples() / "experiments"


def key(job: Job) -> str:
    """The name under which a run is kept."""
    text = EXPERIMENTS[job[0]].config(job[1], job[2]).model_dump_json()
    return hashlib.sha256(f"{text} {job[0]}".encode()).hexdigest()[:24]


def collect(wanted: Sequence[Job], keep: Path | None, workers: int, done: Callable[[Job, Trained], None]) -> None:
    """Train what is wanted and not kept yet; tell each result as it comes."""
    missing = []
    for job in wanted:
        known = read_json(keep / f"{key(job)}.json") if keep else {}
        if known:
            done(job, Trained(**known))
        else:
            missing.append(job)
    crew = Crew(workers, curves=True)
    for seed in sorted(
        {job[2] for job in missing}
    ):  # whole seeds one after the other, so that the first is soon complete
        crew.add(job for job in missing if job[2] == seed)
    try:
        for job in sorted(missing, key=lambda job: job[2]):
            result = crew.result(job)
            if keep:
                write_json(keep / f"{key(job)}.json", asdict(result))
            done(job, result)
    finally:
        crew.close()


def write(name: str, results: dict[Job, Trained]) -> None:
    """One file an experiment: every seed's metrics, and the curves of the first."""
    mine = {job: result for job, result in results.items() if job[0] == name}
    first = min(job[2] for job in mine)
    FOLDER.mkdir(exist_ok=True)
    write_json(
        FOLDER / f"{name}.json",
        {
            "experiment": name,
            "made": datetime.now(UTC).date().isoformat(),
            "versions": {part: version for part, version in versions().items() if part in ("python", "torch")},
            "steps": EXPERIMENTS[name].config(EXPERIMENTS[name].variants[0].id, first).train.steps,
            "seeds": sorted({job[2] for job in mine}),
            "results": [
                {
                    "variant": job[1],
                    "seed": job[2],
                    "metrics": {what: round(value, 7) for what, value in result.metrics[name].items()},
                    "seconds": round(result.seconds, 1),
                }
                for job, result in sorted(mine.items(), key=lambda item: item[0][2])
            ],
            "curves": {job[1]: result.records for job, result in mine.items() if job[2] == first},
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="*", default=list(EXPERIMENTS))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--seeds", type=int, nargs="+")
    arguments = parser.parse_args()
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    results: dict[Job, Trained] = {}
    left = defaultdict(int)
    wanted = list(jobs(arguments.experiments, arguments.seeds))
    for name, _variant, seed in wanted:
        left[name, seed] += 1

    def done(job: Job, result: Trained) -> None:
        name, variant, seed = job
        results[job] = result
        print(name, variant, seed, f"{result.seconds:.0f} s", json.dumps(result.metrics[name]), flush=True)
        left[name, seed] -= 1
        if not left[name, seed]:
            write(name, results)

    collect(wanted, arguments.keep, arguments.workers, done)
    for name in dict.fromkeys(arguments.experiments):
        for claim in EXPERIMENTS[name].claims:
            for seed in sorted({job[2] for job in results}):
                found = {job[1]: r.metrics[name] for job, r in results.items() if job[0] == name and job[2] == seed}
                if not claim.holds(found):
                    print(f"✗ {claim} seed {seed}: {claim.value(found):.4g}")


if __name__ == "__main__":
    main()
