"""The command line: the same runs, the same sentences, without a browser."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.config import ModelConfig, RunConfig, TaskConfig, TrainConfig
from core.messages import ConfigError
from core.read import build, read
from playground import __main__ as cli
from playground.runs import store
from playground.settings.words import options
from tests.playground.small import (
    config,
    one_thread,
    same_bits,
    steps_shown,
    trained,
    until,
    weights_after,
    weights_on_disk,
)

TINY = [
    "--d-model",
    "16",
    "--heads",
    "2",
    "--d-ff",
    "16",
    "--symbols",
    "6",
    "--min-length",
    "2",
    "--max-length",
    "5",
    "--batch-size",
    "8",
    "--device",
    "cpu",
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("PLAYGROUND_RUNS", str(folder))
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.setenv(name, "en")
    return folder


def configured(*words: str) -> RunConfig:
    return cli.configuration(cli.parser().parse_args(["train", *words]))


def run_cli(*words: str) -> int:
    """In this process. `train_here` sets signal handlers and threads, which are put back."""
    kept = [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)]
    try:
        with one_thread():
            return cli.main(words)
    finally:
        for name, handler in zip((signal.SIGINT, signal.SIGTERM), kept, strict=True):
            signal.signal(name, handler)


def test_no_options_mean_the_default_run() -> None:
    assert configured() == RunConfig()


def test_every_field_has_an_option_with_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--help"])
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    options = {action.dest: action for action in cli.parser()._subparsers._group_actions[0].choices["train"]._actions}  # type: ignore[union-attr, index]
    for section, model in (("model", ModelConfig), ("task", TaskConfig), ("train", TrainConfig)):
        for name, field in model.model_fields.items():
            assert f"{section}.{name}" in options
            assert field.description
            assert re.sub(r"\W", "", field.description) in re.sub(r"\W", "", shown)
    for command in ("resume", "branch", "runs", "export", "import", "delete"):
        with pytest.raises(SystemExit) as end:
            cli.main([command, "--help"])
        assert end.value.code == 0


def test_options_reach_their_fields() -> None:
    words = "--task sort --heads 8 --layers 3 --no-causal-mask --norm post --dropout 0.1 --lr 1e-3 --seed 7 --min-len 4 --stop-at-exact-match 0.9"
    config = configured(*words.split())
    assert (config.task.name, config.task.min_len) == ("sort", 4)
    assert (config.model.n_heads, config.model.n_layers, config.model.norm) == (8, 3, "post")
    assert (config.model.causal_mask, config.model.padding_mask, config.model.dropout) == (False, True, 0.1)
    assert (config.train.lr, config.train.seed, config.train.stop_at_exact_match) == (1e-3, 7, 0.9)
    assert configured("--task", "add").model.n_symbols == 11


def test_preset_then_file_then_options(tmp_path: Path) -> None:
    assert configured("--preset", "no-positions").model.positions == "none"
    assert configured("--preset", "No positions").model.positions == "none"
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"train": {"steps": 5, "lr": 0.5}}))
    config = configured("--config", str(file), "--lr", "0.25")
    assert (config.train.steps, config.train.lr) == (5, 0.25)


def test_pairs_come_from_a_csv(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("".join(f"{chr(97 + i)}{chr(98 + i)},{chr(98 + i)}\n" for i in range(12)))
    config = configured("--pairs", str(file))
    assert (config.task.name, len(config.task.pairs), config.model.n_symbols) == ("pairs", 12, 13)


BAD = [
    ({"model": {"d_model": 64, "n_heads": 5}}, "--d-model 64 --heads 5"),
    ({"model": {"d_model": 63, "n_heads": 1}}, "--d-model 63 --heads 1"),
    ({"model": {"n_layers": 0}, "train": {"lr": 0, "batch_size": 0}}, "--layers 0 --lr 0 --batch 0"),
    ({"model": {"dropout": 1.0}, "task": {"min_len": 9, "max_len": 3}}, "--dropout 1.0 --min-length 9 --max-length 3"),
    ({"train": {"steps": "many"}, "model": {"norm": "middle"}}, "--steps many --norm middle"),
    ({"train": {"lr": float("nan")}}, "--lr nan"),
]


@pytest.mark.parametrize(("data", "words"), BAD)
def test_a_bad_configuration_is_refused_with_the_sentences_of_the_form(
    data: dict[str, dict[str, object]], words: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        build(data)
    assert run_cli("train", *words.split()) == 2
    said = [f"{options(problem.loc)[0]}: {problem.sentence}" for problem in error.value.problems]
    assert capsys.readouterr().err.splitlines() == said  # the option, which is what the person typed
    assert all(line.startswith("--") for line in said)
    assert not list(runs.iterdir())


def test_a_fault_is_said_where_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An option by its name, also where it overrules a file; what the file says, by its place there."""
    file = tmp_path / "config.json"
    file.write_text('{"model": {"n_heads": 5}, "train": {"lr": 0}}')
    assert run_cli("train", "--config", str(file)) == 2
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["model.n_heads", "train.lr"]
    assert run_cli("train", "--config", str(file), "--heads", "7") == 2
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["--heads", "train.lr"]
    assert run_cli("train", "--heads", "7") == 2
    assert capsys.readouterr().err.startswith("--heads: d_model 64 cannot be split into 7 equal heads.")
    file.write_text("just one column\n")
    assert run_cli("train", "--pairs", str(file)) == 2
    assert capsys.readouterr().err.startswith("--pairs: ")


