"""A fault at every call the store makes to the file system, in turn: `python -m tests.reliability.failpoints [EVERY] [NAME…]`.

An operation runs again and again, each time with its nth call failing, until it passes untouched. After every time the
folder is read back and judged. A hard exit happens in a forked process, half of what it was writing on the disk, so
another process judges. "lasting" is a disk that is full from the nth call on: no later call that writes gets through.

Python reports its file-system calls to an audit hook, whoever makes them (zipfile, shutil, filelock, …), and a hook may
raise; what it does not report (write, fsync, stat) is wrapped. The clock that training looks at counts looks, not
seconds, so that every time makes the same calls in the same order.
"""

import builtins
import errno
import io
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from core.checkpoint import load_weights
from playground.runs import archive, branches, checkpoints, probe, store, training, trash
from playground.runs.store import Run, RunError, Status
from tests.playground.pretended import Pretended
from tests.playground.small import config, same_bits, steps_shown, train_here, weights_after, weights_on_disk

STEPS = 6
EXIT, LASTING = -1, -2
FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES, "exit": EXIT, "lasting": LASTING}
EVENTS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "os.chmod", "fcntl.flock"}
if not hasattr(os, "fork"):  # Windows
    del FAULTS["exit"]
LOCK_UN = 8  # of fcntl, which Windows lacks
WRITING = {"open for writing", "write", "fsync", "os.mkdir", "os.rename"}
BASE = Path(tempfile.gettempdir()).absolute() / f"failpoints-{os.getpid()}"


class Point:
    """The nth call fails. `calls` is how many there were, `hit` which one it was."""

    def __init__(self, nth: int, fault: int) -> None:
        self.nth, self.fault, self.calls, self.hit = nth, fault, 0, ""

    def called(self, what: str, path: object = "", half: Callable[[], object] | None = None) -> None:
        self.calls += 1
        later = self.fault == LASTING and self.calls > self.nth and what in WRITING
        if self.calls != self.nth and not later:
            return
        self.hit = self.hit or f"{what} {Path(str(path)).name}"
        if half is not None:
            half()
        if self.fault == EXIT:
            os._exit(9)
        code = errno.ENOSPC if self.fault == LASTING else self.fault
        raise OSError(code, os.strerror(code))


armed: Point | None = None


def ours(path: object) -> bool:
    """Under our folder, or relative to one that is open there, as rmtree works."""
    if isinstance(path, (bytes, os.PathLike)):
        path = os.fsdecode(path)
    return isinstance(path, str) and (path.startswith(str(BASE)) or not os.path.isabs(path))


def hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "fcntl.flock" and args[1] == LOCK_UN:
        return  # nothing that a disk could refuse
    if armed is not None and event in EVENTS and (event == "fcntl.flock" or ours(args[0])):
        if event == "open":
            event = "open for writing" if args[2] & (os.O_WRONLY | os.O_RDWR) else "open"
        armed.called(event, args[0])


