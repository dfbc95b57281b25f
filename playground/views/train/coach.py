"""The coach: what happened to a run, by the numbers that are there, and what to try. ONE table of rules, the first that
fits speaks. A rule says nothing where a number it looks at is not known, and blames nothing that the run does not have.

Texts are English here, translated when they are shown. `python -m pytest tests/claims -k coach` trains a run of every kind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from core.config import TrainConfig
from playground.i18n import N_
from playground.runs import stretches
from playground.settings import scales
from playground.settings.recipes import settings_for
from playground.views.train.facts import SOLVED, Facts

Settings = Mapping[str, Mapping[str, Any]]
HIGH, LOW = 3.0, 0.125  # times the rate of the task's own settings: beyond these a rate is called high or low
WIDTH = 64  # d_model for which the tasks' rates were chosen; a wider model bears a smaller one
FAILED, NEAR_GUESS = (
    0.5,
    0.6,
)  # exact match up to which a run has not learned; share of the guess above which it guesses
FALLS = 0.9  # a loss that went under this share of what it was is still falling
ORDERED = ("copy", "reverse", "shift", "deduplicate", "add")  # tasks whose answer depends on the order of the source
ACTIVE, STUCK_FROM = ("running", "paused"), 0.4  # of its steps a run must have made before it is called stuck


@dataclass(frozen=True)
class Action:
    """What one click does. draft: these settings into the form; train_on: so many steps in all; resume; branch: a new run from
    the last saved step up to `step` with the rate `lr`; look: the Attention page at that step.
    """

    do: Literal["draft", "train_on", "resume", "branch", "look"]
    label: str
    settings: Settings = field(default_factory=dict)
    step: int = 0
    lr: float = 0.0


@dataclass(frozen=True)
class Rule:
    """looks_at: the facts that must be known. lab: page and panel of the lesson that explains it."""

    name: str
    when: Callable[[Facts], bool]
    sentence: str
    looks_at: tuple[str, ...] = ()
    actions: Callable[[Facts], tuple[Action, ...]] = lambda facts: ()
    lab: tuple[str, str] | None = None


def recipe_rate(facts: Facts) -> float:
    """The rate of the task's own settings."""
    return float(settings_for(facts.config.task.name)["train"].get("lr", TrainConfig().lr))


def wide(facts: Facts) -> float:
    """The rate in force, in the measure of a model of the usual width, times the rate of the task's own settings."""
    return facts.lr * max(1.0, facts.config.model.d_model / WIDTH) / recipe_rate(facts)


def better_rate(facts: Facts) -> float:
    """The rate of the task's own settings, less for a wider model; of a run that had less than thrice that, a tenth of its own."""
    wider = max(1.0, facts.config.model.d_model / WIDTH)
    return float(f"{recipe_rate(facts) / wider if wide(facts) >= HIGH else facts.lr / 10:.2g}")


def ended(facts: Facts) -> bool:
    return facts.state in ("finished", "stopped")


def done_or_stuck(facts: Facts) -> bool:
    """A run that trains is judged late, and only where its loss no longer falls."""
    late = facts.step >= STUCK_FROM * facts.steps and not falling(facts)
    return ended(facts) or (facts.state in ACTIVE and late)


def falling(facts: Facts) -> bool:
    return facts.known("loss", "middle") and facts.loss < FALLS * facts.middle  # type: ignore[operator]


def exploded(facts: Facts) -> bool:
    """What comes down from above the loss of a blind guess, at a high rate, is not learning: it is coming back."""
    fell = failed(facts) and falling(facts) and facts.middle is not None and facts.middle >= facts.guess
    return fell and wide(facts) >= HIGH and long_enough(facts)


def long_enough(facts: Facts) -> bool:
    """Was the rate in force for at least half of the steps?"""
    return 2 * (facts.step - facts.rate_since) >= facts.step


def failed(facts: Facts) -> bool:
    return facts.exact is not None and facts.exact <= FAILED and done_or_stuck(facts)


def at_guess(facts: Facts) -> bool:
    return failed(facts) and facts.loss is not None and facts.loss >= NEAR_GUESS * facts.guess


