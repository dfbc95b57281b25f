"""FAULTS rows 29 to 32: numbers that are none, memory that is not there, a device that is not there, a kill by the system."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

import core.train
from core.checkpoint import load_weights
from core.read import build
from core.train import Trainer, usable
from playground import __main__ as cli
from playground.runs import store, training
from playground.runs.launcher import Launcher
from playground.runs.store import Run, Status
from tests.pages.conftest import app, folders  # noqa: F401
from tests.pages.test_train import has, said
from tests.playground.small import config, same_bits, steps_shown, train_here, until, weights_after, weights_on_disk
from tests.playground.test_cli import run_cli
from tests.reliability.test_input import HUGE, NEEDED

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.setenv(name, "en")


def pid_of(crew: Launcher, run: Run) -> int:
    worker = crew._worker(run.id)
    assert worker is not None
    return worker.process.pid


# Row 29


@pytest.mark.parametrize("settings", [{"lr": 1e6, "clip": 0.0}, {"lr": 1e6, "clip": 0.0, "weight_decay": 1.0}])
def test_a_rate_of_a_million_stops_with_the_last_good_weights(settings: dict[str, float], app: Open) -> None:  # noqa: F811
    """No fault is injected: the arithmetic itself overflows."""
    run = store.create(config(3000, warmup=0, schedule="constant", **settings))
    assert train_here(run) == "failed"
    status, step = run.status(), run.status().step
    assert f"no finite number at step {step + 1}" in status.reason
    assert steps_shown(run) == list(range(1, step + 1))
    assert all(record["loss"] < float("inf") for record in run.metrics())
    load_weights(run.weights_path(step), run.config.model)  # refuses what is not finite
    assert run.log().events == [{"event": "diverged", "step": step + 1}]  # the mark on the curve
    at = app(run=run.id)
    assert "no finite number at step" in said(at)
    assert "A smaller learning rate usually helps" in said(at)


@pytest.mark.parametrize("bad", ["nan", "inf"])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_one_bad_number_anywhere_stops_before_the_weights_change(bad: str, where: str, monkeypatch: Any) -> None:
    run = store.create(config(40))
    loss, norm, calls = core.train.token_loss, torch.nn.utils.get_total_norm, [0]

    def spoil(value: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return value * float(bad) if calls[0] == 6 else value

    if where == "loss":
        monkeypatch.setattr(core.train, "token_loss", lambda *a: spoil(loss(*a)))
    else:
        monkeypatch.setattr(torch.nn.utils, "get_total_norm", lambda *a: spoil(norm(*a)))
    assert train_here(run) == "failed"
    assert run.status().step == 5
    assert run.log().events == [{"event": "diverged", "step": 6}]
    monkeypatch.undo()
    assert same_bits(weights_on_disk(run), weights_after(config(5)))


# Row 30


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a living process")
def test_a_worker_that_gets_no_more_memory_says_so_and_the_next_run_trains(crew: Launcher, app: Open) -> None:  # noqa: F811
    """The real fault: the kernel refuses the worker's next large allocation."""
    import resource

    shape = {"d_model": 16, "n_heads": 2, "d_ff": 2048}  # a small model, and half a gigabyte inside one feed-forward
    large = store.create(build({"model": shape, "train": {"batch_size": 4096, "device": "cpu"}}))
    until(lambda: crew._workers and crew._workers[0].ready, 60)
    pid = crew._workers[0].process.pid
    with open(f"/proc/{pid}/statm") as sizes:
        taken = int(sizes.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(pid, resource.RLIMIT_AS, (taken + 2**28, taken + 2**28))
    small = store.create(config(3))
    crew.submit(large.id, "ann")
    crew.submit(small.id, "bob")
    until(lambda: small.status().state == "finished", 60)
    assert large.status().state == "failed", large.status()
    assert "not enough memory" in large.status().reason
    until(lambda: not Path(f"/proc/{pid}").exists() or all(w.process.pid != pid for w in crew._workers), 10)
    at = app(run=large.id)
    assert "not enough memory" in said(at)
    assert has(at, "train")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "There was not enough memory."),
        (MemoryError(), "There was not enough memory."),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "There was not enough memory."),
        (RuntimeError("std::bad_alloc"), "There was not enough memory."),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), "CUDA error: unspecified launch failure"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), "There was not enough memory."),
    ],
)
def test_what_a_device_says_ends_the_run_with_the_reason(error: Exception, sentence: str, monkeypatch: Any) -> None:
    run, real = store.create(config(20)), Trainer.advance

    def advance(self: Trainer) -> Any:
        if self.step == 7:
            raise error
        return real(self)

    monkeypatch.setattr(Trainer, "advance", advance)
    assert train_here(run) == "failed"
    assert sentence in run.status().reason
    assert steps_shown(run) == list(range(1, 8))
    monkeypatch.undo()
    run.withdraw("stop")
    assert train_here(run) == "finished"  # resumed
    assert same_bits(weights_on_disk(run), weights_after(config(20)))


