"""The Generate page: its numbers against core, editing, beams, commands, its words for bad input."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from core.checkpoint import load_weights
from core.decode import DecodeOptions, generate, generate_steps
from core.model import Transformer
from core.tasks import Vocab
from core.tokens import EOS
from playground import generate_view as view
from playground.generate_view import Draft
from playground.runs import store
from playground.runs.store import Run
from playground.views.generate import hesitate
from tests.pages.looking import make_run

PAGE = str(Path(__file__).parents[2] / "pages" / "generate.py")
SRC = (3, 4, 5, 3, 6)


@pytest.fixture
def run() -> Run:
    return make_run()


@pytest.fixture
def model(run: Run) -> Transformer:
    return load_weights(run.weights_path(10), run.config.model)


def written(model: Transformer, options: DecodeOptions) -> list[int]:
    tokens = generate(model, torch.tensor([SRC]), options)[0].tolist()
    return tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens


@pytest.mark.parametrize(
    "options", [DecodeOptions(), *(DecodeOptions("sample", 1.5, 6, 0.9, seed=s) for s in range(8))]
)
def test_token_by_token_is_what_generate_writes(model: Transformer, options: DecodeOptions) -> None:
    cap, tokens = view.most(model, SRC), ()
    for n in range(1, cap + 1):  # from scratch each time, as after each click
        tokens, places = view.write(model, SRC, tokens, options, n)
        if tokens[-1] == EOS:
            break
        assert len(places) == n + 1
    assert list(tokens) == written(model, options)


def test_places_are_the_steps_of_core(model: Transformer) -> None:
    steps = list(generate_steps(model, torch.tensor([SRC])))
    _tokens, places = view.write(model, SRC, (), DecodeOptions(), len(steps))
    for step, place in zip(steps, places, strict=False):
        torch.testing.assert_close(place.logits, step.logits)
        trace = step.trace()
        for layer in (0, 1):  # the row of the query that wrote this token
            torch.testing.assert_close(place.cross[layer], trace[f"decoder.{layer}.cross.pattern"][0, :, -1])


def test_another_temperature_takes_the_same_logits(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = ("test_another_temperature", 1)
    first = view.scene(model, weights, SRC, Draft((4, 5)), 2, DecodeOptions("sample", 1.0))
    monkeypatch.setattr(Transformer, "decode", lambda *_a, **_k: pytest.fail("a forward pass"))
    for temperature in (0.3, 1.0, 2.5):
        options = DecodeOptions("sample", temperature, seed=3)
        now = view.scene(model, weights, SRC, Draft((4, 5)), 2, options)
        data = view.place_data(now.places[2], options, now.likely)
        expected = (first.places[2].logits / temperature).softmax(-1)
        torch.testing.assert_close(torch.tensor(data["p"]), expected, atol=1e-6, rtol=0)
        assert now.likely == view.draw(first.places[2].logits, options, 2)


def test_sharp_temperature_draws_the_likeliest(model: Transformer) -> None:
    (place,) = view.write(model, SRC, (), None, 0)[1]
    draws = {view.draw(place.logits, DecodeOptions("sample", 0.01, seed=s), 0) for s in range(20)}
    assert draws == {int(place.logits.argmax())}
    assert len({view.draw(place.logits, DecodeOptions("sample", 3.0, seed=s), 0) for s in range(20)}) > 1


def test_limits_cut_tokens_off(model: Transformer) -> None:
    (place,) = view.write(model, SRC, (), None, 0)[1]
    assert sum(p > 0 for p in view.place_data(place, DecodeOptions("sample", top_k=3), 0)["p"]) == 3
    assert sum(view.place_data(place, DecodeOptions("sample", top_p=0.5), 0)["p"]) == pytest.approx(1, abs=1e-4)


def test_an_edited_token_stays_and_the_rest_is_written_anew(model: Transformer) -> None:
    draft = Draft(tuple(written(model, DecodeOptions())))
    draft, n = view.act(draft, json.dumps({"put": [1, 7]}), 13, 12)
    assert (draft.tokens[:2], draft.hand, n) == ((*draft.tokens[:1], 7), {1}, 2)
    now = view.scene(model, ("edit", 1), SRC, draft, 12, DecodeOptions())
    assert now.draft.tokens[1] == 7
    expected = [s.token for s in generate_steps(model, torch.tensor([SRC]), DecodeOptions(), draft.tokens)]
    assert list(now.draft.tokens[2:]) == expected


def test_beams_follow_core_and_go_on_from_the_edited_token(model: Transformer) -> None:
    options = DecodeOptions("beam", beams=3)
    steps = list(generate_steps(model, torch.tensor([SRC]), options, (7,)))
    for n in range(1, len(steps) + 2):
        now = view.scene(model, ("beam", 1), SRC, Draft((7,), frozenset({0})), n, options)
        assert now.steps == tuple(step.beams for step in steps[: n - 1])
        assert now.draft.tokens == (steps[n - 2].beams[0].tokens if n > 1 else (7,))
    tree = view.tree(now.steps or (), Vocab("abcdefghij"), 1)
    for level, nodes in enumerate(tree):
        assert sum(node["best"] for node in nodes) == 1
        assert all(node["alive"] for node in nodes if node["best"])
        for node in nodes if level else ():
            assert not node["alive"] or tree[level - 1][node["parent"]]["alive"]
            assert node["score"] <= tree[level - 1][node["parent"]]["score"]


def test_commands_say_where_to_arrive() -> None:
    draft = Draft((3, 4, 5), frozenset({2}))
    for command in ('{"to": 4}', '{"to": 4}'):
        draft, n = view.act(draft, command, 13, 12)
        assert (draft.tokens, n) == ((3, 4, 5), 4)
    draft, n = view.act(draft, '{"to": 2}', 13, 12)
    assert (draft, n) == (Draft((3, 4)), 2)
    for bad in (
        "",
        "null",
        "[]",
        '{"to": "x"}',
        '{"put": [9, 3]}',
        '{"put": [0, 99]}',
        '{"put": 3}',
        '{"put": [0, -1]}',
    ):
        assert view.act(draft, bad, 13, 12) == (draft, 2)


@pytest.mark.parametrize(
    ("out", "hand"), [("x", ""), ("3.99", ""), ("2.3", ""), ("3." * 40 + "3", ""), ("3", "a"), ("-1", "")]
)
def test_an_impossible_draft_in_the_url_is_ignored(out: str, hand: str) -> None:
    assert view.read_draft(out, hand, 13, 12) == Draft()


def test_right_and_wrong_token_by_token() -> None:
    assert view.verdict([4, 3, 9, EOS], [4, 3, EOS]) == ["right", "right", "wrong", "wrong"]
    assert view.verdict([4], None) == [""]


def data_of(at: AppTest) -> dict[str, Any]:
    (part,) = (p for p in at.get("bidi_component") if p.proto.component_name == "generate")
    return json.loads(part.proto.json)


def open_page(**query: str) -> AppTest:
    at = AppTest.from_file(PAGE, default_timeout=30)
    for name, value in query.items():
        at.query_params[name] = value
    return at.run()


def test_the_url_brings_back_the_output(run: Run) -> None:
    at = open_page(
        run=run.id, step="5", text="abca", out="6.5.4", hand="1", method="sample", temperature="0.5", seed="7"
    )
    assert not at.exception
    data = data_of(at)
    assert (data["tokens"], data["hand"]) == ([6, 5, 4], [1])
    assert data["src"] == ["a", "b", "c", "a"]
    assert [data["vocab"][i] for i in data["answer"]] == ["a", "c", "b", "a", "⟨/s⟩"]
    assert len(data["places"]) == 4
    assert at.query_params["temperature"] == "0.5"
    assert at.query_params["step"] == "5"


def test_a_generation_without_an_end_is_flagged(run: Run) -> None:
    cap = max(2 * 4 + 2, run.config.task.longest_target)
    data = data_of(open_page(run=run.id, text="abca", out=".".join(["4"] * cap)))
    assert (data["over"], data["capped"], data["cap"]) == (True, True, cap)
    assert len(data["places"]) == cap + 1


@pytest.mark.parametrize("method", ["greedy", "sample", "beam"])
def test_every_method_opens(run: Run, method: str) -> None:
    at = open_page(run=run.id, text="abca", method=method)
    assert not at.exception
    assert (data_of(at)["beams"] is not None) == (method == "beam")


@pytest.mark.parametrize(("text", "said"), [("", "Type"), ("  ", "Type"), ("ab!c", "position 3"), ("a" * 5000, "63")])
def test_bad_input_gets_a_hint_and_no_forward_pass(
    run: Run, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = open_page(run=run.id, text="abc")
    monkeypatch.setattr(Transformer, "encode", lambda *_a, **_k: pytest.fail("a forward pass"))
    at.text_input[0].set_value(text).run()
    assert not at.exception
    assert said in at.warning[0].value
    assert data_of(at)["src"] == list("abc")  # the picture of the last text that could be read stands
    assert "last text that could be read: abc" in " ".join(caption.value for caption in at.caption)
    assert not open_page(run=run.id, text="ab!c").get("bidi_component")  # where there was none, none is shown


def buttons(at: AppTest) -> dict[str, Any]:
    return {b.label: b for b in at.button if b.label.startswith("See it hesitate")}


@pytest.fixture
def trained() -> Run:
    """The shipped sample as a run of one's own: the other tests stand an untrained one in its place."""
    folder = store.root() / store.new_id()
    shutil.copytree(Path(__file__).parents[2] / "playground" / "samples" / "sample-quick", folder)
    return Run(folder)


