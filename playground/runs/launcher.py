"""Who may train, and when: slots, a fair queue, and worker processes kept warm. One launcher a server."""

import atexit
import errno
import json
import logging
import math
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

from filelock import FileLock

from core.files import is_plain
from playground.i18n import N_, _
from playground.runs import branches, store
from playground.runs.files import FOREIGN, LINK, foreign, held, is_folder, lock, number
from playground.runs.store import ENDED, Run, Status

SPARES = 2  # idle workers kept ready, where slots are free
GIVE_UP = 3  # workers that died before they were ready: then no more are started unasked
LOOK = 0.5  # seconds between two looks at what changes without a word: sleeping workers, what other servers did
REMEMBERED = 1000  # owners whose last turn is known; who is forgotten counts as new, and is served first

KILLED = N_(
    "The training process was killed, probably because memory ran out. Resume goes on from the last checkpoint."
)
DIED = N_("The training process ended unexpectedly (exit status {code}). Resume goes on from the last checkpoint.")
ASLEEP = N_(
    "The training process sleeps: the computer was put to sleep, or somebody halted the process. That time does not count. "
    "It goes on when it wakes; Stop ends it."
)
CANNOT_START = N_("The training process cannot start (exit status {code}). The server's log says why.")


@dataclass(eq=False)
class Worker:
    """One training process. Without a run it is idle."""

    process: subprocess.Popen[bytes]
    ready: bool = False
    run: Run | None = None
    owner: str = ""
    started: bool = False  # it has picked the run up
    paused: bool = False
    crowd: bool = False  # it knows that somebody waits
    releasing: bool = False  # it was asked to give up the slot
    go_on: bool = False  # somebody wants the run to go on, should it end paused or stopped all the same
    asleep: bool = False  # the system keeps it from running
    stopped: bool = False  # it was killed because it slept while somebody pressed Stop

    def send(self, **message: str) -> None:
        with suppress(OSError, ValueError):  # it is dead: its reader thread takes care of that
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()


@dataclass(frozen=True)
class Waiting:
    run: Run
    owner: str
    number: int = field(compare=False)  # order of arrival


