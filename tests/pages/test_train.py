"""The Train page without a browser: every preset, every control, the toolbar's commands, the URL."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Selectbox

from core.config import RunConfig
from core.tasks import Data
from playground import estimate, forms
from playground.draft import Draft, preset_settings, settings
from playground.presets import PRESETS
from playground.runs import store
from playground.runs.store import Status
from playground.settings import usual, words
from tests.pages.conftest import SAMPLE, Notes

Open = Callable[..., AppTest]


def widget(at: AppTest, name: str) -> Any:
    """The control of a field, or a toolbar button, by the part of its key before the #."""
    every = [*at.select_slider, *at.selectbox, *at.number_input, *at.toggle, *at.button, *at.text_input]
    if name == "task.max_len":  # the other end of the slider
        name = "task.min_len"
    return next(w for w in every if w.key and w.key.split("#")[0] == name)


def turn(at: AppTest, name: str, value: Any) -> None:
    """Set a control; the two lengths are the two ends of one slider."""
    box = widget(at, name)
    if name in ("task.min_len", "task.max_len"):
        low, high = box.value
        value = (value, high) if name == "task.min_len" else (low, value)
    box.set_value(value)


def type_exactly(at: AppTest, name: str, value: Any) -> AppTest:
    """In its box among the exact values, which takes what is between the stops of a slider, too."""
    return set_and_run(at, f"exact.{name}", value)


def has(at: AppTest, name: str) -> bool:
    return any(b.key and b.key.split("#")[0] == name for b in at.button)


def draft(at: AppTest) -> Draft:
    found: Draft = at.session_state["draft"]
    return found


def said(at: AppTest) -> str:
    texts = [element.value for kind in ("markdown", "caption", "warning", "error") for element in at.get(kind)]
    return "\n".join(texts).replace("\\", "")


def set_and_run(at: AppTest, name: str, value: Any) -> AppTest:
    turn(at, name, value)
    at.run()
    assert not at.exception, at.exception
    return at


class Typed(Selectbox):  # type: ignore[type-arg]
    @property
    def _widget_state(self) -> WidgetState:
        return WidgetState(id=self.id, string_value=self._value)


def type_in(at: AppTest, name: str, text: str) -> AppTest:
    """A text typed into a select box, which AppTest cannot do itself."""
    box = widget(at, name)
    box.__class__ = Typed
    box.set_value(text).run()
    assert not at.exception, at.exception
    return at


def test_first_paint_shows_the_sample_and_the_quick_preset(app: Open) -> None:
    at = app()
    assert widget(at, "preset").value == 0
    assert "sample run" in said(at)
    assert widget(at, "reset").disabled
    assert widget(at, "stop").disabled
    assert not widget(at, "train").disabled
    assert [part.proto.component_name for part in at.get("bidi_component")] == ["history", "board"]


@pytest.mark.parametrize("index", range(len(PRESETS)))
def test_every_preset_is_valid_and_trains(app: Open, notes: Notes, index: int) -> None:
    at = app()
    set_and_run(at, "preset", index)
    assert widget(at, "preset").value == index
    assert draft(at).data == preset_settings(index)
    assert ("A large model" in said(at)) == ("paper" in PRESETS[index].name)
    widget(at, "train").click().run()
    [(command, run_id, paused_at)] = notes.calls
    run = store.find(run_id)
    assert (command, paused_at) == ("submit", None)
    assert run is not None
    assert settings(run.config) == preset_settings(index)
    assert at.query_params["run"] == run_id


