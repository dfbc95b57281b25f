"""What the coach may speak of: numbers of a run that stand in its folder. None stands for "not known", never for a guess."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from core.config import RunConfig
from playground.runs.changes import Changes

LEAST = 20  # records that a mean is of, at least


@dataclass(frozen=True)
class Facts:
    """Shares are 0 to 1, losses nats a token. `middle` and `loss` are means of a tenth of the run: of the one at its middle and
    of the last. `early` and `late` are steps at the ends of the tenths that these means are of.

    `before` and `after`: the loss in the records before a person raised the rate for the last time, and at the end.
    """

    config: RunConfig
    state: str
    step: int
    steps: int  # in all, with those that were added
    guess: float  # the loss of a blind guess
    lr: float  # the peak rate in force
    exact: float | None = None
    token: float | None = None
    best: float | None = None
    solved_at: int | None = None  # the first test with at least SOLVED
    loss: float | None = None
    middle: float | None = None
    early: int | None = None
    raised: tuple[int, float, float] | None = None  # step, rate before, rate after
    before: float | None = None
    diverged_at: int | None = None
    trained: float | None = None
    short: float | None = None
    long: float | None = None
    padded: float | None = None
    tested: int | None = None  # the step of the last test
    rate_since: int = 0  # the step at which the rate in force was set
    back_to: int | None = None  # the newest saved step before the rate was raised
    hesitates: int | None = None  # a saved step at which some strings were right and some wrong

    def known(self, *names: str) -> bool:
        return all(getattr(self, name) is not None for name in names)


SOLVED = 0.99
HESITATES = (0.1, 0.9)


def facts_of(
    config: RunConfig,
    state: str,
    step: int,
    records: Sequence[dict[str, Any]],
    events: Sequence[dict[str, Any]] = (),
    rates: Changes = (),
    saved: Sequence[int] = (),
    steps: int | None = None,
    examined: Mapping[str, Any] | None = None,
    begun: int = 0,
) -> Facts:
    """Records are those of the log, one a step (or each so manieth), in order. begun: the step at which a branch begins; a rate
    that was set there is the one that it began with.
    """
    found: dict[str, Any] = {}
    tests = [r for r in records if r["exact_match"] is not None]
    if tests:
        found["exact"], found["token"] = tests[-1]["exact_match"], tests[-1]["token_accuracy"]
        found["best"] = max(r["exact_match"] for r in tests)
        found["tested"] = tests[-1]["step"]
        found["solved_at"] = next((r["step"] for r in tests if r["exact_match"] >= SOLVED), None)
        if begun and found["solved_at"] == tests[0]["step"]:
            found["solved_at"] = None  # the run that it grew from may have been first
        found["hesitates"] = _hesitates(tests, saved)
    losses = [(r["step"], r["loss"]) for r in records if r["loss"] is not None and math.isfinite(r["loss"])]
    tenth = max(LEAST, len(losses) // 10)
    if len(losses) >= 3 * tenth:
        middle = losses[len(losses) // 2 - tenth // 2 :][:tenth]
        found["loss"], found["middle"] = fmean(x for _, x in losses[-tenth:]), fmean(x for _, x in middle)
        found["early"] = middle[-1][0]
    peak = config.train.lr
    for changed_at, lr in rates:
        found["rate_since"] = changed_at
        if lr > peak and not (begun and changed_at == begun):
            found["back_to"] = max((s for s in saved if s <= changed_at), default=None)
            found["raised"] = changed_at, peak, lr
            earlier = [x for s, x in losses if s <= changed_at][-LEAST:]
            found["before"] = fmean(earlier) if len(earlier) == LEAST else None
        peak = lr
    for event in events:
        at = event.get("step")
        if event["event"] == "diverged" and type(at) is int and state == "failed":
            found["diverged_at"] = at
    if examined and examined.get("step") == step:
        found |= {name: _share(examined.get(name)) for name in ("trained", "short", "long", "padded")}
    return Facts(
        config,
        state,
        step,
        config.train.steps if steps is None else steps,
        math.log(config.model.n_vocab),
        peak,
        **found,
    )


def _share(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def _hesitates(tests: Sequence[dict[str, Any]], saved: Sequence[int]) -> int | None:
    """The saved step nearest to the test that was nearest to half right, if there is one within a test of it."""
    low, high = HESITATES
    undecided = [r for r in tests if low <= r["exact_match"] <= high]
    if not undecided or not saved:
        return None
    wanted = min(undecided, key=lambda r: abs(r["exact_match"] - 0.5))["step"]
    nearest = min(saved, key=lambda s: abs(s - wanted))
    steps = [r["step"] for r in tests]
    low_end, high_end = undecided[0]["step"], undecided[-1]["step"]
    gap = max((b - a for a, b in itertools.pairwise(steps)), default=0)
    return nearest if low_end - gap < nearest < high_end + gap else None
