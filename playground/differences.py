"""What sets a run apart, found by comparing configurations field by field: "heads 8 · positions none"."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from core.config import RunConfig
from core.read import build, fit
from playground.i18n import _
from playground.runs.changes import Changes
from playground.settings import words
from playground.settings.recipes import settings_for

RATE = "rate"  # beside the fields of the configuration: the learning rate as a person changed it while the run trained
MOST_SHOWN = 3  # changes of a rate


@dataclass(frozen=True)
class Rate:
    """The learning rate of a run: what it began with, and (step, rate) for each that was set by hand."""

    base: float
    changes: Changes = ()

    def __str__(self) -> str:
        """0.008 → 0.001 at step 250"""
        text = f"{self.base:g}"
        for step, lr in self.changes[:MOST_SHOWN]:
            text += " → " + _("{lr} at step {step}").format(lr=f"{lr:g}", step=step)
        n = len(self.changes) - MOST_SHOWN
        return text if n <= 0 else text + " " + _("and {n} more").format(n=n)


def flat(config: RunConfig) -> dict[str, Any]:
    """{"model.n_heads": 4, …}, in the order of the configuration."""
    parts = ("task", "model", "train")
    return {f"{part}.{name}": value for part in parts for name, value in getattr(config, part)}


def default_for(config: RunConfig) -> dict[str, Any]:
    """The run of the same task with the task's own settings, so that what the task itself brings is no difference."""
    task = config.task
    if task.name == "pairs":
        own = {f"{part}.{name}": value for part, of in settings_for("pairs").items() for name, value in of.items()}
        values = flat(RunConfig()) | own | {"task.pairs": task.pairs, "model.n_symbols": config.model.n_symbols}
    else:
        values = _default(task.name)
    return values | {"task.name": task.name, "model.max_len": max(values["model.max_len"], task.longest)}


@cache
def _default(task: str) -> dict[str, Any]:
    return flat(build(fit(settings_for(task))))


def from_default(config: RunConfig, changes: Changes = ()) -> dict[str, Any]:
    """The fields whose value is not the default one, and the rates that were set by hand while it trained."""
    default = default_for(config)
    found = {name: value for name, value in flat(config).items() if value != default[name]}
    return found | ({RATE: Rate(config.train.lr, changes)} if changes else {})


def between(configs: Sequence[RunConfig], changes: Sequence[Changes] | None = None) -> dict[str, list[Any]]:
    """The fields that are not the same in all configurations, with each one's value; and the rates set by hand, likewise."""
    values = [flat(config) for config in configs]
    found = {name: [v[name] for v in values] for name in values[0] if any(v[name] != values[0][name] for v in values)}
    if changes and any(set_by_hand != changes[0] for set_by_hand in changes):
        found[RATE] = [Rate(c.train.lr, by_hand) for c, by_hand in zip(configs, changes, strict=True)]
    return found


def sentence(differences: dict[str, Any]) -> str:
    return " · ".join(f"{short(name)} {shown(name, value)}" for name, value in differences.items())


def short(name: str) -> str:
    return _("rate") if name == RATE else words.short(name)


def shown(name: str, value: Any) -> str:
    """A setting as a person reads it."""
    return str(value) if isinstance(value, Rate) else words.shown(name, value)
