"""The coach on the Train page: what it says of runs whose numbers are written here, and what its buttons do."""

import json
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.read import build, fit
from playground.i18n import SESSION_KEY, translations
from playground.runs import store
from playground.runs.store import Run, Status
from playground.views.train import coach
from playground.views.train.coach import RULES, values
from playground.views.train.facts import Facts, facts_of
from tests.pages.conftest import Notes
from tests.pages.test_train import Open, draft, said


def made(
    state: str = "finished", *, loss: tuple[float, float] = (0.1, 0.001), exact: float = 1.0, token: float = 1.0,
    events: tuple[dict[str, Any], ...] = (), steps: int = 100, at: int | None = None, **settings: Any,
) -> Run:  # fmt: skip
    """A run that reached step `at`: its loss fell from one value to the other at its half."""
    at = steps if at is None else at
    settings["train"] = settings.get("train", {}) | {"steps": steps, "eval_every": 25}
    run = store.create(build(fit(settings)))
    lines = []
    for step in range(1, at + 1):
        tested = step % 25 == 0
        record = {"step": step, "loss": loss[step > 2 * at // 3], "lr": 0.008, "grad_norm": 1.0, "tokens_per_s": 1.0}
        record |= {
            "token_accuracy": token if tested else None,
            "exact_match": exact if tested else None,
            "seconds": 1.0,
        }
        lines.append(json.dumps(record, separators=(",", ":")))
    lines += [json.dumps(event) for event in events]
    (run.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    run.set_status(Status(state, at))
    return run


def examined(**shares: float) -> dict[str, Any]:
    return {"event": "examined", "step": 100, "trained": 1.0, **shares}


def look(app: Open, run: Run) -> AppTest:
    return app(run=run.id)


def press(at: AppTest, start: str) -> AppTest:
    return next(b for b in at.button if b.key.startswith(f"coach.{start}")).click().run()


def test_solved_and_what_next(app: Open, notes: Notes) -> None:
    at = look(app, made(events=(examined(),)))
    assert "Solved: 100% of unseen strings are right to the last token, 99% first at step 25." in said(at)
    at = press(at, "solved")
    assert draft(at).data["model"]["n_heads"] == 1
    assert ("model.n_heads", 4, 1) in draft(at).changes
    assert not notes.calls  # a draft: nobody's run starts by a hint


def test_still_falling_trains_on(app: Open, notes: Notes) -> None:
    run = made(loss=(2.0, 1.0), exact=0.2, token=0.6, events=(examined(trained=0.2),))
    at = look(app, run)
    assert "Its steps ended while it was learning: the loss fell from 2 to 1 since step" in said(at)
    press(at, "still_falling")
    assert notes.calls == [("resume", run.id)]
    assert run.target_steps == 200


def test_a_stopped_run_goes_on(app: Open, notes: Notes) -> None:
    run = made("stopped", at=75, exact=0.5, token=0.8)
    at = look(app, run)
    assert "Stopped at step 75 of 100, with 50% of unseen strings right." in said(at)
    at.button(key=f"resume#{run.id}").click().run()
    assert notes.calls == [("resume", run.id)]


def test_jumped_goes_back_with_the_rate_before(app: Open, notes: Notes) -> None:
    from core.checkpoint import packed, write_atomic
    from core.model import Transformer

    run = made(loss=(0.1, 2.0), exact=0.0, token=0.2, events=({"event": "lr", "step": 60, "lr": 0.3},))
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    (run.path / "metrics.jsonl").write_text("\n".join([*lines[:60], lines[-1], *lines[60:-1]]) + "\n")
    weights = Transformer(run.config.model).state_dict()
    for step in (0, 40, 90):
        write_atomic(run.weights_path(step), packed(weights, {"step": str(step)}))
    at = look(app, run)
    assert "After you raised the rate from 0.008 to 0.3 at step 60, the loss went from 0.1 to 2." in said(at)
    press(at, "jumped")
    (_submit, new, _paused) = notes.calls[0]
    branch = store.find(new)
    assert branch is not None
    assert branch.parent is not None
    assert (branch.parent.run, branch.parent.step) == (run.id, 40)
    assert branch.config.train.lr == 0.008


@pytest.mark.parametrize(
    ("rule", "sentence", "run"),
    [
        ("leak", "Put the causal mask on", {"exact": 0.0, "model": {"causal_mask": False}}),
        ("memorised", "Try dropout 0.3", {"exact": 0.1, "token": 0.5, "events": (examined(),)}),
        (
            "padding_read",
            "Put the padding mask on",
            {"events": (examined(padded=0.1),), "model": {"padding_mask": False}},
        ),
        ("no_positions", "sine + cosine", {"exact": 0.1, "loss": (1.0, 1.0), "model": {"positions": "none"}}),
        ("integers_cancelled", "after (post)", {"exact": 0.1, "loss": (1.0, 1.0), "model": {"positions": "integer"}}),
        ("rate_high", "Set the rate to", {"exact": 0.0, "loss": (2.2, 2.1), "train": {"lr": 0.2}}),
        ("rate_low", "Set the rate to", {"exact": 0.1, "loss": (1.1, 1.0), "train": {"lr": 1e-4}}),
    ],
)
def test_one_click_applies_what_the_coach_says(
    app: Open, notes: Notes, rule: str, sentence: str, run: dict[str, Any]
) -> None:
    at = look(app, made(**run))
    assert sentence in " ".join(button.label for button in at.button)
    at = press(at, f"{rule}.0")
    assert draft(at).changes
    assert not notes.calls


def test_it_says_nothing_where_it_does_not_know(app: Open) -> None:
    at = look(app, made(exact=0.3, token=0.7, loss=(0.5, 0.5)))  # no rule fits, and nothing was examined
    assert "Finished. Change a setting" in said(at)
    assert not [b for b in at.button if b.key.startswith("coach.")]
    short = look(app, made(steps=10, exact=0.0))
    assert not [b for b in short.button if b.key.startswith("coach.")]


def test_a_run_that_trains_and_learns_no_more(app: Open, notes: Notes) -> None:
    at = look(app, made("running", at=80, exact=0.0, token=0.3, loss=(2.2, 2.2), train={"lr": 0.2}))
    assert "The loss stays at 2.2, a blind guess costs 2.56." in said(at)
    early = look(app, made("running", at=30, exact=0.0, token=0.3, loss=(2.2, 2.2), train={"lr": 0.2}))
    assert "blind guess" not in said(early)


def test_the_sample_is_not_coached(app: Open) -> None:
    assert "You see a sample run" in said(app())


def test_every_sentence_and_label_is_translated_and_keeps_its_braces() -> None:
    import re

    known = translations("zh_CN")
    config = build(fit({"task": {"max_len": 5}}))
    facts = coach.Facts(
        config, "finished", 100, 100, 2.5, 0.1, exact=0.5, token=0.5, loss=1.0, middle=2.0, early=50,
        raised=(50, 0.01, 0.1), before=0.5, diverged_at=60, trained=1.0, short=1.0, long=0.1, padded=0.1, hesitates=3, solved_at=4,
    )  # fmt: skip
    values = coach.values(facts)
    for rule in RULES:
        for text in (rule.sentence, *(action.label for action in rule.actions(facts))):
            assert text.format(**values)
            translated = known.gettext(text)
            assert translated != text
            assert set(re.findall(r"{(\w+)}", translated)) == set(re.findall(r"{(\w+)}", text))


def test_chinese(app: Open) -> None:
    at = app()
    at.session_state[SESSION_KEY] = "zh_CN"
    at.query_params["run"] = made(events=(examined(),)).id
    assert "已解决" in said(at.run())


def test_what_comes_back_from_above_a_guess_is_not_learning(app: Open, notes: Notes) -> None:
    at = look(app, made(loss=(305.0, 90.1), exact=0.0, train={"lr": 5.0}))
    assert "The loss came from 305 to 90.1, a blind guess costs 2.56: that is no learning. The rate 5 is high" in said(
        at
    )
    assert "while it was learning" not in said(at)
    at = look(
        app, made(loss=(3.0, 2.6), exact=0.0)
    )  # the usual rate: a slow start is no explosion, and does not "stay"
    assert "Its steps ended while it was learning: the loss fell from 3 to 2.6" in said(at)


def test_a_run_that_ended_early_as_asked_is_told_so(app: Open, notes: Notes) -> None:
    at = look(app, made(loss=(2.0, 0.3), exact=0.92, at=75, train={"stop_at_exact_match": 0.9}))
    assert "It ended at step 75 of 100, as was asked: 92% of unseen strings are right, the stop was at 90%." in said(at)


def test_stopped_between_two_tests_it_names_the_step_of_the_test(app: Open, notes: Notes) -> None:
    at = look(app, made("stopped", exact=0.5, at=80))
    assert "Stopped at step 80 of 100. At its last test, at step 75, 50% of unseen strings were right." in said(at)


def test_a_rate_that_was_hardly_in_force_is_not_blamed(app: Open, notes: Notes) -> None:
    at = look(app, made(loss=(2.5, 2.4), exact=0.0, events=({"event": "lr", "step": 95, "lr": 0.0005},)))
    assert "is low" not in said(at)


def test_more_steps_are_counted_from_where_the_run_ended() -> None:
    facts = Facts(build(fit({"train": {"steps": 400}})), "finished", 100, 400, 2.5, 0.008)
    assert [action.step for action in coach.more_steps(facts)] == [500]
    assert [action.do for action in coach.more_steps(replace(facts, state="stopped"))] == ["resume"]
    assert coach.more_steps(replace(facts, step=999_900)) == ()


def test_go_back_names_the_saved_step_that_it_goes_back_to() -> None:
    rates, losses = (
        ((60, 0.3),),
        [{"step": s, "loss": 1.0, "exact_match": None, "token_accuracy": None} for s in range(1, 100)],
    )
    facts = facts_of(build(fit({})), "failed", 99, losses, rates=rates, saved=(0, 25, 90))
    (action,) = coach.go_back(facts)
    assert (action.step, values(facts)["back_to"]) == (25, 25)
    assert coach.go_back(facts_of(build(fit({})), "failed", 99, losses, rates=rates)) == ()
    begun = facts_of(build(fit({})), "failed", 99, losses, rates=rates, begun=60)
    assert begun.raised is None  # the branch began with that rate
    assert begun.lr == 0.3