CHANGES: dict[str, Any] = {
    "task.name": "sort",
    "model.n_symbols": 12,
    "task.min_len": 2,
    "task.max_len": 8,
    "model.d_model": 32,
    "model.n_heads": 8,
    "model.n_layers": 3,
    "model.d_ff": 96,
    "model.positions": "alibi",
    "model.norm": "post",
    "model.causal_mask": False,
    "model.padding_mask": False,
    "model.scale": "none",
    "model.dropout": 0.1,
    "train.steps": 50,
    "train.batch_size": 16,
    "train.lr": 0.001,
    "train.warmup": 5,
    "train.seed": 7,
    "train.device": "cpu",
    "train.schedule": "constant",
    "model.activation": "gelu",
    "train.weight_decay": 0.01,
    "train.clip": 0.5,
    "train.eval_every": 10,
    "train.stop_at_exact_match": 0.99,
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_control_changes_its_setting_says_so_and_stands_in_the_url(app: Open, notes: Notes, name: str) -> None:
    at = set_and_run(app(), name, CHANGES[name])
    assert [(field, new) for field, _old, new in draft(at).changes] == [(name, CHANGES[name])]
    assert "Press Train to start a new run" in said(at)
    url_name = "task" if name == "task.name" else name.split(".")[1]
    assert {key for key in at.query_params if key != "lang"} == {url_name}
    # The same URL in a new session brings the same form.
    again = app(**{url_name: at.query_params[url_name]})
    assert draft(again).data == draft(at).data
    widget(at, "train").click().run()
    part, key = name.split(".")
    run = store.find(notes.calls[0][1])
    assert run is not None
    assert getattr(getattr(run.config, part), key) == CHANGES[name]


def test_every_field_has_a_control() -> None:
    every = {f"{part}.{key}" for part in ("task", "model", "train") for key in settings(RunConfig())[part]}
    assert every - set(words.IN_FORM) == {"model.max_len", "task.pairs"}  # fitted to the task; uploaded
    assert set(CHANGES) == set(words.IN_FORM) - {"model.position_placement"}


def test_placement_is_offered_where_it_applies(app: Open) -> None:
    at = app()
    with pytest.raises(StopIteration):
        widget(at, "model.position_placement")
    set_and_run(at, "model.positions", "integer")
    set_and_run(at, "model.position_placement", "one_direction")
    assert draft(at).changes[1][2] == "one_direction"
    set_and_run(at, "model.positions", "sincos")
    assert not draft(at).changes


def test_heads_and_width_cannot_disagree(app: Open) -> None:
    at = app()
    assert widget(at, "model.n_heads").options == ["1", "2", "4", "8", "16", "32", "64"]
    type_exactly(at, "model.d_model", 50)
    assert draft(at).data["model"]["n_heads"] == 5
    assert widget(at, "model.n_heads").options == ["1", "2", "5", "10", "25", "50"]
    assert not widget(at, "train").disabled


def test_a_typed_width(app: Open) -> None:
    at = app()
    type_exactly(at, "model.d_model", 51)
    assert "d_model must be even" in said(at)
    assert widget(at, "train").disabled
    type_exactly(at, "model.d_model", 72)
    assert draft(at).data["model"]["d_model"] == 72
    assert not widget(at, "train").disabled


def test_faults_stand_at_their_fields_all_at_once(app: Open) -> None:
    at = app()
    widget(at, "exact.task.min_len").set_value(9)
    widget(at, "exact.task.max_len").set_value(4)
    widget(at, "exact.train.lr").set_value(0.0)
    at.run()
    assert "The shortest length 9 is above the longest 4." in said(at)
    assert "Must be more than 0" in said(at)
    assert widget(at, "train").disabled


def test_size_answers_at_once(app: Open) -> None:
    at = app()
    assert "**119,501** parameters" in said(at)
    set_and_run(at, "model.n_layers", 2)
    assert "119,501" not in said(at)


def test_too_large_is_refused_before_anything_is_made(app: Open, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "installed_memory", lambda: 8 * 2**30)
    at = app()
    type_exactly(at, "model.d_model", 2048)
    type_exactly(at, "train.batch_size", 4096)
    for name, value in {"model.n_layers": 24, "task.max_len": 128}.items():
        set_and_run(at, name, value)
    assert "this computer has" in said(at)
    assert widget(at, "train").disabled


def test_tasks_with_symbols_of_their_own(app: Open, notes: Notes) -> None:
    at = set_and_run(app(), "task.name", "add")
    assert next(t for t in at.text_input if t.key.startswith("fixed#")).value == "11"
    set_and_run(at, "task.name", "pairs")
    assert "Upload at least 10 pairs" in said(at)
    assert widget(at, "train").disabled
    assert "Press Train" not in said(at)
    assert "Train is off for now. Upload at least 10 pairs" in said(at)


def test_pairs_from_a_csv(app: Open, notes: Notes) -> None:
    at = set_and_run(app(), "task.name", "pairs")
    at.file_uploader[0].upload("x.csv", b"a,b\n<img>,c,d\n", "text/csv").run()
    assert "Line 2 has 3 columns" in said(at)
    rows = "source;target\n" + "".join(f":red[{i}];${i}$\n" for i in range(12))
    at.file_uploader[0].upload("../../etc/passwd.csv", rows.encode("utf-16"), "text/csv").run()
    assert not at.exception
    assert "12 pairs, the first: :red[0] → $0$" in said(at)
    widget(at, "train").click().run()
    run = store.find(notes.calls[0][1])
    assert run is not None
    assert run.config.task.pairs[0] == (":red[0]", "$0$")


# The toolbar


def started(at: AppTest, notes: Notes) -> str:
    widget(at, "train").click().run()
    assert not at.exception, at.exception
    run_id: str = notes.calls[-1][1]
    return run_id


def test_play_pause_step_resume_stop(app: Open, notes: Notes) -> None:
    at = app()
    run_id = started(at, notes)
    assert widget(at, "step").disabled
    widget(at, "pause").click().run()
    assert notes.calls[-1] == ("pause", run_id)
    widget(at, "step").click().run()
    widget(at, "step").click().run()  # the disk still says step 0: the target goes on all the same
    assert [call[2] for call in notes.calls[-2:]] == [1, 2]
    widget(at, "resume").click().run()
    assert notes.calls[-1] == ("resume", run_id)
    widget(at, "stop").click().run()
    assert notes.calls[-1] == ("stop", run_id)
    assert "Stopped" in said(at)
    assert has(at, "train")


def test_step_on_a_draft_starts_a_run_that_pauses_after_one(app: Open, notes: Notes) -> None:
    at = app()
    widget(at, "step").click().run()
    assert notes.calls[0][0] == "submit"
    assert notes.calls[0][2] == 1


def test_reset_is_a_new_run_of_the_same_settings_paused_at_0(app: Open, notes: Notes) -> None:
    at = set_and_run(app(), "train.seed", 5)
    first = started(at, notes)
    widget(at, "reset").click().run()
    (stopped, submitted) = notes.calls[-2:]
    assert stopped == ("stop", first)
    assert submitted[0] == "submit"
    assert submitted[2] == 0
    new, old = store.find(submitted[1]), store.find(first)
    assert new is not None
    assert old is not None
    assert new.id != old.id
    assert new.config == old.config
    assert at.query_params["run"] == new.id
    assert "A new run from the beginning, paused at step 0. The one before is in Runs" in said(at)
    widget(at, "resume").click().run()
    assert "The one before" not in said(at)


def test_learning_rate_while_training(app: Open, notes: Notes) -> None:
    at = app()
    assert widget(at, "lr").disabled
    run_id = started(at, notes)
    set_and_run(at, "lr", 0.0024)
    assert notes.calls[-1] == ("set_lr", run_id, 0.0024)
    type_in(at, "lr", "fast")
    assert "A learning rate is a number above 0" in said(at)
    type_in(at, "lr", "1e-4")
    assert notes.calls[-1] == ("set_lr", run_id, 0.0001)


def test_an_interrupted_run_resumes_with_one_click(app: Open, notes: Notes) -> None:
    run = store.create(RunConfig())
    run.set_status(Status("interrupted", 120))
    at = app(run=run.id)
    assert "Interrupted" in said(at)
    widget(at, "resume").click().run()
    assert notes.calls == [("resume", run.id)]


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_an_ended_run_is_followed_by_a_new_one(app: Open, notes: Notes, state: str) -> None:
    run = store.create(RunConfig())
    run.set_status(
        Status(state, 3, template="The disk is full. Free some space, then resume." if state == "failed" else "")
    )
    at = app(run=run.id)
    assert ("The disk is full" in said(at)) == (state == "failed")
    assert started(at, notes) != run.id


def test_a_run_can_be_named(app: Open, notes: Notes) -> None:
    at = app()
    run_id = started(at, notes)
    set_and_run(at, "name", "  <b>my</b>   run ")
    run = store.find(run_id)
    assert run is not None
    assert run.label().name == "<b>my</b> run"


def test_a_change_while_training_makes_a_draft_and_leaves_the_run_alone(app: Open, notes: Notes) -> None:
    at = app()
    run_id = started(at, notes)
    set_and_run(at, "model.n_heads", 8)
    assert "Changed: heads 4 → 8. Press Train to start a new run; this one goes on." in said(at)
    assert has(at, "pause")
    assert at.query_params["run"] == run_id
    widget(at, "undo").click().run()
    assert widget(at, "model.n_heads").value == 4
    assert not has(at, "train")
    set_and_run(at, "model.n_heads", 8)
    second = started(at, notes)
    assert second != run_id
    assert not draft(at).changes


# The task brings its settings


def lengths(at: AppTest) -> tuple[int, int]:
    low, high = widget(at, "task.min_len").value
    return low, high


def test_a_task_brings_its_settings_and_takes_them_away_again(app: Open) -> None:
    at = set_and_run(app(), "task.name", "add")
    wanted = usual.usual("add")
    assert {name: draft(at).get(name) for name in wanted if name != "model.n_symbols"} == {
        name: value for name, value in wanted.items() if name != "model.n_symbols"
    }
    assert lengths(at) == (wanted["task.min_len"], wanted["task.max_len"])
    assert "Set for Add: lengths 1 to 3, " in said(at)
    assert "Kept" not in said(at)
    set_and_run(at, "task.name", "reverse")
    assert not draft(at).changes
    assert lengths(at) == (3, 10)


def test_what_the_person_set_is_kept_and_that_is_said(app: Open) -> None:
    at = set_and_run(app(), "train.steps", 600)
    set_and_run(at, "task.name", "add")
    assert draft(at).data["train"]["steps"] == 600
    assert draft(at).data["train"]["lr"] == usual.usual("add")["train.lr"]
    assert "Kept as you set it: steps." in said(at)
    set_and_run(at, "train.steps", 400)
    set_and_run(at, "task.name", "reverse")
    assert "Kept" not in said(at)


def test_a_slider_moved_and_a_task_chosen_in_one_message_are_both_taken(app: Open) -> None:
    at = app()
    widget(at, "train.steps").set_value(600)
    set_and_run(at, "task.name", "add")
    assert draft(at).data["train"]["steps"] == 600
    assert draft(at).data["task"]["name"] == "add"


def test_lengths_that_the_new_task_forbids_give_way(app: Open) -> None:
    at = set_and_run(app(), "task.max_len", 20)
    set_and_run(at, "task.name", "add")  # at most 15 digits
    assert lengths(at) == (1, 3)
    assert not widget(at, "train").disabled
    assert "Set for Add: lengths 1 to 3" in said(at)


def test_add_leaves_no_symbols_behind(app: Open, notes: Notes) -> None:
    at = set_and_run(app(), "task.name", "add")
    started(at, notes)
    set_and_run(at, "task.name", "caesar")
    assert widget(at, "model.n_symbols").value == 10
    assert draft(at).get("train.steps") == usual.usual("caesar")["train.steps"]


def test_symbols_of_ones_own_outlast_a_task_that_has_its_own(app: Open) -> None:
    at = set_and_run(app(), "model.n_symbols", 20)
    for task in ("add", "caesar"):
        set_and_run(at, "task.name", task)
    assert widget(at, "model.n_symbols").value == 20


# What a slider can hold


def test_a_value_between_the_stops_has_its_place_on_the_slider(app: Open) -> None:
    at = app(d_ff="77", lr="0.00012345")
    assert widget(at, "model.d_ff").value == 77
    assert {"64", "77", "96"} <= set(widget(at, "model.d_ff").options)
    assert "0.00012345" in widget(at, "train.lr").options
    set_and_run(at, "train.lr", 0.003)
    assert draft(at).data["model"]["d_ff"] == 77
    type_exactly(at, "model.d_ff", 99)
    assert widget(at, "model.d_ff").value == 99
    set_and_run(at, "model.d_ff", 128)
    type_exactly(at, "model.d_ff", 99)
    assert draft(at).data["model"]["d_ff"] == widget(at, "model.d_ff").value == 99


def test_a_width_that_cannot_be_split_says_so_in_place_of_the_slider(app: Open) -> None:
    at = set_and_run(app(), "model.positions", "learned")
    type_exactly(at, "model.d_model", 67)
    assert "1: d_model cannot be split" in [box.value for box in at.text_input]
    assert not widget(at, "train").disabled
    set_and_run(at, "model.d_model", 64)
    assert widget(at, "model.n_heads").options == ["1", "2", "4", "8", "16", "32", "64"]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("train.warmup", 500, "Warm-up fills the whole run"),
        ("train.eval_every", 400, "The only test is the one at the last step"),
    ],
)
def test_a_setting_without_effect_is_said(app: Open, name: str, value: Any, sentence: str) -> None:
    at = app()
    assert sentence not in said(at)
    set_and_run(at, name, value)
    assert sentence in said(at)
    assert not widget(at, "train").disabled