def integers_cancelled(facts: Facts) -> bool:
    model = facts.config.model
    flat = model.positions in ("integer", "unit") and model.position_placement == "every_dimension"
    return failed(facts) and flat and model.norm == "pre"


def jumped(facts: Facts) -> bool:
    if not facts.known("raised", "before", "loss"):
        return False
    assert facts.before is not None
    assert facts.loss is not None
    return done_or_stuck(facts) and facts.loss > max(1.5 * facts.before, facts.before + 0.1)


def memorised(facts: Facts) -> bool:
    return ended(facts) and facts.trained is not None and facts.exact is not None and facts.trained - facts.exact >= 0.3


def padding_read(facts: Facts) -> bool:
    right = ended(facts) and facts.exact is not None and facts.padded is not None
    return right and facts.exact - facts.padded >= 0.2  # type: ignore[operator]


def long_wrong(facts: Facts) -> bool:
    if facts.short is None or facts.long is None:
        return False
    return ended(facts) and facts.short >= 0.7 and facts.short - facts.long >= 0.25


def solved(facts: Facts) -> bool:
    return ended(facts) and facts.exact is not None and facts.exact >= SOLVED


def draft(label: str, **settings: Mapping[str, Any]) -> tuple[Action, ...]:
    return (Action("draft", label, settings),)


def go_back(facts: Facts) -> tuple[Action, ...]:
    assert facts.raised is not None
    if facts.back_to is None:
        return ()
    return (
        Action("branch", N_("Go back to step {back_to}, rate {rate_before}"), step=facts.back_to, lr=facts.raised[1]),
    )


def own_rate(facts: Facts) -> tuple[Action, ...]:
    better = better_rate(facts)
    return draft(N_("Set the rate to {better_rate}"), train={"lr": better}) if better != facts.config.train.lr else ()


def after_solved(facts: Facts) -> tuple[Action, ...]:
    """What next: see it hesitate, and one step harder."""
    config, found = facts.config, []
    if facts.hesitates is not None:
        found.append(Action("look", N_("See it hesitate at step {hesitates}"), step=facts.hesitates))
    if config.model.n_heads > 1 and config.task.name != "pairs":
        found += draft(N_("Try it with 1 head"), model={"n_heads": 1})
    elif config.task.name not in ("add", "pairs") and 2 * config.task.max_len < config.model.max_len:
        found += draft(N_("Try up to {longer} symbols"), task={"max_len": 2 * config.task.max_len})
    return tuple(found)


def more_steps(facts: Facts) -> tuple[Action, ...]:
    if facts.state == "stopped" and facts.step < facts.steps:
        return (Action("resume", N_("Go on from here")),)
    steps = facts.step + facts.config.train.steps
    return (Action("train_on", N_("Train on: {more} more steps"), step=steps),) if steps <= stretches.MOST_STEPS else ()


def positions_given(facts: Facts) -> tuple[Action, ...]:
    if facts.config.model.d_model % 2:  # sines and cosines come in pairs
        return draft(N_("Give it learned positions"), model={"positions": "learned"})
    return draft(N_("Give it sine + cosine"), model={"positions": "sincos"})