class Launcher:
    """Commands are targets, not differences, so that doing one twice is doing it once."""

    def __init__(self, slots: int | None = None) -> None:
        self.slots = slots or _number("PLAYGROUND_SLOTS") or os.cpu_count() or 1
        self.per_person = _number("PLAYGROUND_RUNS_PER_PERSON")  # how many one person may have here; 0: any number
        self._lock = threading.RLock()
        self._workers: list[Worker] = []
        self._waiting: list[Waiting] = []
        self._order: list[str] | None = []  # ids as they will be served; None: to be worked out anew
        self._served: dict[str, int] = {}  # owner: the turn at which they got their last slot
        self._turns = 0
        self._stillborn = 0
        self._warm = self._closed = self._gathering = False
        self._server = ""
        self._alive: FileLock | None = None  # held while this server has a queue
        self._ending = threading.Event()
        self._looking = False
        self._logged: set[str] = set()
        atexit.register(self.close)

    # What people ask

    def warm(self) -> None:
        """Start workers now, so that the first click need not wait for torch."""
        with self._lock:
            self._warm = True
            self._pump()

    def submit(self, run_id: str, owner: str = "", paused_at: int | None = None) -> bool:
        """Train this run as soon as a slot is free; `paused_at` pauses it at that step. False: it cannot be trained here,
        because another process trains it, it is no run of ours, or parts of it lead elsewhere (its status says so). Submitting
        twice is submitting once. Raises OSError.
        """
        with self._lock:
            run = self._find(run_id)
            if run is None or self._refused(run):
                return False
            if self._worker(run_id) or self._is_waiting(run_id):
                self._pump()
                return True
            if paused_at is None:
                run.withdraw("pause", "step", "stop")
            else:
                run.withdraw("stop")
                run.ask("step", paused_at)
                run.ask("pause")
            return self._enqueue(run, owner)

    def resume(self, run_id: str, owner: str = "") -> bool:
        """Go on training: a paused, stopped, failed or interrupted run continues from its newest checkpoint. As `submit`."""
        with self._lock:
            run = self._find(run_id)
            if run is None:
                return False
            if not run.goes_on() or self._refused(run):
                return False
            run.withdraw("pause", "step", "stop")
            if (worker := self._worker(run_id)) and not self._is_dead(worker):
                worker.go_on = True
                return True
            if not self._is_waiting(run_id):
                return self._enqueue(run, owner)
            self._pump()
            return True

    def train_on(self, run_id: str, steps: int, owner: str = "") -> bool:
        """Let a run that is not at work have so many steps in all, and go on. As `submit`; raises RunError, too."""
        with self._lock:
            run = self._find(run_id)
            at_work = run is not None and run.alive() and run.written_status().state not in ENDED
            if run is None or at_work or self._refused(run):
                return False
            branches.train_on(run, steps)
            return self.resume(run_id, owner)

    def resume_all(self, owner: str = "") -> int:
        """Resume every interrupted run, oldest first, each in its own person's turn. How many those were. One that cannot
        be resumed keeps none of the others from it; then raises OSError.
        """
        resumed, trouble = 0, None
        interrupted = [run for run in reversed(store.list_runs()) if run.status().state == "interrupted"]
        with self._lock:
            self._gathering = True  # they all come at once: nobody's second run starts before the rest is in the queue
            try:
                for run in interrupted:
                    try:
                        resumed += self.resume(run.id, run.owner or owner)
                    except OSError as error:
                        trouble = error
                    except store.RunError:  # changed just now
                        continue
            finally:
                self._gathering = False
            self._pump()
        if trouble is not None:
            raise trouble
        return resumed

    def pause(self, run_id: str) -> None:
        with self._lock:
            if (run := self._find(run_id)) is None:
                return
            run.withdraw("step")
            if self._drop(run_id):
                self._mark(run, "paused")
            elif self._worker(run_id) or run.alive():
                run.ask("pause")
                self._forget_wish(run_id)
            elif run.status().state == "queued":  # at another server, which sees that and drops it
                self._mark(run, "paused")

    def step_to(self, run_id: str, target: int, owner: str = "") -> None:
        """Train up to this step and pause there."""
        with self._lock:
            if (run := self._find(run_id)) is None:
                return
            run.ask("step", int(target))
            run.ask("pause")
            if worker := self._worker(run_id):
                worker.go_on = True
            elif not self._is_waiting(run_id) and run.status().state != "finished" and run.status().step < target:
                run.withdraw("stop")
                self._enqueue(run, owner or run.owner)

    def stop(self, run_id: str) -> None:
        """End the run here. It can still be resumed later."""
        with self._lock:
            if (run := self._find(run_id)) is None:
                return
            if self._worker(run_id) or run.alive():
                run.ask("stop")
                self._forget_wish(run_id)
                self._end_sleeping(run_id)
            elif self._drop(run_id):
                run.withdraw("pause", "step", "stop")
                self._mark(run, "stopped")
            elif (state := run.status().state) in ("paused", "queued", "interrupted"):
                run.withdraw("pause", "step", "stop")
                if state == "queued":  # at another server, which may start it this very moment
                    run.ask("stop")
                self._mark(run, "stopped")

    def set_lr(self, run_id: str, lr: float) -> None:
        """Change the peak learning rate from the next step on, or from the first one after a resume."""
        run = self._find(run_id)
        if run is not None and math.isfinite(lr) and 0 < lr <= 1e6:
            run.ask("lr", float(lr))

    def set_pace(self, run_id: str, pace: float | None) -> None:
        """Slow a run down to so many steps a second, or None: full speed. At once."""
        run = self._find(run_id)
        if run is not None:
            run.set_pace(pace)

    def delete(self, run_id: str) -> bool:
        """Take a run out of the queue and delete it; its trainer, if any, ends when it sees that."""
        with self._lock:
            self._drop(run_id)
            self._forget_wish(run_id)
        deleted = store.delete(run_id)
        self._end_sleeping(run_id)
        return deleted

    # What people see

    @property
    def waiting(self) -> int:
        """How many runs wait for a slot."""
        return len(self._waiting)

    @property
    def training(self) -> int:
        """How many slots are taken. Who sleeps takes none: when it wakes there is one more at work, until one of them ends."""
        return sum(worker.run is not None and not worker.asleep for worker in self._workers)

    def place(self, run_id: str) -> int | None:
        """The place in the queue, 1 is next; None for a run that does not wait."""
        with self._lock:
            order = self._order = self._fair() if self._order is None else self._order
            return order.index(run_id) + 1 if run_id in order else None

    def full(self, owner: str, run_id: str = "") -> bool:
        """Does this person have as many runs here, besides this one, as one may have?"""
        others = sum(who == owner and run.id != run_id for run, who in self.everything())
        return 0 < self.per_person <= others

    def everything(self) -> list[tuple[Run, str]]:
        """Every run that holds a slot or waits, with its owner: first those in slots, then the queue in its order."""
        with self._lock:
            training = [(worker.run, worker.owner) for worker in self._workers if worker.run is not None]
            waiting = sorted(self._waiting, key=lambda entry: self.place(entry.run.id) or 0)
            return training + [(entry.run, entry.owner) for entry in waiting]

    def has(self, run_id: str) -> bool:
        """Does a worker of this server train the run?"""
        return self._worker(run_id) is not None

    def close(self) -> None:
        """Let every worker save and leave; kill what is left after two seconds."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._ending.set()
            workers = list(self._workers)
        atexit.unregister(self.close)
        for worker in workers:
            with suppress(OSError):
                assert worker.process.stdin is not None
                worker.process.stdin.close()
        deadline = monotonic() + 2.0
        for worker in workers:
            try:
                worker.process.wait(max(0.0, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        if self._alive is not None:
            self._alive.release()
            with suppress(OSError):
                Path(self._alive.lock_file).unlink()

    # The queue

    def _fair(self) -> list[str]:
        """Who is served in which order: fewest slots first, then longest without one, then first come. Nobody's second run
        comes before everybody's first.
        """
        slots = Counter(worker.owner for worker in self._workers if worker.run is not None)
        served, turn = dict(self._served), self._turns
        line: dict[str, list[Waiting]] = {}
        for entry in self._waiting:
            line.setdefault(entry.owner, []).append(entry)
        order = []
        while line:
            owner = min(line, key=lambda who: (slots[who], served.get(who, 0), line[who][0].number))
            order.append(line[owner].pop(0).run.id)
            if not line[owner]:
                del line[owner]
            turn += 1
            slots[owner] += 1
            served[owner] = turn
        return order

    def _enqueue(self, run: Run, owner: str) -> bool:
        if self._closed or run.alive(patience=0.05):
            return False
        status = run.written_status()
        run.set_status(replace(status, state="queued", template="", values={}, steps_per_s=None, server=self._name()))
        self._turns += 1
        self._waiting.append(Waiting(run, owner or run.owner or run.id, self._turns))
        self._order, self._stillborn = None, 0
        self._pump()
        return True

    def _pump(self) -> None:
        """Give free slots to those who wait, ask paused runs to make room, keep spare workers warm."""
        if self._closed or self._gathering:
            return
        while self._waiting and self.training < self.slots:
            entry = next(e for e in self._waiting if e.run.id == self._fair()[0])
            if not self._still_ours(entry.run):
                self._drop(entry.run.id)
                continue
            idle = [worker for worker in self._workers if worker.run is None]
            worker = next((w for w in idle if w.ready), None) or (idle[0] if idle else self._start())
            self._drop(entry.run.id)  # only now: where no process can be started, the run keeps its place
            worker.run, worker.owner = entry.run, entry.owner
            worker.started = worker.paused = worker.releasing = worker.go_on = worker.asleep = False
            self._turns += 1
            self._served.pop(entry.owner, None)
            self._served[entry.owner] = self._turns
            if len(self._served) > REMEMBERED:
                del self._served[next(iter(self._served))]
            worker.send(run=str(entry.run.path))
        for worker in self._workers:  # no run is slow while somebody waits
            if worker.run is not None and worker.crowd != bool(self._waiting):
                worker.crowd = bool(self._waiting)
                worker.send(crowd="yes" if worker.crowd else "")
        room = sum(worker.releasing for worker in self._workers)
        for worker in self._workers:
            if room >= len(self._waiting):
                break
            if worker.paused and worker.run is not None and not worker.releasing:
                worker.releasing = True
                worker.send(release=worker.run.id)
                room += 1
        idle = [worker for worker in self._workers if worker.run is None]
        wanted = min(SPARES, self.slots - self.training)
        # One after the other: two that load torch at once are each ready later.
        if self._warm and len(idle) < wanted and all(w.ready for w in idle) and self._stillborn < GIVE_UP:
            self._start()

    def _still_ours(self, run: Run) -> bool:
        """It may have been deleted, or stopped, paused or taken over at another server, since it came into this queue."""
        status = run.written_status()
        return run.path.is_dir() and (status.state, status.server) == ("queued", self._server)

    def _drop(self, run_id: str) -> bool:
        """Out of the queue. Was it there?"""
        before = len(self._waiting)
        self._waiting = [entry for entry in self._waiting if entry.run.id != run_id]
        self._order = None
        return len(self._waiting) < before

    # The workers

    def _start(self) -> Worker:
        # Cores are shared out over the slots, and one is left to the page. More than four threads slow small models down.
        share = ((os.cpu_count() or 1) - 1) // self.slots
        threads = os.environ.get("PLAYGROUND_THREADS") or str(max(1, min(4, share)))
        process = subprocess.Popen(
            [sys.executable, "-m", "playground.runs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PLAYGROUND_THREADS": threads, "PYTHONIOENCODING": "utf-8"},
        )
        worker = Worker(process)
        self._workers.append(worker)
        if not self._looking:
            self._looking = True
            threading.Thread(target=self._look_around, daemon=True, name="look around").start()
        threading.Thread(target=self._follow, args=(worker,), daemon=True, name="follow worker").start()
        return worker

    def _look_around(self) -> None:
        """See what nobody tells: a worker that sleeps, a folder of runs made anew, a queue that another server changed."""
        while not self._ending.wait(LOOK):
            with self._lock:
                for worker in self._workers:
                    with self._surviving():
                        self._see_sleep(worker)
                with self._surviving():
                    if self._server:
                        self._name()
                for entry in self._waiting:
                    with self._surviving():
                        if not self._still_ours(entry.run):
                            self._drop(entry.run.id)
                with self._surviving():
                    self._pump()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """What a folder of runs holds, or a disk refuses, ends no thread and keeps nobody else from training. What nobody
        foresaw is logged, once.
        """
        try:
            yield
        except OSError:
            pass
        except Exception as error:
            if (what := repr(error)[:300]) not in self._logged and len(self._logged) < 100:
                self._logged.add(what)
                logging.getLogger("playground").exception("The launcher goes on after an error")

    def _see_sleep(self, worker: Worker) -> None:
        """It cannot say so itself, so its status file is written for it; when it wakes it writes its own again."""
        asleep = worker.run is not None and halted(worker.process.pid)
        if asleep and worker.run is not None:
            if not worker.run.path.is_dir() or (worker.run.path / "control" / "stop").exists():
                worker.stopped = True
                worker.process.kill()
            elif (status := worker.run.written_status()).state == "running" and status.template != ASLEEP:
                worker.run.set_status(replace(status, template=ASLEEP, values={}, steps_per_s=None))
        worker.asleep = asleep

    def _end_sleeping(self, run_id: str) -> None:
        """Who sleeps hears no Stop. What it saved stays."""
        worker = self._worker(run_id)
        if worker is not None and halted(worker.process.pid):
            worker.stopped = True
            worker.process.kill()

    def _follow(self, worker: Worker) -> None:
        """Read what a worker says until it is dead."""
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            with suppress(ValueError), self._lock, self._surviving():
                self._heard(worker, json.loads(line))
        code = worker.process.wait()
        with suppress(OSError):
            worker.process.stdout.close()
        with suppress(OSError):
            assert worker.process.stdin is not None
            worker.process.stdin.close()
        with self._lock, self._surviving():
            self._died(worker, code)

    def _heard(self, worker: Worker, message: dict[str, object]) -> None:
        if message.get("ready"):
            worker.ready, self._stillborn = True, 0
        elif worker.run is not None and message.get("run") == worker.run.id:
            if "end" in message:
                run, owner, go_on = worker.run, worker.owner, worker.go_on
                worker.run, worker.paused, self._order = None, False, None
                # A run that just finished may have been given more steps.
                over = message["end"] not in ("paused", "stopped") and not (message["end"] == "finished" and _more(run))
                if not over and go_on and self._wanted(run):
                    with suppress(OSError):
                        self._enqueue(run, owner)
            else:
                worker.started = True
                worker.paused = message.get("state") == "paused"
                worker.releasing = worker.releasing and worker.paused
        self._pump()

    def _wanted(self, run: Run) -> bool:
        """Would the trainer, started again, have anything to do? A resume may cross a run that is just ending."""
        asked = {path.name for path in (run.path / "control").glob("*")}
        if "stop" in asked:
            return False
        if "pause" not in asked:
            return True
        target = number(run.path / "control" / "step") if "step" in asked else None
        return target is not None and target > run.written_status().step

    def _is_dead(self, worker: Worker) -> bool:
        """A person may see a trainer's death, and click, before we have heard of it."""
        if worker.run is None or worker.run.status().state != "interrupted":
            return False
        try:
            code = worker.process.wait(0.5)
        except subprocess.TimeoutExpired:
            return False
        self._died(worker, code)
        return True

    def _died(self, worker: Worker, code: int) -> None:
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        self._order = None
        if not worker.ready:
            self._stillborn += 1
        run, worker.run = worker.run, None
        if run is not None and not self._closed and run.path.is_dir():
            status = run.written_status()
            dead_before = worker.ready and not worker.started
            left_in_a_long_step = code == 0 and worker.go_on  # and somebody resumed meanwhile; see Training._watch
            if dead_before or (left_in_a_long_step and self._wanted(run)):
                with suppress(OSError):
                    self._enqueue(run, worker.owner)
            elif status.state in ("queued", "running", "paused") and worker.stopped:
                with suppress(OSError):
                    saved = max(run.resumable_steps(), default=0)
                    run.set_status(Status("stopped", saved, None, status.seconds))
                    run.withdraw("pause", "step", "stop")
            elif status.state in ("queued", "running"):
                template, state = DIED, "interrupted"
                if not worker.ready:
                    template, state = CANNOT_START, "failed"
                elif code in (-getattr(signal, "SIGKILL", 9), -getattr(signal, "SIGABRT", 6)):  # safetensors aborts
                    template = KILLED
                with suppress(OSError):
                    status = replace(status, state=state, template=template, values={"code": code}, steps_per_s=None)
                    run.set_status(replace(status, server=""))
        self._pump()

    # Small things

    def _find(self, run_id: str) -> Run | None:
        """Raises OSError where its folder is a link: whatever is done there is done to another run."""
        run = store.find(run_id)
        if run is None or run.is_sample:
            return None
        if not is_folder(run.path) and os.path.lexists(run.path):
            raise OSError(errno.ELOOP, _(LINK), str(run.path))
        return run

    def _refused(self, run: Run) -> bool:
        """A run that would be written to somewhere else is not trained; its status says why."""
        found = foreign(run.path)
        if not found or run.alive():
            return False
        self._drop(run.id)
        values = {"files": ", ".join(found)}
        status = replace(run.written_status(), state="failed", template=FOREIGN, values=values, steps_per_s=None)
        run.set_status(replace(status, server=""))
        return True

    def _worker(self, run_id: str) -> Worker | None:
        return next((w for w in list(self._workers) if w.run is not None and w.run.id == run_id), None)

    def _is_waiting(self, run_id: str) -> bool:
        return any(entry.run.id == run_id for entry in self._waiting)

    def _forget_wish(self, run_id: str) -> None:
        if worker := self._worker(run_id):
            worker.go_on = False

    def _mark(self, run: Run, state: str) -> None:
        status = run.written_status()
        run.set_status(Status(state, status.step, None, status.seconds))

    def _name(self) -> str:
        """This server's name on the runs in its queue. Whoever finds its lock free knows that the queue is gone."""
        if self._alive is not None and not Path(self._alive.lock_file).exists():  # the folder of runs was made anew
            self._alive.release()
            self._alive, self._server = None, ""
        if not self._server:
            name, folder = secrets.token_hex(8), store.root()
            folder.mkdir(parents=True, exist_ok=True)
            with self._surviving():  # what cannot be removed keeps nobody from training
                store.sweep()
            for old in folder.glob(".server-*.lock"):
                with self._surviving():
                    if is_plain(old) and store.SERVER.fullmatch(old.name[8:-5]) and not held(old):
                        old.unlink(missing_ok=True)
            mine = lock(store.server_lock(folder, name))
            mine.acquire()
            self._alive, self._server = mine, name
            for entry in self._waiting:  # what still is there waits at this server all the same
                if (status := entry.run.written_status()).state == "queued":
                    entry.run.set_status(replace(status, server=name))
        return self._server


def halted(pid: int) -> bool:
    """Does the system keep this process from running, as after SIGSTOP? Linux says so; elsewhere it counts as working."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def _more(run: Run) -> bool:
    try:
        return run.goes_on()
    except store.RunError:  # changed or deleted just now
        return False


def _number(variable: str) -> int:
    """A count from the environment; 0 where there is none."""
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def launcher() -> Launcher:
    """The launcher of this process. It lives in a module of its own that no file stands behind, because Streamlit's hot
    reload throws modules away when their file changes, and a second launcher would start workers of its own.
    """
    home: Any = sys.modules.setdefault("_playground_launcher", ModuleType("_playground_launcher"))
    with _making:
        if not hasattr(home, "it") or home.it._closed:
            home.it = Launcher()
        it: Launcher = home.it
    return it


_making = threading.Lock()