def test_one_head_and_one_length_have_nothing_to_choose(app: Open) -> None:
    at = set_and_run(set_and_run(app(), "model.scale", "sqrt_d_model"), "model.padding_mask", False)
    assert "With one head" not in said(at)
    assert "no padding to mask" not in said(at)
    set_and_run(set_and_run(at, "model.n_heads", 1), "task.min_len", 10)
    assert "With one head d_k is d_model" in said(at)
    assert "no padding to mask" in said(at)


# The map of the next run


def next_run(at: AppTest) -> Any:
    [board] = [part for part in at.get("bidi_component") if part.proto.component_name == "board"]
    return json.loads(board.proto.json)["draft"]


def test_the_map_is_told_of_the_model_to_be_trained(app: Open) -> None:
    at = app()
    assert next_run(at) is None
    set_and_run(at, "model.n_layers", 3)
    told = next_run(at)
    assert told["facts"]["layers"] == 3
    assert told["more"] == told["facts"]["parameters"]["all"] - 119_501 > 0
    assert told["text"] == "layers 1 → 3"
    set_and_run(at, "model.n_heads", 8)
    assert next_run(at)["facts"]["heads"] == 8
    widget(at, "undo").click().run()
    assert next_run(at) is None


def test_where_only_the_training_differs_the_map_is_the_same(app: Open) -> None:
    at = set_and_run(app(), "train.steps", 600)
    assert next_run(at) == {"facts": None, "more": 0, "text": "steps 400 → 600", "off": False}


