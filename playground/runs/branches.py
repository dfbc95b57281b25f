"""Going on from what a run has learned: more steps for the run itself, or a new run that begins with its weights.

torch is loaded only where a branch is made: the command line lists runs without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.config import ModelConfig, RunConfig
from core.messages import ConfigError, Problem
from playground.i18n import N_
from playground.runs import changes, files, store, stretches
from playground.runs.log import event
from playground.runs.store import Parent, Run, RunError, Status

if TYPE_CHECKING:
    from core.train import TrainingState

FREE = (
    "dropout",
    "causal_mask",
    "padding_mask",
)  # settings of the model that hold no weights and that no weight depends on
FIXED = tuple(f"model.{name}" for name in ModelConfig.model_fields if name not in FREE)

KEEPS = N_("A branch keeps the weights of its parent, so this stays as it is there.")
TOO_SHORT = N_("The branch begins at step {step}, so it needs more steps than that.")
NO_WEIGHTS = N_("The run {id} has no weights of step {step}. Saved are: {steps}.")
TOO_MANY = N_("A run has {most} steps at most.")


def train_on(run: Run, steps: int) -> bool:
    """Let the run have so many steps in all. Said twice it is done once. False where it has as many already.

    The next resume trains them. Raises RunError, OSError.
    """
    if not 0 < steps <= stretches.MOST_STEPS or len(run.added) > stretches.MOST:
        raise RunError(TOO_MANY, most=stretches.MOST_STEPS)
    status, target, added = run.written_status(), run.target_steps, run.added
    if status.state == "finished" and not run.goes_on():
        target = status.step  # it may have stopped early
    if steps <= target:
        return False
    stretches.write(run.path, (*added, steps) if added and added[-1] == target else (target, steps))
    return True


def branch_problems(parent: RunConfig, config: RunConfig) -> list[str]:
    """Settings, as "model.d_model", in which a branch would differ from its parent and which the weights fix."""
    return [loc for loc in FIXED if _value(parent, loc) != _value(config, loc)]


def branch(parent: Run, step: int, config: RunConfig, owner: str = "", lr: float | None = None) -> Run:
    """A new run, not yet trained, with the parent's weights of a saved step and settings of its own. Its steps count on from
    there. Where the parent kept its training state, a branch without changes is the parent, bit for bit on the CPU;
    elsewhere it begins without moments and warms up. Steps added to the parent are the branch's too if it keeps `train.steps`.

    lr: the peak rate; without it that of `config` where it is another than the parent's, else the one in force at that step.

    Raises ConfigError for what the weights do not allow, RunError, OSError.
    """
    from core.checkpoint import packed, save_state, write_atomic

    before = parent.config
    wrong = [Problem(loc=loc, template=KEEPS) for loc in branch_problems(before, config)]
    added = parent.added if config.train.steps == before.train.steps else ()
    if (added[-1] if added else config.train.steps) <= step:
        wrong.append(Problem(loc="train.steps", template=TOO_SHORT, values={"step": step}))
    if wrong:
        raise ConfigError(wrong)
    state, exact = _state(parent, step)
    if lr is None:
        lr = peak(parent, step) if config.train.lr == before.train.lr else config.train.lr
    state.lr = lr
    run = Run(store.root() / store.new_id())
    making = run.path.with_name(f".new-{run.id}")
    try:
        for folder in files.FOLDERS:
            (making / folder).mkdir(parents=True)
        half_made = Run(making)
        write_atomic(half_made.weights_path(step), packed(state.weights, {"step": str(step)}))
        save_state(half_made.state_path(step), state)
        lines = event("branch", step=step, exact=exact)
        if state.lr != config.train.lr:  # a person had set it before
            lines += event("lr", step=step, lr=state.lr)
        (making / "metrics.jsonl").write_bytes(lines)
        if added:
            stretches.write(making, added)
        facts = store.facts(config, owner, Parent(parent.id, step, exact))
        return store.publish(run, facts, Status(step=step), making)
    except BaseException:
        files.remove(making)
        raise


def _state(parent: Run, step: int) -> tuple[TrainingState, bool]:
    """What the branch begins with, and whether that is all that the parent had."""
    from core.checkpoint import CheckpointError, load_state, load_weights
    from core.train import TrainingState

    saved = parent.saved_steps(strict=True)
    if step not in saved:
        raise RunError(NO_WEIGHTS, id=parent.id, step=step, steps=", ".join(map(str, saved)))
    exact, config = step in parent.exact_steps(), parent.config
    if exact and step:
        try:
            return load_state(parent.state_path(step), config, parent.target_steps), True
        except CheckpointError:  # damaged, or made room for another meanwhile
            exact = False
    try:
        weights = load_weights(parent.weights_path(step), config.model).state_dict()
    except CheckpointError as error:
        raise RunError(error.template, **error.values) from None
    return TrainingState(step, weights), exact  # before the first step there are no moments


def peak(parent: Run, step: int) -> float:
    """The peak rate by which the parent came to this step, whatever was set there or later."""
    grew, peak = parent.parent, parent.config.train.lr
    for at, lr in changes.rates(parent.path / "metrics.jsonl"):
        if at < step or (grew is not None and at == grew.step == step):
            peak = lr
    return peak


def ends_alike(parent: Run, step: int) -> bool:
    """Whether a branch from here without changes ends with the weights of its parent: it is at its end, and nobody set a rate
    on the way there."""
    later = any(at >= step for at, _lr in changes.rates(parent.path / "metrics.jsonl"))
    return step in parent.exact_steps() and parent.written_status().state == "finished" and not later


def _value(config: RunConfig, loc: str) -> object:
    section, _dot, name = loc.partition(".")
    return getattr(getattr(config, section), name)