MASKS = "lab_masks"
RULES = (
    Rule(
        "broke_after_raise",
        lambda f: f.diverged_at is not None and f.raised is not None and f.raised[0] < f.diverged_at,
        N_("It broke off at step {diverged_at}: no finite number any more, after you raised the rate from {rate_before} to {rate_after} at step {raised_at}."),
        ("diverged_at", "raised"),
        go_back,
    ),
    Rule(
        "broke",
        lambda f: f.diverged_at is not None,
        N_("It broke off at step {diverged_at}: loss or gradient was no finite number. The rate was {rate}; this task's own settings use {usual_rate}."),
        ("diverged_at",),
        own_rate,
    ),
    Rule(
        "jumped",
        jumped,
        N_("After you raised the rate from {rate_before} to {rate_after} at step {raised_at}, the loss went from {before} to {loss}."),
        ("raised", "before", "loss"),
        go_back,
    ),
    Rule(
        "leak",
        lambda f: done_or_stuck(f) and not f.config.model.causal_mask and (f.token or 0) >= 0.9 and (f.exact or 0) <= FAILED,
        N_("Given the right tokens before, {token} of its next tokens are right; writing by itself, {exact} of the strings. Without the causal mask it could look at the answer while it trained."),
        ("token", "exact"),
        lambda f: draft(N_("Put the causal mask on"), model={"causal_mask": True}),
        (MASKS, "leak"),
    ),
    Rule(
        "no_positions",
        lambda f: failed(f) and f.config.model.positions == "none" and f.config.task.name in ORDERED,
        N_("{exact} of unseen strings are right. The model has no positions: its encoder reads which symbols there are, not in which order, and this task is about the order."),
        ("exact",),
        positions_given,
        ("lab_positions", "ladder"),
    ),
    Rule(
        "memorised",
        memorised,
        N_("It writes {trained} of the strings it was trained on right, and {exact} of unseen ones: it knows the strings, not the rule."),
        ("trained", "exact"),
        lambda f: (
            draft(N_("Try dropout {dropout}"), model={"dropout": 0.3 if f.config.model.dropout < 0.2 else 0.4})
            if f.config.model.dropout < 0.4
            else ()
        ),
    ),
    Rule(
        "padding_read",
        padding_read,
        N_("It writes {exact} of unseen strings right, and {padded} of the same strings with 10 pads behind them: without the padding mask it reads the padding."),
        ("exact", "padded"),
        lambda f: draft(N_("Put the padding mask on"), model={"padding_mask": True}),
        (MASKS, "padding"),
    ),
    Rule(
        "solved",
        solved,
        N_("Solved: {exact} of unseen strings are right to the last token, 99% first at step {solved_at}."),
        ("exact", "solved_at"),
        after_solved,
        ("lab_heads", "knockout"),
    ),
    Rule(
        "solved_before",
        solved,
        N_("Solved: {exact} of unseen strings are right to the last token."),
        ("exact",),
        after_solved,
        ("lab_heads", "knockout"),
    ),
    Rule(
        "as_asked",
        lambda f: f.state == "finished" and f.step < f.steps and (f.exact or 0.0) >= (f.config.train.stop_at_exact_match or 2.0),
        N_("It ended at step {step} of {steps}, as was asked: {exact} of unseen strings are right, the stop was at {wanted}."),
        ("exact",),
        lambda f: draft(N_("Train without that stop"), train={"stop_at_exact_match": None}),
    ),
    Rule(
        "integers_cancelled",
        integers_cancelled,
        N_("{exact} of unseen strings are right. A position added to every feature alike is what the LayerNorm before attention takes away again."),
        ("exact",),
        lambda f: (
            *draft(N_("LayerNorm after (post)"), model={"norm": "post"}),
            *draft(N_("Give it sine + cosine"), model={"positions": "sincos", "position_placement": "every_dimension"}),
        ),
        ("lab_positions", "ladder"),
    ),
    Rule(
        "unscaled",
        lambda f: failed(f) and f.config.model.scale == "none" and f.config.model.d_k >= 64,
        N_("{exact} of unseen strings are right. Scores are not divided: with d_k = {d_k} they start {root} times as wide as divided ones, and softmax saturates."),
        ("exact",),
        lambda f: draft(N_("Divide by √d_k"), model={"scale": "sqrt_d_k"}),
        ("lab_scaling", "saturate"),
    ),
    Rule(
        "rate_high",
        lambda f: failed(f) and wide(f) >= HIGH and long_enough(f) and not falling(f),
        N_("The loss stays at {loss}, a blind guess costs {guess}. The rate {rate} is high for d_model {d_model}: this task's own settings use {usual_rate} for a width of 64."),
        ("loss", "exact"),
        own_rate,
    ),
    Rule(
        "rate_exploded",
        exploded,
        N_("The loss came from {middle} to {loss}, a blind guess costs {guess}: that is no learning. The rate {rate} is high for d_model {d_model}: this task's own settings use {usual_rate} for a width of 64."),
        ("loss", "middle", "exact"),
        own_rate,
    ),
    Rule(
        "rate_low",
        lambda f: ended(f) and (f.exact or 0.0) < SOLVED and f.lr <= LOW * recipe_rate(f) and long_enough(f) and f.tested == f.step,
        N_("After {step} steps {exact} of unseen strings are right, the loss is {loss}. The rate {rate} is low: this task's own settings use {usual_rate}."),
        ("loss", "exact"),
        lambda f: (
            *(draft(N_("Set the rate to {usual_rate}"), train={"lr": recipe_rate(f)}) if f.config.train.lr != recipe_rate(f) else ()),
            *more_steps(f),
        ),
    ),
    Rule(
        "stopped",
        lambda f: f.state == "stopped" and f.step < f.steps and f.tested == f.step,
        N_("Stopped at step {step} of {steps}, with {exact} of unseen strings right."),
        ("exact",),
        more_steps,
    ),
    Rule(
        "stopped_between",
        lambda f: f.state == "stopped" and f.step < f.steps,
        N_("Stopped at step {step} of {steps}. At its last test, at step {tested}, {exact} of unseen strings were right."),
        ("exact", "tested"),
        more_steps,
    ),
    Rule(
        "long_wrong",
        long_wrong,
        N_("Of the shorter half of unseen strings {short} are right, of the longer half {long}."),
        ("short", "long"),
        more_steps,
        ("lab_positions", "length"),
    ),
    Rule(
        "still_falling",
        lambda f: ended(f) and falling(f) and (f.exact or 0.0) < SOLVED,
        N_("Its steps ended while it was learning: the loss fell from {middle} to {loss} since step {early}, {exact} of unseen strings are right."),
        ("loss", "middle", "exact"),
        more_steps,
    ),
    Rule(
        "nearly",
        lambda f: ended(f) and FAILED < (f.exact or 0.0) < SOLVED,
        N_("{exact} of unseen strings are right to the last token, {token} of single tokens: one wrong token spoils a string."),
        ("exact", "token"),
        more_steps,
    ),
    Rule(
        "guessing",
        at_guess,
        N_("The loss stays at {loss}; a blind guess costs {guess}. {exact} of unseen strings are right."),
        ("loss", "exact"),
    ),
)  # fmt: skip


