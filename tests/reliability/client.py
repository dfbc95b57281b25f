"""A visitor without a browser: speaks Streamlit's websocket protocol, and asks the live route as the board of the page does."""

import asyncio
import json
import time
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

PACE = 0.2  # seconds between two questions of the board


class Visitor:
    """One open page. After `open` and `press` the script has run to its end, and `elements` is what the page shows."""

    patience = 60.0  # seconds for an answer

    def __init__(
        self, port: int, query: str = "", page: str = "", host: str = "127.0.0.1", person: str = "", key: str = ""
    ) -> None:
        self.port, self.query, self.page = port, query.lstrip("?"), page
        self.host, self.person = host, person  # the name in the address bar; the cookie by which a browser is known
        self.key = key  # the cookie that makes a host
        self.session = ""  # as the server calls it: a page that reconnects names it
        self.elements: dict[tuple[int, ...], Element] = {}
        self.navigation: list[str] = []  # the pages that its menu offers
        self.exceptions: list[str] = []
        self.reruns: list[float] = []  # seconds from a question to the end of the script
        self.page_hash = ""
        self.seen: list[tuple[float, dict[str, Any]]] = []  # what the live route said, and when
        self.polls: list[float] = []  # seconds from a question of the board to its answer
        self.failed_polls: list[str] = []  # why a question of the board had no answer
        self.unanswered = 0
        self._begun = self._drawn = False
        self._done = asyncio.Event()
        self._busy = asyncio.Lock()
        self._polling: asyncio.Task[None] | None = None

    # The page

    async def open(self) -> None:
        """Connect, as a new page or, where a session is known, as one that was cut off; draw the page."""
        protocols = ["streamlit", "x", *filter(None, [self.session])]
        self._socket = await websockets.connect(
            f"ws://{self.host}:{self.port}/_stcore/stream",
            host="127.0.0.1",
            subprotocols=protocols,  # type: ignore[arg-type]
            origin=f"http://{self.host}:{self.port}",  # type: ignore[arg-type]
            additional_headers={"Cookie": f"playground_person={self.person}; playground_host={self.key}"},
            max_size=2**26,
            ping_interval=None,
            open_timeout=60,  # as patient as every request
            proxy=None,
        )
        self._listening = asyncio.create_task(self._listen())
        # Streamlit 1.67 loses the first request of a page that comes back while its script still ran when it was cut off
        # (an app of ten lines shows it, too): the next one, as after any click, is answered.
        for patience in (5.0, 10.0, self.patience) if self.session else (self.patience,):
            with suppress(asyncio.TimeoutError):
                await self._rerun(patience)
                self._drawn = True
                return
            self.unanswered += 1
        raise AssertionError("the page is never drawn")

    async def rerun(self, **widget: Any) -> None:
        """Run the script with this address, and perhaps a widget's value: id=…, trigger_value=True."""
        await self._rerun(self.patience, **widget)

    async def _rerun(self, patience: float, **widget: Any) -> None:
        message = BackMsg()
        message.rerun_script.query_string = self.query
        message.rerun_script.page_script_hash = self.page_hash
        if not self.page_hash:
            message.rerun_script.page_name = self.page
        if widget:
            message.rerun_script.widget_states.widgets.add(**widget)
        async with self._busy:
            self._done.clear()
            self._begun = False
            start = time.monotonic()
            await self._socket.send(message.SerializeToString())
            await asyncio.wait_for(self._done.wait(), patience)
            self.reruns.append(time.monotonic() - start)

    async def press(self, label: str) -> None:
        button = self.button(label)
        assert button is not None, (label, [e.button.label for e in self.elements.values() if e.HasField("button")])
        assert not button.disabled, label
        await self.rerun(id=button.id, trigger_value=True)

    def button(self, label: str) -> Any:
        buttons = [e.button for e in self.elements.values() if e.WhichOneof("type") == "button"]
        return next((button for button in buttons if button.label == label), None)

    def text(self) -> str:
        """What stands on the page as text."""
        found = [e for e in self.elements.values() if e.WhichOneof("type") in ("markdown", "alert", "metric")]
        return "\n".join(e.markdown.body or e.alert.body or f"{e.metric.label} {e.metric.body}" for e in found)

    @property
    def board(self) -> dict[str, Any]:
        """What the board was told."""
        for element in self.elements.values():
            part = element.bidi_component
            if element.WhichOneof("type") == "bidi_component" and "board" in part.component_name:
                found: dict[str, Any] = json.loads(part.json or part.mixed.json)
                return found
        raise AssertionError("the page has no board")

    @property
    def run(self) -> str:
        """The run in the address; empty for the sample."""
        return parse_qs(self.query).get("run", [""])[0]

    async def _listen(self) -> None:
        with suppress(websockets.ConnectionClosed):
            async for data in self._socket:
                assert isinstance(data, bytes)
                self._heard(ForwardMsg.FromString(data))
        self._done.set()

    def _heard(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self.session = message.new_session.initialize.session_id
            self.page_hash = message.new_session.page_script_hash
            self.elements.clear()
            self._begun = True
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            element = message.delta.new_element
            self.elements[tuple(message.metadata.delta_path)] = element
            if element.WhichOneof("type") == "exception":
                self.exceptions.append(f"{element.exception.type}: {element.exception.message}")
        elif kind == "navigation":
            self.navigation = [page.url_pathname for page in message.navigation.app_pages if not page.is_hidden]
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif (
            kind == "script_finished" and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN and self._begun
        ):
            self._done.set()

    # The board

    def watch(self) -> None:
        """Ask the live route of the run in view five times a second, and let the page know once of every new state."""
        self._polling = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        told = None
        async with Questions(self.port) as questions:
            while True:
                start = time.monotonic()
                if self.run:
                    try:
                        answer = await questions.ask(f"/api/runs/{self.run}/live?n=0")
                    except (OSError, EOFError, ValueError) as error:
                        self.failed_polls.append(f"a question of the board failed: {error!r}")
                        return
                    self.seen.append((time.monotonic(), answer))
                    self.polls.append(self.seen[-1][0] - start)
                    # A page that was cut off is drawn again when it is back: `open` asks first, and asks again.
                    if answer["state"] != told and told is not None and self._drawn:
                        with suppress(websockets.ConnectionClosed):
                            await self.rerun()
                    told = answer["state"]
                await asyncio.sleep(max(0.0, PACE - (time.monotonic() - start)))

    @property
    def state(self) -> str:
        return str(self.seen[-1][1]["state"]) if self.seen else ""

    async def until(self, *states: str, seconds: float = 600.0) -> float:
        """Wait until the board shows one of these states. How long that took. Patient: trainers are nice, so others starve them."""
        start = time.monotonic()
        while self.state not in states:
            assert time.monotonic() - start < seconds, (self.state, states)
            assert self._polling is None or not self._polling.done(), self._polling
            await asyncio.sleep(0.01)
        return time.monotonic() - start

    # The end

    async def cut(self) -> None:
        """The connection is gone without a word."""
        self._drawn = False
        self._socket.transport.abort()
        await self._listening

    async def leave(self) -> None:
        polling, self._polling = self._polling, None
        if polling is not None:
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await polling
        await self._socket.close()
        await self._listening


class Questions:
    """One connection that is kept for many GETs, as browsers do."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> "Questions":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *args: object) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def ask(self, path: str) -> dict[str, Any]:
        """Asked a second time, on a new connection, where this one had rested and is closed: uvicorn closes it after 5 s."""
        try:
            return await self._ask(path)
        except (EOFError, ConnectionError) as error:
            if getattr(error, "partial", b""):
                raise
        await self.__aexit__()
        await self.__aenter__()
        return await self._ask(path)

    async def _ask(self, path: str) -> dict[str, Any]:
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        body = await self.reader.readexactly(int(length.split(b":")[1]))
        if not head.startswith(b"http/1.1 200"):
            raise ValueError(head.split(b"\r\n")[0])
        found: dict[str, Any] = json.loads(body)
        return found
