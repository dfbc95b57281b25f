"""Outside data -> RunConfig: JSON text, form values, URL and command-line words all pass through here."""

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from core.config import RunConfig, TaskConfig
from core.messages import ConfigError, Problem, problems

MAX_JSON_BYTES = 1_500_000  # room for 5,000 pairs of words
MAX_JSON_DEPTH = 6


def fit(data: dict[str, Any]) -> dict[str, Any]:
    """Set n_symbols and max_len of plain run data to what its task needs; leaves anything invalid for the validator."""
    try:
        task = TaskConfig.model_validate_json(json.dumps(data.get("task", {})))
    except (ValidationError, ValueError, TypeError):
        return data
    model = dict(data.get("model", {}))
    model["n_symbols"] = task.symbols_needed() or model.get("n_symbols", 10)
    if isinstance(model.get("max_len", 64), int):
        model["max_len"] = max(model.get("max_len", 64), task.longest)
    return {**data, "model": model}


def build(data: Mapping[str, Any]) -> RunConfig:
    """Plain data -> RunConfig. Raises ConfigError with all problems at once."""
    try:
        return RunConfig.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise ConfigError(problems(error)) from None
    except ValueError:
        raise ConfigError([Problem(loc="", template="Numbers must be finite.")]) from None


def read(text: str | bytes) -> RunConfig:
    """JSON text -> RunConfig. Size and depth are checked before parsing; duplicate keys, NaN and Infinity are refused.

    Raises ConfigError.
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
    try:
        data = json.loads(raw, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
    except ConfigError:
        raise
    except (ValueError, RecursionError):
        raise ConfigError([Problem(loc="", template="This is not JSON.")]) from None
    if not isinstance(data, dict):
        raise ConfigError([Problem(loc="", template="The configuration must be a JSON object.")])
    return build(data)


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in items:
        if key in data:
            raise ConfigError([Problem(loc=key, template="This setting appears twice.")])
        data[key] = value
    return data


def _refuse_constant(name: str) -> float:
    raise ConfigError([Problem(loc="", template="Numbers must be finite.")])


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        _refuse_constant(text)
    return number