def test_settings_come_from_a_run_json_too(tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = store.create(config(7, lr=0.02, seed=5))
    path = made.path / "run.json"
    assert read(path.read_bytes()) == made.config
    assert configured("--config", str(path), "--seed", "6") == made.config.model_copy(
        update={"train": made.config.train.model_copy(update={"seed": 6})}
    )
    facts = json.loads(path.read_text())
    (tmp_path / "bad.json").write_text(json.dumps(facts | {"config": {"model": {"n_heads": 0}}}))
    assert run_cli("train", "--config", str(tmp_path / "bad.json")) == 2
    assert capsys.readouterr().err.startswith("model.n_heads: ")
    (tmp_path / "newer.json").write_text(json.dumps(facts | {"schema": 99}))
    assert run_cli("train", "--config", str(tmp_path / "newer.json")) == 1
    assert "newer version" in capsys.readouterr().err


def test_what_is_no_file_and_no_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"model": {"d_model": 64, "d_model": 32}}')
    assert run_cli("train", "--config", str(bad)) == 2
    assert run_cli("train", "--preset", "none such") == 2
    bad.write_text("just one column\n")
    assert run_cli("train", "--pairs", str(bad)) == 2
    assert run_cli("train", "--config", str(tmp_path / "missing.json")) == 1
    assert "none such" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--no-such-option"])
    assert end.value.code == 2


def test_train_list_export_import_delete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_cli("train", *TINY, "--steps", "12", "--name", "my run") == 0
    out, err = capsys.readouterr()
    run = store.find(out.strip())
    assert run is not None
    assert "step 12/12" in err
    assert (run.status().state, run.label().name, steps_shown(run)[-1]) == ("finished", "my run", 12)
    assert run_cli("runs") == 0
    assert "my run" in capsys.readouterr().out
    assert run_cli("resume", "last") == 0
    assert "finished" in capsys.readouterr().err
    assert run_cli("export", run.id, str(tmp_path / "a.zip")) == 0
    assert run_cli("import", str(tmp_path / "a.zip")) == 0
    copy = store.find(capsys.readouterr().out.strip())
    assert copy is not None
    assert copy.metrics() == run.metrics()
    assert run_cli("delete", "20") == 1  # two runs begin so
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert run_cli("delete", copy.id) == 1
    assert run_cli("delete", copy.id, "--yes") == 0
    assert store.find(copy.id) is None
    assert run_cli("delete", copy.id, "--yes") == 1
    assert run_cli("import", str(ROOT / "pyproject.toml")) == 1


