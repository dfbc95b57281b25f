"""Tasks: vectorised answers against plain Python, unseen stays unseen, batches depend on (seed, step) only."""

import random

import pytest
import torch

from core.config import TASK_NAMES
from core.tasks import TASKS, Data, SymbolError, Vocab, held_out
from core.tokens import BOS, EOS, PAD
from tests.core.conftest import run_of

PAIRS = [["".join(random.Random(i).choices("abcdef", k=1 + i % 5)), f"x{i % 7}"] for i in range(60)]


def dedupe(s):
    return "".join(c for i, c in enumerate(s) if i == 0 or s[i - 1] != c)


PLAIN = {
    "copy": lambda s: s,
    "reverse": lambda s: s[::-1],
    "sort": lambda s: "".join(sorted(s)),
    "shift": lambda s: s[1:] + s[:1],
    "caesar": lambda s: "".join(chr((ord(c) - 97 + 3) % 10 + 97) for c in s),
    "deduplicate": dedupe,
    "add": lambda s: str(sum(map(int, s.split("+")))),
}


def run_for(name, **train):
    task = {"name": name, "min_len": 1, "max_len": 9} | ({"pairs": PAIRS} if name == "pairs" else {})
    return run_of(task=task, train={"batch_size": 300, **train})


def test_every_name_has_a_task():
    assert set(TASKS) == set(TASK_NAMES)
    for task in TASKS.values():
        assert task.title
        assert task.explanation.endswith(".")


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_answers_equal_plain_python(name):
    data = Data(run_for(name))
    batch = data.train_batch(4)
    for src, out in zip(batch.src, batch.tgt_out, strict=True):
        text = data.vocab.decode(src)
        assert data.vocab.decode(out) == PLAIN[name](text)
        assert data.answer(text) == PLAIN[name](text)
    assert data.answer(TASKS[name].example[0]) == TASKS[name].example[1]


@pytest.mark.parametrize("name", TASK_NAMES)
def test_unseen_strings_are_never_trained_on(name):
    data = Data(run_for(name))
    unseen = {data.vocab.decode(s) for s in data.unseen(500).src}
    trained = {data.vocab.decode(s) for step in range(30) for s in data.train_batch(step).src}
    assert unseen
    assert len(trained) > 30
    assert not unseen & trained


@pytest.mark.parametrize("name", TASK_NAMES)
def test_batches_depend_on_seed_and_step_only(name):
    a, b, c = Data(run_for(name)), Data(run_for(name)), Data(run_for(name, seed=2))
    a.train_batch(0)
    assert torch.equal(a.train_batch(7).src, b.train_batch(7).src)
    assert not torch.equal(a.train_batch(7).src, a.train_batch(8).src)
    assert not torch.equal(a.train_batch(7).src, c.train_batch(7).src)
    assert torch.equal(a.unseen(50).src, c.unseen(50).src)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_batch_layout(name):
    batch = Data(run_for(name)).train_batch(1)
    assert (batch.tgt_in[:, 0] == BOS).all()
    assert ((batch.tgt_out == EOS).sum(1) == 1).all()
    assert torch.equal(batch.tgt_in[:, 1:].where(batch.tgt_in[:, 1:] != PAD, EOS)[:, :1], batch.tgt_out[:, :1])
    for ids in (batch.src, batch.tgt_in, batch.tgt_out):
        real = ids != PAD
        assert (real.long().diff(dim=1) <= 0).all(), "padding only at the end"


def test_lengths_cover_the_whole_range():
    batch = Data(run_for("reverse")).train_batch(0)
    assert set((batch.src != PAD).sum(1).tolist()) == set(range(1, 10))


def test_hash_ignores_padding_and_keeps_an_eighth():
    data = Data(run_for("copy"))
    src = data.sources(20_000, torch.Generator().manual_seed(0))
    long = src[(src != PAD).sum(1) > 5]
    assert torch.equal(held_out(long), held_out(torch.nn.functional.pad(long, (0, 7))))
    assert held_out(long).float().mean().item() == pytest.approx(1 / 8, abs=0.015)


def test_vocabulary():
    vocab = Vocab("abc")
    assert len(vocab) == 6
    assert vocab.encode("cab") == [5, 3, 4]
    assert vocab.decode([BOS, 5, 3, PAD, 4, EOS, 4]) == "cab"
    assert [vocab.name(i) for i in range(4)] == ["·", "⟨s⟩", "⟨/s⟩", "a"]
    with pytest.raises(SymbolError, match="position 3") as caught:
        vocab.encode("abz")
    assert (caught.value.symbol, caught.value.position) == ("z", 2)


def test_text_is_composed_before_it_is_read():
    assert Vocab("é").encode("e\u0301") == [3]


def test_own_pairs_may_hold_anything():
    odd = [["<b>", "$x$"], ["a|b", "`c`"], [":red[x]", "é"]] + [[f"k{i}", "v"] for i in range(12)]
    data = Data(run_of(task={"name": "pairs", "pairs": odd}))
    assert data.answer("<b>") == "$x$"
    assert data.answer("b") == ""
