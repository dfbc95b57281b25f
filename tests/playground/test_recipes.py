"""Each task's own settings: usable as they stand, the same for command line and presets, and overridden by what a person says."""

import json
from pathlib import Path

import pytest

from core.config import TASK_NAMES, RunConfig
from core.read import build, fit
from playground import __main__ as cli
from playground.presets import PRESETS
from playground.settings.recipes import RECIPES, settings_for

CSV = "source,target\n" + "\n".join(f"{a}{b},{b}{a}" for a in "abcd" for b in "abcd")


def configured(*words: str) -> RunConfig:
    return cli.configuration(cli.parser().parse_args(["train", *words]))


def test_every_task_has_a_recipe_and_every_recipe_a_task() -> None:
    assert tuple(RECIPES) == TASK_NAMES


@pytest.mark.parametrize("task", [name for name in TASK_NAMES if name != "pairs"])
def test_a_task_brings_its_settings(task: str) -> None:
    run = configured("--task", task)
    assert run == build(fit(settings_for(task)))
    assert run.task.name == task
    for part, values in RECIPES[task].items():
        for name, value in values.items():
            assert getattr(getattr(run, part), name) == value


def test_the_defaults_are_the_recipe_of_reverse() -> None:
    assert configured() == configured("--task", "reverse") == RunConfig()


def test_an_option_a_preset_and_a_file_override_the_recipe(tmp_path: Path) -> None:
    own = configured("--task", "add", "--steps", "7", "--max-length", "2")
    assert (own.train.steps, own.task.max_len) == (7, 2)
    assert own.train.lr == RECIPES["add"]["train"]["lr"], "what was not said stays the recipe's"
    paper = next(preset for preset in PRESETS if "paper" in preset.name)
    large = configured("--preset", paper.name, "--task", "add")
    assert (large.train.lr, large.task.max_len) == (paper.settings["train"]["lr"], RECIPES["add"]["task"]["max_len"])
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"train": {"steps": 9}}))
    assert configured("--config", str(file), "--task", "deduplicate").train.steps == 9


def test_pairs_bring_theirs_too(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(CSV)
    run = configured("--pairs", str(file))
    assert (run.task.name, run.model.dropout) == ("pairs", RECIPES["pairs"]["model"]["dropout"])


def test_what_is_given_out_is_a_copy() -> None:
    settings_for("add")["train"]["steps"] = 1
    assert settings_for("add")["train"]["steps"] != 1


def test_help_tells_what_a_task_brings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"--steps {RECIPES['add']['train']['steps']}" in said
