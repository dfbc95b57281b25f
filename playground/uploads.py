"""Uploads are held in memory, up to 64 MB each: so only a few at a time."""

import asyncio

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PLACE = "/_stcore/upload_file/"  # Streamlit's route
AT_ONCE = 2
SMALL = 2 * 2**20  # bytes; a table of pairs has 1 MB and waits for nobody
PATIENCE = 120.0  # seconds that an upload waits for its turn
SILENCE = 30.0  # seconds without a byte, after which another gets the turn


class Uploads:
    """ASGI middleware: two large uploads at a time; a third waits, unread, and after two minutes is told to come again."""

    def __init__(self, app: ASGIApp, at_once: int = AT_ONCE, patience: float = PATIENCE) -> None:
        self.app, self.patience = app, patience
        self.turns = asyncio.Semaphore(at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("PUT", "POST") or PLACE not in scope["path"]:
            return await self.app(scope, receive, send)
        length = Headers(scope=scope).get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() and len(length) < 16 else None
        if size is not None and size <= SMALL:
            return await self.app(scope, receive, send)
        try:
            await asyncio.wait_for(self.turns.acquire(), self.patience)
        except TimeoutError:
            return await PlainTextResponse("Too many uploads at a time. Try again.", 503)(scope, receive, send)
        try:
            await self.app(scope, _patient(receive), send)
        finally:
            self.turns.release()


def _patient(receive: Receive) -> Receive:
    async def next_part() -> Message:
        try:
            return await asyncio.wait_for(receive(), SILENCE)
        except TimeoutError:
            return {"type": "http.disconnect"}

    return next_part