@pytest.mark.parametrize("method", ["sample", "beam"])
def test_a_sure_model_proposes_the_step_at_which_it_hesitates(trained: Run, method: str) -> None:
    at = open_page(run=trained.id, text="abc", method=method)
    assert not at.exception
    ((label, button),) = buttons(at).items()
    step = int(label.rpartition(" ")[2])
    likeliest = {}
    for saved in (step, 400):
        model = load_weights(trained.weights_path(saved), trained.config.model, trained.config.task.longest_target)
        steps = generate_steps(model, torch.tensor([[3, 4, 5]]))
        likeliest[saved] = [s.logits.softmax(-1).max().item() for s in steps]
    assert min(likeliest[400]) >= 0.99
    assert min(likeliest[step]) <= 0.7
    button.click().run()
    assert not at.exception
    assert at.query_params["step"] == str(step)
    assert not buttons(at)  # here it hesitates


@pytest.mark.parametrize(
    "query", [{"method": "greedy"}, {"method": "sample", "temperature": "3"}, {"method": "sample", "step": "0"}]
)
def test_nothing_is_proposed_where_it_is_not_dull(trained: Run, query: dict[str, str]) -> None:
    at = open_page(run=trained.id, text="abc", **query)
    assert not at.exception
    assert not buttons(at)


def test_where_no_step_hesitates_nothing_is_said(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hesitate, "least", lambda *_args: 0.999)
    assert not buttons(open_page(run=trained.id, text="abc", method="sample"))
