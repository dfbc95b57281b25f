"""What the live components and the download links read. GET only: the ids are 64 random bits, and nothing can be changed here.

A component asks `/api/runs/<id>/live?n=<records it holds>&probe=<version it holds>` a few times a second. That has to stay
cheap with thirty viewers: records and probe are passed on as the bytes that stand on disk, read once however many look.
"""

import csv
import io
import json
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from core.config import RunConfig
from playground import models, replay
from playground.i18n import match, translations
from playground.runs import bounds, store
from playground.runs.archive import export
from playground.runs.launcher import launcher
from playground.runs.log import KEYS, each
from playground.runs.store import Run, RunError, Status

MOST = 20_000  # records in one answer; who lacks more asks again
LARGE = 2**20  # bytes of a log that are not read between two other answers
FRESH = 0.2  # seconds that an answer to "is it alive?" holds: taking a lock costs 0.15 ms
NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def path(run_id: str, base: str | None = "") -> str:
    """Where the routes of a run lie. `base` is the path the app lives under: server.baseUrlPath."""
    return f"/{(base or '').strip('/')}/api/runs/{run_id}".replace("//", "/")


def routes(base: str = "") -> list[Route]:
    runs = path("{id}", base)
    return [
        Route(f"{runs}/live", live),
        Route(f"{runs}/at/{{step}}", at),
        Route(f"{runs}/archive", archive),
        Route(f"{runs}/weights/{{step}}", weights),
        Route(f"{runs}/metrics.csv", metrics),
    ]


async def live(request: Request) -> Response:
    """State, the records the asker does not hold yet, and the newest probe if it is another than the asker's.

    {"state","reason","step","steps","n","restart","rewinds","records","events","damaged","place","waiting","steps_per_s",
    "seconds","probe","saved","states","pace","parent"}. `steps`: in all, with those that were added; `states`: the saved steps from
    which a branch goes on exactly; `parent`: {"run","step","exact"} of a branch. `n` is the count to ask with next time; `restart`: forget what you hold. A client that
    passes `rewinds` back also gets a restart when a record it may hold has changed. `lang` translates the reason.
    """
    asked_for = request.path_params["id"]
    found = _found(asked_for) if asked_for in _seen else await run_sync(_found, asked_for)
    if found is None:
        return JSONResponse({"error": "unknown run"}, 404, NO_STORE)
    run, config = found
    asked = request.query_params
    log_path = run.path / "metrics.jsonl"
    if size(log_path) > LARGE and run.id not in _seen:
        await run_sync(run.log)
    _seen[run.id] = None
    while len(_seen) > 32:  # less than the logs that stay in memory
        _seen.popitem(last=False)
    log = run.log()
    n = number(asked.get("n"))
    changed = "rewinds" in asked and asked["rewinds"] != str(log.rewinds)
    restart = n > len(log.lines) or changed
    n, records = log.since(0 if restart else n, MOST)
    status = _status(run)
    many = size(run.path / "probe.json") > LARGE // 16  # checking these takes 4 ms
    probe = await run_sync(_probe, run, config) if many else _probe(run, config)
    crew = launcher()
    answer = {
        "state": status.state,
        "reason": sentence(status, asked.get("lang")),
        "step": max(status.step, log.last().get("step", 0)) if status.state == "running" else status.step,
        "steps": run.target_steps,
        "n": n,
        "restart": restart,
        "rewinds": log.rewinds,
        "events": log.events[-200:],
        "damaged": log.damaged,
        "place": crew.place(run.id),
        "waiting": crew.waiting,
        "steps_per_s": status.steps_per_s if status.state == "running" else None,
        "seconds": status.seconds,
        "saved": run.saved_steps(),
        "states": run.exact_steps(),
        "pace": run.pace(),
        "parent": run.parent and run.parent._asdict(),
    }
    body = json.dumps(answer, ensure_ascii=False, separators=(",", ":"), default=str).encode()
    picture = probe[1] if probe is not None and str(probe[0]) != asked.get("probe") else b"null"
    body = body[:-1] + b',"records":[' + b",".join(records) + b'],"probe":' + picture + b"}"
    return Response(body, headers=NO_STORE, media_type="application/json")


def _found(run_id: object) -> tuple[Run, RunConfig] | None:
    """A run that can be read. The first look at one may take a while."""
    run = store.find(run_id)
    try:
        return (run, run.config) if run is not None else None
    except RunError:  # changed between the two looks
        return None


