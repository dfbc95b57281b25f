"""Train one run folder to its end, as the requests in its control folder say. The worker and the command line do this."""

import errno
import os
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from time import monotonic, process_time, sleep
from typing import BinaryIO

import torch
from filelock import Timeout

from core.lab.examine import examine
from core.messages import ConfigError
from core.train import REWARM, Diverged, StepRecord, Trainer, pick_device
from playground import estimate
from playground.i18n import N_
from playground.runs import checkpoints, log
from playground.runs.files import FOLDERS, FOREIGN, foreign, lock, number
from playground.runs.probe import Prober
from playground.runs.store import Run, Status

POLL = 0.02  # seconds between two looks at the control folder
STATUS_EVERY = 0.25
SLEEP, AWAKE = 3.0, 0.05  # who was away so many seconds, and computed less than this share of them, slept
PATIENCE = 1.4  # seconds that a step, or a save, may still take once it is time to leave

DIVERGED = N_(
    "The loss or the gradient was no finite number at step {step}. The weights of the last good step are kept. A smaller learning rate usually helps."
)
NO_DEVICE = N_("The device {device} cannot be used here: the CPU computes.")
NO_MEMORY = N_("There was not enough memory. A smaller batch, d_model or number of layers needs less.")
STARVED = ("allocate memory", "bad_alloc", "out of memory")  # words of those who have no error of their own for it
DISK_FULL = N_("The disk is full. Free some space, then resume.")
NO_PERMISSION = N_("The run folder may not be written to. Change its permissions, then resume.")
NO_START = N_("The weights with which this branch began are missing or damaged.")
COLD = N_(
    "This branch began at step {step} without the optimizer's memory: the learning rate warms up over its first {n} steps."
)
HURRIED = N_("Somebody waits for a place, so this run trains at full speed until nobody does.")
STORAGE = N_("Writing to the run folder failed: {error}.")
ERROR = N_("Training ended with an error: {error}.")
SLEPT = N_(
    "The training process got no time to compute for {seconds} s (asleep, or the computer was busy): not counted."
)
SERVER_LEFT = N_("The app was closed. Resume goes on from step {step}.")


class NoStart(RuntimeError):
    """A branch without the weights it began with."""


class Locked(RuntimeError):
    """Another process trains this run."""


class Gone(RuntimeError):
    """The run folder was deleted."""


@contextmanager
def holding(run: Run) -> Iterator[None]:
    """Hold the run's lock. Raises Locked, and Gone where there is no folder (a lock file would create half of one)."""
    if not (run.path / "run.json").is_file():
        raise Gone(run.id)
    held = lock(run.path / "writer.lock")
    try:
        held.acquire(timeout=0.5, poll_interval=0.01)  # someone may just be asking whether it is free
    except Timeout:
        raise Locked(run.id) from None
    try:
        yield
    finally:
        held.release()


