"""Who may talk to the server: the Host that a request names, and the page that a websocket comes from."""

import secrets
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.hosts import Hosts, hosts

PERSON = "playground_person"  # a cookie with a random name: one browser is one person, also after a refresh
READING = ("GET", "HEAD", "OPTIONS")


class Guard:
    """ASGI middleware: a foreign Host, or a websocket or an upload that another site's page sends, gets no answer."""

    def __init__(self, app: ASGIApp, ours: Hosts | None = None) -> None:
        self.app = app
        self.ours = ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        self.ours = self.ours or hosts()
        headers = Headers(scope=scope)
        named = headers.getlist("host")
        if len(named) != 1 or named[0] not in self.ours:
            return await self._refuse(scope, receive, send, "This server does not answer to that name.")
        if (scope["type"] == "websocket" or scope["method"] not in READING) and not _same_site(headers, named[0]):
            return await self._refuse(scope, receive, send, "This server does not answer to pages of other sites.")
        await self.app(scope, receive, _introducing(scope, headers, send))

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, sentence: str) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": sentence})  # before it is accepted: a 403
        else:
            await PlainTextResponse(sentence, 403, {"X-Content-Type-Options": "nosniff"})(scope, receive, send)


def _same_site(headers: Headers, host: str) -> bool:
    """Browsers always say which page a websocket comes from; other clients need not."""
    origins = headers.getlist("origin")
    try:
        return all(urlsplit(origin).netloc.lower() == host.lower() for origin in origins)
    except ValueError:
        return False


def _introducing(scope: MutableMapping[str, Any], headers: Headers, send: Send) -> Send:
    """Give a browser that has none its cookie, with the first page."""
    if scope["type"] != "http" or f"{PERSON}=" in headers.get("cookie", ""):
        return send

    async def introduce(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer = MutableHeaders(scope=message)
            if answer.get("content-type", "").startswith("text/html"):
                answer.append("Set-Cookie", f"{PERSON}={secrets.token_hex(16)}; Path=/; HttpOnly; SameSite=Lax")
        await send(message)

    return introduce