def test_an_invalid_form_keeps_the_last_picture_and_says_why(app: Open) -> None:
    at = set_and_run(app(), "model.n_layers", 3)
    type_exactly(at, "model.d_model", 51)
    told = next_run(at)
    assert told["off"]
    assert "d_model must be even" in told["text"]
    assert told["facts"]["layers"] == 3
    assert "(B, S, 64)" in told["facts"]["parts"]["source"]["shape"]
    type_exactly(at, "model.d_model", 72)
    assert "(B, S, 72)" in next_run(at)["facts"]["parts"]["source"]["shape"]


def test_the_sample_is_what_the_form_starts_from(app: Open, folders: SimpleNamespace) -> None:
    file = folders.samples / SAMPLE / "run.json"
    facts = json.loads(file.read_text())
    facts["config"]["model"]["n_layers"], facts["config"]["train"]["device"] = 3, "cpu"
    file.write_text(json.dumps(facts))
    at = app()
    assert widget(at, "model.n_layers").value == 3
    assert widget(at, "train.device").value == "auto"  # where it was trained says nothing about this computer
    assert not draft(at).changes


# The URL


def test_the_run_of_the_url_wins_and_its_settings_fill_the_form(app: Open) -> None:
    run = store.create(RunConfig.model_validate({"model": {"n_heads": 8, "d_model": 32}}))
    at = app(run=run.id)
    assert widget(at, "model.n_heads").value == 8
    assert widget(at, "model.d_model").value == 32
    assert not draft(at).changes


