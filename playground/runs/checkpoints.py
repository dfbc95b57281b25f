"""When weights and training state are published, and which old weights make room for new ones."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from time import monotonic

from core.checkpoint import CheckpointError, load_state, packed_state, packed_weights, save_state, save_weights
from core.train import Trainer, TrainingState
from playground.runs.files import is_folder, replace
from playground.runs.store import Run

# Bytes of weights that a run keeps: PICTURE, but room for ENOUGH steps where these are larger, up to CAP. Where ENOUGH in full
# are more than PICTURE they are kept rounded to 16 bits: to look at, that is the same. The newest stay whatever their size.
CAP, PICTURE, ENOUGH = 64 * 2**20, 6_000_000, 20
MOST = 200  # files
STATE_CAP, MOST_STATES = 24 * 2**20, 10  # bytes and number of training states: a branch goes on from them exactly
APART = 1.8  # a state is kept where the step, plus one, has grown so many times since the last
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


def state_schedule(planned: Collection[int], steps: int) -> set[int]:
    """Which of the planned steps keep their training state, too: about nine, evenly on a log scale, and the last."""
    apart = max(1.2, min(APART, (steps + 1) ** 0.1))
    kept, last = {steps}, 0
    for step in sorted(planned):
        if (step + 1) / (last + 1) >= apart:
            kept.add(step)
            last = step
    return kept


class Checkpoints:
    """Publishes weights on schedule, and every few seconds a state from which the run can go on."""

    def __init__(self, run: Run, trainer: Trainer) -> None:
        self.run, self.trainer = run, trainer
        self.planned = schedule(trainer.steps) | set(trainer.added)
        whole = 4 * sum(parameter.numel() for parameter in trainer.parameters.values())
        self.half = ENOUGH * whole > PICTURE
        self.room = min(CAP, max(PICTURE, ENOUGH * whole // (1 + self.half) + 2 * whole))
        self.states = state_schedule(self.planned, trainer.steps) if 6 * whole < STATE_CAP else set()
        self.saved_whole = False
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
            if step in self.states:
                replace(self.run.state_path(step), packed_state(self.trainer.state()))
                self._make_room()
            self.spent += monotonic() - now

    def weights(self) -> None:
        """Weights to look at. Renamed into place but not flushed to the disk, which costs more than all the rest: after a
        power cut such a file may be damaged, is then refused, and the checkpoint is there.
        """
        step = self.trainer.step
        # Written anew where it is there: an older life of this run may have reached this step by another way.
        half = self.half and step > 0  # a branch may begin with the first ones
        replace(self.run.weights_path(step), packed_weights(self.trainer.model, step, half))
        self._make_room()

    def checkpoint(self, whole: bool = False) -> None:
        """Weights and training state of this step, the weights unrounded if that is wished. Only then do older ones go. Raises
        OSError.
        """
        start, step = monotonic(), self.trainer.step  # written anew, as in `weights`
        save_weights(self.run.weights_path(step), self.trainer.model, step, self.half and not whole)
        save_state(self.run.state_path(step), self.trainer.state())
        self._make_room()
        self.saved_step, self.saved_at, self.saved_whole = step, monotonic(), whole or not self.half
        self.cost = self.saved_at - start

    def forget_after(self, step: int) -> None:
        """From here on the run takes another way than in an older life, which is over: nobody shall take it for this one."""
        for saved in self.run.saved_steps():
            if saved > step:
                self.run.state_path(saved).unlink(missing_ok=True)
                self.run.weights_path(saved).unlink(missing_ok=True)

    def last(self) -> None:
        """The checkpoint at the end of a stretch, unless it is there. Raises OSError."""
        if self.saved_step != self.trainer.step or not self.saved_whole:
            self.checkpoint(whole=True)

    def _make_room(self) -> None:
        """The one place where something goes: states above their cap, weights above theirs, and states whose weights went."""
        run, newest = self.run, self.run.resumable_steps()[:1]
        keep = (*newest, self.saved_step)  # which alone is flushed to the disk
        for step in thin(_sizes(run.state_path, run.resumable_steps()), keep, STATE_CAP, MOST_STATES):
            run.state_path(step).unlink(missing_ok=True)
        sizes = _sizes(run.weights_path, run.saved_steps())
        dropped = thin(sizes, run.resumable_steps(), self.room)  # those whose state is kept go after all others
        left = {step: size for step, size in sizes.items() if step not in dropped}
        for step in dropped + thin(left, newest, self.room):
            run.weights_path(step).unlink(missing_ok=True)
        saved = set(run.saved_steps())
        for path in (run.path / "optimizer").glob("*.safetensors"):
            if not path.stem.isdigit() or int(path.stem) not in saved:
                _drop(path)


def _sizes(path: Callable[[int], Path], steps: Iterable[int]) -> dict[int, int]:
    found = {}
    for step in steps:
        try:
            found[step] = path(step).stat().st_size
        except FileNotFoundError:
            continue
    return found


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
            return load_state(run.state_path(step), run.config, run.target_steps)
        except CheckpointError:
            continue
    return None
