"""Attention: any run, any saved step, any input. Which token looks at which, head by head."""

import json
from contextlib import nullcontext
from dataclasses import asdict, astuple

import streamlit as st

from core.lab import ideal_pattern
from playground import address, attention_view, pick
from playground.attention_view import clean_view, frames, prepare, read_view, texts, view_query
from playground.components import component
from playground.i18n import _, ngettext
from playground.look import palette
from playground.text import plain
from playground.views.train import branch

PAGE = "attention"
asked = address.follow(PAGE, ("step", "where", "layer", "head", "show", "text", "write", "target"))

with st.sidebar:
    run = pick.choose_run()
    data, steps = pick.data_of(run), run.saved_steps()
    src = attention_view.source(run, PAGE, asked)
    writes, target = attention_view.target(run, src, asked)

before = st.session_state.get(f"{PAGE}.view.{run.id}")
wanted = asked.get("step", str(before["step"]) if before else "")
if wanted and (near := pick.nearest_step(run, wanted)) is not None and str(near) != wanted:
    asked["step"] = str(near)  # steps are thinned out while a run goes on
pick.notices(PAGE, run)
if not steps:
    st.info(_("No weights are saved yet. Train this run for a moment, or choose another one."))
    st.stop()
readable_before = f"{PAGE}.readable.{run.id}"  # what cannot be read takes no picture away: the field says what is wrong
if src is None or (writes == "typed" and target is None):
    of_source = src is None
    src, writes, target = st.session_state.get(readable_before, (None, writes, target))
    if src is not None:
        text = plain(data.vocab.decode(src))
        sentence = _("Shown is the last text that could be read: {text}")
        other = _("Shown is the last picture whose target could be read: {text}")
        st.caption((sentence if of_source else other).format(text=text))
st.session_state[readable_before] = src, writes, target
if src is None or (writes == "typed" and target is None):
    st.info(_("Type a text on the left: its attention appears here."))
    st.stop()

pick.refuse_large(run)
if why := attention_view.too_much(run, src, target):
    st.info(why)
    st.stop()

model = run.config.model
kept = f"{PAGE}.view.{run.id}"  # outlives the page: Streamlit forgets components that are not shown
if kept not in st.session_state or asked.keys() & {"step", "where", "layer", "head", "show"}:
    now = view_query(st.session_state[kept]) if kept in st.session_state else {}
    # The component starts from this view and then goes its own way; it is told again only when the URL changes.
    st.session_state[kept] = read_view(now | asked, steps, model.n_layers, model.n_heads)
    st.session_state[f"{kept}.start"] = st.session_state[kept]


def follow_view() -> None:
    view = clean_view(st.session_state[PAGE].view, steps, model.n_layers, model.n_heads)
    if view:
        st.session_state[kept] = view


if st.session_state[kept]["step"] == st.session_state.get(f"{kept}.newest") and "step" not in asked:
    at_end = st.session_state[kept] | {"step": steps[-1]}  # who stands at the newest step stays there
    if at_end != st.session_state[kept]:
        st.session_state[kept] = st.session_state[f"{kept}.start"] = at_end
st.session_state[f"{kept}.newest"] = steps[-1]
view = st.session_state[kept]
part = attention_view.part_of(run, view, src, target)
with st.spinner(_("Computing …")) if part else nullcontext():
    shown, complete = frames(run, data.vocab, steps, view["step"], src, target, part)
while bad := attention_view.damaged(run, steps, src, target, part):
    st.warning(
        ngettext(
            "The weights of step {steps} cannot be read; it is left out.",
            "The weights of the steps {steps} cannot be read; they are left out.",
            len(bad),
        ).format(steps=", ".join(map(str, bad)))
    )
    steps = [step for step in steps if step not in bad]
    if not steps or view["step"] in steps:
        break
    view = st.session_state[kept] = read_view(view_query(view), steps, model.n_layers, model.n_heads)
    st.session_state[f"{kept}.start"] = view
    shown, complete = frames(run, data.vocab, steps, view["step"], src, target, part)
if not shown:
    st.error(_("The weights of this run cannot be read. Choose another run."))
    st.stop()
component("attention", "heads.js", "lines.js")(
    key=PAGE,
    data={
        "input": json.dumps([run.id, src, target, part and astuple(part)]),
        "part": part and asdict(part),
        "title": pick.title(run),
        "src": [data.vocab.name(i) for i in src],
        "ideal": ideal_pattern(run.config.task.name, 1, 1) is not None,  # whether the task has a pattern to be far from
        "n_layers": model.n_layers,
        "n_heads": model.n_heads,
        "steps": steps,
        "total": max(run.target_steps, steps[-1]),
        "frames": shown,
        "complete": complete,
        "alone": not attention_view.computed_ahead(run, part),  # a step is computed only when it is asked for
        "target": writes,
        "view": st.session_state[f"{kept}.start"],
        "look": palette(),
        "t": texts(),
    },
    on_view_change=follow_view,
    on_more_change=lambda: None,
)
with st.sidebar:
    branch.offer(run, view["step"])
if view["step"] == steps[-1]:
    pick.follow(run, steps[-1])
address.write(PAGE, view_query(view) | attention_view.input_query(run, writes))
if not complete:
    prepare(run, data.vocab, steps, view["step"], src, target)
