"""What sets a run apart, found by comparing configurations field by field: "heads 8 · positions none"."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from core.config import RunConfig
from core.read import build, fit
from core.tasks import TASKS
from playground.i18n import N_, _
from playground.runs.changes import Changes

RATE = "rate"  # beside the fields of the configuration: the learning rate as a person changed it while the run trained
MOST_SHOWN = 3  # changes of a rate

# What a field is called where room is short. The long explanation is the field's own description.
SHORT = {
    "model.n_symbols": N_("symbols"),
    "model.d_model": "d_model",
    "model.n_heads": N_("heads"),
    "model.n_layers": N_("layers"),
    "model.d_ff": "d_ff",
    "model.dropout": N_("dropout"),
    "model.max_len": N_("longest sequence"),
    "model.positions": N_("positions"),
    "model.position_placement": N_("placement of positions"),
    "model.norm": N_("norm"),
    "model.activation": N_("activation"),
    "model.scale": N_("score scale"),
    "model.causal_mask": N_("causal mask"),
    "model.padding_mask": N_("padding mask"),
    "task.name": N_("task"),
    "task.min_len": N_("shortest string"),
    "task.max_len": N_("longest string"),
    "task.pairs": N_("pairs"),
    "train.steps": N_("steps"),
    "train.batch_size": N_("batch"),
    "train.lr": N_("learning rate"),
    "train.warmup": N_("warm-up"),
    "train.schedule": N_("schedule"),
    "train.weight_decay": N_("weight decay"),
    "train.clip": N_("gradient limit"),
    "train.seed": N_("seed"),
    "train.device": N_("device"),
    "train.eval_every": N_("steps between tests"),
    "train.stop_at_exact_match": N_("stop at exact match"),
}

# What a choice is called where room is short. A word that is not here is the same in every language.
VALUES = {
    "every_dimension": N_("every feature"),
    "one_direction": N_("one direction"),
    "none": N_("none"),
    "integer": N_("integer"),
    "unit": N_("0 to 1"),
    "binary": N_("binary"),
    "sine": N_("sine"),
    "sincos": N_("sine + cosine"),
    "learned": N_("learned"),
    "rotary": N_("rotary"),
    "alibi": "ALiBi",
    "pre": N_("before (pre)"),
    "post": N_("after (post)"),
    "sqrt_d_k": "√d_k",
    "sqrt_d_model": "√d_model",
    "auto": N_("automatic"),
    "cpu": "CPU",
    "cuda": "CUDA",
    "mps": "MPS",
    "constant": N_("constant"),
    "cosine": N_("cosine"),
    "inverse_sqrt": N_("1/√step"),
    "relu": "ReLU",
    "gelu": "GELU",
}


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
    """The default run of the same task, so that what the task itself dictates is no difference."""
    task = config.task
    if task.name == "pairs":
        values = flat(RunConfig()) | {"task.pairs": task.pairs, "model.n_symbols": config.model.n_symbols}
    else:
        values = _default(task.name)
    return values | {"task.name": task.name, "model.max_len": max(values["model.max_len"], task.longest)}


@cache
def _default(task: str) -> dict[str, Any]:
    return flat(build(fit({"task": {"name": task}})))


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
    return " · ".join(f"{short(name)} {shown(value)}" for name, value in differences.items())


def short(name: str) -> str:
    return _("rate") if name == RATE else _(SHORT[name])


def shown(value: Any) -> str:
    """A setting as a person reads it; pairs are only counted."""
    if isinstance(value, bool):
        return _("on") if value else _("off")
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Rate):
        return str(value)
    if isinstance(value, tuple):
        return str(len(value))
    if value in TASKS:
        return _(TASKS[value].title)
    return "–" if value is None else _(VALUES.get(value, str(value)))