def verdict(facts: Facts) -> Rule | None:
    """The first rule that fits; None where none does."""
    return next((rule for rule in RULES if facts.known(*rule.looks_at) and rule.when(facts)), None)


def values(facts: Facts) -> dict[str, object]:
    """What stands in the braces of sentences and labels."""
    config, (raised_at, before, after) = facts.config, facts.raised or (0, facts.lr, facts.lr)
    shares = {name: percent(getattr(facts, name)) for name in ("exact", "token", "trained", "short", "long", "padded")}
    losses = {name: number(getattr(facts, name)) for name in ("loss", "middle", "before", "guess")}
    return {
        **shares,
        **losses,
        "step": facts.step,
        "steps": facts.steps,
        "early": facts.early,
        "solved_at": facts.solved_at,
        "hesitates": facts.hesitates,
        "diverged_at": facts.diverged_at,
        "raised_at": raised_at,
        "back_to": facts.back_to,
        "tested": facts.tested,
        "wanted": percent(config.train.stop_at_exact_match),
        "rate_before": scales.text(before),
        "rate_after": scales.text(after),
        "rate": scales.text(facts.lr),
        "usual_rate": scales.text(recipe_rate(facts)),
        "better_rate": scales.text(better_rate(facts)),
        "d_model": config.model.d_model,
        "d_k": config.model.d_k,
        "root": number(config.model.d_k**0.5),
        "more": config.train.steps,
        "longer": 2 * config.task.max_len,
        "dropout": 0.3 if config.model.dropout < 0.2 else 0.4,
    }


def percent(share: float | None) -> str:
    """0.986 -> "98.6%": three digits at most, and 100 only where all are right."""
    if share is None:
        return "?"
    text = f"{100 * share:.1f}".removesuffix(".0")
    return "99.9%" if text == "100" and share < 1 else f"{text}%"


def number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g}"
