"""The look inside at any saved step, as the live probe shows it of the newest: same example, same rounding, from saved weights.

Computed when somebody asks, one at a time, and kept: a room that scrubs over one run computes each step once.
"""

import json
import threading
from collections import OrderedDict
from functools import lru_cache

from core.checkpoint import CheckpointError
from core.config import RunConfig
from core.tasks import Data
from playground import estimate
from playground.i18n import N_
from playground.models import heavy, models
from playground.runs.probe import Example
from playground.runs.store import Run, RunError

ROOM = 32 * 2**20  # bytes of answers that are kept
TOO_SLOW = N_(
    "A look inside this model takes about {seconds} s a step, too long to replay. The newest step is shown live."
)
NO_STEP = N_("The run has no weights of step {step}.")

_kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
_lock, _computing = threading.Lock(), threading.Lock()


def at(run: Run, config: RunConfig, step: int) -> bytes:
    """JSON: step, src, tgt, patterns, samples, shown, as in probe.json. Raises RunError with what to tell."""
    path = run.weights_path(step)
    try:
        if step not in run.saved_steps():
            raise FileNotFoundError
        key = str(path), path.stat().st_mtime_ns
    except OSError:
        raise RunError(NO_STEP, step=step) from None
    if (found := _find(key)) is not None:
        return found
    if (seconds := estimate.look_seconds(config)) > estimate.LONGEST_LOOK:
        raise RunError(TOO_SLOW, seconds=f"{seconds:.2g}")
    with _computing:
        if (found := _find(key)) is not None:  # somebody else asked meanwhile
            return found
        try:
            with heavy(config.model):
                model = models().get(path, config.model, config.task.longest_target)
                picture = {"step": step} | _example(config).look(model)
        except CheckpointError as error:
            raise RunError(error.template, **error.values) from None
        made = json.dumps(picture, ensure_ascii=False, separators=(",", ":")).encode()
        _keep(key, made)
        return made


@lru_cache(maxsize=16)
def _example(config: RunConfig) -> Example:
    return Example(config, Data(config))


def _find(key: tuple[str, int]) -> bytes | None:
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
        return _kept.get(key)


def _keep(key: tuple[str, int], made: bytes) -> None:
    with _lock:
        _kept[key] = made
        while len(_kept) > 1 and sum(map(len, _kept.values())) > ROOM:
            _kept.popitem(last=False)
