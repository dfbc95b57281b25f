"""Uploads are held in memory, up to 64 MB each: so only a few at a time, and only so many bytes in all."""

import asyncio
from typing import Any

import streamlit as st
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime import Runtime

PLACE = "/_stcore/upload_file/"  # Streamlit's route
AT_ONCE = 2
SMALL = 2 * 2**20  # bytes; a table of pairs has 1 MB and waits for nobody
KEPT = 3  # largest files that one visit may hold: a file, the one that replaces it, and tables
KEPT_IN_ALL = 12  # and all visits together
PATIENCE = 120.0  # seconds that an upload waits for its turn
SILENCE = 30.0  # seconds without a byte, after which another gets the turn


class Uploads:
    """ASGI middleware: two large uploads at a time; a third waits, unread, and after two minutes is told to come again."""

    def __init__(self, app: ASGIApp, at_once: int = AT_ONCE, patience: float = PATIENCE) -> None:
        self.app, self.patience = app, patience
        self.turns = asyncio.Semaphore(at_once)
        self.coming: list[tuple[str, int]] = []  # whose, and how many bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("PUT", "POST") or PLACE not in scope["path"]:
            return await self.app(scope, receive, send)
        length = Headers(scope=scope).get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() and len(length) < 16 else None
        if size is not None and size <= SMALL:
            return await self._pass(scope, receive, send, size)
        try:
            await asyncio.wait_for(self.turns.acquire(), self.patience)
        except TimeoutError:
            return await PlainTextResponse("Too many uploads at a time. Try again.", 503)(scope, receive, send)
        try:
            await self._pass(scope, _patient(receive), send, size)
        finally:
            self.turns.release()

    async def _pass(self, scope: Scope, receive: Receive, send: Send, size: int | None) -> None:
        """To Streamlit, if there is room beside what is held and what others are sending."""
        visit, limit = scope["path"].partition(PLACE)[2].partition("/")[0], _limit()
        coming = limit if size is None else min(size, limit)
        held = [*_held(), *self.coming]
        mine, everybodys = sum(n for owner, n in held if owner == visit), sum(n for _owner, n in held)
        if mine + coming > KEPT * limit or everybodys + coming > KEPT_IN_ALL * limit:
            sentence = "Too many files are held. Reload the page, or try later."
            return await PlainTextResponse(sentence, 507)(scope, receive, send)
        self.coming.append((visit, coming))
        try:
            await self.app(scope, receive, send)
        finally:
            self.coming.remove((visit, coming))


def _limit() -> int:
    """Bytes of a file, at most."""
    return int(st.get_option("server.maxUploadSize")) * 2**20


def _held() -> list[tuple[str, int]]:
    """Whose files Streamlit holds, until their visit ends, and how many bytes they have."""
    if not Runtime.exists():
        return []
    storage: dict[str, dict[str, Any]] = getattr(Runtime.instance().uploaded_file_mgr, "file_storage", {})
    return [(visit, len(file.data)) for visit, files in list(storage.items()) for file in list(files.values())]


def _patient(receive: Receive) -> Receive:
    async def next_part() -> Message:
        try:
            return await asyncio.wait_for(receive(), SILENCE)
        except TimeoutError:
            return {"type": "http.disconnect"}

    return next_part
