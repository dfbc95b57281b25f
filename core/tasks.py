"""The toy tasks: what goes in, what must come out, and which strings are kept unseen.

A task is one vectorised function from sources to answers. Both are (B, L) int64 ids, PAD-filled; `n` (B,) counts the
source's real tokens. A new task is about ten lines: write the function, give it `@task(...)`, and add its name to
`core.config.TaskName`.
"""

import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.config import RunConfig
from core.tokens import BOS, EOS, FIRST, PAD

HELD_OUT = 8  # one string in so many is never trained on
EVALUATION = 2**40  # a "step" that training never reaches, so its random numbers are its own

Answer = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Task:
    """name, a short title, what it asks for in one sentence, an example, and its answer (source, n, n_symbols) -> target."""

    name: str
    title: str
    explanation: str
    example: tuple[str, str]
    answer: Answer


TASKS: dict[str, Task] = {}


def task(title: str, explanation: str, example: tuple[str, str]) -> Callable[[Answer], Answer]:
    def register(answer: Answer) -> Answer:
        TASKS[answer.__name__.strip("_")] = Task(answer.__name__.strip("_"), title, explanation, example, answer)
        return answer

    return register


@task("Copy", "Write the string again.", ("abca", "abca"))
def copy(src: Tensor, n: Tensor, n_symbols: int) -> Tensor:
    return src


@task("Reverse", "Write the string backwards.", ("abcd", "dcba"))
def reverse(src: Tensor, n: Tensor, n_symbols: int) -> Tensor:
    mirrored = n[:, None] - 1 - torch.arange(src.shape[1], device=src.device)  # (B, L)
    return src.gather(1, mirrored.clamp(min=0)).where(mirrored >= 0, PAD)


@task("Sort", "Write the symbols in alphabetical order.", ("cab", "abc"))
def sort(src: Tensor, n: Tensor, n_symbols: int) -> Tensor:
    last = FIRST + n_symbols  # padding must sort behind every symbol
    ordered = src.where(src != PAD, last).sort(1).values
    return ordered.where(ordered != last, PAD)


@task("Shift", "Move every symbol one place to the left; the first goes to the end.", ("abcd", "bcda"))
def shift(src: Tensor, n: Tensor, n_symbols: int) -> Tensor:
    place = torch.arange(src.shape[1], device=src.device)
    return src.gather(1, (place + 1) % n[:, None].clamp(min=1)).where(place < n[:, None], PAD)


@task("Caesar", "Replace every symbol by the third one after it in the alphabet.", ("abc", "def"))
def caesar(src: Tensor, n: Tensor, n_symbols: int) -> Tensor:
    return ((src - FIRST + 3) % n_symbols + FIRST).where(src != PAD, PAD)


@task("Deduplicate", "Write repeated neighbours only once.", ("aabccc", "abc"))
def deduplicate(src: Tensor, n: Tensor, n_symbols: int) -> Tensor:
    keep = (src != PAD) & (src != torch.nn.functional.pad(src, (1, 0))[:, :-1])
    order = (~keep).long().argsort(dim=1, stable=True)  # kept symbols first, in their order
    return src.where(keep, PAD).gather(1, order)


@task("Add", "Add two numbers.", ("27+85", "112"))
def add(src: Tensor, n: Tensor, n_symbols: int) -> Tensor:
    digits = src - FIRST  # "0" … "9" are 0 … 9, "+" is 10
    plus = (digits == 10).long().argmax(1)
    a, b = torch.zeros_like(n), torch.zeros_like(n)
    for i, digit in enumerate(digits.T):
        real = (digit >= 0) & (digit < 10)
        a = torch.where(real & (i < plus), a * 10 + digit, a)
        b = torch.where(real & (i > plus), b * 10 + digit, b)
    longest = int(torch.maximum(plus, n - plus - 1).max())
    powers = 10 ** torch.arange(longest, -1, -1, device=src.device)  # a sum has at most one digit more
    total = (a + b)[:, None] // powers % 10 + FIRST  # (B, digits), leading zeros and all
    leading = ((a + b)[:, None] < powers) & (powers > 1)
    order = leading.long().argsort(dim=1, stable=True)
    return total.where(~leading, PAD).gather(1, order)


