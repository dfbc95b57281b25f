"""FAULTS rows 1 to 14: what people, links and files put in. The same sentence everywhere, and nothing they write is run.

`URLS=100 JSONS=5000 pytest tests/reliability/test_input.py` is the long form.
"""

import json
import os
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from core import read as core_read
from core.config import RunConfig
from core.messages import ConfigError
from core.model import Transformer
from core.read import MAX_JSON_BYTES, build, fit, read
from playground import __main__ as cli
from playground import charts, compare_view, draft, estimate, runs_list
from playground.draft import URL_NAMES
from playground.history import history, line, side_by_side
from playground.runs import store, training
from playground.runs.store import Status
from playground.settings.words import options
from playground.text import plain
from tests.pages.conftest import Notes, app, folders, notes  # noqa: F401
from tests.pages.looking import make_run
from tests.pages.test_train import said, type_exactly, widget
from tests.playground.small import train_here

ROOT = Path(__file__).parents[2]
URLS, JSONS = (int(os.environ.get(name, few)) for name, few in (("URLS", "2"), ("JSONS", "300")))
Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.setenv(name, "en")


# Configuration: the same sentences from form, URL, JSON and command line

FAULTY: dict[str, dict[str, dict[str, Any]]] = {
    "heads do not divide": {"model": {"d_model": 30, "n_heads": 4}},
    "odd width": {"model": {"d_model": 63, "n_heads": 1}},
    "no layers": {"model": {"n_layers": 0}},
    "dropout 1": {"model": {"dropout": 1.0}},
    "dropout below 0": {"model": {"dropout": -0.1}},
    "rate 0": {"train": {"lr": 0.0}},
    "rate 1e9": {"train": {"lr": 1e9}},
    "batch 0": {"train": {"batch_size": 0}},
    "shortest above longest": {"task": {"min_len": 9, "max_len": 3}},
    "all at once": {
        "model": {"d_model": 63, "n_heads": 1, "n_layers": 0, "dropout": 1.0},
        "task": {"min_len": 9, "max_len": 3},
        "train": {"lr": 1e9, "batch_size": 0},
    },
}


def words(data: dict[str, dict[str, Any]]) -> list[str]:
    """The settings as options of the command line."""
    return [
        word
        for part, values in data.items()
        for name, value in values.items()
        for word in (options(f"{part}.{name}")[0], str(value))
    ]


