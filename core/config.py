"""Every knob of a run: frozen pydantic models that carry bounds and help, so form, URL, JSON and command line agree."""

from typing import Literal, Self, get_args
from unicodedata import normalize

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from core.messages import wrong

Positions = Literal["none", "integer", "unit", "binary", "sine", "sincos", "learned", "rotary", "alibi"]
Placement = Literal["every_dimension", "one_direction"]
Scale = Literal["sqrt_d_k", "sqrt_d_model", "none"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Schedule = Literal["constant", "cosine", "inverse_sqrt"]
TaskName = Literal["copy", "reverse", "sort", "shift", "caesar", "deduplicate", "add", "pairs"]
TASK_NAMES: tuple[str, ...] = get_args(TaskName)

MOST_DIGITS = 15  # of a number to add: int64 holds the sum
REWARM = 20  # steps of warm-up after a start without the optimizer's moments
MIN_STRINGS = 100  # fewer different strings than this leave nothing "unseen" to be tested on


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)


class ModelConfig(Config):
    """The shape of the network. Widths are numbers of features; `max_len` is in tokens."""

    n_symbols: int = Field(10, ge=2, le=200, description="How many different symbols a string can hold: a, b, c, …")
    d_model: int = Field(64, ge=2, le=2048, description="Width of the vector that stands for one token.")
    n_heads: int = Field(
        4, ge=1, le=64, description="Attention heads per layer. Each works on d_model / heads features."
    )
    n_layers: int = Field(1, ge=1, le=24, description="Blocks in the encoder, and again in the decoder.")
    d_ff: int = Field(256, ge=1, le=8192, description="Hidden width of the feed-forward part of a block.")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Share of features set to zero at random while training.")
    max_len: int = Field(64, ge=4, le=1024, description="Longest sequence the model accepts, in tokens.")
    positions: Positions = Field("sincos", description="How the model is told the order of the tokens.")
    position_placement: Placement = Field(
        "every_dimension",
        description="For integer and unit positions: add the number to every feature, or along one learned direction.",
    )
    norm: Literal["pre", "post"] = Field(
        "pre", description="LayerNorm before each part (pre) or after it (post, the paper)."
    )
    activation: Literal["relu", "gelu"] = Field("relu", description="The non-linearity of the feed-forward part.")
    scale: Scale = Field("sqrt_d_k", description="What a query-key product is divided by before softmax.")
    causal_mask: bool = Field(True, description="The decoder may look only at what is already written.")
    padding_mask: bool = Field(True, description="Attention ignores the filler at the end of short strings.")

    @property
    def d_k(self) -> int:
        return self.d_model // self.n_heads

    @property
    def n_vocab(self) -> int:
        return self.n_symbols + 3  # PAD, BOS, EOS

    @property
    def score_scale(self) -> float:
        """The factor on q·k: 1/√d_k (Vaswani et al. 2017, §3.2.1), the common mistake 1/√d_model, or 1."""
        return {"sqrt_d_k": self.d_k**-0.5, "sqrt_d_model": self.d_model**-0.5, "none": 1.0}[self.scale]

    @field_validator("n_heads")
    @classmethod
    def _heads_divide(cls, n_heads: int, info: ValidationInfo) -> int:
        d = info.data.get("d_model")
        if d is not None and d % n_heads:
            heads = min((h for h in range(1, 65) if d % h == 0), key=lambda h: (abs(h - n_heads), -h))
            width = max(2, round(d / n_heads) * n_heads)
            raise wrong("heads_divide", d_model=d, n_heads=n_heads, heads=heads, width=width)
        return n_heads

    @field_validator("positions")
    @classmethod
    def _pairs_need_even_width(cls, positions: Positions, info: ValidationInfo) -> Positions:
        d, heads = info.data.get("d_model"), info.data.get("n_heads")
        if positions == "sincos" and d is not None and d % 2:
            raise wrong("even_d_model", d_model=d, low=d - 1, high=d + 1)
        if positions == "rotary" and d is not None and heads is not None and (d // heads) % 2:
            raise wrong("even_d_k", d_k=d // heads)
        return positions

    @field_validator("position_placement")
    @classmethod
    def _placement_fits(cls, placement: Placement, info: ValidationInfo) -> Placement:
        positions = info.data.get("positions")
        if placement == "one_direction" and positions not in (None, "integer", "unit"):
            raise wrong("placement", positions=positions)
        return placement


class TaskConfig(Config):
    """Which toy task, and the lengths of its source strings in symbols (for add: digits of each number)."""

    name: TaskName = Field("reverse", description="What the model has to learn.")
    min_len: int = Field(3, ge=1, le=128, description="Shortest source string.")
    max_len: int = Field(10, ge=1, le=128, description="Longest source string.")
    pairs: tuple[tuple[str, str], ...] = Field(
        (), max_length=5000, description="Your own source and target strings, from a CSV."
    )

    @field_validator("max_len")
    @classmethod
    def _lengths_in_order(cls, max_len: int, info: ValidationInfo) -> int:
        low = info.data.get("min_len")
        if low is not None and low > max_len:
            raise wrong("lengths", min_len=low, max_len=max_len)
        if info.data.get("name") == "add" and max_len > MOST_DIGITS:
            raise wrong("add_digits", max_len=max_len)
        return max_len

    @field_validator("pairs")
    @classmethod
    def _pairs_are_usable(cls, pairs: tuple[tuple[str, str], ...], info: ValidationInfo) -> tuple[tuple[str, str], ...]:
        if info.data.get("name") == "pairs":
            pairs = tuple((normalize("NFC", source), normalize("NFC", target)) for source, target in pairs)
            if (n := len({source for source, _ in pairs})) < 10:
                raise wrong("few_pairs", n=n)
            for row, pair in enumerate(pairs, 1):
                if not all(1 <= len(text) <= 128 for text in pair):
                    raise wrong("pair_length", row=row)
            if len(set("".join(a + b for a, b in pairs))) > 200:
                raise wrong("pair_symbols")
        elif pairs:
            raise wrong("pairs_unused")
        return pairs

    @property
    def longest(self) -> int:
        """The longest sequence of this task in tokens, with the start or end token."""
        if self.name == "pairs":
            return max((len(text) for pair in self.pairs for text in pair), default=1) + 1
        return 2 * self.max_len + 2 if self.name == "add" else self.max_len + 1

    @property
    def longest_target(self) -> int:
        """Tokens of the longest answer, with its end token: a model of this task must be free to write so many."""
        if self.name == "pairs":
            return max((len(normalize("NFC", target)) for _source, target in self.pairs), default=0) + 1
        return self.max_len + 2 if self.name == "add" else self.longest

    def symbols_needed(self) -> int | None:
        """The vocabulary size that the task itself fixes, or None where the person chooses."""
        if self.name == "add":
            return 11
        return len(set("".join(a + b for a, b in self.pairs))) if self.name == "pairs" else None


class TrainConfig(Config):
    """How to train: AdamW with a warm-up. `lr` is the peak rate; `clip` the largest gradient norm (0 = no limit)."""

    steps: int = Field(400, ge=1, le=1_000_000, description="Training steps: one batch, one update each.")
    batch_size: int = Field(64, ge=1, le=4096, description="Strings per step.")
    lr: float = Field(8e-3, gt=0.0, le=1e6, description="Peak learning rate.")
    warmup: int = Field(
        50, ge=0, le=100_000, description="Steps over which the learning rate grows from 0 to its peak."
    )
    schedule: Schedule = Field("cosine", description="The learning rate after warm-up.")
    weight_decay: float = Field(0.0, ge=0.0, le=1.0, description="How strongly weights are pulled to zero.")
    clip: float = Field(1.0, ge=0.0, le=1e6, description="Longest gradient allowed; 0 for no limit.")
    seed: int = Field(1, ge=0, le=2**31 - 1, description="Fixes start weights and data: same seed, same run.")
    device: Device = Field("auto", description="Where to compute. Auto takes a GPU if there is one.")
    eval_every: int = Field(25, ge=1, le=100_000, description="Steps between tests on unseen strings.")
    stop_at_exact_match: float | None = Field(
        None, gt=0.0, le=1.0, description="Stop early when this share of unseen strings is generated exactly."
    )


class RunConfig(Config):
    """One run: model, task, training. `RunConfig()` is the default run."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    task: TaskConfig = Field(default_factory=TaskConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        model, task = self.model, self.task
        if model.max_len < task.longest:
            raise wrong("model_max_len", max_len=model.max_len, need=task.longest, loc="model.max_len")
        need = task.symbols_needed()
        if need is not None and need != model.n_symbols:
            raise wrong("n_symbols", name=task.name, need=need, n_symbols=model.n_symbols, loc="model.n_symbols")
        if need is None and model.n_symbols > 52:
            raise wrong("letters", n=model.n_symbols, loc="model.n_symbols")
        if need is None:
            strings = sum(model.n_symbols**n for n in range(task.min_len, min(task.max_len, 8) + 1)) or MIN_STRINGS
            if strings < MIN_STRINGS:
                raise wrong("few_strings", strings=strings, least=MIN_STRINGS, loc="task.max_len")
        return self