class Watched:
    """A file that is open for writing. A write that fails has written half."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.file)

    def write(self, data: bytes) -> int:
        def half() -> None:
            self.file.write(data[: len(data) // 2])
            self.file.flush()

        if armed is not None:
            armed.called("write", self.file.name, half)
        return int(self.file.write(data))

    def truncate(self, size: int | None = None) -> int:
        if armed is not None:
            armed.called("truncate", self.file.name)
        return int(self.file.truncate(size))


def watch() -> None:
    """From now on calls are counted while a point is armed."""
    sys.addaudithook(hook)
    real_open, real_stat, real_fsync = io.open, os.stat, os.fsync

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        found = real_open(file, mode, *args, **kwargs)
        writes = "b" in mode and set(mode) & set("wax+")
        return Watched(found) if armed is not None and writes and (isinstance(file, int) or ours(file)) else found

    def stat(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if armed is not None and ours(path):
            armed.called("stat", path)
        return real_stat(path, *args, **kwargs)

    def fsync(file: int) -> None:
        if armed is not None:
            armed.called("fsync")
        real_fsync(file)

    io.open = builtins.open = opened  # type: ignore[assignment]
    os.stat, os.fsync = stat, fsync
    checkpoints.EVERY_STEPS = 2


@contextmanager
def arming(point: Point) -> Iterator[None]:
    global armed
    for module in (training, checkpoints, probe):
        ticks = itertools.count()
        module.monotonic = lambda ticks=ticks: next(ticks) * 0.04  # type: ignore[attr-defined]
    armed = point
    try:
        yield
    finally:
        armed = None


# What is done, and what must hold after it


class Case(NamedTuple):
    """`act` may be disturbed; `judge` gets what it returned, or the OSError or RunError, or None after a hard exit."""

    act: Callable[[], Any]
    judge: Callable[[Any, Point], None]


OPERATIONS: dict[str, Callable[[], Case]] = {}


def operation(prepare: Callable[[], Case]) -> Callable[[], Case]:
    OPERATIONS[prepare.__name__.rstrip("_")] = prepare
    return prepare


def own() -> list[Run]:
    return [run for run in store.list_runs() if not run.is_sample]


def a_run(steps: int = 0) -> Run:
    """A copy of a run that was made before, with a new id: a draft, or interrupted at a step."""
    run = Run(store.root() / store.new_id())
    shutil.copytree(BASE / f"made-{steps}", run.path)
    return run


@operation
def create() -> Case:
    before = {run.id for run in own()}

    def judge(result: Any, point: Point) -> None:
        new = {run.id for run in own()} - before
        assert len(new) <= 1
        assert isinstance(result, OSError) or result is None or new == {result.id}
        assert not (isinstance(result, OSError) and new)

    return Case(lambda: store.create(config(STEPS), "ann"), judge)


@operation
def branch() -> Case:
    """A branch is there whole or not at all, and goes on as its parent did."""
    parent = a_run(3)
    before = {run.id for run in own()}

    def judge(result: Any, point: Point) -> None:
        new = [run for run in own() if run.id not in before]
        assert len(new) <= 1
        assert not (isinstance(result, Exception) and new)
        for run in new:
            assert run.parent is not None
            assert run.parent[:2] == (parent.id, 3)
            assert train_here(run) == "finished"
            assert not run.parent.exact or same_bits(weights_on_disk(run), EXPECTED)

    return Case(lambda: branches.branch(parent, 3, parent.config, "ann"), judge)


@operation
def more_steps() -> Case:
    run = a_run(3)

    def judge(result: Any, point: Point) -> None:
        assert run.added in ((), (STEPS, STEPS + 2))
        assert result is not True or run.added
        branches.train_on(run, STEPS + 2)
        assert train_here(run) == "finished"
        assert steps_shown(run) == list(range(1, STEPS + 3))

    return Case(lambda: branches.train_on(run, STEPS + 2), judge)


@operation
def label() -> Case:
    run = a_run(3)
    run.set_label(name="old", notes="kept")

    def judge(result: Any, point: Point) -> None:
        allowed = {"old"} if isinstance(result, OSError) else {"old", "new"} if result is None else {"new"}
        assert (run.label().name in allowed, run.label().notes) == (True, "kept")

    return Case(lambda: run.set_label(name="new"), judge)


@operation
def requests() -> Case:
    run = a_run(3)

    def act() -> str:
        run.ask("step", 5)
        run.ask("pause")
        run.withdraw("pause", "step", "stop")
        return "done"

    def judge(result: Any, point: Point) -> None:
        assert result != "done" or not list((run.path / "control").iterdir())
        assert act() == "done"

    return Case(act, judge)


def queued(act: Callable[[Pretended, Run], Any], steps: int = 3) -> Case:
    """Something that a launcher does; afterwards the run can be started by this one, or by the next."""
    run, crew = a_run(steps), Pretended(slots=1)
    other = a_run(steps)
    crew.submit(other.id, "bob")  # so that the run waits

    def judge(result: Any, point: Point) -> None:
        next_crew = Pretended(slots=1) if point.fault == EXIT else crew
        if point.fault == EXIT:
            crew._server = ""
            crew.close()
        assert run.status().state in ("queued", "interrupted", "stopped", "paused", "draft")
        assert next_crew.resume(run.id, "ann")
        assert run.status().state == "queued", run.status()
        assert next_crew.place(run.id) == 1 or next_crew.has(run.id)
        assert result is not True or point.fault == EXIT or run.status().server == crew._server
        next_crew.close()

    return Case(lambda: act(crew, run), judge)


@operation
def submit() -> Case:
    """The first submit of a server, which also takes the lock that says it lives."""
    run, crew = a_run(), Pretended(slots=1)

    def judge(result: Any, point: Point) -> None:
        again = Pretended(slots=1) if point.fault == EXIT else crew
        assert again.submit(run.id, "ann")
        assert run.status().state == "queued", run.status()
        assert again.has(run.id)
        again.close()

    return Case(lambda: crew.submit(run.id, "ann"), judge)


@operation
def submit_paused() -> Case:
    return queued(lambda crew, run: crew.submit(run.id, "ann", paused_at=2))


@operation
def resume() -> Case:
    return queued(lambda crew, run: crew.resume(run.id, "ann"))


@operation
def cancel() -> Case:
    return queued(lambda crew, run: (crew.submit(run.id, "ann"), crew.stop(run.id))[0])


@operation
def pause_and_step() -> Case:
    return queued(lambda crew, run: (crew.submit(run.id, "ann"), crew.pause(run.id), crew.step_to(run.id, 5))[0])


@operation
def delete() -> Case:
    run = a_run(3)

    def judge(result: Any, point: Point) -> None:
        if isinstance(result, OSError):
            assert steps_shown(run) == [1, 2, 3]
        if store.find(run.id) is not None:
            whole(run)
            assert steps_shown(run) == [1, 2, 3]
            assert store.delete(run.id)
        for deleted in trash.listed():  # where it did not get that far it can be brought back
            whole(deleted.run)
        assert store.find(run.id) is None
        assert not run.path.exists()

    return Case(lambda: (store.delete(run.id), trash.empty())[0], judge)  # into the trash, and for good


@operation
def export() -> Case:
    run = a_run(3)

    def judge(result: Any, point: Point) -> None:
        if isinstance(result, Path):
            copy = archive.import_(result)
            assert copy.metrics() == run.metrics()
            assert copy.saved_steps() == run.saved_steps()
            assert copy.resumable_steps() == [3]
            result.unlink()
        assert point.fault == EXIT or not list((BASE / "tmp").iterdir())
        assert steps_shown(run) == [1, 2, 3]

    return Case(lambda: archive.export(run), judge)


@operation
def import_() -> Case:
    before = {run.id for run in own()}

    def judge(result: Any, point: Point) -> None:
        new = [run for run in own() if run.id not in before]
        assert len(new) == 0 if isinstance(result, Exception) else len(new) <= 1
        assert not isinstance(result, Run) or new == [result]
        for run in new:
            assert steps_shown(run) == [1, 2, 3]
            assert run.resumable_steps() == [3]
            assert train_here(run) == "finished"
            assert same_bits(weights_on_disk(run), EXPECTED)

    return Case(lambda: archive.import_(BASE / "made.zip", "ann"), judge)


def trained(steps: int) -> Case:
    run = a_run(steps)

    def judge(result: Any, point: Point) -> None:
        assert not isinstance(result, Exception), result  # a trainer turns faults into a state
        status, shown = run.status(), run.metrics()
        assert status.state in ("failed", "interrupted", "finished", "draft"), status
        assert status.state == "finished" or result != "finished"
        if status.state == "failed":
            assert status.reason
        elif point.fault not in (EXIT, LASTING) and "status.json" not in point.hit:
            assert status.state == "finished", status  # the fault did not matter: then nothing must be missing
        if status.state != "finished":
            assert train_here(run) == "finished"
        assert steps_shown(run) == list(range(1, STEPS + 1))
        for now, before in zip(run.metrics(), shown, strict=False):
            assert (now["step"], now["loss"]) == (before["step"], before["loss"])
        assert run.log().damaged == 0
        assert same_bits(weights_on_disk(run), EXPECTED)
        if status.state == "failed":
            reasons[status.reason] += 1

    return Case(lambda: train_here(run), judge)


reasons: Counter[str] = Counter()


@operation
def train() -> Case:
    return trained(0)


@operation
def go_on() -> Case:
    return trained(3)


# Running


def whole(run: Run) -> None:
    """All that a page reads of a run can be read."""
    run.status(), run.label(), run.probe(), run.owner, run.created
    for step in run.saved_steps():
        load_weights(run.weights_path(step), run.config.model)


def judge_folder(point: Point, litter_allowed: bool) -> None:
    found = own()
    assert any(run.id == WITNESS for run in found)
    assert store.unreadable() == {}
    for run in found:
        whole(run)
    witness = Run(store.root() / WITNESS)
    assert (steps_shown(witness), witness.label().name) == ([1, 2, 3], "witness")
    store.sweep()  # as the next server does
    litter = [path.name for path in [*store.root().glob("*/.*"), *store.root().glob("*/*/.*")]]
    assert litter_allowed or not litter, litter
    assert litter_allowed or not list(store.root().glob(".new-*"))
    for left in store.root().glob(".trash-*"):  # deleted, and to be brought back as it was
        assert store.TRASH.fullmatch(left.name)
        whole(Run(left))


def attempt(name: str, nth: int, fault: int) -> Point:
    """Do it once with this fault, and judge."""
    shutil.rmtree(store.root(), ignore_errors=True)
    shutil.rmtree(BASE / "tmp", ignore_errors=True)
    (BASE / "tmp").mkdir()
    store.root().mkdir()
    shutil.copytree(BASE / "made-3", store.root() / WITNESS)
    Run(store.root() / WITNESS).set_label(name="witness")
    case, point, result = OPERATIONS[name](), Point(nth, fault), None
    if fault == EXIT:
        result = forked(case, point)
    else:
        with arming(point):
            try:
                result = case.act()
            except (OSError, RunError, KeyError) as error:  # KeyError: a run that cannot be found just now
                result = error
    if fault == EXIT or point.calls >= nth:
        judge_folder(point, litter_allowed=fault in (EXIT, LASTING))
        case.judge(result, point)
    else:
        assert not isinstance(result, Exception), result
        case.judge(result, point)
    return point


def forked(case: Case, point: Point) -> None:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # whatever waits for ever fails instead
        code = 1
        try:
            with arming(point):
                case.act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), code
    point.calls = point.nth if code == 9 else 0
    point.hit = "exit" if code == 9 else ""


def each(name: str, every: int) -> dict[str, Any]:
    """Every call of an operation with every fault; or, where `every` is given, each so-many-th with one, in turns."""
    calls = attempt(name, sys.maxsize, errno.EIO).calls  # untouched
    tries = [(nth, fault) for fault in FAULTS for nth in range(1, calls + 1)]
    if every:
        faults = itertools.islice(itertools.cycle(FAULTS), list(OPERATIONS).index(name), None)
        tries = list(zip(range(1, calls + 1, every), faults, strict=False))
    failed, times = [], Counter[str]()
    for nth, fault in tries:
        try:
            assert attempt(name, nth, FAULTS[fault]).calls >= nth  # it got there: the calls are the same every time
        except Exception:
            failed.append(f"{name}, call {nth}, {fault}: {traceback.format_exc()}")
        times[fault] += 1
    return {"calls": calls, "times": times, "failed": failed}


def main() -> None:
    global EXPECTED, WITNESS
    BASE.mkdir()
    torch.set_num_threads(1)  # a forked process has none of the threads that a second one would wait for
    os.environ["PLAYGROUND_RUNS"] = str(BASE / "runs")
    tempfile.tempdir = str(BASE / "tmp")
    try:
        made = store.create(config(STEPS, dropout=0.1))
        shutil.copytree(made.path, BASE / "made-0")
        EXPECTED = weights_after(config(STEPS, dropout=0.1))
        WITNESS = store.new_id()
        prepare_three(made)
        watch()
        every = next((int(arg) for arg in sys.argv[1:] if arg.isdigit()), 0)
        for name in [arg for arg in sys.argv[1:] if arg in OPERATIONS] or OPERATIONS:
            print(json.dumps({"name": name, **each(name, every)}), flush=True)
        print(json.dumps({"reasons": reasons}), flush=True)
    finally:
        shutil.rmtree(BASE, ignore_errors=True)


def prepare_three(run: Run) -> None:
    """The same run, interrupted at step 3."""
    run.ask("step", 3)
    run.ask("pause")
    release = threading.Event()
    release.set()
    assert training.Training(run, threading.Event(), release)() == "paused"
    run.withdraw("pause", "step")
    run.set_status(Status("interrupted", 3))
    shutil.copytree(run.path, BASE / "made-3")
    shutil.move(archive.export(run, BASE / "other.zip"), BASE / "made.zip")
    store.delete(run.id)


EXPECTED: dict[str, Any] = {}
WITNESS = ""

if __name__ == "__main__":
    main()
