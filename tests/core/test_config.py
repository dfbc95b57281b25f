"""Configuration: every fault at once, each at its field, and nothing strange gets in."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import RunConfig
from core.messages import ConfigError
from core.read import MAX_JSON_BYTES, build, fit, read


def faults(data):
    with pytest.raises(ConfigError) as caught:
        build(data)
    return {p.loc: p.sentence for p in caught.value.problems}


def test_indivisible_width_names_the_nearest_pairs():
    sentence = faults({"model": {"d_model": 30, "n_heads": 4}})["model.n_heads"]
    assert "d_model 30 with 5 heads" in sentence
    assert "d_model 32 with 4 heads" in sentence


def test_all_faults_at_once_each_at_its_field():
    found = faults(
        {
            "model": {"d_model": 33, "n_heads": 3, "n_layers": 0, "dropout": 1.0},
            "task": {"min_len": 9, "max_len": 3},
            "train": {"lr": 0, "batch_size": 0, "steps": True, "seed": "8"},
            "color": 1,
        }
    )
    assert set(found) == {
        "model.positions", "model.n_layers", "model.dropout", "task.max_len",
        "train.lr", "train.batch_size", "train.steps", "train.seed", "color",
    }  # fmt: skip
    assert "even" in found["model.positions"]
    assert all(sentence.endswith(".") for sentence in found.values())


@pytest.mark.parametrize(
    ("data", "loc"),
    [
        ({"model": {"dropout": -0.1}}, "model.dropout"),
        ({"train": {"lr": 1e9}}, "train.lr"),
        ({"model": {"positions": "rotary", "d_model": 12, "n_heads": 4}}, "model.positions"),
        ({"model": {"position_placement": "one_direction"}}, "model.position_placement"),
        ({"model": {"max_len": 8}}, "model.max_len"),
        ({"model": {"n_symbols": 60}}, "model.n_symbols"),
        ({"model": {"n_symbols": 2}, "task": {"min_len": 1, "max_len": 3}}, "task.max_len"),
        ({"task": {"name": "add", "max_len": 20}}, "task.max_len"),
        ({"task": {"name": "pairs"}}, "task.pairs"),
        ({"task": {"pairs": [["a", "b"]]}}, "task.pairs"),
    ],
)
def test_faults_between_fields(data, loc):
    assert set(faults(data)) == {loc}


def test_task_decides_its_symbols():
    assert build(fit({"task": {"name": "add"}})).model.n_symbols == 11
    assert set(faults({"task": {"name": "add"}})) == {"model.n_symbols"}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"train": {"lr": NaN}}', "finite"),
        ('{"train": {"lr": -Infinity}}', "finite"),
        ('{"train": {"lr": 1e400}}', "finite"),
        ('{"model": {}, "model": {}}', "twice"),
        ("[" * 10_000, "nested"),
        ('{"a": ' * 200 + "1" + "}" * 200, "nested"),
        ("x" * (MAX_JSON_BYTES + 1), "larger"),
        ("[1]", "object"),
        ("nonsense", "not JSON"),
        ('{"model": {"d_model": ' + "9" * 5000 + "}}", "not JSON"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_hostile_json_is_refused(text, word):
    with pytest.raises(ConfigError, match=word):
        read(text)


def test_depth_is_not_fooled_by_strings():
    assert read('{"task": {"name": "copy"}, "train": {"seed": 3}}').train.seed == 3
    with pytest.raises(ConfigError, match="no such setting"):
        read('{"a\\"[[[[[[[[[[": 1}')


def test_round_trip():
    run = build(fit({"task": {"name": "pairs", "pairs": [[f"k{i}", "v"] for i in range(10)]}}))
    assert read(run.model_dump_json()) == run
    assert run != RunConfig()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
fields = [f"{part}.{name}" for part, model in RunConfig.model_fields.items() for name in model.annotation.model_fields]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(fields), json_values, max_size=4))
def test_any_values_give_a_run_or_sentences(chosen):
    data = {"model": {}, "task": {}, "train": {}}
    for field, value in chosen.items():
        part, name = field.split(".")
        data[part][name] = value
    try:
        run = read(json.dumps(data))
    except ConfigError as error:
        assert error.problems
        assert all(p.sentence for p in error.problems)
    else:
        assert run.model.d_model % run.model.n_heads == 0


def test_too_few_pairs_are_counted_as_the_rule_counts_them():
    """Fourteen rows of seven sources are seven, not fourteen."""
    rows = [[f"k{i}", side] for i in range(7) for side in ("left", "right")]
    with pytest.raises(ConfigError) as found:
        build(fit({"task": {"name": "pairs", "pairs": rows}}))
    assert "there are 7." in str(found.value)


def test_pairs_are_one_kind_of_text_wherever_they_come_from():
    """A letter and a combining accent are one symbol, as in the vocabulary."""
    pairs = [[f"{letter}e\u0301", f"{letter}\u00e9"] for letter in "abcdefghijkl"]
    config = build(fit({"task": {"name": "pairs", "pairs": pairs}}))
    assert config.task.pairs[0] == ("a\u00e9", "a\u00e9")
    assert config.task.symbols_needed() == 13