@pytest.mark.parametrize(
    "query",
    [
        {"d_model": "-5"},
        {"d_model": "x" * 100_000},
        {"d_model": "51"},
        {"n_heads": "3"},
        {"n_heads": ["2", "8"]},
        {"lr": "nan"},
        {"lr": "1e400"},
        {"lr": "0"},
        {"causal_mask": "1"},
        {"task": "<script>"},
        {"task": "pairs"},
        {"min_len": "20"},
        {"steps": "600.5"},
        {"seed": "9" * 30},
        {"run": "../../etc"},
        {"run": "20260101-000000000-0123456789abcdef"},
    ],
)
def test_a_tampered_url_is_ignored_with_a_notice(app: Open, query: dict[str, Any]) -> None:
    at = app(**query)
    assert f"ignored: {next(iter(query))}." in said(at)
    assert draft(at).data == settings(RunConfig())
    assert not set(at.query_params) & set(query)


def test_the_good_part_of_a_tampered_url_is_kept(app: Open) -> None:
    at = app(d_model="-5", n_heads="8", run="../../etc", nonsense="1")
    assert "ignored: d_model, run." in said(at)
    assert widget(at, "model.n_heads").value == 8


def test_another_page_and_back_keeps_the_draft(app: Open) -> None:
    at = set_and_run(app(), "model.n_heads", 8)
    at.query_params.clear()  # so does Streamlit
    at.switch_page("../pages/runs.py").run()
    at.query_params.clear()
    at.switch_page("../pages/train.py").run()
    assert widget(at, "model.n_heads").value == 8
    assert at.query_params["n_heads"] == "8"


