"""Who may talk to the server: the Host that a request names, and the page that a websocket comes from. And what every
answer tells the browser, so that no other site gets at the app through it.
"""

import secrets
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground import host_key
from playground.hosts import Hosts, hosts

PERSON = "playground_person"  # a cookie with a random name: one browser is one person, also after a refresh
READING = ("GET", "HEAD", "OPTIONS")
A_YEAR = 365 * 24 * 3600  # seconds
SAFE = {
    "Content-Security-Policy": "frame-ancestors 'self'",  # no page of another site lays itself over the app to steal clicks
    "X-Frame-Options": "SAMEORIGIN",  # the same for browsers that do not know it
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # the id of a run in an address is the key to it
}


class Guard:
    """ASGI middleware: a foreign Host, or a websocket or an upload that another site's page sends, gets no answer."""

    def __init__(self, app: ASGIApp, ours: Hosts | None = None, base: str = "") -> None:
        self.app, self.ours, self.base = app, ours, base.strip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        self.ours = self.ours or hosts()
        send = _safely(send) if scope["type"] == "http" else send
        headers = Headers(scope=scope)
        named = headers.getlist("host")
        if len(named) != 1 or named[0] not in self.ours:
            return await self._refuse(scope, receive, send, "This server does not answer to that name.")
        if (scope["type"] == "websocket" or scope["method"] not in READING) and not _same_site(headers, named[0]):
            return await self._refuse(scope, receive, send, "This server does not answer to pages of other sites.")
        if (entering := self._host_enters(scope)) is not None:
            return await entering(scope, receive, send)
        await self.app(scope, receive, _introducing(scope, headers, send))

    def _host_enters(self, scope: Scope) -> Response | None:
        """The key leaves the address at once, which may be on a projector. The right one comes back as a cookie."""
        page = f"/{self.base}/host".replace("//", "/")
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"].rstrip("/") != page:
            return None
        asked = Request(scope).query_params
        if "token" not in asked:
            return None
        rest = "&".join(f"{quote(k)}={quote(v)}" for k, v in asked.multi_items() if k != "token")
        answer = Response(
            status_code=303, headers={"Location": page + ("?" + rest if rest else ""), "Cache-Control": "no-store"}
        )
        if host_key.right(asked["token"]):
            answer.headers.append("Set-Cookie", host_key.cookie(self.base))
        return answer

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, sentence: str) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": sentence})  # before it is accepted: a 403
        else:
            await PlainTextResponse(sentence, 403)(scope, receive, send)


def _same_site(headers: Headers, host: str) -> bool:
    """Browsers always say which page a websocket comes from; other clients need not."""
    origins = headers.getlist("origin")
    try:
        return all(urlsplit(origin).netloc.lower() == host.lower() for origin in origins)
    except ValueError:
        return False


def _safely(send: Send) -> Send:
    async def safe(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer = MutableHeaders(scope=message)
            for name, value in SAFE.items():
                if name in answer and answer[name] != value:
                    answer.append(name, value)  # both hold
                else:
                    answer[name] = value
        await send(message)

    return safe


def _introducing(scope: MutableMapping[str, Any], headers: Headers, send: Send) -> Send:
    """Give a browser that has none its cookie, with the first page."""
    if scope["type"] != "http" or f"{PERSON}=" in headers.get("cookie", ""):
        return send

    async def introduce(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer = MutableHeaders(scope=message)
            # A page that the browser still has comes as 304, which says no type: whoever lost the cookie gets one then, too.
            known = message["status"] == 304 and "text/html" in headers.get("accept", "")
            if known or answer.get("content-type", "").startswith("text/html"):
                cookie = f"{PERSON}={secrets.token_hex(16)}; Path=/; Max-Age={A_YEAR}; HttpOnly; SameSite=Lax"
                answer.append("Set-Cookie", cookie)
        await send(message)

    return introduce
