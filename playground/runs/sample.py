"""Make a finished run into one that ships with the app: `python -m playground.runs.sample RUN_ID sample-NAME`.

The training state is left out and at most sixteen of the saved steps are kept, as many as fit, spread evenly on a log scale.
"""

import shutil
import sys

from playground.runs import store
from playground.runs.checkpoints import thin
from playground.runs.files import read_json, write_json

KEPT, LARGEST = 16, 5_800_000  # saved steps; bytes of weights, so that the whole stays below 6 MB


def ship(run: store.Run, name: str) -> store.Run:
    """Raises ValueError for a run that is not finished or a name that is not sample-…"""
    if run.written_status().state != "finished" or not name.startswith("sample-") or not store.RUN_ID.fullmatch(name):
        raise ValueError("only a finished run can be shipped, under a name like sample-reverse")
    target = store.Run(store.samples() / name)
    shutil.rmtree(target.path, ignore_errors=True)
    (target.path / "weights").mkdir(parents=True)
    for file in ("run.json", "status.json", "label.json", "metrics.jsonl", "probe.json"):
        if (run.path / file).exists():
            shutil.copyfile(run.path / file, target.path / file)
    write_json(target.path / "run.json", read_json(run.path / "run.json") | {"owner": ""})
    sizes = {step: run.weights_path(step).stat().st_size for step in run.saved_steps()}
    for step in set(sizes) - set(thin(sizes, keep=(0,), cap=LARGEST, most=KEPT)):
        shutil.copyfile(run.weights_path(step), target.weights_path(step))
    return target


if __name__ == "__main__":
    source = store.find(sys.argv[1])
    if source is None:
        sys.exit(f"no run {sys.argv[1]}")
    print(ship(source, sys.argv[2]).path)