# Languages


def test_the_switch_the_url_and_the_labels(app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    at = app()
    assert widget(at, "switch").label == "中文"
    widget(at, "switch").click().run()
    assert widget(at, "switch").label == "English"
    assert widget(at, "train").label != "Train"
    monkeypatch.setenv("LANGUAGE", "zh")  # AppTest words the options of a select box outside of the session
    widget(at, "switch").click().run()
    assert widget(at, "train").label == "Train"
    at = app(lang="zh")
    assert widget(at, "switch").label == "English"
    widget(at, "switch").click().run()
    assert widget(at, "switch").label == "中文"
    assert at.query_params["lang"] == "en"


# What a callback acts on


def typed_and_tapped(at: AppTest, name: str, value: Any, button: str) -> AppTest:
    """Both in one message, as a browser sends it when the tap comes while the field has the focus."""
    turn(at, name, value)
    widget(at, button).click().run()
    assert not at.exception, at.exception
    return at


@pytest.mark.parametrize("button", ["train", "step"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_button_acts_on_what_was_typed_in_the_same_moment(app: Open, notes: Notes, name: str, button: str) -> None:
    typed_and_tapped(app(), name, CHANGES[name], button)
    part, key = name.split(".")
    run = store.find(notes.calls[-1][1])
    assert run is not None
    assert getattr(getattr(run.config, part), key) == CHANGES[name]
    assert notes.calls[-1][2] == (1 if button == "step" else None)


def test_a_preset_chosen_in_the_same_moment(app: Open, notes: Notes) -> None:
    typed_and_tapped(app(), "preset", 3, "train")
    run = store.find(notes.calls[-1][1])
    assert run is not None
    assert settings(run.config) == preset_settings(3)


def test_step_on_a_paused_run_whose_settings_change_in_the_same_moment_is_a_new_run(app: Open, notes: Notes) -> None:
    at = app()
    first = started(at, notes)
    widget(at, "pause").click().run()
    typed_and_tapped(at, "train.seed", 7, "step")
    assert notes.calls[-1][0] == "submit"
    assert notes.calls[-1][1] != first
    assert notes.calls[-1][2] == 1


@pytest.mark.parametrize("button", ["train", "step"])
def test_what_is_wrong_starts_nothing_and_is_said(app: Open, notes: Notes, button: str) -> None:
    at = typed_and_tapped(app(), "exact.train.lr", 0.0, button)
    assert notes.calls == []
    assert "Nothing was started" in said(at)
    assert "Must be more than 0" in said(at)


@pytest.mark.parametrize("name", [n for n in CHANGES if not isinstance(CHANGES[n], str | bool)])
def test_a_number_out_of_bounds_reaches_the_page(app: Open, name: str) -> None:
    """A field with bounds keeps it in the browser: the page would go on with the number before, and Train take it."""
    at = app()
    name = f"exact.{name}" if name in words.SLIDERS else name
    box = next((box for box in at.number_input if box.key.split("#")[0] == name), None)
    assert (box is None) == (name == "exact.model.n_heads")  # its slider has every value that is possible
    if box is not None:
        assert not box.proto.has_min
        assert not box.proto.has_max
        type_exactly(at, name.removeprefix("exact."), -5) if name.startswith("exact.") else set_and_run(at, name, -5)
        assert widget(at, "train").disabled


GOOD = b"source,target\n" + b"".join(b"a%d,b%d\n" % (i, i) for i in range(12))
BAD = b"a,b\n<img>,c,d\n"


def upload(at: AppTest, data: bytes, name: str = "x.csv") -> AppTest:
    at.file_uploader[0].upload(name, data, "text/csv").run()
    assert not at.exception, at.exception
    return at


def test_a_refused_upload_leaves_no_pairs_in_force(app: Open, notes: Notes) -> None:
    at = upload(set_and_run(app(), "task.name", "pairs"), GOOD, "good.csv")
    assert "good.csv: 12 pairs, the first: a0 → b0" in said(at)
    upload(at, BAD, "bad.csv")
    assert "Line 2 has 3 columns" in said(at)
    assert "No pairs are in use" in said(at)
    assert "Train is off for now. Line 2 has 3 columns" in said(at)
    assert "Press Train" not in said(at)
    assert "marked red" not in said(at)
    assert "12 pairs" not in said(at)
    assert draft(at).data["task"]["pairs"] == []
    assert widget(at, "train").disabled
    assert widget(at, "step").disabled
    set_and_run(at, "train.seed", 8)  # and so it stays
    assert widget(at, "train").disabled
    upload(at, GOOD.replace(b"a0", b"z0"), "again.csv")
    assert "again.csv: 12 pairs, the first: z0 → b0" in said(at)
    assert not widget(at, "train").disabled


def test_a_refused_upload_and_train_in_the_same_moment(app: Open, notes: Notes) -> None:
    at = upload(set_and_run(app(), "task.name", "pairs"), GOOD)
    at.file_uploader[0].upload("bad.csv", BAD, "text/csv")
    widget(at, "train").click().run()
    assert notes.calls == []
    assert "Nothing was started" in said(at)


def test_pairs_of_the_run_in_view_come_back_when_the_upload_is_removed(app: Open, notes: Notes) -> None:
    at = upload(set_and_run(app(), "task.name", "pairs"), GOOD)
    started(at, notes)
    assert "12 pairs of the run in view, the first: a0 → b0" in said(at)
    upload(at, BAD)
    assert widget(at, "train").disabled
    at.file_uploader[0].set_value([]).run()
    assert "12 pairs of the run in view, the first: a0 → b0" in said(at)
    assert not draft(at).changes


def test_another_page_and_back_keeps_the_uploaded_pairs(app: Open, notes: Notes) -> None:
    """The uploader of the page that is opened again is empty, which says nothing."""
    at = upload(set_and_run(app(), "task.name", "pairs"), GOOD, "good.csv")
    at.switch_page("../pages/runs.py").run()
    at.switch_page("../pages/train.py").run()
    for _ in range(2):
        assert not at.exception
        assert "good.csv: 12 pairs, the first: a0 → b0" in said(at)
        at.run()


def test_what_a_box_shows_is_in_force(app: Open, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate or a name that was refused does not go on standing in its box."""
    at = app()
    run_id = started(at, notes)
    for _ in range(2):
        type_in(at, "lr", "fast")
        assert "A learning rate is a number above 0" in said(at)
        assert widget(at, "lr").value == RunConfig().train.lr

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.Run, "set_label", full)
    monkeypatch.setattr(Notes, "set_lr", full)
    for _ in range(2):
        set_and_run(at, "name", "mine")
        assert "cannot be written" in said(at)
        assert widget(at, "name").value == ""
        set_and_run(at, "lr", 0.0024)
        assert widget(at, "lr").value == RunConfig().train.lr
    assert run_id == at.query_params["run"]


def test_the_sample_of_pairs_comes_in_by_the_apps_own_door(app: Open) -> None:
    at = set_and_run(app(), "task.name", "pairs")
    assert "One pair a line" in said(at)
    upload(at, forms.SAMPLE.encode(), "pairs.csv")
    assert "pairs.csv: 100 pairs, the first: 0 → zero" in said(at)
    config = draft(at).valid
    assert config is not None
    kept = int(Data(config).pairs_unseen.sum())
    assert f"{kept} of them are kept for the test and never trained on." in said(at)
    asked = Data(config).unseen(128).src
    assert len(asked) == len(asked.unique(dim=0)) == kept  # each once: a share of all of them
