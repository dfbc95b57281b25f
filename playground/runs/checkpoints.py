"""When weights and training state are published, and which old weights make room for new ones."""

from collections.abc import Collection, Mapping
from pathlib import Path
from time import monotonic

from core.checkpoint import CheckpointError, load_state, packed_weights, save_state, save_weights
from core.train import Trainer, TrainingState
from playground.runs.files import is_folder, replace
from playground.runs.store import Run

CAP = 64 * 2**20  # bytes of weights a run may keep; the newest stay whatever their size
MOST = 200  # files
EVERY_SECONDS, EVERY_STEPS = 5.0, 200  # a resumable checkpoint comes at least this often …
SHARE = 30  # … but never costs more than 1/30 of the time


def schedule(steps: int) -> set[int]:
    """Steps whose weights are kept to look at: 0, 1, 2, 3, 5, 8, 12, 18, … up to a fortieth of the run apart."""
    planned, step = {0, steps}, 1
    while step < steps:
        planned.add(step)
        step += max(1, min((step + 1) // 2, steps // 40))
    return planned


def thin(sizes: Mapping[int, int], keep: Collection[int] = (), cap: int = CAP, most: int = MOST) -> list[int]:
    """Which steps to drop so that the rest fits. What stays is spread evenly on a log scale; the newest always stays."""
    steps = sorted(sizes)
    total, dropped = sum(sizes.values()), []
    while steps and (total > cap or len(steps) > most):
        free = [i for i, step in enumerate(steps[:-1]) if step not in keep]
        if not free:
            break
        i = min(free, key=lambda i: (i == 0, (steps[i + 1] + 1) / (steps[i - 1] + 1)))  # the first goes last
        total -= sizes[steps[i]]
        dropped.append(steps.pop(i))
    return dropped


class Checkpoints:
    """Publishes weights on schedule, and every few seconds a state from which the run can go on."""

    def __init__(self, run: Run, trainer: Trainer) -> None:
        self.run, self.trainer = run, trainer
        self.planned = schedule(trainer.run.train.steps)
        self.started = self.saved_at = monotonic()
        self.saved_step = trainer.step or -1  # a run that begins has no state on disk yet
        self.cost = self.spent = 0.0  # seconds: of the last checkpoint, of all scheduled weights
        for folder in ("weights", "optimizer"):
            for left_over in (run.path / folder).glob(".*"):  # of a trainer that was killed while it wrote
                _drop(left_over)
        for left_over in run.path.glob(".probe.json.*"):
            _drop(left_over)

    def after_step(self) -> None:
        """Save what is due. Raises OSError."""
        step, now = self.trainer.step, monotonic()
        waited, ahead = now - self.saved_at, step - self.saved_step
        # At a step that is kept anyway, a checkpoint comes a little early rather than soon after.
        share = 0.5 if step in self.planned else 1.0
        due = waited >= share * EVERY_SECONDS or ahead >= share * EVERY_STEPS
        if due and waited >= SHARE * self.cost:
            self.checkpoint()
        elif step in self.planned and self.spent < 1.0 + (now - self.started) / SHARE:
            self.weights()
            self.spent += monotonic() - now

    def weights(self) -> None:
        """Weights to look at. Renamed into place but not flushed to the disk, which costs more than all the rest: after a
        power cut such a file may be damaged, is then refused, and the checkpoint is there.
        """
        step = self.trainer.step
        # Written anew where it is there: an older life of this run may have reached this step by another way.
        replace(self.run.weights_path(step), packed_weights(self.trainer.model, step))
        self._make_room()

    def checkpoint(self) -> None:
        """Weights and training state of this step. Only then do the older states go. Raises OSError."""
        start, step = monotonic(), self.trainer.step  # written anew, as in `weights`
        save_weights(self.run.weights_path(step), self.trainer.model, step)
        save_state(self.run.state_path(step), self.trainer.state())
        for old in (self.run.path / "optimizer").glob("*.safetensors"):
            if old != self.run.state_path(step):
                _drop(old)
        self._make_room()
        self.saved_step, self.saved_at = step, monotonic()
        self.cost = self.saved_at - start

    def forget_after(self, step: int) -> None:
        """From here on the run takes another way than in an older life, which is over: nobody shall take it for this one."""
        for saved in self.run.saved_steps():
            if saved > step:
                self.run.state_path(saved).unlink(missing_ok=True)
                self.run.weights_path(saved).unlink(missing_ok=True)

    def _make_room(self) -> None:
        sizes = {}
        for step in self.run.saved_steps():
            try:
                sizes[step] = self.run.weights_path(step).stat().st_size
            except FileNotFoundError:
                continue
        for step in thin(sizes, keep=self.run.resumable_steps()[:1]):
            self.run.weights_path(step).unlink(missing_ok=True)


def _drop(path: Path) -> None:
    """A folder is nothing that training wrote: it stays, and training goes on."""
    if not is_folder(path):
        path.unlink(missing_ok=True)


def newest(run: Run) -> TrainingState | None:
    """The newest training state that can be read, or None: then the run starts from its seed. Raises OSError where the
    disk does not say what there is: hours of training are not started anew for that.
    """
    for step in run.resumable_steps(strict=True):
        try:
            return load_state(run.state_path(step), run.config)
        except CheckpointError:
            continue
    return None
