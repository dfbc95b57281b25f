"""Generation: the cache against full recomputation, sampling rules, beams, caps, and edits of the past."""

import itertools

import pytest
import torch

from core.config import Positions
from core.decode import DecodeOptions, distribution, generate, generate_steps
from core.tokens import BOS, EOS, PAD, until_end
from core.trace import zero_head
from tests.core.conftest import make


def full_logits(model, src, prefix):
    with torch.no_grad():
        return model(src, torch.tensor([[BOS, *prefix]]))[0, -1]


@pytest.mark.parametrize("positions", Positions.__args__)
@pytest.mark.parametrize("method", ["greedy", "beam", "sample"])
def test_cache_equals_full_recomputation(batch, positions, method):
    model = make(positions=positions)
    src = batch.src[:1]
    options = DecodeOptions(method, max_len=12, seed=3)
    steps = list(generate_steps(model, src, options))
    assert steps
    for step in steps:
        logits = full_logits(model, src, step.prefix)
        assert (logits - step.logits).abs().max() <= 1e-5
        if method == "greedy":
            assert step.token == int(logits.argmax())
        assert (step.trace()["logits"][0, -1] - step.logits).abs().max() <= 1e-5


def beam_by_brute_force(model, src, width, cap):
    """The same search without any cache: every hypothesis is recomputed from the start."""
    beams = [((), 0.0)]
    for _ in range(cap):
        grown = [b for b in beams if b[0][-1:] == (EOS,)]
        live = []
        for tokens, score in beams:
            if tokens[-1:] == (EOS,):
                continue
            log_p = full_logits(model, src, tokens).log_softmax(-1).double()
            live += [((*tokens, i), score + p.item()) for i, p in enumerate(log_p)]
        beams = sorted(grown + sorted(live, key=lambda b: -b[1])[:width], key=lambda b: -b[1])[:width]
        if beams[0][0][-1] == EOS:
            break
    return beams[0]


def test_beam_finds_what_brute_force_finds(batch):
    for seed in range(3):
        model = make(seed)
        last = list(generate_steps(model, batch.src[:1], DecodeOptions("beam", beams=3, max_len=8)))[-1]
        tokens, score = beam_by_brute_force(model, batch.src[:1], 3, 8)
        assert last.beams[0].tokens == tokens
        assert last.beams[0].score == pytest.approx(score, abs=1e-4)
        assert sorted(last.beams, key=lambda b: -b.score) == list(last.beams)
        assert tuple(generate(model, batch.src[:1], DecodeOptions("beam", beams=3, max_len=8))[0].tolist()) == tokens


def test_one_beam_is_greedy(batch):
    model = make()
    greedy = generate(model, batch.src, DecodeOptions(max_len=9))
    beam = generate(model, batch.src, DecodeOptions("beam", beams=1, max_len=9))
    assert torch.equal(greedy[:, : beam.shape[1]], beam)


def test_batched_greedy_equals_single(batch):
    model = make()
    together = generate(model, batch.src, DecodeOptions(max_len=9))
    for i, row in enumerate(together):
        alone = [step.token for step in generate_steps(model, batch.src[i : i + 1], DecodeOptions(max_len=9))]
        assert row.tolist()[: len(alone)] == alone
        assert all(t == PAD for t in row.tolist()[len(alone) :])


def test_same_seed_same_sample_and_prefix_continues(batch):
    model, src = make(), batch.src[:1]
    options = DecodeOptions("sample", temperature=1.5, max_len=8, seed=5)
    first, second = ([s.token for s in generate_steps(model, src, options)] for _ in range(2))
    assert first == second
    edited = list(generate_steps(model, src, DecodeOptions(max_len=8), prefix=[5, 6]))
    assert edited[0].prefix == (5, 6)
    assert edited[0].index == 2
    assert (full_logits(model, src, [5, 6]) - edited[0].logits).abs().max() <= 1e-5


