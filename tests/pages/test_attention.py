"""The Attention page: its numbers against core, its URL, its words for bad input."""

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from core.checkpoint import load_weights
from core.decode import generate
from core.tasks import Vocab
from core.tokens import BOS, EOS
from core.trace import Trace
from playground import attention_view as view
from playground.runs.store import Run
from tests.pages.looking import STEPS, make_run

PAGE = str(Path(__file__).parents[2] / "pages" / "attention.py")
ABCA = [3, 4, 5, 3]


@pytest.fixture
def run() -> Run:
    return make_run()


def test_patterns_of_every_saved_step_are_those_of_core(run: Run) -> None:
    frames = list(view.patterns_over_time(run, STEPS, ABCA, [4, 5, 6]))
    assert [frame.step for frame in frames] == list(STEPS)
    for frame in frames:
        trace = Trace()
        with torch.no_grad():
            model = load_weights(run.weights_path(frame.step), run.config.model)
            model(torch.tensor([ABCA]), torch.tensor([[BOS, 4, 5, 6]]), trace)
        for layer in (0, 1):
            for kind, name in (
                ("encoder", "encoder.{}.self"),
                ("decoder", "decoder.{}.self"),
                ("cross", "decoder.{}.cross"),
            ):
                for what in ("pattern", "scores"):
                    expected = trace[f"{name.format(layer)}.{what}"][0]
                    assert torch.equal(getattr(frame, what)[kind][layer], expected)
        assert (frame.reads, frame.writes, frame.capped) == ((BOS, 4, 5, 6), (4, 5, 6, EOS), False)


def test_rows_sum_to_one_and_the_decoder_never_looks_ahead(run: Run) -> None:
    (frame,) = view.patterns_over_time(run, [10], ABCA)
    for pattern in frame.pattern.values():
        torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:-1]))
    ahead = torch.ones(len(frame.reads), len(frame.reads), dtype=torch.bool).triu(1)
    assert (frame.pattern["decoder"][..., ahead] == 0).all()
    assert torch.equal(frame.mask["decoder"], ~ahead)
    assert frame.mask["cross"].all()
    assert frame.mask["encoder"].all()


def test_without_a_target_the_model_reads_what_it_generated(run: Run) -> None:
    (frame,) = view.patterns_over_time(run, [5], ABCA)
    model = load_weights(run.weights_path(5), run.config.model, run.config.task.longest_target)
    written = generate(model, torch.tensor([ABCA]))[0].tolist()
    assert list(frame.writes) == written
    assert frame.reads == (BOS, *written[:-1])
    assert frame.capped == (written[-1] != EOS)


def test_packed_numbers_are_exact_to_three_decimals(run: Run) -> None:
    (frame,) = view.patterns_over_time(run, [10], ABCA, [4, 5])
    packed = view.pack(frame, Vocab("abcdefghij"))
    pattern = np.frombuffer(base64.b64decode(packed["pattern"]), "<u2")
    scores = np.frombuffer(base64.b64decode(packed["scores"]), "<f4")
    flat = torch.cat([frame.pattern[kind].flatten() for kind in view.KINDS]).numpy()
    assert np.array_equal(scores, torch.cat([frame.scores[kind].flatten() for kind in view.KINDS]).numpy())
    seen = pattern != view.BLOCKED
    assert np.abs(pattern[seen] / view.UNIT - flat[seen]).max() <= 0.51 / view.UNIT
    assert (~seen).sum() == 2 * 2 * 3  # 2 layers, 2 heads, 3 cells above the diagonal of 3 by 3
    assert packed["writes"] == ["b", "c", "⟨/s⟩"]