@pytest.mark.parametrize("name", FAULTY)
def test_the_same_sentences_from_form_url_json_and_command_line(
    name: str, app: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    data = FAULTY[name]
    monkeypatch.setattr(Transformer, "__init__", lambda *_a, **_k: pytest.fail("a model was allocated"))
    with pytest.raises(ConfigError) as refused:
        build(data)
    expected = {problem.loc: problem.sentence for problem in refused.value.problems}
    assert len(expected) == (7 - 1 if name == "all at once" else 1)  # min_len and max_len share a sentence
    if name == "heads do not divide":
        (sentence,) = expected.values()
        assert "d_model 30 with 5 heads, or d_model 32 with 4 heads" in sentence
    # JSON, read and as a file of the command line; options of the command line
    with pytest.raises(ConfigError) as refused:
        read(json.dumps(data))
    assert {problem.loc: problem.sentence for problem in refused.value.problems} == expected
    (tmp_path / "config.json").write_text(json.dumps(data))
    by_option = {options(loc)[0]: sentence for loc, sentence in expected.items()}
    for arguments, said_so in ((["--config", str(tmp_path / "config.json")], expected), (words(data), by_option)):
        assert cli.main(["train", *arguments]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert dict(text.split(": ", 1) for text in lines) == said_so
    # What the form writes at each field, and the page where the address asks for it
    form = draft.settings(RunConfig())
    for part, values in data.items():
        form[part] |= values
    assert draft.check(form) == (None, expected)
    at = app(
        **{
            key: draft.url_text(data[part][field])
            for key, (part, field) in URL_NAMES.items()
            if field in data.get(part, {})
        }
    )
    for sentence in expected.values():
        assert sentence in said(at)
    assert not list(store.root().iterdir())


def test_the_form_says_it_at_the_field_while_typing(app: Open) -> None:  # noqa: F811
    at = type_exactly(app(), "model.d_model", 63)
    with pytest.raises(ConfigError) as refused:
        build({"model": {"d_model": 63, "n_heads": 1}})
    assert refused.value.problems[0].sentence in said(at)
    assert widget(at, "train").disabled


# JSON

HOSTILE: dict[str, tuple[bytes, str]] = {
    "unknown key": (b'{"model": {"colour": 1}}', "model.colour: There is no such setting."),
    "duplicate key": (b'{"model": {"d_model": 64, "d_model": 32}}', "model.d_model: This setting appears twice."),
    "NaN": (b'{"train": {"lr": NaN}}', "train.lr: Must be a finite number."),
    "Infinity": (b'{"train": {"clip": -Infinity}}', "train.clip: Must be a finite number."),
    "1e400": (b'{"train": {"lr": 1e400}}', "train.lr: Must be a finite number."),
    "true for an integer": (b'{"train": {"steps": true}}', "train.steps: Must be a whole number, not True."),
    "text for an integer": (b'{"train": {"steps": "8"}}', "train.steps: Must be a whole number, not '8'."),
    "a number for a switch": (b'{"model": {"causal_mask": 1}}', "model.causal_mask: Must be true or false, not 1."),
    "null": (b'{"model": null}', "model: Must be an object with settings, not None."),
    "a pair of one": (b'{"task": {"name": "pairs", "pairs": [["a"]]}}', "task.pairs.0.1: This setting is missing."),
    "deep": (b'{"a":' * 100 + b"1" + b"}" * 100, "The configuration is nested deeper than 6 levels."),
    "very deep": (b"[" * 1_000_000, "The configuration is nested deeper than 6 levels."),
    "5 MB": (b'{"a": "' + b"x" * 5_000_000 + b'"}', f"The configuration is larger than {MAX_JSON_BYTES} bytes."),
    "5 GB": (b"", f"The configuration is larger than {MAX_JSON_BYTES} bytes."),
    "steers the terminal": (b'{"\\u001b[2J\\u0000": 1}', " [2J : There is no such setting."),
    "not UTF-8": (b'{"\xff": 1}', "This is not JSON."),
    "two at once": (
        b'{"train": {"lr": NaN, "lr": 1}, "x": 1e999}',
        "train.lr: Must be a finite number.\ntrain.lr: This setting appears twice.\nx: Must be a finite number.",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_refused_at_its_place(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, sentence = HOSTILE[name]
    path = tmp_path / "config.json"
    path.write_bytes(text)
    if name == "5 GB":
        with path.open("wb") as sparse:
            sparse.truncate(5 * 2**30)
    else:
        with pytest.raises(ConfigError) as refused:
            read(text)
        assert str(refused.value) == sentence
    start = time.perf_counter()
    assert cli.main(["train", "--config", str(path)]) == 2
    assert time.perf_counter() - start < 3.0
    assert capsys.readouterr().err == sentence + "\n"
    assert not list(store.root().iterdir())


def test_a_csv_of_5_gb_is_refused_without_reading_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "pairs.csv").open("wb") as sparse:
        sparse.truncate(5 * 2**30)
    start = time.perf_counter()
    assert cli.main(["train", "--pairs", str(tmp_path / "pairs.csv")]) == 2
    assert time.perf_counter() - start < 3.0
    assert capsys.readouterr().err == "--pairs: The file is larger than 1000000 bytes.\n"


@pytest.mark.parametrize("name", ["5 MB", "very deep", "deep"])
def test_size_and_depth_come_before_parsing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_read.json, "loads", lambda *_a, **_k: pytest.fail("it was parsed"))
    with pytest.raises(ConfigError):
        read(HOSTILE[name][0])


FIELDS = [(part, name) for part, model in RunConfig.model_fields.items() for name in model.annotation.model_fields]  # type: ignore[union-attr]
NUMBERS = st.sampled_from(
    ["NaN", "-Infinity", "1e400", "-0.0", "1e-400", "9" * 400, "0", "1", "3", "8", "0.5", "-1", "1E5"]
)
LEAVES = NUMBERS | st.sampled_from(["true", "null", '"8"', '""', '"copy"', "{}", "[]", '"\\u0000"', '"\\ud800"'])
VALUES = LEAVES | st.text(max_size=5).map(json.dumps) | st.lists(LEAVES, max_size=3).map(lambda x: f"[{','.join(x)}]")


@st.composite
def json_text(pick: st.DrawFn) -> str:
    """JSON as an enemy writes it: keys twice, keys of elsewhere, numbers that are none, sometimes torn."""
    parts = []
    for part in pick(st.lists(st.sampled_from(["model", "task", "train", "model ", "__proto__"]), max_size=4)):
        names = st.sampled_from([name for _part, name in FIELDS]) | st.text(max_size=4)
        inner = [f"{json.dumps(pick(names))}: {pick(VALUES)}" for _ in range(pick(st.integers(0, 4)))]
        parts.append(f"{json.dumps(part)}: {{{', '.join(inner)}}}")
    text = f"{{{', '.join(parts)}}}"
    return text[: pick(st.integers(0, len(text)))] if pick(st.integers(0, 9)) == 0 else text


@settings(max_examples=JSONS, deadline=None)
@given(json_text() | st.text(max_size=40))
def test_any_json_is_a_run_or_sentences(text: str) -> None:
    try:
        run = read(text.encode("utf-8", "surrogatepass"))
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.sentence.endswith((".", "…")), problem
            assert problem.loc.isprintable()
    else:
        assert read(run.model_dump_json()) == run


# Legal, but huge

HUGE = {"model": {"d_model": 2048, "n_heads": 64, "n_layers": 24, "d_ff": 8192}, "task": {"max_len": 128}, "train": {"batch_size": 4096, "device": "cpu"}}  # fmt: skip
HUGE["model"]["max_len"] = 1024
NEEDED = "Training needs about 8.4 TB of memory; this computer has"


def refuse(*_a: object, **_k: object) -> None:
    raise AssertionError("something was allocated")


def test_huge_is_refused_before_allocation_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(Transformer, "__init__", refuse)
    (tmp_path / "huge.json").write_text(json.dumps(HUGE))
    assert cli.main(["train", "--config", str(tmp_path / "huge.json")]) == 2
    assert NEEDED in capsys.readouterr().err
    assert not list(store.root().iterdir())


def test_huge_is_refused_before_allocation_by_whoever_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Trainer", refuse)
    run = store.create(build(HUGE))
    assert train_here(run) == "failed"
    assert NEEDED in run.status().reason


def test_the_papers_model_is_a_warning_and_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = next(i for i, preset in enumerate(draft.PRESETS) if "paper" in preset.name)
    config = build(fit(draft.preset_settings(paper)))
    assert estimate.step_seconds(config) > estimate.LARGE_STEP
    monkeypatch.setattr(estimate, "installed_memory", lambda: 4 * 2**30)  # a small laptop
    estimate.refuse_too_large(config)


def test_a_container_has_the_memory_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = estimate.installed_memory()
    assert whole > 2**28
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: b"1000000\n" if self.name == "memory.max" else real(self))
    assert estimate.installed_memory() == 1_000_000
    monkeypatch.setattr(Path, "read_bytes", lambda self: b"max\n" if self.name == "memory.max" else real(self))
    assert estimate.installed_memory() >= whole
    monkeypatch.delattr(os, "sysconf")
    assert estimate.installed_memory() == estimate.UNTOLD


# Addresses

PAGES = ("train", "runs", "attention", "generate", "lab_masks")
NAMES = [*URL_NAMES, "run", "step", "where", "layer", "head", "show", "text", "write", "target", "out", "hand", "method",
         "temperature", "top_k", "top_p", "beams", "seed", "panel", "lang", "view", "row", "token", "x", ""]  # fmt: skip
BAD = ["-5", "0", "../../etc", "9" * 400, "nan", "1e400", "", " ", "x" * 100_000, "<img onerror=1>", "$x$", ":red[x]", "null",
       "\0", "²", "١", "-0", "1e-3", "true", "abca", "3.4.5", "sample-test", "20260101-000000000-0123456789abcdef", "🙂"]  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_a_tampered_address_never_breaks_a_page(name: str) -> None:
    run = make_run()
    script = str(ROOT / ("playground/main.py" if name in ("train", "runs") else f"pages/{name}.py"))
    values = st.sampled_from(BAD) | st.text(max_size=8) | st.integers().map(str)
    queries = st.dictionaries(st.sampled_from(NAMES), values | st.lists(values, min_size=1, max_size=3), max_size=6)

    @settings(max_examples=URLS, deadline=None, suppress_health_check=list(HealthCheck), derandomize=URLS < 10)
    @given(queries)
    def opens(query: dict[str, str | list[str]]) -> None:
        at = AppTest.from_file(script, default_timeout=60)
        at.query_params["run"] = run.id
        for key, value in query.items():
            at.query_params[key] = value
        at.run()
        if name == "runs":
            for key, value in query.items():
                at.query_params[key] = value
            at.switch_page("../pages/runs.py").run()
        assert not at.exception, (query, at.exception)
        assert at.session_state["run"] in (run.id, "sample-test")
        if name == "train":
            config, _problems = draft.check(at.session_state["draft"].data)
            assert config is not None
            unknown = [key for key in query if key in URL_NAMES and key not in at.query_params]
            defaults = draft.settings(run.config)
            for key in unknown:  # left out: named, or nothing but the value that the run has anyway
                part, field = URL_NAMES[key]
                same = query[key] == draft.url_text(defaults[part][field])
                assert same or key in said(at) or at.session_state["draft"].data[part][field] == defaults[part][field]
        at.run()
        assert not at.exception, (query, at.exception)

    opens()
    assert [path.name for path in store.root().iterdir()] == [run.id]


# Text

TEXTS = {
    "": "Type a string over these symbols",
    "   ": "Type a string over these symbols",
    "ab!c": "“!” at position 3",
    "a" * 10_000: "At most 63 symbols",
    "ab🙂c": "“🙂” at position 3",
    "אבג": "“א” at position 1",
    "ab\u202ec": "RIGHT-TO-LEFT OVERRIDE at position 3",
    "abe\u0301": "“é” at position 3",  # composed: one symbol
    "ab\u0305c": "COMBINING OVERLINE at position 3",
    "a\0b": "U+0000 at position 2",
    "👩‍👩‍👧": "“👩” at position 1",
    "<img onerror=alert(1)>": "“<” at position 1",
    "ab`": "“`” at position 3",
    "a$x$": "“$” at position 2",
    "c:red[x]": "“:” at position 2",
    "a|b": "“|” at position 2",
}


@pytest.mark.parametrize("name", ["attention", "generate", "lab_attention"])
def test_every_odd_text_gets_a_hint_and_no_forward_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    at = AppTest.from_file(str(ROOT / "pages" / f"{name}.py"), default_timeout=60)
    at.query_params["run"], at.query_params["text"] = run.id, "abca"
    at.run()
    assert not at.exception
    assert at.get("bidi_component")
    monkeypatch.setattr(Transformer, "encode", lambda *_a, **_k: pytest.fail("a forward pass"))
    for text, hint in TEXTS.items():
        at.text_input[0].set_value(text).run()
        assert not at.exception, text
        shown = at.warning[0].value
        assert hint in shown.replace("\\", ""), (text, shown)
        for character in "<>`$|[]":  # what it quotes is escaped
            assert character not in shown.replace(f"\\{character}", ""), (text, shown)


def test_text_is_one_rule_composed_then_counted_in_code_points() -> None:
    pairs = [[a + b, b + a] for a in "é🙂א" for b in "ab🙃c"]
    run = make_run(task={"name": "pairs", "pairs": pairs})
    at = AppTest.from_file(str(ROOT / "pages" / "generate.py"), default_timeout=60)
    at.query_params["run"], at.query_params["text"] = run.id, "e\u0301🙂א"
    at.run()
    (part,) = at.get("bidi_component")
    assert json.loads(part.proto.json)["src"] == [unicodedata.normalize("NFC", "e\u0301"), "🙂", "א"]


def test_markup_as_tokens_is_only_ever_data(notes: Notes) -> None:  # noqa: F811
    symbols = "<>$:[]|`*_#\\&"
    pairs = [[a + b, b + a] for a in symbols for b in symbols]
    run = make_run(name="<img src=x onerror=alert(1)> $x$ :red[x] | `y`", task={"name": "pairs", "pairs": pairs})
    for name in ("attention", "generate", "lab_attention"):
        at = AppTest.from_file(str(ROOT / "pages" / f"{name}.py"), default_timeout=60)
        at.query_params["run"], at.query_params["text"] = run.id, "<$|`<"
        at.run()
        assert not at.exception
        data = [json.loads(part.proto.json) for part in at.get("bidi_component")]
        assert any(one.get("src") == list("<$|`<") for one in data) or name.startswith("lab")
        for kind in ("markdown", "caption", "warning", "info", "error"):
            for element in at.get(kind):
                assert "<img" not in element.value
                assert not getattr(element, "allow_html", False)
                assert "<$|`<" not in element.value


def test_no_page_lets_html_in() -> None:
    """Nowhere in the app is Streamlit told to take HTML, and every text of a person goes through `plain`."""
    for folder in ("pages", "playground"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "unsafe_allow_html" not in path.read_text(encoding="utf-8"), path
            assert "unsafe_allow_javascript" not in path.read_text(encoding="utf-8"), path
    for text in ("<b>", "$x$", ":red[x]", "a|b", "`c`", "# d", "\x1b[2J", "&lt;"):
        escaped = plain(text)
        assert all(escaped[i - 1] == "\\" for i, c in enumerate(escaped) if c in "<>$:[]|`#&")


def test_repeated_tokens_stay_apart_in_heat_maps() -> None:
    labels = charts.positions(list("abca"))
    assert len(set(labels)) == 4
    assert [label.split()[-1] for label in labels] == list("abca")
    run = make_run()
    at = AppTest.from_file(str(ROOT / "pages" / "attention.py"), default_timeout=60)
    at.query_params["run"], at.query_params["text"] = run.id, "abca"
    (part,) = at.run().get("bidi_component")
    data = json.loads(part.proto.json)
    assert data["src"] == list("abca")  # a list by position; patterns are matrices by position


NASTY = ["training step", "seconds of training", "x", "line", "a.b[c]", "y:Q", "\\'\"", "__proto__", "datum.x", "step"]


def test_names_of_runs_are_data_in_charts_and_tables() -> None:
    """Fields of charts have fixed names; a run called like a field, or like an expression, is a run called so."""
    frame = history([{"step": 1, "loss": 2.0, "seconds": 0.1}, {"step": 2, "loss": 1.0, "seconds": 0.2}])
    rows = []
    for name in NASTY:
        run = make_run(name=name)
        run.set_status(Status("finished", 2))
        rows.append(runs_list.row(run))
    labels = compare_view.labels(rows)
    assert len(set(labels)) == len(NASTY)
    lines = tuple(charts.Line(label, slot) for slot, label in enumerate(labels))
    spec = charts.curves(lines, x_title="t", y_title="y", log_y=False, share=False, raw=False, legend=True)
    text = json.dumps(spec.to_dict() if hasattr(spec, "to_dict") else spec)
    fields = set(_fields(json.loads(text)))
    assert fields <= {"x", "y", "raw", "line"}, fields
    for title in ("training step", "seconds of training"):
        table = side_by_side([line(frame, "loss", label) for label in labels], title)
        assert next(iter(table.columns)) == title
        assert len(set(table.columns)) == len(NASTY) + 1


def _fields(node: Any) -> Any:
    """Every field name in a chart's specification."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "field" and isinstance(value, str):
                yield value
            yield from _fields(value)
    elif isinstance(node, list):
        for value in node:
            yield from _fields(value)


def test_form_takes_no_symbol_count_beyond_the_alphabet(app: Open) -> None:  # noqa: F811
    at = type_exactly(app(), "model.n_symbols", 60)
    assert "There are 52 letters" in said(at)
    assert widget(at, "train").disabled
