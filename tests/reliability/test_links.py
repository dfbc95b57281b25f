"""What lies in the folder of runs and no run of ours put there: links, pipes, folders without end, names of our own files.

Nobody's run is written to through somebody else's, nothing waits for ever, and everyone else still trains.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from playground.runs import checkpoints, files, store, training, trash
from playground.runs.launcher import Launcher
from playground.runs.store import Run
from playground.runs.training import Training
from tests.playground import small
from tests.playground.pretended import Pretended
from tests.playground.small import config, one_thread, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX")
MAIN = Path(__file__).parents[2] / "playground" / "main.py"
DEEP = 2_200  # folders; one path to the innermost would be longer than the system takes
PARTS = (*files.FOLDERS, "metrics.jsonl", "status.json", "label.json", "probe.json", "writer.lock")


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("PLAYGROUND_RUNS", str(folder))
    yield folder
    files.remove(tmp_path)  # pytest cannot: it removes folders one inside the other


@pytest.fixture
def crew() -> Iterator[Pretended]:
    made = Pretended(slots=2)
    yield made
    made.close()


def deep(top: Path, levels: int = DEEP) -> None:
    """A folder in a folder in a folder …, and a file at each hundredth."""
    top.mkdir(exist_ok=True)
    here = os.open(top, os.O_RDONLY)
    for level in range(levels):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
        if level % 100 == 0:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def train(run: Run) -> str | None:
    """To its end, in this process, ten seconds at most."""
    said: list[str | None] = []

    def work() -> None:
        with one_thread():
            said.append(Training(run, threading.Event())())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert said, "it waits for ever"
    return said[0]


def replaced(run: Run, name: str, victim: Run, how: str) -> None:
    """This part of a run is a link to a victim's, or a pipe."""
    path = run.path / name
    files.remove(path)
    if how == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(victim.path / name)


# Folders without end


def test_a_tree_of_any_depth_and_width_goes_and_no_link_is_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "inside").mkdir(parents=True)
    (kept / "inside" / "file").write_text("x")
    top = tmp_path / "top"
    deep(top)
    for i in range(50):
        (top / f"wide {i}" / "d" / "d").mkdir(parents=True)
        (top / f"wide {i}" / "d" / "file").write_text("x")
        (top / f"wide {i}" / "d" / "link").symlink_to(kept)
    (top / "broken").symlink_to(tmp_path / "none")
    os.mkfifo(top / "pipe")
    (top / "empty").mkdir()
    assert files.size(top, 10**6)[1] > 200
    assert files.size(top, 10)[1] == 10
    assert files.remove(top)
    assert not os.path.lexists(top)
    assert content(kept) == {"inside/file": b"x"}
    link = tmp_path / "link"
    link.symlink_to(kept)
    assert files.remove(link)
    assert not os.path.lexists(link)
    assert content(kept)
    assert files.remove(kept / "inside" / "file")
    assert files.remove(tmp_path / "none")  # what is not there is gone


def test_what_the_disk_refuses_stays_and_the_rest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / "top" / name / "c").mkdir(parents=True)
        (tmp_path / "top" / name / "c" / "file").write_text("x")
    real = os.unlink

    def unlink(path: Path) -> None:
        if not any(p.name == "refused" for p in [Path(path)]):
            real(path)
        else:
            raise PermissionError

    (tmp_path / "top" / "b" / "refused").write_text("x")
    monkeypatch.setattr(os, "unlink", unlink)
    assert not files.remove(tmp_path / "top")
    assert content(tmp_path / "top") == {"b/refused": b"x"}


