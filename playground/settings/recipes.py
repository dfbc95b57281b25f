"""What each task sets beside the defaults, so that it is learned: the one table for form, presets and command line."""

import copy
from typing import Any

Settings = dict[str, dict[str, Any]]

# Task -> part -> field -> value. A task that the defaults already teach sets nothing.
RECIPES: dict[str, Settings] = {
    "copy": {},
    "reverse": {},
    "sort": {},
    "shift": {},
    "caesar": {},
    "deduplicate": {
        "task": {"max_len": 8},
        "model": {"n_layers": 2, "positions": "rotary"},
        "train": {"steps": 800, "lr": 5e-3, "warmup": 100},
    },
    "add": {
        "task": {"min_len": 1, "max_len": 3},
        "model": {"n_symbols": 11, "n_layers": 2, "positions": "rotary"},
        "train": {"steps": 1500, "lr": 5e-3, "warmup": 100},
    },
    "pairs": {
        "model": {"dropout": 0.2},
        "train": {"steps": 1000, "lr": 3e-3, "warmup": 100, "weight_decay": 0.1},
    },
}


def settings_for(task: str) -> Settings:
    """The settings of a run of this task beside the defaults, its name among them; for a name that is none, only that."""
    data: Settings = {"task": {}, "model": {}, "train": {}} | copy.deepcopy(RECIPES.get(task, {}))
    data["task"]["name"] = task
    return data
