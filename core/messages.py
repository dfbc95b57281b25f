"""What can be wrong with a configuration, in plain sentences: templates here, values filled in where the fault is found."""

from typing import Any

from pydantic import BaseModel, ValidationError, field_validator
from pydantic_core import PydanticCustomError

# The first part is ours; the second says pydantic's own findings plainly ({…} are filled from the error's context).
MESSAGES = {
    "heads_divide": "d_model {d_model} cannot be split into {n_heads} equal heads. Nearest that can: d_model {d_model} with {heads} heads, or d_model {width} with {n_heads} heads.",
    "even_d_model": "Sine and cosine come in pairs, so d_model must be even: take {low} or {high} instead of {d_model}.",
    "even_d_k": "Rotary positions turn features in pairs, so d_model / heads must be even; here it is {d_k}.",
    "placement": "Only integer and unit positions can be placed along one direction, not {positions}.",
    "lengths": "The shortest length {min_len} is above the longest {max_len}.",
    "add_digits": "Numbers to add may have at most 15 digits, not {max_len}.",
    "few_pairs": "The task pairs needs at least 10 different source strings; there are {n}.",
    "pair_length": "Pair {row}: both texts must have 1 to 128 characters.",
    "pair_symbols": "The pairs hold more than 200 different characters.",
    "pairs_unused": "Pairs belong to the task pairs only.",
    "model_max_len": "The model accepts {max_len} tokens, but this task needs {need}.",
    "n_symbols": "The task {name} has {need} symbols of its own; set n_symbols to {need}, not {n_symbols}.",
    "letters": "There are 52 letters, a–z and A–Z; {n} symbols are too many.",
    "few_strings": "Only {strings} different strings are possible; at least {least} are needed to keep some unseen. Allow more symbols or longer strings.",
    "greater_than_equal": "Must be {ge} or more, not {input}.",
    "greater_than": "Must be more than {gt}, not {input}.",
    "less_than_equal": "Must be {le} or less, not {input}.",
    "less_than": "Must be less than {lt}, not {input}.",
    "literal_error": "Must be one of {expected}, not {input}.",
    "extra_forbidden": "There is no such setting.",
    "int_type": "Must be a whole number, not {input}.",
    "float_type": "Must be a number, not {input}.",
    "bool_type": "Must be true or false, not {input}.",
    "string_type": "Must be a text, not {input}.",
    "tuple_type": "Must be a list, not {input}.",
    "model_type": "Must be an object with settings, not {input}.",
    "finite_number": "Must be a finite number.",
    "json_invalid": "This is not JSON.",  # half a surrogate pair, for example
    "missing": "This setting is missing.",
    "too_long": "Too many entries: at most {max_length}.",
}


MOST_PROBLEMS = 100  # that are told: who has more reads no further


def wrong(kind: str, **values: int | float | str) -> PydanticCustomError:
    """The error to raise in a validator; `loc` in values names the field when the validator stands elsewhere."""
    return PydanticCustomError(kind, MESSAGES[kind], values)


class Problem(BaseModel):
    """One thing wrong with a configuration: where ("model.n_heads"), the English template, and what fills it."""

    loc: str
    template: str
    values: dict[str, Any] = {}

    @field_validator("loc")
    @classmethod
    def _short(cls, loc: str) -> str:
        """A key in a file from outside may be a megabyte long, or steer the terminal."""
        return "".join(c if c.isprintable() else " " for c in loc[:100])

    @property
    def sentence(self) -> str:
        return self.template.format(**self.values)

    def __str__(self) -> str:
        return f"{self.loc}: {self.sentence}" if self.loc else self.sentence


def problems(error: ValidationError) -> list[Problem]:
    """What is wrong, each at its field, in plain sentences: all of it, up to MOST_PROBLEMS."""
    found = []
    for e in error.errors(include_url=False)[:MOST_PROBLEMS]:
        values = {k: v for k, v in e.get("ctx", {}).items() if isinstance(v, (int, float, str))}
        loc = values.pop("loc", None) or ".".join(str(part) for part in e["loc"])
        shown = repr(e["input"])
        values["input"] = shown if len(shown) <= 40 else shown[:39] + "…"
        template = MESSAGES.get(e["type"], "{message}")
        found.append(Problem(loc=str(loc), template=template, values=values | {"message": e["msg"]}))
    return found


class ConfigError(ValueError):
    """A configuration that cannot be used. `problems` lists every reason."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))
