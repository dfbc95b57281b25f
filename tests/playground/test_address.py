"""What counts as coming from outside: an URL that is only late does not; and the start value of a widget."""

import ast
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]


def page() -> None:
    import streamlit as st

    from playground import address

    address.arrive(st.session_state.get("page", "one"))
    for values in st.session_state.pop("puts", []):
        address.put(values)


def opened(**query: str) -> AppTest:
    at = AppTest.from_function(page)
    at.query_params.update(query)
    return at.run()


def after(at: AppTest, query: dict[str, Any], *puts: dict[str, Any]) -> dict[str, str]:
    """The address after a message that came with this one, during which the page writes `puts`."""
    at.query_params.clear()
    at.query_params.update(query)
    at.session_state["puts"] = list(puts)
    at.run()
    assert not at.exception, at.exception
    return {name: v if isinstance(v := at.query_params[name], str) else v[-1] for name in at.query_params}


def test_a_late_address_undoes_nothing() -> None:
    at = opened(run="a")
    assert after(at, {"run": "a"}, {"depth": "maths"}, {"cell": "1,2"}) == {"run": "a", "depth": "maths", "cell": "1,2"}
    whole = {"run": "a", "depth": "code", "cell": "1,2"}
    assert after(at, {"run": "a"}, {"depth": "code"}) == whole  # a click made before the browser knew
    assert after(at, {"run": "a", "depth": "maths"}) == whole  # or knew but half of it
    assert after(at, {"run": "a", "depth": "maths", "cell": "1,2"}) == whole
    assert after(at, whole) == whole


def test_what_the_page_took_out_stays_out() -> None:
    at = opened(run="a", cell="1,2")
    assert after(at, {"run": "a", "cell": "1,2"}, {"cell": None}) == {"run": "a"}
    assert after(at, {"run": "a", "cell": "1,2"}) == {"run": "a"}


def test_back_and_a_link_are_from_outside() -> None:
    at = opened(run="a")
    after(at, {"run": "a"}, {"depth": "maths"})
    assert after(at, {"run": "a", "back": "1"}) == {"run": "a"}  # Back, though the browser never said that it knew
    after(at, {"run": "a"}, {"depth": "maths"})
    after(at, {"run": "a", "depth": "maths"})
    assert after(at, {"run": "a", "depth": "code"}) == {"run": "a", "depth": "code"}  # never written here
    assert after(at, {"run": "b"}) == {"run": "b"}


def test_another_page_begins_anew() -> None:
    at = opened(run="a")
    after(at, {"run": "a"}, {"depth": "maths"})
    at.session_state["page"] = "two"
    assert after(at, {}) == {}


def test_only_the_address_module_writes_the_address() -> None:
    """What is written past it looks like something from outside with the next click, and undoes that."""
    found = []
    for path in [*ROOT.glob("pages/*.py"), *ROOT.glob("playground/**/*.py")]:
        if path.name == "address.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
                node = node.value
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr not in ("pop", "update", "clear", "from_dict", "setdefault", "popitem"):
                    continue
                node = node.func.value
            else:
                continue
            if ast.unparse(node) == "st.query_params":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found


# What may be bound to a callback when it is drawn: names of things, and values that the person saw on the button itself.
BOUND = {
    "(run_id, *args)": "toolbar: a run, a step to go to",
    "(run.id,)": "a run",
    "(run,)": "runs page: the run; what changes is what the button says",
    "(ids,)": "runs page: what the question named",
    "(run.id, rule.name, i, action.step)": "coach: a run, what was said of it, which button, and the step on it",
    "([],)": "nothing",
    "(draft.base,)": "toolbar: what Undo goes back to",
    "(experiment.id, key, nonce)": "lab: which experiment, and which click",
    "([run.id for run in alive],)": "lab: runs",
    "(own,)": "lab 7: the sizes of the run in view",
    "(other,)": "the language that the button names",
    "(playing, False)": "a player",
    "(slot, found)": "hesitate: the slider over saved steps, and the step that the button is for",
    "(playing, slot, steps)": "a player, and the steps that it plays",
}


def test_nothing_that_a_person_may_have_changed_is_bound_to_a_callback() -> None:
    """A callback runs before the script, with the widgets' new values: what the last run of the script had found is old."""
    found = set()
    for path in [*ROOT.glob("pages/*.py"), *ROOT.glob("playground/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and any(k.arg in ("on_click", "on_change") for k in node.keywords):
                found |= {ast.unparse(k.value) for k in node.keywords if k.arg == "args"}
                calls = [k.value for k in node.keywords if k.arg in ("on_click", "on_change")]
                assert not any(isinstance(c, ast.Call) for c in calls), (
                    path,
                    node.lineno,
                )  # a partial, a closure made here
    assert found <= BOUND.keys(), found - BOUND.keys()


def test_no_widget_takes_its_start_from_the_session() -> None:
    """`st.session_state[key] = …` for a widget's key is sent once, and may be lost: see playground/fields.py. The widgets of
    the pages with values in the address are made with `start`.
    """
    at = AppTest.from_function(boxes)
    at.run()
    assert [box.value for box in at.text_input] == ["a"]
    at.text_input[0].set_value("b").run()
    assert at.text_input[0].key == "box"
    assert at.session_state["box.kept"] == "b"
    at.session_state["box.kept"] = "from outside"
    at.run()
    assert (at.text_input[0].value, at.text_input[0].proto.default) == ("from outside", "from outside")
    assert not at.text_input[0].proto.set_value
    at.text_input[0].set_value("").run()  # emptied by the person
    assert at.session_state["box.kept"] == ""


def boxes() -> None:
    import streamlit as st

    from playground import fields

    found = fields.field("box", fields.kept("box", "a"))
    fields.keep(found, st.text_input("Box", found.start, key=found.key))


PAGES = [
    "attention",
    "generate",
    "lab_attention",
    "lab_heads",
    "lab_masks",
    "lab_positions",
    "lab_scaling",
    "lab_stack",
]
WIDGETS = (
    "button_group",
    "slider",
    "select_slider",
    "selectbox",
    "text_input",
    "radio",
    "number_input",
    "toggle",
    "checkbox",
)


@pytest.mark.parametrize("name", PAGES)
def test_every_widget_starts_with_what_it_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.pages.looking import make_run

    monkeypatch.setenv("PLAYGROUND_RUNS", str(tmp_path))
    run = make_run()
    query = {"run": run.id, "text": "abcad", "step": "5", "depth": "maths", "write": "typed", "target": "dacb"}
    query |= {"method": "sample", "temperature": "0.5", "top_k": "3", "top_p": "0.9", "seed": "7"}
    at = AppTest.from_file(str(ROOT / "pages" / f"{name}.py"), default_timeout=30)
    at.query_params.update(query)
    at.run()
    assert not at.exception, at.exception
    seen = [element for kind in WIDGETS for element in at.get(kind)]
    assert seen
    for element in seen:
        assert not getattr(element.proto, "set_value", False), element
