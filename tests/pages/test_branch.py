"""Branch from a saved step: what the Train page shows, forbids and starts."""

import pytest

from core.checkpoint import packed, write_atomic
from core.model import Transformer
from core.read import build, fit
from core.train import Trainer
from playground.runs import branches, store
from playground.runs.store import Run, Status
from tests.pages.conftest import Notes
from tests.pages.test_runs import visit
from tests.pages.test_train import Open, draft, said, turn, widget


@pytest.fixture
def parent() -> Run:
    """A finished run of 100 steps with weights at 0, 40 and 100, and a kept training state at 100."""
    from core.checkpoint import save_state

    run = store.create(build(fit({"train": {"steps": 100, "eval_every": 50}})))
    trainer = Trainer(run.config)
    for step in (0, 40, 100):
        write_atomic(run.weights_path(step), packed(Transformer(run.config.model).state_dict(), {"step": str(step)}))
    trainer.step = 100
    save_state(run.state_path(100), trainer.state())
    run.set_status(Status("finished", 100))
    return run


def test_a_branch_is_offered_greyed_and_started(app: Open, notes: Notes, parent: Run) -> None:
    at = app(run=parent.id, branch="40")
    assert "Train makes a branch of Reverse · 100 steps" in said(at)
    assert " from step 40." in said(at)
    assert "the branch warms up anew over 20 steps" in said(at)
    for name in ("model.d_model", "model.n_heads", "model.n_layers", "model.positions", "model.norm"):
        assert widget(at, name).disabled, name
        assert "keeps the weights of its parent" in widget(at, name).help
    for name in ("train.lr", "train.steps", "model.dropout", "model.causal_mask"):
        assert not widget(at, name).disabled, name
    turn(at, "train.lr", 0.004)
    at.run()
    at.button(key=f"train#{parent.id}").click().run()
    (_submit, new, paused) = notes.calls[0]
    run = store.find(new)
    assert run is not None
    assert run.parent is not None
    assert (run.parent.run, run.parent.step, run.parent.exact, paused) == (parent.id, 40, False, None)
    assert run.config.train.lr == 0.004
    assert draft(at).branch is None  # the next Train is a run of its own
    assert "branch" not in at.query_params


def test_the_family_stands_on_runs(app: Open, parent: Run) -> None:
    child = branches.branch(parent, 40, parent.config)
    at = visit(app, child)
    assert "Reverse · from step 40" in said(at)
    assert any("⑂ from step 40 of Reverse" in link.proto.label for link in at.get("page_link"))
    assert "2 runs," in said(at)
    assert "on the disk" in said(at)
    assert "Branches, with the step they grew from: Reverse · from step 40" in said(visit(app, parent))


def test_one_step_of_a_branch_is_the_step_after(app: Open, notes: Notes, parent: Run) -> None:
    at = app(run=parent.id, branch="40")
    at.button(key=f"step#{parent.id}").click().run()
    assert notes.calls[0][2] == 41


def test_from_the_end_it_gets_as_many_steps_again(app: Open, parent: Run) -> None:
    at = app(run=parent.id, branch="100")
    assert draft(at).data["train"]["steps"] == 200


def test_what_the_weights_forbid_is_said_at_its_field(app: Open, notes: Notes, parent: Run) -> None:
    at = app(run=parent.id, branch="40", n_layers="2")
    assert at.button(key=f"train#{parent.id}").disabled
    assert "keeps the weights of its parent" in said(at)
    few = app(run=parent.id, branch="40", steps="30")
    assert "needs more steps than that" in said(few)


def test_no_branch_after_all(app: Open, parent: Run) -> None:
    at = app(run=parent.id, branch="40")
    at.button(key="branch.none").click().run()
    assert draft(at).branch is None
    assert "branch" not in at.query_params
    assert not widget(at, "model.d_model").disabled


@pytest.mark.parametrize("step", ["41", "-1", "x", "9" * 30])
def test_a_step_that_is_not_saved_is_no_branch(app: Open, parent: Run, step: str) -> None:
    at = app(run=parent.id, branch=step)
    assert draft(at).branch is None
    assert "branch" in said(at)  # the notice names what was ignored


def test_the_form_of_a_branch_shows_the_rate_in_force_there(app: Open, notes: Notes, parent: Run) -> None:
    (parent.path / "metrics.jsonl").write_text('{"event":"lr","step":10,"lr":0.1}\n')
    at = app(run=parent.id, branch="40")
    assert draft(at).data["train"]["lr"] == 0.1
    turn(at, "train.lr", 0.008)  # that of the parent's settings, and yet a change
    at.run()
    at.button(key=f"train#{parent.id}").click().run()
    run = store.find(notes.calls[0][1])
    assert run is not None
    assert run.config.train.lr == 0.008
    assert b'"event":"lr"' not in (run.path / "metrics.jsonl").read_bytes()


def test_the_very_weights_are_promised_only_where_they_come(app: Open, notes: Notes, parent: Run) -> None:
    assert "the very weights of its parent" in said(app(run=parent.id, branch="0"))
    (parent.path / "metrics.jsonl").write_text('{"event":"lr","step":50,"lr":0.008}\n')
    assert "the very weights of its parent" not in said(app(run=parent.id, branch="0"))
    (parent.path / "metrics.jsonl").unlink()
    parent.set_status(Status("stopped", 100))
    assert "the very weights of its parent" not in said(app(run=parent.id, branch="0"))


def test_no_branch_keeps_what_was_changed(app: Open, notes: Notes, parent: Run) -> None:
    at = app(run=parent.id, branch="40", seed="7")
    at.button(key="branch.none").click().run()
    assert draft(at).branch is None
    assert draft(at).data["train"]["seed"] == 7


def test_no_branch_takes_back_what_the_branch_brought(app: Open, notes: Notes, parent: Run) -> None:
    (parent.path / "metrics.jsonl").write_text('{"event":"lr","step":10,"lr":0.1}\n')
    at = app(run=parent.id, branch="100")
    train = draft(at).data["train"]
    assert (train["lr"], train["steps"]) == (0.1, 200)
    at.button(key="branch.none").click().run()
    assert not draft(at).changes


def test_reset_of_a_branch_begins_where_it_began(app: Open, notes: Notes, parent: Run) -> None:
    child = branches.branch(parent, 40, parent.config)
    child.set_status(Status("stopped", 60))
    at = app(run=child.id)
    at.button(key=f"reset#{child.id}").click().run()
    (call,) = [call for call in notes.calls if call[0] == "submit"]
    run = store.find(call[1])
    assert run is not None
    assert run.parent is not None
    assert (run.parent.run, run.parent.step, call[2]) == (child.id, 40, 40)


def test_looking_at_a_run_leaves_its_pace(app: Open, notes: Notes, parent: Run) -> None:
    parent.set_status(Status("running", 50))
    parent.set_pace(2)
    app(run=parent.id)
    assert parent.pace() == 2
    assert not [call for call in notes.calls if call[0] == "set_pace"]


def test_a_step_at_which_the_rate_still_warms_up_anew_is_not_exact(parent: Run) -> None:
    from core.checkpoint import save_state

    child = branches.branch(parent, 40, parent.config)
    trainer = Trainer(child.config)
    for step in (40, 50, 60):
        trainer.step = step
        save_state(child.state_path(step), trainer.state())
        write_atomic(child.weights_path(step), packed(trainer.model.state_dict(), {"step": str(step)}))
    child.set_status(Status("stopped", 60))
    assert child.parent is not None
    assert not child.parent.exact
    assert child.exact_steps() == [60]
