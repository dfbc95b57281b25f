"""Outside data -> RunConfig: JSON text, form values, URL and command-line words all pass through here."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from core.config import RunConfig, TaskConfig
from core.messages import MESSAGES, ConfigError, Problem, problems

MAX_JSON_BYTES = 1_500_000  # room for 5,000 pairs of words
MAX_JSON_DEPTH = 6
MAX_VALUES = 20_000  # commas and opening brackets outside of strings; 5,000 pairs have 15,000
STRING = re.compile(rb'"(?:[^"\\]+|\\.)*"?', re.DOTALL)  # one that does not end goes to the end: each byte is read once


def crowded(text: str | bytes, most: int = MAX_VALUES) -> bool:
    """Has this JSON more values than `most`, by default more than any configuration? Counted before anything is made of it: a list of lists takes thirty
    times its text, and the validator describes each value that is wrong.
    """
    if len(text) <= most:
        return False
    rest = STRING.sub(b"", text.encode("utf-8", "replace") if isinstance(text, str) else text)
    return sum(map(rest.count, (b",", b"[", b"{"))) > most


def _uncrowded(text: str | bytes) -> None:
    if crowded(text):
        raise ConfigError([Problem(loc="", template=MESSAGES["too_long"], values={"max_length": MAX_VALUES})])


def fit(data: dict[str, Any]) -> dict[str, Any]:
    """Set n_symbols and max_len of plain run data to what its task needs; leaves anything invalid for the validator."""
    try:
        text = json.dumps(data.get("task", {}))
        if crowded(text):
            return data
        task = TaskConfig.model_validate_json(text)
    except (ValidationError, ValueError, TypeError):
        return data
    model = dict(data.get("model", {}))
    model["n_symbols"] = task.symbols_needed() or model.get("n_symbols", 10)
    if isinstance(model.get("max_len", 64), int):
        model["max_len"] = max(model.get("max_len", 64), task.longest)
    return {**data, "model": model}


def build(data: Mapping[str, Any]) -> RunConfig:
    """Plain data -> RunConfig. Raises ConfigError with all problems at once."""
    text = json.dumps(data)
    _uncrowded(text)
    try:
        return RunConfig.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(problems(error)) from None
    except ValueError:
        raise ConfigError([Problem(loc="", template="Numbers must be finite.")]) from None


def read(text: str | bytes) -> RunConfig:
    """JSON text -> RunConfig. Size and depth are checked before parsing; duplicate keys, NaN and Infinity are refused.

    A run.json, which holds the settings under "config", is read, too. Raises ConfigError.
    """
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > MAX_JSON_BYTES:
        raise ConfigError(
            [
                Problem(
                    loc="", template="The configuration is larger than {limit} bytes.", values={"limit": MAX_JSON_BYTES}
                )
            ]
        )
    depth = deepest = 0
    quoted = escaped = False
    for char in raw.decode("utf-8", "replace"):
        if quoted:
            escaped, quoted = (char == "\\" and not escaped), (char != '"' or escaped)
        elif char == '"':
            quoted = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    if deepest > MAX_JSON_DEPTH:
        raise ConfigError(
            [
                Problem(
                    loc="",
                    template="The configuration is nested deeper than {limit} levels.",
                    values={"limit": MAX_JSON_DEPTH},
                )
            ]
        )
    _uncrowded(raw)
    try:
        found = json.loads(raw, object_pairs_hook=_Pairs, parse_constant=float)
    except (ValueError, RecursionError):
        raise ConfigError([Problem(loc="", template="This is not JSON.")]) from None
    if not isinstance(found, _Pairs):
        raise ConfigError([Problem(loc="", template="The configuration must be a JSON object.")])
    wrong: list[Problem] = []
    data = _plain(found, "", wrong)
    if wrong:
        raise ConfigError(wrong)
    return build(data["config"] if data.keys() >= {"schema", "config"} and isinstance(data["config"], dict) else data)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written, duplicate keys and all."""


def _plain(value: Any, loc: str, wrong: list[Problem]) -> Any:
    """The value with objects as dicts. What JSON lets pass and a configuration must not is noted, each at its place."""
    if isinstance(value, _Pairs):
        data: dict[str, Any] = {}
        for key, inner in value:
            place = f"{loc}.{key}" if loc else key
            if key in data:
                wrong.append(Problem(loc=place, template="This setting appears twice."))
            data[key] = _plain(inner, place, wrong)
        return data
    if isinstance(value, list):
        return [_plain(inner, f"{loc}.{i}", wrong) for i, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):  # NaN, Infinity, 1e400
        wrong.append(Problem(loc=loc, template=MESSAGES["finite_number"]))
    return value