def test_no_runs_yet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store, "samples", lambda: tmp_path)
    assert run_cli("runs") == 0
    assert "python -m playground train" in capsys.readouterr().out


def test_ctrl_c_saves_and_resume_ends_with_the_same_bits() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "playground", "train", *TINY, "--steps", "600", "--dropout", "0.1", "--layers", "1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        text=True,
    )
    try:
        assert process.stdout is not None
        run = store.find(process.stdout.readline().strip())
        assert run is not None
        until(lambda: len(run.metrics()) > 20, 40)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == cli.INTERRUPTED
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
    assert run.status().state == "interrupted"
    assert 20 < run.status().step < 600
    assert run_cli("resume", run.id, "--quiet") == 0
    assert run.status().state == "finished"
    assert same_bits(weights_on_disk(run), weights_after(run.config))


def test_another_process_has_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    from playground.runs.files import lock

    run = trained(6)
    run.set_status(store.Status("interrupted", 6))
    with lock(run.path / "writer.lock"):
        assert run_cli("resume", run.id) == 1
    assert "Another process" in capsys.readouterr().err


@pytest.mark.parametrize("threads", ["-3", "0", "99999999999", "100000", "9" * 5000, "1.5", "x", "", "٣", "nan"])
@pytest.mark.parametrize("command", ["train", "resume"])
def test_a_number_of_threads_that_none_can_start_is_refused_at_once(
    command: str, threads: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run_cli(command, *(["last"] if command == "resume" else TINY), f"--threads={threads}")
    assert end.value.code == 2
    assert "--threads" in capsys.readouterr().err
    assert not list(runs.iterdir())  # no draft stays behind


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices of POSIX")
@pytest.mark.parametrize("option", ["--config", "--pairs", "import"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link"])
def test_what_is_no_file_is_refused_and_a_link_to_one_is_read(
    option: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], runs: Path
) -> None:
    path = tmp_path / "it"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "file").write_text('{"train": {"steps": 0}}')
        path.symlink_to(tmp_path / "file")
    status = run_cli(*(["import"] if option == "import" else ["train", option]), str(path))
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert status == (1 if kind != "link" or option == "import" else 2)
    assert kind == "link" or said.startswith(str(path) if kind != "device" else "/dev/zero")
    assert not list(runs.iterdir())


def cli_in_a_shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=ROOT,
        env=os.environ | {"PY": sys.executable, "LC_ALL": "C", "LANGUAGE": "en"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
def test_who_stops_reading_hears_no_complaint() -> None:
    """`runs --all | head -1`, with less and with more than a pipe holds; and training that nobody watches goes on."""
    run = store.create(config())
    done = cli_in_a_shell('"$PY" -m playground runs --all | true')
    assert (done.stderr, done.returncode) == ("", cli.UNREAD)
    done = cli_in_a_shell('"$PY" -m playground train --help | true')
    assert done.stderr == ""
    for _ in range(800):
        store.create(config())
    done = cli_in_a_shell('"$PY" -m playground runs --all | head -1')
    assert (done.stderr, done.returncode) == ("", cli.UNREAD)
    assert done.stdout.startswith("id ")
    done = cli_in_a_shell(
        f'"$PY" -m playground resume {run.id} 2>&1 >/dev/null | true; "$PY" -m playground runs | true'
    )
    assert (done.stderr, run.status().state) == ("", "finished")


def test_the_list_says_what_sets_a_run_apart(capsys: pytest.CaptureFixture[str]) -> None:
    plain = store.create(RunConfig())
    other = store.create(build({"model": {"n_heads": 8, "positions": "none"}}))
    changed = store.create(RunConfig())
    changed.set_label(name="by hand")
    (changed.path / "metrics.jsonl").write_text('{"event":"lr","step":5,"lr":0.00024}\n')
    assert run_cli("runs") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert "differs in" in head
    assert rows[plain.id].endswith("the default run")
    assert "heads 8" in rows[other.id]
    assert "positions none" in rows[other.id]
    assert "by hand" in rows[changed.id]
    assert "0.00024 at step 5" in rows[changed.id]


def test_every_command_says_what_it_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store.create(config())

    def said(*words: str, status: int = 0) -> str:
        assert run_cli(*words) == status
        out, err = capsys.readouterr()
        assert out in ("", "\n")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        return err

    assert str(tmp_path / "a.zip") in said("export", run.id, str(tmp_path / "a.zip"))
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert "Nothing" in said("delete", run.id, status=1)
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert f"restore {run.id}" in said("delete", run.id)
    assert run.id in said("restore", run.id)
    assert run.path.is_dir()
    copy = run.path.with_name("copy")
    run.path.rename(copy)
    copy.mkdir(exist_ok=True)
    copy.rename(run.path)
    assert run_cli("delete", run.id, "--yes") == 0
    run.path.mkdir()
    capsys.readouterr()
    assert "again" in said("restore", run.id, status=1)  # it is in the trash, so that is not what is wrong
    run.path.rmdir()
    if sys.platform != "win32":
        other = store.create(config())
        run.path.symlink_to(other.path)
        assert "resume" not in said("resume", run.id, status=1)
        assert "stays" in said("delete", run.id, "--yes")
        assert other.path.is_dir()


def test_the_end_of_input_is_a_no_on_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(question: str) -> str:
        print(question, end="")
        raise EOFError

    run = store.create(config())
    monkeypatch.setattr("builtins.input", nothing)
    assert run_cli("delete", run.id) == 1
    out, err = capsys.readouterr()
    assert out.endswith("? [y/N] \n")
    assert err
    assert run.path.is_dir()


def test_progress_says_only_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("train", *TINY, "--steps", "12") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("step 1/12  loss ")
    assert not any("–" in line for line in lines)
    assert "exact match" in lines[-1]
    assert "steps/s" in lines[-1]


def test_more_steps_and_a_branch(capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(6)
    assert run_cli("resume", run.id, "--steps", "6", "--quiet") == 0
    assert "6 steps already" in capsys.readouterr().err
    assert run_cli("resume", run.id, "--steps", "9", "--quiet") == 0
    assert (run.status().state, run.status().step) == ("finished", 9)
    capsys.readouterr()
    assert run_cli("runs") == 0
    assert "9/9" in capsys.readouterr().out
    assert run_cli("branch", run.id, "--step", "3", "--lr", "1e-3", "--steps", "12", "--name", "slower", "--quiet") == 0
    branch = store.find(capsys.readouterr().out.strip())
    assert branch is not None
    assert branch.parent == (run.id, 3, 3 in run.exact_steps())
    assert (branch.config.train.lr, branch.config.train.steps, branch.config.model) == (1e-3, 12, run.config.model)
    assert (branch.status().state, branch.label().name, steps_shown(branch)) == (
        "finished",
        "slower",
        list(range(4, 13)),
    )
    assert run_cli("branch", run.id, "--step", "3", "--steps", "2") == 2
    assert run_cli("branch", run.id, "--step", "4000", "--steps", "5000") == 1
    with pytest.raises(SystemExit):
        run_cli("branch", run.id, "--d-model", "32")  # the weights fix it
    said = capsys.readouterr().err
    assert "--steps: The branch begins at step 3" in said
    assert "4000" in said


def test_a_pace(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("train", *TINY, "--steps", "3", "--pace", "20", "--quiet") == 0
    run = store.find(capsys.readouterr().out.strip())
    assert run is not None
    assert run.pace() == 20
    for bad in ("0", "-1", "x", "1e9", "nan"):
        with pytest.raises(SystemExit):
            run_cli("train", *TINY, "--pace", bad)
    assert run_cli("resume", run.id, "--steps", "5", "--pace", "full", "--quiet") == 0
    assert run.pace() is None


def test_who_lists_runs_loads_no_torch() -> None:
    """Importing it takes two seconds: the command line, the store and the launcher do without until something is computed."""
    code = "import sys, playground.__main__, playground.runs.launcher; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
