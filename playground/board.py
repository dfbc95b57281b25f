"""The live board of the Train page: what the component of that name is told about a run. It fetches the rest itself."""

import math
from typing import Any

import streamlit as st

from core.config import ModelConfig, RunConfig
from core.model import memory_estimate, parameter_counts
from core.tasks import Data
from core.train import UNSEEN, pick_device
from playground import api, look
from playground.components import component
from playground.i18n import _, language, ngettext
from playground.runs import states
from playground.runs.store import Run
from playground.settings import words

PARTS = ("poll.js", "curves.js", "map.js", "thumbs.js", "samples.js", "strip.js", "replay.js")


def board(
    run: Run, *, key: str = "board", height: int | None = None, initial: dict[str, Any] | None = None,
    draft: dict[str, Any] | None = None,
) -> Any:  # fmt: skip
    """Draw the board of a run. As high as the window allows, unless `height` (pixels) says otherwise.

    The result has `part` (the chosen part of the model, or None), and for one rerun each `state` (a new state while the run
    lives) or `ended` (the state it ended in) and `open` (where a click leads, see views/train/leads.py); `step` is the saved step
    that the board looks back at, None for the newest. `initial` is an answer of the live route, to draw without asking for it;
    `draft` the next run, see views/train/draft_map.py.
    """
    return component("board", *PARTS)(
        key=key,
        data=board_data(run) | {"height": height, "initial": initial, "draft": draft},
        on_part_change=_nothing,
        on_state_change=_nothing,
        on_ended_change=_nothing,
        on_step_change=_nothing,
        on_open_change=_nothing,
    )


def _nothing() -> None:
    """Streamlit gives the result an attribute for every callback."""


def board_data(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "api": f"{api.path(run.id, st.get_option('server.baseUrlPath'))}/live",
        "state": run.status().state,
        "language": language(),
        "sample": run.is_sample,
        "facts": facts(run.config),
        "labels": labels(measured_on(run.id, run.config)),
        "look": look.palette(),
    }


@st.cache_data(max_entries=64, show_spinner=False)
def measured_on(run_id: str, _config: RunConfig) -> int:
    """How many different strings accuracy and exact match are measured on: of few pairs only few are held out."""
    return len(Data(_config).unseen(UNSEEN).src.unique(dim=0))


