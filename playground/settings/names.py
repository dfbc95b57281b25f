"""What a run is called: the name a person gave it, else its task and what sets it apart, "Reverse · 1 head · rate 0.2"."""

import re
from collections.abc import Sequence
from typing import Any

from playground import differences
from playground.i18n import _, ngettext
from playground.runs import changes
from playground.runs.store import Label, Run
from playground.settings import words

MOST_TOLD = 3  # settings in a name


def own(run: Run, label: Label | None = None, task: str = "") -> str:
    """Its name, for headings and legends. A sample has one name everywhere, and one that a person gave stands as it is.
    The command line says what the task is called: its title would load torch.
    """
    config, task = run.config, task or words.shown("task.name", run.config.task.name)
    if run.is_sample:
        layers = config.model.n_layers
        about = task if layers == 1 else _("{task}, {n} layers").format(task=task, n=layers)
        return f"{_('Sample run')} · {about}"
    if given := (label or run.label()).name:
        return given
    grown = [_("from step {step}").format(step=run.parent.step)] if run.parent else []
    return " · ".join((task, *grown, *told(differences.from_default(config, rates(run)))))


def listed(run: Run) -> str:
    """Its name and when it was made, for lists in which several runs may be called the same."""
    name = own(run)
    if run.is_sample:
        return name
    by_hand = rates(run) if run.label().name else ()
    rate = " · " + _("rate → {lr}").format(lr=f"{by_hand[-1][1]:g}") if by_hand else ""
    return f"{name} · {run.created.astimezone():%m-%d %H:%M:%S}{rate}"


def among(runs: Sequence[Run]) -> list[str]:
    """Names in a comparison: what differs among these runs, and no more. Two that are alike get numbers from the caller."""
    found = differences.between([run.config for run in runs], [rates(run) for run in runs])
    names = []
    for i, run in enumerate(runs):
        differs = told({name: values[i] for name, values in found.items()})
        names.append(own(run) if run.is_sample or run.label().name or not differs else " · ".join(differs))
    return names


def file(run: Run, ending: str) -> str:
    """What a download is called: "reverse-1-head-rate-0.2-20261126….zip". ASCII, for every disk; the id keeps it apart."""
    name = re.sub("[·→…]", " ", own(run))
    name = name if name.isascii() else run.config.task.name
    plain = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:60]
    return f"{plain or 'run'}-{run.id}{ending}"


def told(found: dict[str, Any]) -> list[str]:
    """The first differences in words; dots where there are more."""
    parts = [phrase(name, value) for name, value in list(found.items())[:MOST_TOLD]]
    return [*parts, "…"] if len(found) > MOST_TOLD else parts


def phrase(name: str, value: Any) -> str:
    """A setting as people say it: "1 head", "no positions", "rate 0.2"; of rates set by hand the last, "rate → 0.001"."""
    if isinstance(value, differences.Rate):
        last = f"{value.changes[-1][1]:g}" if value.changes else f"{value.base:g}"
        return _("rate → {lr}").format(lr=last) if value.changes else _("rate {lr}").format(lr=last)
    if name == "model.n_heads":
        return ngettext("{n} head", "{n} heads", value).format(n=value)
    if name == "model.n_layers":
        return ngettext("{n} layer", "{n} layers", value).format(n=value)
    if name == "train.steps":
        return ngettext("{n} step", "{n} steps", value).format(n=f"{value:,}")
    if name == "train.lr":
        return _("rate {lr}").format(lr=f"{value:g}")
    if name == "task.name":
        return differences.shown(name, value)
    if value is False or (name == "model.positions" and value == "none"):
        return _("no {what}").format(what=differences.short(name))
    return f"{differences.short(name)} {differences.shown(name, value)}"


def rates(run: Run) -> changes.Changes:
    return changes.rates(run.path / "metrics.jsonl")
