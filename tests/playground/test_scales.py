"""The stops of the sliders: every one can be trained with, none looks like another."""

import pytest

from core.config import MOST_DIGITS, RunConfig
from playground.draft import settings
from playground.settings import scales, words

DEFAULT = {f"{part}.{key}": value for part, fields in settings(RunConfig()).items() for key, value in fields.items()}


@pytest.mark.parametrize("name", words.SLIDERS)
def test_stops_are_in_order_within_the_bounds_and_of_the_kind_of_the_field(name: str) -> None:
    stops = scales.stops(name, ())
    assert stops == sorted(set(stops))
    assert DEFAULT[name] in stops  # the run that everybody starts with
    assert {type(stop) for stop in stops} == {type(DEFAULT[name])}
    part, key = name.split(".")
    model = type(getattr(RunConfig(), part))
    for stop in stops:
        other = (
            {"min_len": {"max_len": 128}, "max_len": {"min_len": 1}}.get(key, {})
            if part == "task"
            else {"d_model": 64}
            if key == "n_heads"
            else {}
        )
        assert getattr(model(**{key: stop} | other), key) == stop


@pytest.mark.parametrize("name", words.SLIDERS)
def test_stops_can_be_told_apart(name: str) -> None:
    stops = scales.stops(name, ())
    assert len({scales.text(stop) for stop in stops}) == len(stops)


def test_values_in_use_have_their_place() -> None:
    assert 77 in scales.stops("model.d_ff", (77, 256))
    assert scales.stops("model.d_ff", (256,)) == scales.stops("model.d_ff", ())


def test_numbers_to_add_are_no_longer_than_can_be_added() -> None:
    assert max(scales.stops("task.max_len", (), "add")) == MOST_DIGITS
    assert max(scales.stops("task.max_len", (), "reverse")) > MOST_DIGITS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8e-5, "0.00008"),
        (0.00024, "0.00024"),
        (20_000, "20,000"),
        (0.0, "0"),
        (1.0, "1"),
        (0.0012345678, "0.0012345678"),
    ],
)
def test_one_style_of_numbers(value: float, text: str) -> None:
    assert scales.text(value) == text


@pytest.mark.parametrize("d_model", [1, 2, 50, 64, 67, 2048, 0, -5, "wide"])
def test_heads_are_the_divisors(d_model: object) -> None:
    heads = scales.heads_for(d_model)
    assert heads == [h for h in range(1, 65) if isinstance(d_model, int) and d_model > 0 and d_model % h == 0]