def facts(config: RunConfig) -> dict[str, Any]:
    """What is known before the first step: sizes, shapes, numbers of parameters, the loss of blind guessing."""
    model, counts = config.model, parameter_counts(config.model)
    last_norm = 2 * model.d_model if model.norm == "pre" else 0
    return {
        "steps": config.train.steps,
        "layers": model.n_layers,
        "heads": model.n_heads,
        "d_k": model.d_k,
        "d_ff": model.d_ff,
        "lr": config.train.lr,
        "guess": math.log(model.n_vocab),
        "device": words.shown("train.device", pick_device(config.train.device).type),
        "memory": _("≈ {size} memory").format(size=megabytes(memory(config))),
        "parameters": {
            "all": sum(counts.values()),
            "source": counts["source embedding"],
            "target": counts["target embedding"],
            "encoder": counts["encoder"],
            "decoder": counts["decoder"],
            "output": counts["output"],
        },
        "block_parameters": {stack: (counts[stack] - last_norm) // model.n_layers for stack in ("encoder", "decoder")},
        "parts": parts(model),
        "sizes": _("B = {batch} strings; S, T ≤ {length} source, target tokens").format(
            batch=config.train.batch_size, length=config.task.longest
        ),
    }


def memory(config: RunConfig) -> int:
    return memory_estimate(config.model, config.train.batch_size, config.task.longest)


def megabytes(size: int) -> str:
    mega = size / 2**20
    return f"{mega / 1024:.3g} GB" if mega >= 1000 else f"{mega:.3g} MB"


def parts(model: ModelConfig) -> dict[str, dict[str, str]]:
    """Every kind of part of the model: its name, what it is in one sentence, and what goes in and out."""
    d, v = model.d_model, model.n_vocab
    heads = {"heads": model.n_heads, "d_k": model.d_k, "d_ff": model.d_ff, "d": d, "v": v}

    def part(name: str, short: str, sentence: str, shape: str, flow: str) -> dict[str, str]:
        texts = {"name": name, "short": short, "sentence": sentence.format(**heads)}
        return texts | {"shape": shape, "flow": flow}

    decoder = (
        _(
            "Looks back at what is written so far (self-attention), then at the memory (cross-attention), "
            "then a feed-forward layer of width {d_ff}. {heads} heads of {d_k}."
        )
        if model.causal_mask
        else _(
            "Looks at the whole target, for there is no causal mask (self-attention), then at the memory (cross-attention), "
            "then a feed-forward layer of width {d_ff}. {heads} heads of {d_k}."
        )
    )
    return {
        "source": part(
            _("Source embedding"),
            _("Source"),
            _("Turns every source token into a vector of {d} numbers and adds its position."),
            f"(B, S, {d})",
            f"(B, S) → (B, S, {d})",
        ),
        "encoder": part(
            _("Encoder block {layer} of {layers}"),
            _("Encoder"),
            _(
                "Each source token gathers from the others (self-attention, {heads} heads of {d_k}), "
                "then passes a feed-forward layer of width {d_ff} by itself."
            ),
            f"(B, S, {d})",
            f"(B, S, {d}) → (B, S, {d})",
        ),
        "memory": part(
            _("Memory"),
            _("Memory"),
            _(
                "What the encoder made of the source: one vector of {d} numbers per token. Every decoder block reads it."
            ),
            f"(B, S, {d})",
            f"(B, S, {d})",
        ),
        "target": part(
            _("Target embedding"),
            _("Target"),
            _("The tokens written so far, start token first, as vectors of {d} numbers with their positions."),
            f"(B, T, {d})",
            f"(B, T) → (B, T, {d})",
        ),
        "decoder": part(
            _("Decoder block {layer} of {layers}"),
            _("Decoder"),
            decoder,
            f"(B, T, {d})",
            f"(B, T, {d}) + (B, S, {d}) → (B, T, {d})",
        ),
        "output": part(
            _("Output layer"),
            _("Output"),
            _(
                "A score for each of the {v} tokens at every position; softmax turns them into next-token probabilities."
            ),
            f"(B, T, {v})",
            f"(B, T, {d}) → (B, T, {v})",
        ),
    }


def labels(unseen: int = UNSEEN) -> dict[str, Any]:
    """Every text of the board, translated. Braces are filled in by the component. unseen: strings that a test measures on."""
    measured = " " + ngettext(
        "Measured on {n} string, always the same one.",
        "Measured on {n} different strings, always the same ones.",
        unseen,
    ).format(n=unseen)
    return {
        "board": _("Training board"),
        "sample": _("Shipped sample run"),
        "map": _("Model"),
        "draft": _("Draft · next run"),
        "draft_view": _("Next run"),
        "run_view": _("Run in view"),
        "views_help": _("Which model the map shows"),
        "difference": _("{n} param. ({more})"),
        "same_model": _("Next run: the same map"),
        "encoder": _("Encoder"),
        "decoder": _("Decoder"),
        "block": _("Block {layer}"),
        "self_part": _("self-attention"),
        "cross_part": _("cross-attention"),
        "ffn_part": _("feed-forward"),
        "memory_note": _("memory to every block"),
        "parameters": _("{n} parameters"),
        "widths": _("heads {heads} · d_k {d_k} · d_ff {d_ff}"),
        "parameters_short": _("{n} param."),
        "pick": _("Click a part of the model to see what it does; its attention is picked out below."),
        "attention": _("Attention"),
        "attention_help": _(
            "Each square is one head looking at one example. A row is a query (the token that asks), a column a key "
            "(the token it looks at); the darker or brighter, the more weight. Every row adds up to 1."
        )
        + " "
        + _("Double click, or Enter, opens one on the Attention page."),
        "encoder_self": _("Encoder self"),
        "decoder_self": _("Decoder self"),
        "decoder_cross": _("Cross"),
        "encoder_self_help": _("Source tokens look at source tokens."),
        "decoder_self_help": _("Target tokens look at the target tokens before them, and at themselves."),
        "decoder_cross_help": _("Target tokens look at the memory, that is at the source."),
        "layer": _("Layer {layer}"),
        "head": _("head {head}"),
        "key_axis": _("key: looked at"),
        "query_axis": _("query: looks"),
        "cell": _("query “{query}” ({i}) → key “{key}” ({j}): {weight}"),
        "some_heads": _("the last {layers} of {all_layers} layers, {heads} of {all_heads} heads"),
        "thumb_alt": _("{name}, step {step}: largest weight of a row {peak} on average"),
        "curves": _("Training"),
        "table": _("Table"),
        "step": _("Training step"),
        "step_axis": _("step"),
        "loss": _("Loss"),
        "loss_unit": _("nats per token"),
        "loss_help": _(
            "Cross-entropy on the training batch: how surprised the model is by the right next token. "
            "The dashed line is blind guessing: ln V, V being the number of tokens it knows."
        ),
        "guess_line": _("guessing, ln V"),
        "rate_now": _("{lr} now"),
        "rate_set": _("Set by hand after step {step}: {before} → {rate}."),
        "replay": _("Replay the training"),
        "replay_stop": _("Stop the replay"),
        "replay_time": _("Seconds for the whole training"),
        "replay_slider": _("Look back at a training step"),
        "marks_help": _(
            "Weights are saved at each mark; at a thick one the training state was kept, too: a branch from there is exact."
        ),
        "at_newest": _("newest: step {steps}"),
        "at_step": _("step {step} of {steps}"),
        "branch": _("Branch"),
        "branch_help": _(
            "A new run that begins with the weights of step {step}, with settings of training that you choose."
        ),
        "newest": _("Newest"),
        "lead_generate": _("Open on the Generate page"),
        "loss_alt": _("Loss over training steps. Step {step}: {loss}. Guessing would be {guess}."),
        "token_accuracy": _("Token accuracy"),
        "token_accuracy_help": _(
            "Share of right next tokens on unseen strings while the model is fed the right tokens before "
            "(teacher forcing)."
        )
        + measured,
        "exact_match": _("Exact match"),
        "exact_match_help": _(
            "Share of unseen strings that the model, generating by itself, gets right to the last token."
        )
        + measured,
        "accuracy_alt": _("On unseen strings, 0 to 1. Step {step}: token accuracy {token}, exact match {exact}."),
        "lr": words.label("train.lr"),
        "lr_help": _("How far the weights move in a step. It grows during warm-up, then follows its schedule."),
        "lr_alt": _("Learning rate over training steps, now {lr}."),
        "grad_norm": _("Gradient norm"),
        "grad_norm_help": _(
            "Length of the gradient before it is clipped: how strongly this batch pulls at the weights."
        ),
        "grad_alt": _("Gradient norm over training steps, now {grad}."),
        "tokens_per_s": _("Tokens/s"),
        "samples": _("Unseen examples"),
        "samples_help": _(
            "Strings never used for training, and what the model generates for them. Solid green: right. Dashed orange: wrong. "
            "Dotted: missing. Behind a cross stands the right answer or, where room is short, how many tokens are wrong. “By step” says how old they may be: while a run trains they are "
            "written anew less often than the curves grow."
        ),
        "solved": _("{n} of {of} right · by step {step}"),
        "expected": _("expected"),
        "instead": _("{i}: {got} instead of {expected}"),
        "wrong_tokens": _("{n} wrong; expected {expected}"),
        "all_right": _("all right"),
        "empty_curves": _("Press Train: the curves start here with the first step."),
        "empty_curves_live": _("The curves start here with the first step."),
        "empty_attention": _("Attention patterns appear here as soon as the model exists: press Train."),
        "empty_samples": _("What the model answers to unseen strings appears here."),
        "progress": _("step {step} / {steps}"),
        "left": _("{time} left"),
        "speed": _("{speed} steps/s"),
        "memory_help": _("Estimated memory for training: weights, gradients, optimizer, activations."),
        "saved": _("saved at step {step}"),
        "not_saved": _("not saved yet"),
        "waiting": _("{n} in the queue"),
        "place": _("place {place}"),
        "states": states.board_words()
        | {
            "away": _("Server away: reconnecting"),
            "gone": _("This run is no longer there"),
        },
    }
