"""The launcher: `streamlit run` finds `app` here. The pages are in pages/, their workshop in playground/.

The script behind every page is playground/main.py, not this file: a pages/ folder beside the main script makes Streamlit
run a page without it on the first request after a start.
"""

import asyncio
import ctypes
import gc
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    """Before the first visitor: start warm workers and load what pages need. After the last: let the workers save."""
    from playground import host_key
    from playground.runs.launcher import launcher

    few_heaps()
    crew = launcher()
    crew.warm()
    import altair  # noqa: F401  the pages import these; now is cheaper than at the first click
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401
    import torch

    import core.model  # noqa: F401

    torch.set_num_threads(1)  # the server only looks; a second thread waits for the cores that training uses
    gc.collect()
    gc.freeze()  # what is loaded by now stays: no need to search it for garbage
    beside = [asyncio.create_task(going(task)) for task in (tidy, sweep)]
    if not st.get_option("server.headless"):
        beside.append(asyncio.create_task(open_browser("localhost")))
    elif name := os.environ.get("PLAYGROUND_OPEN"):  # `serve`: its host's browser, with the key
        beside.append(asyncio.create_task(open_browser(name, f"host?token={os.environ[host_key.VARIABLE]}")))
    try:
        yield
    finally:
        for task in beside:
            task.cancel()
        crew.close()


def few_heaps() -> None:
    """glibc's memory for a server that runs for days; on macOS, musl and Windows nothing changes.

    Streamlit runs every script in a new thread, and glibc gives threads up to eight heaps a core, of which each keeps the most
    it ever held: two will do where one thread at a time has the interpreter. And large blocks come from the system and go back
    there, always: by default glibc moves that border up, and then each heap keeps a copy of a table that Python builds anew
    every few minutes (its interned strings, 8 MB).
    """
    with suppress(AttributeError, OSError, TypeError):
        options = ctypes.CDLL(None)
        options.mallopt(-8, 2)  # M_ARENA_MAX
        options.mallopt(-3, 4 * 2**20)  # M_MMAP_THRESHOLD, bytes
        options.mallopt(-1, 8 * 2**20)  # M_TRIM_THRESHOLD, bytes


async def going(task: Callable[[], Awaitable[float]]) -> None:
    """Do it, again and again: it says in how many seconds. What goes wrong is logged, and it goes on."""
    while True:
        wait = 60.0
        try:
            wait = await task()
        except Exception:
            logging.getLogger("playground").exception("%s failed; it is tried again", getattr(task, "__name__", task))
        await asyncio.sleep(wait)


async def tidy() -> float:
    """Now and every day: remove old runs, where the host asked for it, and what killed processes left."""
    from playground.runs import archive, retention, store, trash

    jobs: list[Callable[[], object]] = [archive.sweep, partial(trash.empty, trash.SECONDS), store.sweep]
    if (days := retention.keep_days()) is not None:
        jobs.append(partial(retention.remove_old, days))
    wait = retention.DAY
    for job in jobs:  # what one of them stumbles over keeps none of the others from their work
        try:
            await asyncio.to_thread(job)
        except Exception:
            logging.getLogger("playground").exception("tidying up failed; it is tried again in an hour")
            wait = 3600.0
    return wait


async def sweep() -> float:
    """A page that was closed leaves an event loop in a circle of objects, with three file handles. Since Streamlit no longer
    collects garbage after every run of a script (config.toml), somebody has to: 2 to 17 ms with thirty pages open.
    """
    await asyncio.sleep(10)
    gc.collect()
    return 0.0


async def open_browser(name: str, page: str = "") -> None:
    """`st.App` does not open the browser itself. The port answers a moment after the lifespan has begun."""
    from streamlit import cli_util

    port = st.get_option("server.port")
    for _attempt in range(100):
        await asyncio.sleep(0.1)
        try:
            _reader, writer = await asyncio.open_connection(name.strip("[]"), port)
        except OSError:
            continue
        writer.close()
        base = st.get_option("server.baseUrlPath").strip("/")
        await asyncio.to_thread(
            cli_util.open_browser, f"http://{name}:{port}/{base}{'/' if base and page else ''}{page}"
        )
        return


if get_script_run_ctx(suppress_warning=True) is not None:  # a test runs this file as the script itself
    from playground.main import main

    main()
else:
    from starlette.middleware import Middleware

    from playground import api
    from playground.guard import Guard
    from playground.uploads import Uploads

    app = st.App(
        ROOT / "playground" / "main.py",
        lifespan=lifespan,
        routes=api.routes(st.get_option("server.baseUrlPath")),
        middleware=[Middleware(Guard, base=st.get_option("server.baseUrlPath")), Middleware(Uploads)],
    )