def test_head_table_knows_perfect_heads(run: Run) -> None:
    (frame,) = view.patterns_over_time(run, [10], ABCA, [3, 5, 4, 3])
    reverse = torch.zeros(5, 4)
    for t in range(4):
        reverse[t, 3 - t] = 1
    reverse[4] = 0.25  # the query that predicts the end has no right key
    even = torch.full((5, 4), 0.25)
    frame.pattern["cross"][0, 0], frame.pattern["cross"][0, 1] = reverse, even  # type: ignore[index]
    rows = {(row.kind, row.layer, row.head): row for row in view.head_table(frame)}
    assert len(rows) == 3 * 2 * 2
    perfect, blurred = rows["cross", 0, 0], rows["cross", 0, 1]
    assert perfect.reverse == 0
    assert perfect.copy == 1
    assert perfect.entropy == pytest.approx(2 / 5)  # four rows of 0 bits and one of 2
    assert blurred.entropy == pytest.approx(2)
    assert blurred.copy == blurred.reverse == pytest.approx(0.75)
    assert rows["encoder", 0, 0].copy is None
    assert rows["decoder", 1, 1].entropy <= math.log2(5)


def test_frames_come_in_slices_coarse_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert view.order_of([0, 1, 2, 5, 10, 20, 40], 5)[:3] == [5, 40, 0]
    assert sorted(view.order_of([0, 1, 2, 5, 10, 20, 40], 5)) == [0, 1, 2, 5, 10, 20, 40]
    monkeypatch.setattr(view, "SLICE_S", 0.0)
    vocab, steps = Vocab("abcdefghij"), list(STEPS)
    shown, complete = view.frames(run, vocab, steps, 5, ABCA, None)
    assert ([frame["step"] for frame in shown], complete) == ([5], False)
    for count in (2, 3):
        view.prepare(run, vocab, steps, 5, ABCA, None)
        shown, complete = view.frames(run, vocab, steps, 5, ABCA, None)
        assert (len(shown), complete) == (count, count == 3)


def test_too_many_frames_are_thinned_but_the_wanted_one_is_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "FRAME_BYTES", 1)
    monkeypatch.setattr(view, "SLICE_S", 60.0)
    vocab = Vocab("abcdefghij")
    view.prepare(run, vocab, list(STEPS), 5, ABCA, None)
    shown, complete = view.frames(run, vocab, list(STEPS), 5, ABCA, None)
    assert ([frame["step"] for frame in shown], complete) == ([5], True)


def test_damaged_weights_are_left_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "SLICE_S", 60.0)
    run.weights_path(5).write_bytes(b"\x80\x04 not weights")
    vocab = Vocab("abcdefghij")
    view.prepare(run, vocab, list(STEPS), 10, ABCA, None)
    shown, complete = view.frames(run, vocab, list(STEPS), 10, ABCA, None)
    assert ([frame["step"] for frame in shown], complete) == ([0, 10], True)


def test_kept_frames_stay_under_their_limit() -> None:
    kept = view.Kept(limit=10_000)
    for i in range(20):
        kept.put(i, {"pattern": "x" * 500, "scores": "y" * 500})
    assert kept.weight <= 10_000
    assert kept.get(19)
    assert kept.get(0) is None


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"step": "-1"},
        {"step": "9" * 40, "layer": "0", "head": "x"},
        {"where": "../..", "show": "<b>"},
        {"layer": "²"},
    ],
)
def test_a_view_from_the_url_is_always_possible(query: dict[str, str]) -> None:
    found = view.read_view(query, [0, 5, 10], 2, 2)
    assert found["step"] in (0, 5, 10)
    assert found["where"] in view.KINDS
    assert found["layer"] in (0, 1)
    assert found["head"] in (0, 1)


def test_a_view_survives_the_url() -> None:
    found = {"step": 5, "where": "decoder", "layer": 1, "head": 0, "show": "scores"}
    assert view.read_view(view.view_query(found), [0, 5, 10], 2, 2) == found
    assert view.clean_view(json.dumps(found), [0, 5, 10], 2, 2) == found
    for bad in ("", "[]", "{}", "nonsense", None, '{"step": {}}'):
        assert view.clean_view(bad, [0], 2, 2) is None


def data_of(at: AppTest) -> dict[str, Any]:
    (part,) = (p for p in at.get("bidi_component") if p.proto.component_name == "attention")
    return json.loads(part.proto.json)


