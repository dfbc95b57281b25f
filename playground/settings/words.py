"""What the settings of a run are called: ONE table, for form, differences, board, labs and command line.

The long explanation of a setting is the description of its field in core.config. Texts are English here, translated when
they are shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from playground.i18n import N_, _


@dataclass(frozen=True)
class Setting:
    """The words of one setting."""

    short: str  # where room is short: differences, toolbar, titles
    label: str = ""  # of its control; without one it is not in the form
    choices: Mapping[str, str] = field(default_factory=dict)  # those of the task are the titles of core.tasks
    step: float = 1  # by which the buttons of its number box change it
    stops: tuple[float, ...] = ()  # of its slider, if it is a number to be turned; any other value can be typed
    options: tuple[str, ...] = ()  # of the command line, where they are not just the name of the field


POSITIONS = {
    "none": N_("none"),
    "integer": N_("integer"),
    "unit": N_("0 to 1"),
    "binary": N_("binary"),
    "sine": N_("sine"),
    "sincos": N_("sine + cosine"),
    "learned": N_("learned"),
    "rotary": N_("rotary"),
    "alibi": "ALiBi",
}
PLACEMENTS = {"every_dimension": N_("every feature"), "one_direction": N_("one direction")}
NORMS = {"pre": N_("before (pre)"), "post": N_("after (post)")}
SCALES = {"sqrt_d_k": "√d_k", "sqrt_d_model": "√d_model", "none": N_("none")}
DEVICES = {"auto": N_("automatic"), "cpu": "CPU", "cuda": "GPU (CUDA)", "mps": "GPU (MPS)"}
SCHEDULES = {"constant": N_("constant"), "cosine": N_("cosine"), "inverse_sqrt": N_("1/√step")}

LENGTHS = (*range(1, 21), 24, 32, 48, 64, 96, 128)
WIDTHS = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
HIDDEN = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096)
STEPS = (
    10,
    20,
    50,
    100,
    150,
    200,
    250,
    300,
    400,
    500,
    600,
    800,
    1000,
    1500,
    2000,
    3000,
    4000,
    6000,
    10_000,
    20_000,
    50_000,
)
# fmt: off
RATES = (  # about even on a logarithmic scale
    1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 7e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, 8e-3,
    0.01, 0.012, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0,
)
# fmt: on

SETTINGS = {
    "task.name": Setting(N_("task"), N_("Task"), options=("--task",)),
    "task.min_len": Setting(
        N_("shortest string"), N_("Shortest"), options=("--min-length", "--min-len"), stops=LENGTHS
    ),
    "task.max_len": Setting(N_("longest string"), N_("Longest"), options=("--max-length", "--max-len"), stops=LENGTHS),
    "task.pairs": Setting(N_("pairs")),
    "model.n_symbols": Setting(
        N_("symbols"),
        N_("Symbols"),
        options=("--symbols", "--n-symbols"),
        stops=(2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 26, 32, 40, 52),
    ),
    "model.d_model": Setting("d_model", "d_model", stops=WIDTHS),
    "model.n_heads": Setting(
        N_("heads"), N_("Heads"), options=("--heads", "--n-heads"), stops=(1, 2, 4, 8, 16, 32, 64)
    ),
    "model.n_layers": Setting(
        N_("layers"), N_("Layers"), options=("--layers", "--n-layers"), stops=(1, 2, 3, 4, 5, 6, 8, 12, 24)
    ),
    "model.d_ff": Setting("d_ff", "d_ff", step=32, stops=HIDDEN),
    "model.dropout": Setting(
        N_("dropout"), N_("Dropout"), step=0.05, stops=(0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
    ),
    "model.max_len": Setting(N_("longest sequence"), options=("--model-max-len",)),
    "model.positions": Setting(N_("positions"), N_("Positions"), POSITIONS),
    "model.position_placement": Setting(N_("placement of positions"), N_("Placed along"), PLACEMENTS),
    "model.norm": Setting(N_("norm"), "LayerNorm", NORMS),
    "model.activation": Setting(N_("activation"), N_("Activation"), {"relu": "ReLU", "gelu": "GELU"}),
    "model.scale": Setting(N_("score scale"), N_("Scores divided by"), SCALES),
    "model.causal_mask": Setting(N_("causal mask"), N_("Causal mask")),
    "model.padding_mask": Setting(N_("padding mask"), N_("Padding mask")),
    "train.steps": Setting(N_("steps"), N_("Steps"), step=100, stops=STEPS),
    "train.batch_size": Setting(
        N_("batch"),
        N_("Batch"),
        step=16,
        options=("--batch-size", "--batch"),
        stops=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
    ),
    "train.lr": Setting(
        N_("learning rate"), N_("Learning rate"), step=0.001, options=("--lr", "--learning-rate"), stops=RATES
    ),
    "train.warmup": Setting(
        N_("warm-up"),
        N_("Warm-up"),
        step=10,
        stops=(0, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, 4000, 10_000),
    ),
    "train.schedule": Setting(N_("schedule"), N_("Schedule"), SCHEDULES),
    "train.weight_decay": Setting(N_("weight decay"), N_("Weight decay"), step=0.01),
    "train.clip": Setting(N_("gradient limit"), N_("Gradient limit"), step=0.5),
    "train.seed": Setting(N_("seed"), N_("Seed")),
    "train.device": Setting(N_("device"), N_("Device"), DEVICES),
    "train.eval_every": Setting(N_("steps between tests"), N_("Test every")),
    "train.stop_at_exact_match": Setting(N_("stop at exact match"), N_("Stop at exact match"), step=0.01),
}
SLIDERS = tuple(name for name, setting in SETTINGS.items() if setting.stops)
IN_FORM = tuple(name for name, setting in SETTINGS.items() if setting.label)


def label(name: str) -> str:
    return _(SETTINGS[name].label)


def short(name: str) -> str:
    return _(SETTINGS[name].short)


def shown(name: str, value: Any) -> str:
    """A value of the setting of this name as a person reads it; pairs are only counted. A wrong value stands as it is."""
    if value is None:
        return _("off")
    if isinstance(value, bool):
        return _("on") if value else _("off")
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (tuple, list)):
        return str(len(value))
    if name == "task.name":
        from core.tasks import TASKS  # loads torch, which the help of the command line does without

        return _(TASKS[value].title) if value in TASKS else str(value)
    return _(SETTINGS[name].choices.get(value, str(value)))


def number(value: float, text: str = "") -> str:
    """0.00008, not 8e-05: one style beside 0.00024. Only what would be all zeros keeps its exponent."""
    text = text or f"{value:g}"
    return f"{Decimal(text):f}" if value == 0 or 1e-7 <= abs(value) < 1e9 else text


def options(name: str) -> tuple[str, ...]:
    """Of the command line, the usual one first: "model.n_heads" -> ("--heads", "--n-heads")."""
    return SETTINGS[name].options or ("--" + name.partition(".")[2].replace("_", "-"),)
