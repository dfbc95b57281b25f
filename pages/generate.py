"""Generate: type a text and watch the answer come out, one token at a time; change how it is chosen, or choose yourself."""

import json

import streamlit as st

from core.tasks import TASKS
from core.tokens import EOS
from playground import address, fields, models, pick
from playground import generate_view as view
from playground.components import component
from playground.i18n import _
from playground.look import palette
from playground.text import plain
from playground.views.generate import hesitate
from playground.views.train import branch

PAGE = "generate"
OPTIONS = ("method", "temperature", "top_k", "top_p", "beams", "seed")
asked = address.follow(PAGE, ("step", "text", "out", "hand", *OPTIONS))

with st.sidebar:
    run = pick.choose_run()
    data = pick.data_of(run)
    if "step" in asked and (near := pick.nearest_step(run, asked["step"])) is not None:
        fields.ask(f"{PAGE}.step.{run.id}", near)
    if "text" in asked:
        fields.ask(f"{PAGE}.source.{run.id}", asked["text"])
    step = pick.choose_step(run, PAGE)
    branch.offer(run, step)
    src = pick.source_text(run, PAGE, _("Source text"))
    st.caption(plain(_(TASKS[run.config.task.name].explanation)))
    options = view.sidebar(asked)

pick.notices(PAGE, run)
readable_before = f"{PAGE}.readable.{run.id}"  # what cannot be read takes no picture away: the field says what is wrong
if src is None and (src := st.session_state.get(readable_before)) is not None:
    st.caption(_("Shown is the last text that could be read: {text}").format(text=plain(data.vocab.decode(src))))
st.session_state[readable_before] = src
if src is None:
    st.info(_("Type a text on the left: the model answers it here, token by token."))
    st.stop()
step, model = pick.readable(run, step)

vocab, cap, slot = data.vocab, view.most(model, src), f"{PAGE}.draft"
about, draft = (run.id, src), view.Draft()
if (before := st.session_state.get(slot)) and before[0] == about:
    draft = before[2]
if "out" in asked:
    draft = view.read_draft(asked["out"], asked.get("hand", ""), len(vocab), cap)
n = len(draft.tokens)
if before and before[0] == about and before[1] != step and "out" not in asked:
    draft = draft.cut(len(draft.fixed))  # other weights write other tokens, as many as before
if command := st.session_state.pop(f"{PAGE}.command", None):
    draft, n = view.act(draft, command, len(vocab), cap)
    if (chosen := view.layer_asked(command)) is not None:
        st.session_state[f"{PAGE}.layer"] = chosen
if why := view.too_much(model, src, cap, options):
    st.info(why)
    st.stop()

hint = st.container()
layer = view.layer_of(model, len(src), cap, st.session_state.get(f"{PAGE}.layer"))
weights = (str(run.weights_path(step)), run.weights_path(step).stat().st_mtime_ns)
with models.heavy(run.config.model):
    now = view.scene(model, weights, tuple(src), draft, n, options, layer)
del model  # what a callback of this page still holds on to must not be the weights
st.session_state[slot] = (about, step, now.draft)
known = data.answer(vocab.decode(src))
answer = [*vocab.encode(known), EOS] if known else None


def take_command() -> None:
    st.session_state[f"{PAGE}.command"] = st.session_state[PAGE].act


component("generate", "beams.js")(
    key=PAGE,
    data={
        "input": json.dumps([run.id, src, layer]),
        "src": [vocab.name(i) for i in src],
        "look": palette(),
        **view.data_of(now, options, vocab, cap, answer, layer, run.config.model.n_layers),
    },
    on_act_change=take_command,
)
out, hand = (".".join(map(str, numbers)) for numbers in (now.draft.tokens, sorted(now.draft.hand)))
here = {"step": str(step), "text": vocab.decode(src), "out": out, "hand": hand}
address.write(PAGE, here | view.options_query(options))
with hint:  # last: it may take a moment, and nothing waits for it
    hesitate.offer(run, step, src, options, f"{PAGE}.step.{run.id}")
