"""Charts: what is smoothed, what is kept, and that nothing a person typed ends up in a field name."""

import json

import numpy as np
import pandas as pd
import pytest

from playground import charts


def test_smoothing_is_the_bias_corrected_moving_average() -> None:
    values, weight = [3.0, 1.0, 4.0, 1.0, 5.0], 0.9
    expected, total = [], 0.0
    for t, x in enumerate(values, 1):
        total = weight * total + (1 - weight) * x
        expected.append(total / (1 - weight**t))
    assert charts.smooth(pd.Series(values), weight).tolist() == pytest.approx(expected)


def test_smoothing_of_nothing_and_by_nothing() -> None:
    values = pd.Series([2.0, 7.0, 1.0])
    assert charts.smooth(values, 0.0).tolist() == values.tolist()
    assert charts.smooth(pd.Series([4.0] * 50), 0.999).tolist() == pytest.approx([4.0] * 50)
    assert charts.smooth(pd.Series([], dtype=float), 0.5).empty


def test_thinning_keeps_spikes_ends_and_order() -> None:
    raw = np.zeros(10_000)
    raw[4321], raw[77] = 9.0, -9.0
    frame = pd.DataFrame({"x": np.arange(10_000), "raw": raw})
    thinned = charts.thin(frame)
    assert len(thinned) <= charts.MOST_POINTS + 2
    assert {0, 77, 4321, 9_999} <= set(thinned.x)
    assert thinned.x.is_monotonic_increasing
    assert len(charts.thin(frame.head(10))) == 10


def test_a_spec_is_built_once_and_each_caller_gets_his_own() -> None:
    lines = (charts.Line("a", 0), charts.Line("b", 1))
    one = charts.curves(lines, x_title="step", y_title="loss", raw=True, log_y=True)
    one["layer"].clear()
    two = charts.curves(lines, x_title="step", y_title="loss", raw=True, log_y=True)
    assert len(two["layer"]) == 3
    assert two["layer"][1]["encoding"]["y"]["scale"]["type"] == "log"
    assert "data" not in json.dumps(list(two)), "the rows come with the call that draws"


def test_colour_is_never_alone() -> None:
    encoding = charts.curves(tuple(charts.Line(str(i), i) for i in range(8)), x_title="x", y_title="y")["layer"][0][
        "encoding"
    ]
    assert len(set(encoding["color"]["scale"]["range"])) == 8
    assert len({tuple(dash) for dash in encoding["strokeDash"]["scale"]["range"]}) == 8


def test_typed_text_never_becomes_a_field() -> None:
    nasty = "a.b['c']\\:red[x]<img onerror=1>"
    spec = charts.curves((charts.Line(nasty, 0),), x_title="x", y_title="y", raw=True)

    def fields(part: object) -> set[str]:
        if isinstance(part, dict):
            own = {part["field"]} if isinstance(part.get("field"), str) else set()
            return own.union(*(fields(value) for value in part.values()))
        return set().union(*(fields(item) for item in part)) if isinstance(part, list) else set()

    assert fields(spec) == {"x", "y", "raw", "line"}


def test_heat_maps_are_keyed_by_position_and_have_one_scale() -> None:
    assert charts.positions(["a", "b", "a"]) == ["1 a", "2 b", "3 a"]
    pattern = charts.heatmap(x_title="key", y_title="query", value_title="weight")
    assert pattern["encoding"]["color"]["scale"]["domain"] == [0.0, 1.0]
    scores = charts.heatmap(x_title="key", y_title="query", value_title="score", largest=3.0, diverging=True)
    assert scores["encoding"]["color"]["scale"]["domain"] == [-3.0, 3.0]
    assert charts.bars(x_title="probability", y_title="token", share=True)["layer"][0]["encoding"]["x"]["scale"] == {
        "domain": [0, 1]
    }


def test_long_names_of_runs_are_whole_in_the_legend() -> None:
    def key(*names: str) -> dict[str, float]:
        spec = charts.curves(tuple(charts.Line(name, i) for i, name in enumerate(names)), x_title="x", y_title="y")
        found: dict[str, float] = spec["layer"][0]["encoding"]["color"]["legend"]
        return found

    long = "reverse · 11-26 01:33:40 · rate → 0.00024"
    assert key("a", "b")["columns"] == 2
    assert key("a", long)["columns"] == 1
    assert key("a", long)["labelLimit"] >= 6 * len(long)
