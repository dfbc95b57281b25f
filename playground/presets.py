"""Starting points, as plain data: what each sets beside the defaults. Names and sentences are English here, translated when shown."""

from typing import NamedTuple

from playground.i18n import N_
from playground.settings.recipes import Settings as Settings
from playground.settings.recipes import settings_for


class Preset(NamedTuple):
    name: str
    sentence: str
    settings: Settings


PRESETS = (
    Preset(
        N_("Reverse, quick"),
        N_("Learns to write strings backwards in a few seconds."),
        {},  # the defaults of core.config are this run
    ),
    Preset(
        N_("Copy"),
        N_("Learns to repeat its input: the easiest task, with the plainest attention pattern."),
        settings_for("copy"),
    ),
    Preset(
        N_("The paper's 512 · 8 · 6"),
        N_("The base model of Vaswani et al. 2017: d_model 512, 8 heads, 6 layers. Large for a laptop."),
        {
            "model": {"d_model": 512, "n_heads": 8, "n_layers": 6, "d_ff": 2048, "dropout": 0.1, "norm": "post"},
            "train": {"steps": 20_000, "lr": 7e-4, "warmup": 4000, "schedule": "inverse_sqrt", "eval_every": 100},
        },
    ),
    Preset(
        N_("No causal mask"),
        N_("The decoder may peek at the answer while training. Watch: the loss falls, yet what it generates is wrong."),
        {"model": {"causal_mask": False}},
    ),
    Preset(
        N_("No positions"),
        N_("The model is not told the order of the tokens. Reversing needs it."),
        {"model": {"positions": "none"}},
    ),
)
