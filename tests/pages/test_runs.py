"""The Runs page in Streamlit's test bench: what is listed, compared, renamed, deleted, and what is refused."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.config import RunConfig
from core.read import build, fit
from playground import run_actions, runs_view
from playground.runs import store, trash
from playground.runs.store import Run, Status
from tests.pages.conftest import SAMPLE, Notes

Open = Callable[..., AppTest]


class RunsNotes(Notes):
    def resume_all(self, owner: str) -> int:
        self.calls.append(("resume_all",))
        return 0

    def delete(self, run_id: str) -> bool:
        self.calls.append(("delete", run_id))
        return store.delete(run_id)


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> RunsNotes:
    crew = RunsNotes()
    for module in (runs_view, run_actions):
        monkeypatch.setattr(module, "launcher", lambda: crew)
    monkeypatch.setattr(Run, "alive", lambda self: self.written_status().state == "running" and self.id in held)
    held: set[str] = set()
    crew.held = held  # type: ignore[attr-defined]
    return crew


def make(state: str = "finished", name: str = "", records: int = 20, **data: Any) -> Run:
    run = store.create(build(fit(data)))
    with (run.path / "metrics.jsonl").open("w") as file:
        for step in range(1, records + 1):
            exact = step / records if step % 5 == 0 else None
            one = {"step": step, "loss": 3 / step, "lr": 1e-3, "grad_norm": 1.0, "tokens_per_s": 1e4}
            one |= {"token_accuracy": exact, "exact_match": exact, "seconds": step / 10}
            file.write(json.dumps(one) + "\n")
    run.set_status(Status(state, records, seconds=records / 10))
    if name:
        run.set_label(name=name)
    return run


def visit(app: Open, *ticked: Run, **query: str) -> AppTest:
    at = app(**query)
    if ticked:
        at.session_state["runs.selected"] = [run.id for run in ticked]
        at.session_state["runs.tables"] = 1
    at.switch_page("../pages/runs.py").run()
    assert not at.exception, at.exception
    return at


def charts(at: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in at.get("vega_lite_chart")]


def keys(at: AppTest, start: str) -> list[str]:
    return [str(button.key) for button in at.button if str(button.key).startswith(start)]


def test_with_no_runs_the_sample_is_listed_and_the_next_step_is_said(app: Open, crew: RunsNotes) -> None:
    at = visit(app)
    assert "New run" in at.info[0].value
    table = at.dataframe[0].value
    assert table["name"].tolist() == ["Sample run · Reverse"]
    for forbidden in ("runs.pin", "runs.delete", "FormSubmitter"):
        assert not keys(at, forbidden)


def test_the_table_says_what_sets_runs_apart(app: Open, crew: RunsNotes) -> None:
    make(name="eight heads", model={"n_heads": 8, "positions": "none"})
    make(task={"name": "sort"}).set_label(name="sorted", pinned=True)
    table = visit(app).dataframe[0].value
    assert table["name"].tolist() == ["sorted", "eight heads", "Sample run · Reverse"]
    assert table["differs"].tolist() == ["the default run", "heads 8 · positions none", "the default run"]
    assert table["exact_match"].tolist()[:2] == [100.0, 100.0]
    assert table["state"].tolist()[0] == "✓ finished"


def test_one_ticked_run_has_three_charts_with_words_beside_them(app: Open, crew: RunsNotes) -> None:
    at = visit(app, make(name="mine"))
    assert len(charts(at)) == 3
    alts = [chart.proto.alt for chart in at.get("vega_lite_chart")]
    assert alts[0] == "Loss along training step. Last values: mine: 0.15"


def test_several_are_drawn_over_each_other_and_told_apart(app: Open, crew: RunsNotes) -> None:
    runs = [make(name="same name", train={"seed": seed}) for seed in (1, 2, 3)]
    at = visit(app, *runs)
    encoding = charts(at)[0]["layer"][0]["encoding"]
    assert encoding["color"]["scale"]["domain"] == ["same name", "same name (2)", "same name (3)"]
    assert len(set(encoding["color"]["scale"]["range"])) == 3
    assert len({tuple(dash) for dash in encoding["strokeDash"]["scale"]["range"]}) == 3
    apart = at.dataframe[1].value
    assert apart.loc["seed"].tolist() == ["1", "2", "3"]
    assert "heads" not in apart.index
    colours = dict(zip([run.id for run in runs], encoding["color"]["scale"]["range"], strict=True))
    at.session_state["runs.selected"] = [runs[2].id, runs[1].id]
    at.session_state["runs.tables"] = 2
    again = charts(at.run())[0]["layer"][0]["encoding"]["color"]["scale"]["range"]
    assert again == [colours[runs[2].id], colours[runs[1].id]], "a run keeps its colour"


def test_nine_are_ticked_eight_are_drawn(app: Open, crew: RunsNotes) -> None:
    at = visit(app, *[make(name=f"run {i}") for i in range(9)])
    assert len(charts(at)[0]["layer"][0]["encoding"]["color"]["scale"]["domain"]) == 8
    assert any("first 8" in caption.value for caption in at.caption)


def test_smoothing_keeps_the_measured_line(app: Open, crew: RunsNotes) -> None:
    at = visit(app, make())
    assert len(charts(at)[0]["layer"]) == 2
    at.slider(key="runs.smoothing").set_value(0.9).run()
    assert charts(at)[0]["layer"][0]["encoding"]["y"]["field"] == "raw"
    at.toggle(key="runs.log_y").set_value(True).run()
    scales = [chart["layer"][1]["encoding"]["y"]["scale"] for chart in charts(at)]
    assert [scale.get("type") for scale in scales] == ["log", None, None]
    at.button_group(key="runs.x").set_value("seconds").run()
    assert charts(at)[0]["layer"][0]["encoding"]["x"]["title"] == "seconds of training"


def test_name_tags_and_note_are_kept(app: Open, crew: RunsNotes) -> None:
    run = make()
    at = visit(app, run)
    at.text_input[1].set_value("  my   <b>run</b> ")
    at.text_input[2].set_value("week 1，lecture, ,")
    at.text_area[0].set_value("works *well*")
    next(button for button in at.button if button.label == "Save").click()
    at.run()
    label = run.label()
    assert (label.name, label.tags, label.notes) == ("my <b>run</b>", ("week 1", "lecture"), "works *well*")
    assert at.dataframe[0].value["name"].tolist()[0] == "my <b>run</b>"
    at.button(key=f"runs.pin#{run.id}#False").click().run()
    assert run.label().pinned
    assert run.label().name == "my <b>run</b>"


def test_delete_asks_first(app: Open, crew: RunsNotes) -> None:
    run, other = make(name="wrong one"), make(name="keep me")
    at = visit(app, run)
    at.button(key=f"runs.delete#1#{run.id}").click().run()
    assert store.find(run.id)
    assert any("wrong one" in text.value for text in at.text)
    at.button(key="runs.delete.yes").click().run()
    assert crew.calls == [("delete", run.id)]
    assert store.find(run.id) is None
    assert store.find(other.id)
    assert "wrong one" not in at.run().dataframe[0].value["name"].tolist()
    assert not at.exception


def test_undo_brings_back_what_was_deleted(app: Open, crew: RunsNotes) -> None:
    run, other = make(name="oh no"), make(name="keep me")
    at = visit(app, run)
    at.button(key=f"runs.delete#1#{run.id}").click().run()
    at.button(key="runs.delete.yes").click().run()
    assert "1 run is in the trash." in " ".join(text.value for text in at.markdown)
    at.button(key="runs.undo").click().run()
    assert store.find(run.id)
    assert "oh no" in at.dataframe[0].value["name"].tolist()
    assert not any(button.key == "runs.undo" for button in at.button)
    assert store.find(other.id)
    assert not at.exception


def test_a_run_that_was_deleted_twice_lies_in_the_trash_twice(app: Open, crew: RunsNotes) -> None:
    """Somebody put a copy back, and it was deleted again."""
    run = make()
    trash_of_run = []
    for _ in range(3):
        copy = shutil.copytree(run.path, run.path.with_name("copy"))
        assert store.delete(run.id)
        trash_of_run.append(trash.listed())
        copy.rename(run.path)
    assert [len(listed) for listed in trash_of_run] == [1, 2, 3]
    at = visit(app)
    assert not at.exception
    keys = [b.key for b in at.button if b.key and b.key.startswith("runs.restore#")]
    assert len(set(keys)) == len(keys) == 3
    at.button(key=keys[2]).click().run()
    assert [toast.value.replace("\\", "") for toast in at.toast] == [trash.THERE_AGAIN.format(id=run.id)]
    at.button(key="runs.restore_all").click().run()
    assert not at.exception
    assert len(at.toast) == 3
    shutil.rmtree(run.path)
    at.run().button(key=keys[1]).click().run()
    assert run.path.is_dir()
    assert len(trash.listed()) == 2
    at.button(key="runs.empty_trash").click().run()
    assert trash.listed() == []
    assert not at.exception


def test_many_come_back_from_the_trash_and_anyone_may(app: Open, crew: RunsNotes) -> None:
    runs = [make(name=f"run {i}") for i in range(3)]
    for run in runs:
        assert store.delete(run.id)
    damaged = make()
    (damaged.path / "run.json").write_text("{")
    assert store.delete(damaged.id)
    at = visit(app)  # another visitor, later
    assert {b.key for b in at.button if b.key and b.key.startswith("runs.restore#")} == {
        f"runs.restore#{run.id}" for run in (*runs, damaged)
    }
    at.button(key=f"runs.restore#{runs[0].id}").click().run()
    assert store.find(runs[0].id)
    at.button(key="runs.restore_all").click().run()
    assert all(store.find(run.id) for run in runs)
    assert store.folder_of(damaged.id)
    assert not any(b.key == "runs.empty_trash" for b in at.button)
    assert store.delete(runs[1].id)
    at.run().button(key="runs.empty_trash").click().run()
    assert trash.listed() == []
    assert not at.exception


def test_keep_keeps(app: Open, crew: RunsNotes) -> None:
    run = make()
    at = visit(app, run)
    at.button(key=f"runs.delete#1#{run.id}").click().run()
    at.button(key="runs.delete.no").click().run()
    assert store.find(run.id)
    assert crew.calls == []


def test_a_training_run_can_be_stopped_but_not_deleted(app: Open, crew: RunsNotes) -> None:
    run = make("running")
    crew.held.add(run.id)  # type: ignore[attr-defined]
    at = visit(app, run)
    delete = at.button(key=f"runs.delete#1#{run.id}")
    assert delete.disabled
    assert delete.help == "Stop it first."
    at.button(key=f"runs.stop#{run.id}").click().run()
    assert crew.calls == [("stop", run.id)]
    assert not at.button(key=f"runs.delete#1#{run.id}").disabled


def test_started_while_the_question_stands(app: Open, crew: RunsNotes) -> None:
    run = make()
    at = visit(app, run)
    at.button(key=f"runs.delete#1#{run.id}").click().run()
    run.set_status(Status("running", 5))
    crew.held.add(run.id)  # type: ignore[attr-defined]
    at.button(key="runs.delete.yes").click().run()
    assert store.find(run.id)
    assert crew.calls == []


def test_interrupted_runs_resume_with_one_click(app: Open, crew: RunsNotes) -> None:
    dead = make("running")
    make("interrupted")
    at = visit(app, dead)
    everything = at.button(key="runs.resume_all")
    assert "2" in everything.label
    everything.click().run()
    at.button(key=f"runs.resume#{dead.id}").click().run()
    assert crew.calls == [("resume_all",), ("resume", dead.id)]


def test_a_disk_that_refuses_becomes_a_sentence(app: Open, crew: RunsNotes, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = make("interrupted")

    def refuse(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("resume_all", "resume", "delete"):
        monkeypatch.setattr(crew, name, refuse)
    at = visit(app, dead)
    for key in ("runs.resume_all", f"runs.resume#{dead.id}"):
        at.button(key=key).click().run()
        assert not at.exception, at.exception
        assert [toast.value for toast in at.toast] == ["The run cannot be saved: No space left on device"], key
    assert store.find(dead.id)


def test_duplicate_is_a_draft_with_its_settings_in_the_url(app: Open, crew: RunsNotes) -> None:
    run = make(model={"n_heads": 8, "positions": "none"}, train={"seed": 7})
    at = visit(app, run)
    at.button(key=f"runs.duplicate#{run.id}").click().run()
    assert not at.exception, at.exception
    assert (at.query_params["n_heads"], at.query_params["positions"], at.query_params["seed"]) == ("8", "none", "7")
    assert "run" not in at.query_params
    assert len(store.list_runs()) == 2, "a draft is no run yet"


def test_search(app: Open, crew: RunsNotes) -> None:
    make(name="first")
    make(name="second", model={"n_heads": 8})
    at = visit(app)
    at.text_input(key="runs.search").set_value("heads 8").run()
    assert at.dataframe[0].value["name"].tolist() == ["second"]
    at.text_input(key="runs.search").set_value("nothing like this").run()
    assert "No run holds" in at.info[0].value


def test_the_best_stand_first_where_that_is_asked_for(app: Open, crew: RunsNotes) -> None:
    make(name="trained", records=10)
    make(name="begun", records=4)
    at = visit(app)
    assert at.dataframe[0].value["name"].tolist()[:2] == ["begun", "trained"]
    at.selectbox(key="runs.order").set_value("best").run()
    assert at.dataframe[0].value["name"].tolist()[:2] == ["trained", "begun"]


def test_one_bad_run_is_named_and_the_others_stay(app: Open, crew: RunsNotes) -> None:
    good, bad, newer = make(name="good"), make(), make()
    (bad.path / "run.json").write_text("{")
    facts = json.loads((newer.path / "run.json").read_text())
    (newer.path / "run.json").write_text(json.dumps(facts | {"schema": 99}))
    at = visit(app, good)
    assert at.dataframe[0].value["name"].tolist() == ["good", "Sample run · Reverse"]
    said = [text.value for text in at.text]
    assert any(bad.id in text and "cannot be read" in text for text in said)
    assert any(newer.id in text and "newer version" in text for text in said)


def test_damaged_history_is_mentioned(app: Open, crew: RunsNotes) -> None:
    run = make()
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write("{broken\n")
    assert any("1 damaged line" in caption.value for caption in visit(app, run).caption)


def test_typed_text_is_shown_literally(app: Open, crew: RunsNotes) -> None:
    run = make(name="<img src=x> $x$ :red[y] `z`")
    at = visit(app, run)
    heading = next(m.value for m in at.markdown if "finished" in m.value)
    assert "\\<img" in heading
    assert "\\$x\\$" in heading
    assert "\\:red\\[y\\]" in heading


def test_many_runs_come_in_pages(app: Open, crew: RunsNotes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_view, "PAGE_SIZE", 4)
    for i in range(5):
        make(name=f"run {i}", records=1)
    at = visit(app)
    assert len(at.dataframe[0].value) == 4
    at.session_state["runs.page"] = 2
    assert at.run().dataframe[0].value["name"].tolist() == ["run 0", "Sample run · Reverse"]


def test_the_link_of_a_run_shows_that_run(app: Open, crew: RunsNotes) -> None:
    run = make(name="from a link")
    make(name="newer")
    at = visit(app, run=run.id)
    assert any("from a link" in m.value for m in at.markdown)
    assert SAMPLE not in str(at.query_params)


def linked(app: Open, compare: str) -> AppTest:
    at = app()
    at.switch_page("../pages/runs.py")
    at.query_params["compare"] = compare
    at.run()
    assert not at.exception, at.exception
    return at


def notices(at: AppTest) -> str:
    return " ".join(warning.value for warning in at.warning).replace("\\", "")


def test_a_comparison_stands_in_the_address(app: Open, crew: RunsNotes) -> None:
    runs = [make(name=f"run {i}") for i in range(9)]
    at = visit(app, *runs[:3])
    link = ",".join(run.id for run in runs[:3])
    assert at.query_params["compare"] in (link, [link])
    other = linked(app, link)
    assert other.session_state["runs.selected"] == [run.id for run in runs[:3]]
    assert charts(other)[0]["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["run 0", "run 1", "run 2"]
    assert not notices(other)
    for ticked in (runs[:1], runs):  # one is no comparison, nine are too many
        assert "compare" not in visit(app, *ticked).query_params


def test_runs_of_a_comparison_that_are_not_here_are_named(app: Open, crew: RunsNotes) -> None:
    runs = [make(name=f"run {i}") for i in range(3)]
    gone = "20260101-000000000-0123456789abcdef"
    at = linked(app, f"{runs[0].id},{gone},../../etc/passwd,<b>,{runs[1].id},{runs[0].id}")
    assert at.session_state["runs.selected"] == [runs[0].id, runs[1].id]
    for name in (gone, "../../etc/passwd", "<b>"):
        assert name in notices(at)
    assert runs[0].id not in notices(at)
    at = linked(app, ",".join(["x" * 50_000, *["y"] * 5000]))
    assert at.session_state["runs.selected"] == []
    assert len(notices(at)) < 2000
    at = linked(app, ",".join(make(name=f"more {i}").id for i in range(9)))
    assert len(at.session_state["runs.selected"]) == 8
    assert "At most 8 runs" in notices(at)


def test_a_rate_set_by_hand_is_what_sets_two_runs_apart(app: Open, crew: RunsNotes) -> None:
    first, second = make(name="as it was"), make(name="changed")
    with (second.path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "lr", "step": 20, "lr": 0.0005}\n')
    at = visit(app, first, second)
    apart = at.dataframe[1].value
    base = f"{RunConfig().train.lr:g}"
    assert apart.loc["rate"].tolist() == [base, f"{base} → 0.0005 at step 20"]
    assert not any("same settings" in caption.value for caption in at.caption)


def test_an_import_says_what_came_in_and_ends_the_undo_of_a_deletion(
    app: Open, crew: RunsNotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, came = make(name="gone"), make(name="came")
    store.delete(gone.id)
    at = visit(app)
    at.session_state[runs_view.JUST_NOW] = [gone.id]
    at.run()
    assert any("1 run is in the trash" in m.value for m in at.markdown)
    monkeypatch.setattr(runs_view, "bring_in", lambda file: (came, ""))
    at.file_uploader[0].upload("x.zip", b"zip", "application/zip").run()
    assert not at.exception, at.exception
    assert not any("in the trash" in m.value for m in at.markdown)
    said = [c.value for c in at.caption if "It is a new run" in c.value]
    assert len(said) == 1
    assert "came" in said[0]
    assert came.id in said[0].replace("\\", "")
    at.switch_page("../pages/train.py").run()
    at.switch_page("../pages/runs.py").run()
    assert not any("Imported" in c.value for c in at.caption)


def test_the_panel_under_the_list_follows_a_run_that_trains(app: Open, crew: RunsNotes) -> None:
    run = make("running")
    crew.held.add(run.id)  # type: ignore[attr-defined]
    at = visit(app, run)
    assert any("Step 20 of" in c.value for c in at.caption)
    run.set_status(Status("running", 33))
    assert any("Step 33 of" in c.value for c in at.run().caption)