# Row 31, and what is refused before it is allocated (row 5)

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


def test_huge_is_refused_by_a_real_worker_and_the_next_run_trains(crew: Launcher) -> None:
    """Whatever way a run comes to be (an archive, a copied folder), the worker looks before it allocates."""
    huge, small = store.create(build(HUGE)), store.create(config(2))
    assert crew.submit(huge.id)
    assert crew.submit(small.id)
    until(lambda: small.status().state == "finished", 60)
    assert huge.status().state == "failed"
    assert NEEDED in huge.status().reason


@NO_CUDA
def test_no_gpu_is_the_cpu_with_one_notice_everywhere(
    app: Open, crew: Launcher, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    at = app(device="cuda")
    assert said(at).count("Not found here: the CPU will be used.") == 1
    run = store.create(config(100_000, device="cuda"))
    crew.submit(run.id, "ann")
    until(lambda: len(run.metrics()) > 3, 60)
    at = app(run=run.id)
    assert said(at).count("The device cuda cannot be used here: the CPU computes.") == 1
    crew.stop(run.id)
    until(lambda: run.status().state == "stopped")
    assert run.status().reason == ""
    words = ["--d-model", "16", "--heads", "2", "--d-ff", "16", "--steps", "2", "--batch-size", "8", "--device", "cuda"]
    capsys.readouterr()  # what Streamlit's log says of pages without a browser
    assert run_cli("train", *words, "--quiet") == 0
    assert capsys.readouterr().err.splitlines() == ["The device cuda cannot be used here: the CPU computes."]
    assert run_cli("train", *words[:-1], "auto", "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_a_device_that_is_there_and_cannot_compute_is_the_cpu_with_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is too old, a GPU that this torch has no code for: asked for, or chosen by "automatic"."""
    broken = torch.device("cuda", 99)  # real: nobody has a hundred GPUs
    assert usable(broken).type == "cpu"
    assert usable(torch.device("cpu")).type == "cpu"
    monkeypatch.setattr(core.train, "pick_device", lambda wanted: broken)
    monkeypatch.setattr(training, "pick_device", lambda wanted: broken)
    for device in ("cuda", "auto"):
        run, shown = store.create(config(3, device=device)), list[Status]()
        real = Run.set_status

        def note(self: Run, status: Status, shown: list[Status] = shown, real: Any = real) -> None:
            shown.append(status)
            real(self, status)

        with monkeypatch.context() as patch:
            patch.setattr(Run, "set_status", note)
            assert train_here(run) == "finished"
        assert "The device cuda cannot be used here" in shown[0].reason
        assert run.status().reason == ""


def test_what_mps_lacks_the_cpu_computes() -> None:
    """torch reads this when it is loaded; no Mac is needed to see that it is set before."""
    import subprocess

    code = "import playground, os, sys; assert 'torch' not in sys.modules; print(os.environ['PYTORCH_ENABLE_MPS_FALLBACK'])"
    environment = {name: value for name, value in os.environ.items() if "MPS" not in name}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == "1"


# Row 32


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_killed_by_the_system_is_shown_as_killed_and_not_as_finished(crew: Launcher, app: Open) -> None:  # noqa: F811
    """As the system's out-of-memory killer does: SIGKILL, which the app did not send."""
    run = store.create(config(100_000))
    crew.submit(run.id, "ann")
    until(lambda: len(run.metrics()) > 20, 60)
    shown = steps_shown(run)
    os.kill(pid_of(crew, run), signal.SIGKILL)
    until(lambda: "killed" in run.status().reason, 5)
    status = json.loads((run.path / "status.json").read_text())
    assert status["state"] == "interrupted"
    assert steps_shown(run)[: len(shown)] == shown
    at = app(run=run.id)
    assert "was killed, probably because memory ran out" in said(at)
    assert "Finished" not in said(at)
    assert has(at, "resume")
    at.switch_page("../pages/runs.py").run()
    assert not at.exception
    assert at.dataframe[0].value["state"].tolist() == ["⚡ interrupted", "✓ finished"]  # the run, the sample


def test_the_command_line_says_when_its_device_fails(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Trainer, "advance", lambda self: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory")))
    words = [
        "--d-model",
        "16",
        "--heads",
        "2",
        "--d-ff",
        "16",
        "--steps",
        "2",
        "--batch-size",
        "8",
        "--device",
        "cpu",
        "--quiet",
    ]
    assert run_cli("train", *words) == cli.FAILED
    assert "There was not enough memory." in capsys.readouterr().err
