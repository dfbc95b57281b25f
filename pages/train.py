"""Train: settings on the left, a toolbar, and the live board of the run in view."""

import streamlit as st

from playground import draft as drafts
from playground import state
from playground.board import board
from playground.forms import form, why_not
from playground.toolbar import toolbar
from playground.views.train.draft_map import next_run
from playground.views.train.intro import intro
from playground.views.train.leads import lead

run = state.current_run()
draft = drafts.follow(run)
with st.sidebar:
    config = form(draft)
off = "" if config else why_not(draft)
toolbar(run, draft, off)
intro()
drafts.write_url(draft)
lead(run, board(run, draft=next_run(draft, run.config, off)).open)