class Training:
    """One stretch of training: from a start or resume to a pause that gives up its slot, or an end.

    `leave` is set when the process has to go, `release` when somebody else waits for the slot of a paused run, `crowd` while
    anybody waits: then no run is slow.
    """

    def __init__(
        self,
        run: Run,
        leave: threading.Event,
        release: threading.Event | None = None,
        on_state: Callable[[str], None] = lambda state: None,
        on_record: Callable[[StepRecord], None] | None = None,
        patience: float | None = None,
        crowd: threading.Event | None = None,
    ) -> None:
        self.run, self.leave, self.release = run, leave, release or threading.Event()
        self.crowd = crowd or threading.Event()
        self.pace: float | None = None  # steps a second, where it is slowed down
        self.begun = 0.0  # when the last step began
        self.waiting = False  # for the next step's time
        self.on_state, self.on_record, self.patience = on_state, on_record, patience
        self.control = str(run.path / "control")
        self.hold: int | None = None  # pause at this step
        self.stop = self.paused = self.ended = False
        self.unsound = False  # after an error that nobody foresaw, a GPU's for example, the process is not used again
        self.seconds, self.next_poll, self.next_status = 0.0, 0.0, 0.0
        self.status = Status("running", run.written_status().step)
        self.step = self.status.step
        self.recent: deque[tuple[float, int]] = deque(maxlen=8)  # when which step was reached: the speed

    def __call__(self) -> str | None:
        """Train. Returns the state in which it ended, or None where the folder is gone. Raises Locked."""
        if found := foreign(self.run.path):  # before the lock: taking a lock empties its file
            return self._foreign(found)
        if self.patience is not None:
            threading.Thread(target=self._watch, daemon=True).start()
        try:
            with holding(self.run):
                state = self._guarded()
                self.ended = True
                return state
        except (Gone, FileNotFoundError):
            return None
        except OSError as error:  # not even the lock can be taken
            return self._failed(error)
        finally:
            self.ended = True

    def _guarded(self) -> str | None:
        """Whatever goes wrong becomes a state and a reason."""
        values: dict[str, object] = {}
        try:
            state = self._train()
            if state == "interrupted":
                return self._end(state, SERVER_LEFT, {"step": self.step})
            return self._end(state)
        except Gone:
            return None
        except ConfigError as error:  # more than this computer can hold
            template, values = error.problems[0].template, error.problems[0].values
        except Diverged:
            template, values = DIVERGED, {"step": self.step + 1}
        except NoStart:
            template = NO_START
        except OSError as error:
            return self._failed(error)
        except Exception as error:
            text = str(error).strip().split("\n")[0].rstrip(".")
            starved = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(w in text for w in STARVED)
            template, values = (NO_MEMORY, {}) if starved else (ERROR, {"error": text[:300] or type(error).__name__})
            self.unsound = True
            if not starved:
                traceback.print_exc()
        return self._end("failed", template, values)

    def _failed(self, error: OSError) -> str | None:
        """The disk refused something: say what, unless the folder is gone."""
        if not self.run.path.is_dir():
            return None
        template = {errno.ENOSPC: DISK_FULL, errno.EDQUOT: DISK_FULL}.get(error.errno or 0, STORAGE)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            template = NO_PERMISSION
        return self._end("failed", template, {"error": error.strerror or type(error).__name__})

    def _foreign(self, found: list[str]) -> str | None:
        """Parts of the folder lead elsewhere. Nothing is written there."""
        if found == ["."]:
            return "failed" if os.path.lexists(self.run.path) else None
        try:
            return self._end("failed", FOREIGN, {"files": ", ".join(found)})
        except OSError:
            return "failed"

    def _train(self) -> str:
        for folder in FOLDERS:  # copying tools leave out empty folders
            (self.run.path / folder).mkdir(exist_ok=True)
        estimate.refuse_too_large(self.run.config)
        state, grew = checkpoints.newest(self.run), self.run.parent
        if state is None and grew is not None:  # from its seed it would be another run
            raise NoStart
        cold_at = grew.step if grew is not None and not grew.exact else None
        self.trainer = trainer = Trainer(self.run.config, state, self.run.added, cold_at)
        self.step = trainer.step
        asked = self.run.config.train.device
        device = pick_device(asked).type if asked == "auto" else asked
        if trainer.device.type != device:
            self.status = replace(self.status, template=NO_DEVICE, values={"device": device})
        elif cold_at is not None and self.step < cold_at + REWARM:
            self.status = replace(self.status, template=COLD, values={"step": cold_at, "n": REWARM})
        with self._open_log() as self.metrics:
            self._catch_up()
            self.checkpoints = checkpoints.Checkpoints(self.run, trainer)
            self.prober = Prober(self.run, trainer)
            if trainer.step == 0:
                self.checkpoints.weights()
            self._take_back()
            self._poll()
            self._show("running")
            self.prober.look()
            return self._loop()

    def _loop(self) -> str:
        trainer, self.clock, self.computed = self.trainer, monotonic(), process_time()
        while True:
            now = self._tick()
            if now >= self.next_poll:
                self._poll()
            if self.stop:
                return "stopped"
            if trainer.done:
                self.checkpoints.last()
                self._event("examined", step=self.step, **examine(trainer.model, trainer.data, self.step))
                return "finished"
            if self.leave.is_set():
                return "paused" if self.paused else "interrupted"
            if self.hold is not None and self.step >= self.hold:
                if not self.paused:
                    self._pause()
                elif self.release.is_set():
                    return "paused"
                sleep(POLL / 2)
                self.next_poll = 0.0
                continue
            if self.paused:
                self.paused = False
                self._show("running")
            if self._slow(now):
                continue
            if self.step in self.replay:
                trainer.set_lr(self.replay.pop(self.step))
            self.begun = now
            try:
                record = trainer.advance()
            except Diverged:
                self._event("diverged", step=self.step + 1)
                self.checkpoints.checkpoint(whole=True)  # the weights are still those of the last good step
                raise
            self.step = record.step
            now = self._tick()
            self._write(log.line(record, self.seconds))
            if self.on_record is not None:
                self.on_record(record)
            self.checkpoints.after_step()
            self.prober.look()
            if now >= self.next_status:
                self._show("running")

    def _slow(self, now: float) -> bool:
        """Is it too early for the next step of a slow run? Then wait a little of that time, so that requests are answered at once.

        Such waits are no training time, as pauses are none.
        """
        crowded = self.pace is not None and self.crowd.is_set()
        if crowded != (self.status.template == HURRIED):
            self.status = replace(self.status, template=HURRIED if crowded else "", values={})
            self.next_status = 0.0
        left = 0.0 if self.pace is None or crowded else self.begun + 1 / self.pace - now
        self.waiting = left > 0
        if not self.waiting:
            return False
        if now >= self.next_status:  # a step may be seconds away
            self._show("running")
        sleep(min(left, POLL))
        self._tick()
        self.waiting = False
        return True

    def _tick(self) -> float:
        """Count the time since the last look at the clock as training, unless the run is paused, slow or slept. Returns now."""
        now, computed = monotonic(), process_time()
        gap, worked = now - self.clock, computed - self.computed
        self.clock, self.computed = now, computed
        if self.waiting:
            return now
        if not self.paused and gap > SLEEP and worked < AWAKE * gap:
            self.status = replace(self.status, template=SLEPT, values={"seconds": round(gap)})
            self.seconds, self.next_status = self.seconds + worked, 0.0
            self.recent.clear()
        elif not self.paused:
            self.seconds += gap
        return now

    def _pause(self) -> None:
        self.paused = True
        self.checkpoints.checkpoint(whole=True)
        self.prober.look(force=True)
        self._show("paused")

    def _end(self, state: str, template: str = "", values: dict[str, object] | None = None) -> str | None:
        """Put everything on disk, the state last."""
        try:
            if state != "failed":
                self.checkpoints.last()
            if state in ("finished", "stopped"):
                self.prober.look(force=True)
                self.run.withdraw("stop", "pause", "step")
            self.status = Status(state, self.step, None, self.seconds, template, values or {})
            self.run.set_status(self.status)
        except OSError as error:
            if not self.run.path.is_dir():
                return None
            if state != "failed":
                return self._failed(error)
        return state

    def _poll(self) -> None:
        """See what people asked for. A pause lasts while its file is there; with a step beside it, it begins at that step."""
        try:
            asked = {entry.name for entry in os.scandir(self.control)}
        except FileNotFoundError:
            raise Gone(self.run.id) from None
        self.next_poll = monotonic() + POLL
        self.stop = "stop" in asked
        self.hold = None
        if "pause" in asked:
            target = number(self.run.path / "control" / "step") if "step" in asked else None
            self.hold = 0 if target is None else int(target)
        self.pace = self.run.pace() if "pace" in asked else None
        if "lr" in asked:
            path = self.run.path / "control" / "lr"
            lr = number(path)
            if lr is not None and 0 < lr <= 1e6 and (lr != self.trainer.peak or self.replay):
                self.trainer.set_lr(lr)
                self.replay.clear()
                self._event("lr", step=self.step, lr=lr)
                self.checkpoints.forget_after(self.step)
            # Last: a trainer that is killed before this finds the request again, see _take_back.
            with suppress(OSError):  # a folder of that name asks for nothing, and stays
                path.unlink(missing_ok=True)

    def _take_back(self) -> None:
        """Who was killed between writing a new rate to the log and taking the request back left both: that is one request."""
        path = self.run.path / "control" / "lr"
        last = max(self.replay, default=None)
        if last is not None and number(path) == self.replay[last]:
            self.checkpoints.forget_after(last)
            path.unlink(missing_ok=True)

    def _show(self, state: str) -> None:
        """Write the status file, with the speed of the last two seconds."""
        now, step = monotonic(), self.step
        if state != self.status.state:
            self.recent.clear()
        self.recent.append((now, step))
        then, since = self.recent[0]
        speed = (step - since) / (now - then) if step > since else None
        changed = state != self.status.state or self.next_status == 0.0
        self.status = replace(self.status, state=state, step=step, steps_per_s=speed, seconds=self.seconds)
        self.run.set_status(self.status)
        self.next_status = now + STATUS_EVERY
        if changed:
            self.on_state(state)

    def _write(self, line: bytes) -> None:
        """One line, at once: what is not in the file cannot be shown. Half a line is taken back."""
        written = self.metrics.write(line)
        if written != len(line):
            self.metrics.truncate(self.metrics.seek(0, os.SEEK_END) - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _event(self, event: str, **values: float) -> None:
        self._write(log.event(event, **values))

    def _open_log(self) -> BinaryIO:
        """The log for appending. A torn last line, left by a killed trainer, was never shown: it goes."""
        file = (self.run.path / "metrics.jsonl").open("a+b", buffering=0)
        data_end = file.seek(0, os.SEEK_END)
        tail = b""
        if data_end:
            file.seek(max(0, data_end - 2**16))
            tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(data_end - (len(tail) - tail.rfind(b"\n") - 1))
        return file

    def _catch_up(self) -> None:
        """What the log knows beyond the state we resume from: training time so far, and learning rates to set again."""
        found = log.Log(self.run.path / "metrics.jsonl").update()
        self.seconds = max((r["seconds"] or 0.0 for r in found.records() if r["step"] <= self.step), default=0.0)
        self.replay: dict[int, float] = {}
        for event in found.events:
            at, lr = event.get("step"), event.get("lr")
            if event["event"] == "lr" and isinstance(at, int) and isinstance(lr, float) and at >= self.step:
                self.replay[at] = lr
        if self.step in self.replay:
            self.trainer.set_lr(self.replay.pop(self.step))

    def _watch(self) -> None:
        """End the process where a step or a save takes longer than anyone should wait: the last checkpoint stays good."""
        patience, since = self.patience or PATIENCE, None
        while not self.ended:
            sleep(0.2)
            gone, stop = not self.run.path.is_dir(), (self.run.path / "control" / "stop").exists()
            if not (self.leave.is_set() or gone or stop):
                since = None
            elif since is None:
                since = monotonic()
            elif monotonic() - since > patience and not self.ended:
                if not gone:
                    saved = max(self.run.resumable_steps(), default=0)
                    state = "stopped" if stop else "paused" if self.paused else "interrupted"
                    values = {} if stop or self.paused else {"step": saved}
                    ending = Status(state, saved, None, self.seconds, SERVER_LEFT if values else "", values)
                    with suppress(OSError):
                        self.run.set_status(ending)
                        self.run.withdraw("stop")
                os._exit(0)