def test_distribution_rules():
    logits = torch.tensor([3.0, 1.0, 0.0, -1.0])
    assert torch.allclose(distribution(logits, DecodeOptions(temperature=2.0)), (logits / 2).softmax(-1))
    top = distribution(logits, DecodeOptions(top_k=2))
    assert (top > 0).tolist() == [True, True, False, False]
    assert top.sum().item() == pytest.approx(1)
    p = logits.softmax(-1)
    nucleus = distribution(logits, DecodeOptions(top_p=float(p[0]) + 1e-4))
    assert (nucleus > 0).tolist() == [True, True, False, False]
    assert (distribution(logits, DecodeOptions(top_p=1e-9)) > 0).tolist() == [True, False, False, False]


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}, {"beams": 0}])
def test_impossible_options_are_refused(bad):
    with pytest.raises(ValueError, match="must be above 0"):
        DecodeOptions(**bad)


def test_endless_generation_stops_at_the_cap_and_says_so(batch):
    model = make()
    with torch.no_grad():
        model.output.bias[EOS] = -1e4
    for method in ("greedy", "beam"):
        steps = list(generate_steps(model, batch.src[:1], DecodeOptions(method, max_len=6)))
        assert [s.capped for s in steps] == [False] * 5 + [True]
    longest = list(generate_steps(model, batch.src[:1], DecodeOptions(max_len=10_000)))
    assert len(longest) == model.config.max_len


def test_beam_parents_point_to_the_step_before(batch):
    steps = list(generate_steps(make(), batch.src[:1], DecodeOptions("beam", beams=4, max_len=6)))
    for before, now in itertools.pairwise(steps):
        for beam in now.beams:
            parent = before.beams[beam.parent]
            assert beam.tokens[: len(parent.tokens)] == parent.tokens


@pytest.mark.parametrize("beams", [2, 4, 30])
def test_batched_beam_search_equals_one_source_at_a_time(batch, beams):
    for seed in range(3):
        model, options = make(seed), DecodeOptions("beam", beams=beams, max_len=9)
        together = generate(model, batch.src, options)
        assert together.shape[1] == max(len(until_end(row)) + (EOS in row) for row in together.tolist())
        for i, row in enumerate(together.tolist()):
            best = list(generate_steps(model, batch.src[i : i + 1], options))[-1].beams[0]
            assert tuple(row[: len(best.tokens)]) == best.tokens
            assert set(row[len(best.tokens) :]) <= {PAD}


def test_a_beam_that_has_ended_keeps_its_tokens_and_its_score(batch):
    seen = 0
    for seed in range(8):
        steps = list(generate_steps(make(seed), batch.src[:1], DecodeOptions("beam", beams=6, max_len=10)))
        for before, now in itertools.pairwise(steps):
            for beam in now.beams:
                parent = before.beams[beam.parent]
                if parent.finished:
                    assert (beam.tokens, beam.score, beam.finished) == (parent.tokens, parent.score, True)
                    seen += 1
    assert seen > 5


def test_edits_work_with_every_method(batch):
    model = make()
    edits = {"decoder.0.cross.z": zero_head(0), "encoder.0.self.z": zero_head(1)}
    for method in ("greedy", "sample", "beam"):
        options = DecodeOptions(method, beams=1 if method == "beam" else 4, max_len=9)
        edited = generate(model, batch.src, options, edits)
        assert not torch.equal(edited, generate(model, batch.src, options))
        if method == "beam":
            greedy = generate(model, batch.src, DecodeOptions(max_len=9), edits)
            assert torch.equal(greedy[:, : edited.shape[1]], edited)


@pytest.mark.parametrize("causal", [True, False])
def test_given_tokens_are_read_as_its_own_would_be(batch, causal):
    model, src = make(causal_mask=causal), batch.src[:1]
    options = DecodeOptions("sample", temperature=1.5, max_len=8, seed=5)
    whole = [s.token for s in generate_steps(model, src, options)]
    for n in range(len(whole)):
        assert [s.token for s in generate_steps(model, src, options, whole[:n])] == whole[n:]