@task("Your pairs", "Learn from your own pairs of source and target.", ("hello", "bonjour"))
def pairs(src: Tensor, n: Tensor, n_symbols: int) -> Tensor:
    raise NotImplementedError("answers to pairs are looked up, not computed")


class SymbolError(ValueError):
    """A symbol that the vocabulary lacks: `symbol` at `position` (from 0)."""

    def __init__(self, symbol: str, position: int) -> None:
        self.symbol, self.position = symbol, position
        super().__init__(f"{symbol!r} at position {position + 1} is not in the vocabulary")


class Vocab:
    """Symbols and their ids: PAD 0, BOS 1, EOS 2, then the symbols in order. Text is NFC, one code point a symbol."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = tuple(symbols)
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols, FIRST)}

    def __len__(self) -> int:
        return len(self.symbols) + FIRST

    def encode(self, text: str) -> list[int]:
        """Text -> ids, without start or end. Raises SymbolError."""
        text = unicodedata.normalize("NFC", text)
        for position, symbol in enumerate(text):
            if symbol not in self._ids:
                raise SymbolError(symbol, position)
        return [self._ids[symbol] for symbol in text]

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Ids -> text up to the end token; start and padding are skipped."""
        text = []
        for i in ids.tolist() if isinstance(ids, Tensor) else ids:
            if i == EOS:
                break
            if i >= FIRST:
                text.append(self.symbols[i - FIRST])
        return "".join(text)

    def name(self, i: int) -> str:
        """How a token is shown: "·" padding, "⟨s⟩" start, "⟨/s⟩" end, else its symbol."""
        return ("·", "⟨s⟩", "⟨/s⟩")[i] if i < FIRST else self.symbols[i - FIRST]


def vocab(run: RunConfig) -> Vocab:
    if run.task.name == "add":
        return Vocab("0123456789+")
    if run.task.name == "pairs":
        return Vocab(
            sorted({c for pair in run.task.pairs for text in pair for c in unicodedata.normalize("NFC", text)})
        )
    return Vocab(string.ascii_letters[: run.model.n_symbols])


@dataclass(frozen=True)
class Batch:
    """src (B, S); tgt_in (B, T), which starts with BOS; tgt_out (B, T), the same one step on, which ends with EOS."""

    src: Tensor
    tgt_in: Tensor
    tgt_out: Tensor

    @staticmethod
    def of(src: Tensor, answer: Tensor) -> "Batch":
        """src (B, S) and answer (B, L), both PAD-filled -> teacher-forced batch with T = L + 1."""
        start = answer.new_full((len(answer), 1), BOS)
        tgt_out = torch.nn.functional.pad(answer, (0, 1))
        tgt_out = tgt_out.scatter(1, (answer != PAD).sum(1, keepdim=True), EOS)
        return Batch(src, torch.cat((start, answer), 1), tgt_out)


def held_out(src: Tensor) -> Tensor:
    """Which strings are kept for evaluation: a fixed eighth of all strings, by hash. src (B, S) -> (B,) bool."""
    place = torch.arange(1, src.shape[1] + 1, device=src.device)
    mixed = (src + place * 1_000_003) * 0x5851F42D4C957F2D  # wraps around: arithmetic modulo 2^64
    code = ((mixed ^ mixed >> 31) * 0x14057B7EF767814F).where(src != PAD, 0).sum(1)  # padding leaves the hash alone
    return (code ^ code >> 29) * 0x1066528A4D4F1F33 >> 33 & HELD_OUT - 1 == 0


