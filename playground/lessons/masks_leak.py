"""Panel 3: one model measured twice, reading the answer and writing alone."""

from collections.abc import Sequence
from typing import Any

import streamlit as st
import torch

from core.checkpoint import CheckpointError
from core.decode import generate
from core.model import Transformer
from core.tasks import Data, Vocab
from core.tokens import EOS
from playground import pick
from playground.components import component
from playground.i18n import _
from playground.lessons import experiment, unmasked
from playground.lessons import masks_measure as lab
from playground.lessons.frame import LabContext, PanelView
from playground.lessons.masks import LEAK_MISTAKES
from playground.lessons.masks_view import KEY, tokens, view
from playground.look import palette
from playground.runs.store import Run, RunError

STRINGS = 64  # unseen strings that a model is measured on


def leak(ctx: LabContext, p: PanelView) -> None:
    """Panel 3: one model reading the answer and writing alone; then the experiment."""
    if view(ctx) == "experiment":
        if experiment.show("leak", f"{KEY}.leak", height=150).revealed:
            p.done()
        return
    run, step, model, data, ids = ctx.run, ctx.step, ctx.model, ctx.data, ctx.ids
    if ctx.mistakes(LEAK_MISTAKES, "trained") == "unmasked":
        try:
            run, step = unmasked.RUN, unmasked.RUN.saved_steps()[-1]
            model, data = pick.model_at(run, step), pick.data_of(run)
        except (CheckpointError, RunError, IndexError):
            st.error(_("The weights of this run cannot be read. Choose another run."))
            return
        ids = own_input(ctx, run, data)
        p.done()
        st.caption(
            _("Shipped with the app: reverse, d {d}, 1 layer, mask off, seed {seed}, {steps} steps, {date}.").format(
                d=run.config.model.d_model, seed=run.config.train.seed, steps=step, date=f"{run.created:%Y-%m-%d}"
            )
        )
    scores = measured(run, step, model, data)
    p.checked(scores.error, _("loss and generated strings"))
    p.numbers(
        rf"\text{{loss}} = {scores.loss:.4g} \qquad \text{{guessing:}}\ \ln V = \ln {model.config.n_vocab} = {scores.guess:.3f}"
    )
    this = lab.example(model, data, ids, most=model.config.max_len)
    with torch.no_grad():
        read = model(*this.tensors())[0].argmax(-1).tolist()
    alone = generate(model, torch.tensor([ids]))[0].tolist()
    influence, _logits, error = lab.influences(model, this)
    p.checked(error, _("influence"))
    ahead = influence.triu(1).max().item()
    first, second, third, fourth = st.columns(4)
    first.metric(
        _("Loss, reading the answer"),
        f"{scores.loss:.4f}",
        help=_("Mean over the tokens of {n} unseen strings. Guessing costs ln V = {guess:.2f}.").format(
            n=STRINGS, guess=scores.guess
        ),
    )
    second.metric(
        _("Tokens right, reading the answer"),
        f"{scores.tokens:.0%}",
        help=_("Teacher forced: before each token the decoder is given the right answer up to there."),
    )
    third.metric(
        _("Strings right, writing alone"),
        f"{scores.strings:.0%}",
        help=_("Generated: the decoder is given what it has written itself. Only this is what the model can do."),
    )
    fourth.metric(
        _("Influence of the future"),
        "0" if ahead == 0 else f"{ahead:.3g}",
        help=_(
            "The strongest influence of a later token on a prediction, for the string below. With the causal mask exactly 0."
        ),
    )
    component("tokenlines")(
        key=f"{KEY}.lines",
        data={"lines": token_lines(data.vocab, ids, this, read, alone), "look": palette()},
    )
    gap = scores.tokens - scores.strings
    if gap > 0.5:
        st.markdown(
            _(
                "⚠ {tokens:.0%} of the tokens while it reads, {strings:.0%} of the strings when it writes: it has learned to copy the answer, not the task."
            ).format(tokens=scores.tokens, strings=scores.strings)
        )
    else:
        st.markdown(
            _("Both measurements agree about as well as they should: a string is right only if all of its tokens are.")
        )


def token_lines(
    vocab: Vocab, ids: Sequence[int], this: lab.Example, read: Sequence[int], alone: Sequence[int]
) -> list[dict[str, Any]]:
    want = list(this.writes)

    def marks(got: Sequence[int]) -> list[str]:
        return ["right" if i < len(want) and token == want[i] else "wrong" for i, token in enumerate(got)]

    written = [*alone[: alone.index(EOS) + 1]] if EOS in alone else list(alone)
    lines = [
        (_("input"), list(ids), []),
        (_("right answer"), want, []),
        (_("predicted, reading the answer"), list(read), marks(read)),
        (_("written alone"), written, marks(written)),
    ]
    return [{"name": name, "tokens": tokens(vocab, got), "marks": mark} for name, got, mark in lines]


def own_input(ctx: LabContext, run: Run, data: Data) -> list[int]:
    """The person's input, if this run knows its symbols; else an unseen string of it."""
    text = ctx.data.vocab.decode(ctx.ids)
    ids, _hint = pick.check_source(run, text)
    if ids is None or len(ids) > run.config.task.max_len:
        return data.vocab.encode(data.vocab.decode(data.unseen(1).src[0]))
    return ids


@st.cache_data(max_entries=64, show_spinner=False)
def _measured(key: str, step: int, changed: int, _model: Transformer, _data: Data) -> lab.TwoScores:
    return lab.two_scores(_model, _data.unseen(STRINGS))


def measured(run: Run, step: int, model: Transformer, data: Data) -> lab.TwoScores:
    return _measured(str(run.path), step, run.weights_path(step).stat().st_mtime_ns, model, data)