async def at(request: Request) -> Response:
    """The look inside at a saved step, as `probe` of the live answer shows it of the newest. `lang` translates a refusal."""
    found = await run_sync(_found, request.path_params["id"])
    if found is None:
        return JSONResponse({"error": "unknown run"}, 404, NO_STORE)
    step = number(str(request.path_params["step"]), -1)
    try:
        body = await run_sync(replay.at, *found, step)
    except RunError as error:
        status = Status(template=error.template, values=error.values)
        code = 404 if error.template in (replay.NO_STEP, models.GONE) else 422
        return JSONResponse({"error": sentence(status, request.query_params.get("lang"))}, code, NO_STORE)
    return Response(body, headers=NO_STORE, media_type="application/json")


def archive(request: Request) -> Response:
    """The run folder as a zip."""
    run = store.find(request.path_params["id"])
    if run is None:
        return JSONResponse({"error": "unknown run"}, 404, NO_STORE)
    return _Passing(export(run), filename=f"run-{run.id}.zip", headers=NO_STORE, media_type="application/zip")


class _Passing(FileResponse):
    """A file made for this answer, removed after it, whatever the answer became: of a range that nobody can give, too."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with suppress(OSError):
                os.unlink(self.path)


def weights(request: Request) -> Response:
    """The weights of one step, as .safetensors."""
    run, step = store.find(request.path_params["id"]), number(str(request.path_params["step"]), -1)
    if run is None or step not in run.saved_steps():
        return JSONResponse({"error": "unknown run or step"}, 404, NO_STORE)
    name = f"run-{run.id}-step-{step}.safetensors"
    return FileResponse(run.weights_path(step), filename=name, headers=NO_STORE, media_type="application/octet-stream")


def metrics(request: Request) -> Response:
    """All records as a CSV."""
    run = store.find(request.path_params["id"])
    if run is None:
        return JSONResponse({"error": "unknown run"}, 404, NO_STORE)
    headers = NO_STORE | {"Content-Disposition": f'attachment; filename="run-{run.id}.csv"'}
    pieces = table(run.path / "metrics.jsonl")
    if size(run.path / "metrics.jsonl") > LARGE:
        return StreamingResponse(pieces, headers=headers, media_type="text/csv")
    return Response("".join(pieces), headers=headers, media_type="text/csv")


def table(log_path: Path) -> Iterator[str]:
    """A CSV of all records, in pieces: a run may have a million."""
    text = io.StringIO()
    writer = csv.DictWriter(text, KEYS)
    writer.writeheader()
    with suppress(OSError):
        for record in each(log_path):
            writer.writerow(record)
            if text.tell() > LARGE:
                yield text.getvalue()
                text.seek(0)
                text.truncate()
    yield text.getvalue()


def sentence(status: Status, language: str | None) -> str:
    """Why the run is in this state, in a language of ours."""
    known = match(language)
    if known is None or not status.template:
        return status.reason
    try:
        return translations(known).gettext(status.template).format(**status.values)
    except (LookupError, ValueError, AttributeError, TypeError):
        return status.reason


def number(text: str | None, otherwise: int = 0) -> int:
    """A count from a URL."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else otherwise


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@dataclass(frozen=True)
class _Known:
    signature: tuple[int, int, int]
    value: Any


_seen: OrderedDict[str, None] = OrderedDict()
_statuses: OrderedDict[Path, tuple[float, Status]] = OrderedDict()
_probes: OrderedDict[Path, _Known] = OrderedDict()


def _status(run: Run) -> Status:
    """The state of a run, asked at most five times a second however many look."""
    known = _statuses.get(run.path)
    if known is not None and monotonic() - known[0] < FRESH:
        return known[1]
    status = run.status()
    _statuses[run.path] = monotonic(), status
    _statuses.move_to_end(run.path)
    while len(_statuses) > 256:
        _statuses.popitem(last=False)
    return status


def _probe(run: Run, config: RunConfig) -> tuple[int, bytes] | None:
    """Version and bytes of the newest probe, if it is whole and fits the run: the browser takes it as it is."""
    path = run.path / "probe.json"
    try:
        stat = path.lstat()
        signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        known = _probes.get(path)
        if known is None or known.signature != signature:
            known = _Known(signature, _whole_probe(bounds.read(path), config))
            _probes[path] = known
            _probes.move_to_end(path)
            while len(_probes) > 64:
                _probes.popitem(last=False)
    except (OSError, bounds.Damaged):
        return None
    found: tuple[int, bytes] | None = known.value
    return found


def _whole_probe(data: bytes, config: RunConfig) -> tuple[int, bytes] | None:
    try:
        probe = store.probe_of(bounds.parse(data.decode()), config)
    except ValueError:
        return None
    if probe is None or not probe.keys() >= {"version", "step", "src", "tgt", "patterns", "samples"}:
        return None
    return probe["version"], data