@pytest.mark.parametrize("name", [".trash-deep", ".new-deep", "run", "trash"])
def test_with_folders_without_end_everyone_trains_and_the_trash_works(
    name: str, runs: Path, crew: Pretended, caplog: pytest.LogCaptureFixture
) -> None:
    lost = store.create(config())
    if name in ("run", "trash"):
        deep(lost.path / "weights")
        if name == "trash":
            assert store.delete(lost.id)
    else:
        deep(runs / name)
        os.utime(runs / name, (1e9, 1e9))
    run = store.create(config())
    assert crew.submit(run.id, "ann")
    assert crew.busy() == {run.id}
    assert not caplog.records
    trash.size()
    if name == "trash":
        page = AppTest.from_file(MAIN, default_timeout=60).switch_page("../pages/runs.py").run()
        assert any(button.key == f"runs.restore#{lost.id}" for button in page.button)
        assert not page.exception
        assert trash.empty() == 1
    assert [p.name for p in runs.glob(".trash-*")] == []
    assert name != ".new-deep" or not (runs / name).exists()


def test_an_error_that_nobody_foresaw_ends_no_thread(
    crew: Pretended, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fall(*_: object) -> None:
        raise RecursionError("without end")

    monkeypatch.setattr(store, "sweep", fall)
    first, second = store.create(config()), store.create(config())
    assert crew.submit(first.id)
    monkeypatch.setattr(crew, "_see_sleep", fall)
    monkeypatch.setattr("playground.runs.launcher.LOOK", 0.01)
    looking = threading.Thread(target=Launcher._look_around, args=(crew,), daemon=True)
    looking.start()
    time.sleep(0.2)
    assert looking.is_alive()
    assert crew.submit(second.id)
    assert crew.busy() == {first.id, second.id}
    assert 1 <= len([r for r in caplog.records if r.name == "playground"]) <= 2  # once, not at every look


@pytest.mark.parametrize("failing", ["archive.sweep", "trash.empty", "store.sweep"])
def test_tidying_up_goes_on_after_an_error(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    import streamlit_app

    done = []
    for name in ("archive.sweep", "trash.empty", "store.sweep", "retention.remove_old"):

        def job(*_: object, name: str = name) -> None:
            done.append(name)
            if name == failing:
                raise RecursionError

        monkeypatch.setattr(f"playground.runs.{name}", job)
    monkeypatch.setenv("PLAYGROUND_KEEP_DAYS", "3")
    assert asyncio.run(streamlit_app.tidy()) == 3600
    assert set(done) == {"archive.sweep", "trash.empty", "store.sweep", "retention.remove_old"}


# Names of our own


@pytest.mark.parametrize("kind", ["folder", "full folder", "link", "broken link", "pipe"])
@pytest.mark.parametrize("name", [".server-x.lock", f".server-{'a' * 16}.lock", ".trash-x", ".new-x", ".host-token"])
def test_whatever_has_a_name_of_ours_everyone_trains(
    name: str, kind: str, runs: Path, tmp_path: Path, crew: Pretended
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("x")
    path = runs / name
    make: dict[str, Callable[[], object]] = {
        "folder": path.mkdir,
        "full folder": lambda: (path / "file").mkdir(parents=True),
        "link": lambda: path.symlink_to(tmp_path / "elsewhere"),
        "broken link": lambda: path.symlink_to(tmp_path / "none"),
        "pipe": lambda: os.mkfifo(path),
    }
    make[kind]()
    run = store.create(config())
    assert crew.submit(run.id)
    assert crew.busy() == {run.id}
    assert content(tmp_path / "elsewhere") == {"file": b"x"}


# Runs that lead into other runs


@pytest.mark.parametrize("how", ["link", "pipe"])
@pytest.mark.parametrize("name", PARTS)
def test_a_run_that_leads_elsewhere_is_refused_and_named(name: str, how: str, crew: Pretended) -> None:
    victim, run = small.trained(6), small.trained(6)
    victim.set_label(name="victim")
    run.set_status(store.Status("interrupted", 3))
    before = content(victim.path)
    replaced(run, name, victim, how)
    assert name in run.damage()
    assert not crew.submit(run.id)
    assert name == "status.json" or not crew.resume(run.id)  # the refusal itself has put a file in its place
    assert crew.busy() == set()
    status = run.written_status()
    assert (status.state, status.values) == ("failed", {"files": name})
    assert status.template == files.FOREIGN
    if name == "status.json":  # a new one stands in its place
        replaced(run, name, victim, how)
    assert train(run) == "failed"
    assert run.written_status().values == {"files": name}
    for act in (crew.pause, crew.stop, lambda i: crew.step_to(i, 5), lambda i: crew.set_lr(i, 0.5)):
        with suppress(OSError):
            act(run.id)
    run.withdraw("pause", "stop", "step", "lr")
    assert content(victim.path) == before


def test_a_run_that_is_a_link_is_not_trained_and_only_the_link_is_deleted(crew: Pretended) -> None:
    victim = small.trained(6)
    victim.set_status(store.Status("interrupted", 3))
    victim.ask("lr", 0.5)
    before = content(victim.path)
    run = Run(store.root() / store.new_id())
    run.path.symlink_to(victim.path)
    assert run.damage() == ["."]
    acts: tuple[Callable[[str], object], ...] = (
        *(crew.submit, crew.resume, crew.pause, crew.stop),
        lambda i: crew.step_to(i, 5),
        lambda i: crew.set_lr(i, 0.1),
    )
    for act in acts:
        with pytest.raises(OSError, match="link"):
            act(run.id)
    with pytest.raises(OSError, match=r"."):
        run.ask("stop")
    run.withdraw("lr")
    assert train(run) == "failed"
    assert content(victim.path) == before
    assert store.delete(run.id)
    assert not os.path.lexists(run.path)
    assert not list(store.root().glob(".trash-*"))
    assert not store.delete(run.id)
    run.path.symlink_to(store.root() / "nowhere")  # broken
    assert store.delete(run.id)
    assert content(victim.path) == before


def test_a_link_that_an_older_version_left_in_the_trash_goes(runs: Path) -> None:
    victim = small.trained(6)
    before = content(victim.path)
    (runs / f".trash-{store.new_id()}-01234567").symlink_to(victim.path)
    store.sweep()
    assert not list(runs.glob(".trash-*"))
    assert content(victim.path) == before


def test_a_small_file_is_never_written_through_a_link(tmp_path: Path) -> None:
    """Its name before it is renamed into place can be guessed."""
    (tmp_path / "victim").write_text("x")
    (tmp_path / f".label.json.{os.getpid()}-{threading.get_ident()}").symlink_to(tmp_path / "victim")
    files.write_json(tmp_path / "label.json", {"a": 1})
    assert (tmp_path / "victim").read_text() == "x"
    assert files.read_json(tmp_path / "label.json") == {"a": 1}
    assert not (tmp_path / "label.json").is_symlink()


# Requests


@pytest.mark.parametrize("request_", ["lr", "step", "pause", "stop"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "digits"])
def test_no_request_makes_a_trainer_wait(request_: str, kind: str, tmp_path: Path, crew: Pretended) -> None:
    run = store.create(config(6))
    path = run.path / "control" / request_
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        (path / "x").mkdir(parents=True)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.write_text("9" * 1_000_000)
    assert files.number(path) is None or kind == "digits"
    crew._wanted(run)
    leave = threading.Event()
    if request_ == "pause":
        leave.set()
    done: list[str | None] = []

    def work() -> None:
        with one_thread():
            done.append(Training(run, leave)())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    until(lambda: bool(done), 20)
    assert done[0] == {"pause": "interrupted", "stop": "stopped"}.get(request_, "finished"), run.status()


def test_a_request_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = store.create(config(6))
    for written in (0.00024, 1e-9, 12345.678, 5, 10**9):
        run.ask("lr", written)
        assert files.number(run.path / "control" / "lr") == written


def test_folders_among_the_saved_files_end_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "EVERY_STEPS", 2)
    monkeypatch.setattr(training, "POLL", 0.0)
    run = store.create(config(6))
    for name in ("weights/.x", "optimizer/.x", "optimizer/999.safetensors", ".probe.json.x"):
        (run.path / name / "mine").mkdir(parents=True)
    assert train(run) == "finished"
    assert (run.path / "weights" / ".x" / "mine").is_dir()
