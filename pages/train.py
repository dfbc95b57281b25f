"""Train: settings on the left, a toolbar, and the live board of the run in view."""

import streamlit as st

from playground import draft as drafts
from playground import state
from playground.board import board
from playground.forms import form
from playground.toolbar import toolbar
from playground.views.train.intro import intro

run = state.current_run()
draft = drafts.follow(run)
with st.sidebar:
    config = form(draft)
intro()
toolbar(run, draft, config)
drafts.write_url(draft)
board(run)