class Data:
    """The strings of a run, as batches on a device. A batch depends on (seed, step) only; unseen strings are never trained on.

    Random numbers are drawn on the CPU, so that every device sees the same strings; the answers are computed on the device.
    """

    def __init__(self, run: RunConfig, device: torch.device | str = "cpu") -> None:
        self.run, self.device, self.vocab = run, torch.device(device), vocab(run)
        self.pairs: Batch | None = None
        if run.task.name == "pairs":
            sources, targets = (
                self.pad([self.vocab.encode(t) for t in column]) for column in zip(*run.task.pairs, strict=True)
            )
            every = Batch.of(sources, targets)
            unseen = held_out(sources)
            if unseen.all() or not unseen.any():  # a very small table: keep one apart all the same
                unseen = (sources == sources[0]).all(1)
            self.pairs, self.pairs_unseen = every, unseen

    def train_batch(self, step: int) -> Batch:
        """The batch of a training step: batch_size strings, none of them held out."""
        return self.draw(step, self.run.train.batch_size, unseen=False)

    def unseen(self, n: int) -> Batch:
        """n held-out strings, always the same ones for a task (of a table of pairs each held-out one once: n at most)."""
        return self.draw(EVALUATION, n, unseen=True)

    def draw(self, step: int, n: int, unseen: bool) -> Batch:
        seed = 0 if unseen else self.run.train.seed
        generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03) % 2**63)
        if self.pairs is not None:
            rows = (self.pairs_unseen == unseen).nonzero()[:, 0].cpu()
            # Each held-out pair is asked once: drawn again and again, some would count double and some never.
            chosen = (
                torch.randperm(len(rows), generator=generator)[:n]
                if unseen
                else torch.randint(len(rows), (n,), generator=generator)
            )
            rows = rows[chosen].to(self.device)
            return Batch(self.pairs.src[rows], self.pairs.tgt_in[rows], self.pairs.tgt_out[rows])
        spare = n * HELD_OUT * 2 + 64 if unseen else n + n // 2 + 64
        src = self.sources(spare, generator).to(self.device)
        wanted = held_out(src) == unseen
        order = (~wanted).long().argsort(stable=True)
        some = torch.arange(n, device=self.device) % wanted.sum().clamp(min=1)  # in turn, should they not suffice
        src = src[order[some]]
        return Batch.of(src, self.answers(src))

    def sources(self, n: int, generator: torch.Generator) -> Tensor:
        """n random source strings. -> (n, S)"""
        config, symbols = self.run.task, self.run.model.n_symbols
        length = torch.randint(config.min_len, config.max_len + 1, (n, 1), generator=generator)
        place = torch.arange(config.max_len)
        if config.name == "add":
            return self.sums(n, generator)
        ids = torch.randint(FIRST, FIRST + symbols, (n, config.max_len), generator=generator)
        if config.name == "deduplicate":  # every second symbol repeats the one before, or there is little to do
            first = (torch.rand(n, config.max_len, generator=generator) < 0.5) | (place == 0)
            ids = ids.gather(1, (place * first).cummax(1).values)
        return ids.where(place < length, PAD)

    def sums(self, n: int, generator: torch.Generator) -> Tensor:
        """Sources "a+b" with min_len … max_len digits in each number. -> (n, 2 max_len + 1)"""
        low, high = self.run.task.min_len, self.run.task.max_len
        place = torch.arange(high)
        ids = []
        for _ in range(2):
            digits = torch.randint(0, 10, (n, high), generator=generator)
            digits[:, 0] = torch.randint(1 if high > 1 else 0, 10, (n,), generator=generator)
            length = torch.randint(low, high + 1, (n, 1), generator=generator)
            ids.append((digits + FIRST).where(place < length, PAD))
        src = torch.cat((ids[0], torch.full((n, 1), FIRST + 10), ids[1]), 1)
        return src.gather(1, (src == PAD).long().argsort(dim=1, stable=True))  # close the gap before "+"

    def answers(self, src: Tensor) -> Tensor:
        answer = TASKS[self.run.task.name].answer(src, (src != PAD).sum(1), self.run.model.n_symbols)
        return answer

    def answer(self, text: str) -> str:
        """What the task wants for a text; "" where that is unknown. Raises SymbolError."""
        ids = self.vocab.encode(text)
        if not ids:
            return ""
        if self.pairs is not None:
            return next((target for source, target in self.run.task.pairs if source == text), "")
        if self.run.task.name == "add" and not re.fullmatch(r"[0-9]{1,17}\+[0-9]{1,17}", text):
            return ""
        return self.vocab.decode(self.answers(torch.tensor([ids]))[0])

    def batch(self, texts: Sequence[str]) -> Batch:
        """The person's own sources with the task's answers. Raises SymbolError."""
        return Batch.of(
            self.pad([self.vocab.encode(t) for t in texts]),
            self.pad([self.vocab.encode(self.answer(t)) for t in texts]),
        )

    def pad(self, rows: Sequence[Sequence[int]]) -> Tensor:
        width = max(map(len, rows), default=0)
        return torch.tensor(
            [[*row, *[PAD] * (width - len(row))] for row in rows], dtype=torch.int64, device=self.device
        )