def open_page(**query: str) -> AppTest:
    at = AppTest.from_file(PAGE, default_timeout=30)
    for name, value in query.items():
        at.query_params[name] = value
    return at.run()


def test_the_page_shows_what_the_url_asks(run: Run) -> None:
    at = open_page(run=run.id, step="5", where="decoder", layer="2", head="2", show="scores", text="abca")
    assert not at.exception
    data = data_of(at)
    assert data["src"] == ["a", "b", "c", "a"]
    assert data["view"] == {"step": 5, "where": "decoder", "layer": 1, "head": 1, "show": "scores"}
    assert data["steps"] == list(STEPS)
    assert 5 in [frame["step"] for frame in data["frames"]]
    assert at.query_params["text"] == "abca"


def test_the_target_can_be_the_answer_or_typed(run: Run) -> None:
    at = open_page(run=run.id, text="abc", write="answer")
    assert data_of(at)["target"] == "answer"
    assert data_of(at)["frames"][0]["writes"] == ["c", "b", "a", "⟨/s⟩"]
    at = open_page(run=run.id, text="abc", write="typed", target="aab")
    assert data_of(at)["frames"][0]["writes"] == ["a", "a", "b", "⟨/s⟩"]
    at = open_page(run=run.id, text="abc", write="typed", target="a?")
    assert "2" in at.warning[0].value
    assert not at.get("bidi_component")


@pytest.mark.parametrize(("text", "said"), [("", "Type"), ("   ", "Type"), ("ab!c", "position 3"), ("a" * 5000, "63")])
def test_bad_input_gets_a_hint_and_no_forward_pass(
    run: Run, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> None:
        raise AssertionError("a forward pass was made")

    at = open_page(run=run.id, text="abc")
    monkeypatch.setattr(view, "look", refuse)
    at.text_input[0].set_value(text).run()
    assert not at.exception
    assert said in at.warning[0].value
    assert data_of(at)["src"] == list("abc")  # the picture of the last text that could be read stands
    assert "last text that could be read: abc" in " ".join(caption.value for caption in at.caption)
    assert not open_page(run=run.id, text="ab!c").get("bidi_component")  # where there was none, none is shown


def test_a_run_without_weights_says_what_to_do(run: Run) -> None:
    for step in STEPS:
        run.weights_path(step).unlink()
    at = open_page(run=run.id)
    assert not at.exception
    assert "Train this run" in at.info[0].value


def test_hostile_tokens_are_only_data() -> None:
    pairs = [[a + b, b + a] for a in "<$=:|`" for b in "-@+"]
    run = make_run(name="<img src=x>", task={"name": "pairs", "pairs": pairs})
    at = open_page(run=run.id, text="<-")
    assert not at.exception
    assert data_of(at)["src"] == ["<", "-"]
    assert not [m for m in at.markdown if "<img" in m.value]


def test_the_run_box_lists_the_newest_and_says_where_the_older_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.pick.MOST_LISTED", 2)
    made = [make_run() for _ in range(3)]
    at = AppTest.from_file(PAGE, default_timeout=30)
    at.query_params["run"] = made[0].id  # the oldest: it is the one in view, so it is there all the same
    at.run()
    box = next(box for box in at.selectbox if box.label == "Run")
    assert box.value == made[0].id
    assert len(box.options) == 4  # it, two of the newest, the sample
    assert "older ones" in box.help


@pytest.mark.parametrize("task", ["reverse", "copy", "sort"])
def test_the_distance_to_an_ideal_is_shown_where_the_task_has_one(task: str) -> None:
    at = open_page(run=make_run(task={"name": task}).id, text="abca")
    assert data_of(at)["ideal"] == (task != "sort")


def test_a_trailing_blank_is_no_part_of_the_text(run: Run) -> None:
    at = open_page(run=run.id, text="abc ", write="answer")
    data = data_of(at)
    assert data["src"] == ["a", "b", "c"]
    assert (data["target"], data["frames"][0]["writes"]) == ("answer", ["c", "b", "a", "⟨/s⟩"])
