"""The run folder: the one contract between training and looking. DESIGN: training writes it, the app only reads it.

<id>/run.json                   written once: schema version, RunConfig, seed, versions
     status.json                replaced atomically: state, why, step
     label.json                 name, notes, tags, pinned: the only part a person edits
     metrics.jsonl              one writer, one line a record
     probe.json                 the newest look inside: attention of one example, six outputs
     weights/<step>.safetensors, optimizer/<step>.safetensors
     control/                   pause, step, stop, lr: what people asked of the trainer
     writer.lock                held while a trainer lives
"""

import json
import math
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from core.config import RunConfig
from playground.i18n import N_
from playground.runs import log
from playground.runs.files import held, read_json, write_json

SCHEMA = 1
# How run.json of format n becomes one of n + 1. In memory: what stands on the disk stays. There is one format so far.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
LARGEST_FACTS = 2 * 2**20  # bytes of run.json; 5,000 pairs of words fit
RUN_ID = re.compile(r"(?:\d{8}-\d{9}-[0-9a-f]{16}|sample-[a-z0-9-]{1,40})")
STATES = ("draft", "queued", "running", "paused", "finished", "stopped", "failed", "interrupted")
ACTIVE = ("queued", "running", "paused")
ENDED = ("finished", "stopped", "failed", "interrupted")

UNREADABLE = N_("Its run.json cannot be read.")
NEWER = N_("It was made by a newer version of Transformer Playground (format {schema}; this version reads {known}).")


@dataclass(frozen=True)
class Status:
    """What a run does. `template` says why, in English, `values` fill it: `_(s.template).format(**s.values)` translates."""

    state: str = "draft"
    step: int = 0
    steps_per_s: float | None = None
    seconds: float = 0.0  # of training, pauses left out
    template: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    server: str = ""  # a queued run: which server has it in its queue

    @property
    def reason(self) -> str:
        try:
            return self.template.format(**self.values)
        except (KeyError, IndexError, ValueError, AttributeError):
            return self.template

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True)
class Label:
    name: str = ""
    notes: str = ""
    tags: tuple[str, ...] = ()
    pinned: bool = False


class RunError(ValueError):
    """A run folder that cannot be used: template and values as in Status."""

    def __init__(self, template: str, **values: Any) -> None:
        self.template, self.values = template, values
        super().__init__(template.format(**values))


@dataclass(frozen=True)
class Run:
    """One run folder. Everything is read from the disk when it is asked for."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def is_sample(self) -> bool:
        return self.id.startswith("sample-")

    @property
    def config(self) -> RunConfig:
        """Raises RunError."""
        return _config(self.path, _facts(self.path).signature)

    @property
    def created(self) -> datetime:
        """Raises RunError."""
        return _facts(self.path).created

    @property
    def owner(self) -> str:
        return _facts(self.path).owner

    def status(self) -> Status:
        """What it does now. A run that says it is running, while nobody holds its lock, was interrupted."""
        status = self.written_status()
        if status.state == "running" and not self.is_sample and not self.alive():
            status = self.written_status()  # it may have ended between the two looks
            if status.state == "running":
                return replace(status, state="interrupted", steps_per_s=None)
        if status.state == "queued" and not (self.alive() or held(server_lock(self.path.parent, status.server))):
            return replace(self.written_status(), state="interrupted")
        return status

    def written_status(self) -> Status:
        """The status file as it stands."""
        data = read_json(self.path / "status.json")
        state, step = data.get("state"), data.get("step")
        if state not in STATES or type(step) is not int:
            return Status("interrupted" if self.saved_steps() else "draft", max(self.saved_steps(), default=0))
        speed, seconds, values = data.get("steps_per_s"), data.get("seconds"), data.get("values")
        return Status(
            state,
            step,
            float(speed) if isinstance(speed, (int, float)) and math.isfinite(speed) else None,
            float(seconds) if isinstance(seconds, (int, float)) and math.isfinite(seconds) else 0.0,
            str(data.get("template", "")),
            values if isinstance(values, dict) else {},
            str(data.get("server", "")),
        )

    def set_status(self, status: Status) -> None:
        """Raises OSError, also where the folder is gone."""
        write_json(self.path / "status.json", asdict(status))

    def alive(self, patience: float = 0.0) -> bool:
        """Does a trainer hold this folder? See `held` for patience."""
        return held(self.path / "writer.lock", patience)

    def label(self, strict: bool = False) -> Label:
        data = read_json(self.path / "label.json", strict)
        tags = data.get("tags")
        return Label(
            str(data.get("name") or ""),
            str(data.get("notes") or ""),
            tuple(map(str, tags)) if isinstance(tags, list) else (),
            data.get("pinned") is True,
        )

    def set_label(self, **changes: Any) -> Label:
        """Change name, notes, tags or pinned; the rest stays. Too long a text is cut. Raises OSError."""
        label = replace(self.label(strict=True), **changes)
        label = replace(
            label,
            name=" ".join(label.name.split())[:80],
            notes=label.notes[:10_000],
            tags=tuple(" ".join(tag.split())[:40] for tag in label.tags if tag.strip())[:20],
        )
        write_json(self.path / "label.json", asdict(label))
        return label

    def log(self) -> log.Log:
        """The records with what else the log knows: `events`, `damaged` (how many lines were skipped)."""
        return log.log(self.path / "metrics.jsonl")

    def metrics(self) -> list[dict[str, Any]]:
        """One record a step, in order: step, loss, lr, grad_norm, tokens_per_s, token_accuracy, exact_match, seconds."""
        return self.log().records()

    def saved_steps(self, strict: bool = False) -> list[int]:
        """`strict`: a folder that cannot be read just now raises OSError, where a page would show nothing."""
        return _steps(self.path / "weights", strict)

    def weights_path(self, step: int) -> Path:
        return self.path / "weights" / f"{int(step)}.safetensors"

    def state_path(self, step: int) -> Path:
        return self.path / "optimizer" / f"{int(step)}.safetensors"

    def resumable_steps(self, strict: bool = False) -> list[int]:
        """Steps with both weights and training state, newest first."""
        states = _steps(self.path / "optimizer", strict)
        return sorted(set(self.saved_steps(strict)) & set(states), reverse=True)

    def probe(self) -> dict[str, Any] | None:
        return read_json(self.path / "probe.json") or None

    def ask(self, request: str, value: object = "") -> None:
        """Leave a request for the trainer: pause, step (a number), stop, lr (a number). Raises OSError."""
        (self.path / "control").mkdir(exist_ok=True)
        write_json(self.path / "control" / request, value)

    def withdraw(self, *requests: str) -> None:
        for request in requests:
            (self.path / "control" / request).unlink(missing_ok=True)


def root() -> Path:
    """Where runs live: PLAYGROUND_RUNS, or ./runs."""
    return Path(os.environ.get("PLAYGROUND_RUNS") or "runs").absolute()


@cache
def samples() -> Path:
    """The trained runs that ship with the app: folders named sample-…, never written to."""
    return Path(__file__).parents[1] / "samples"


def server_lock(folder: Path, server: str) -> Path:
    """The lock a server holds for life, in the folder of runs. The name may come from a file, so it is checked."""
    return folder / f".server-{server if re.fullmatch('[0-9a-f]{16}', server) else 'none'}.lock"


_naming = Lock()
_named = datetime.min.replace(tzinfo=UTC)  # the moment in this process's last id


def new_id() -> str:
    """UTC time to the millisecond, which sorts, and 64 random bits, which nobody guesses.

    Ids of one process sort in the order of their making, also within a millisecond or when the clock is set back."""
    global _named
    with _naming:
        moment = _named = max(datetime.now(UTC), _named + timedelta(milliseconds=1))
    return f"{moment:%Y%m%d-%H%M%S}{moment.microsecond // 1000:03d}-{secrets.token_hex(8)}"


def create(config: RunConfig, owner: str = "") -> Run:
    """A new run, still a draft. The folder appears whole, by one rename. Raises OSError."""
    run = Run(root() / new_id())
    facts = {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "seed": config.train.seed,
        "versions": versions(),
        "owner": owner,
        "config": config.model_dump(mode="json"),
    }
    return publish(run, facts, Status())


def publish(run: Run, facts: dict[str, Any], status: Status, rest: Path | None = None) -> Run:
    """Put a new run folder in its place; `rest` is a folder beside it that already holds its other files."""
    making = rest or run.path.with_name(f".new-{run.id}")
    try:
        for name in ("weights", "optimizer", "control"):
            (making / name).mkdir(parents=True, exist_ok=True)
        write_json(making / "run.json", facts)
        Run(making).set_status(status)
        os.rename(making, run.path)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return run


def find(run_id: object) -> Run | None:
    """The run with this id, if there is one that can be read. The id may come from anywhere."""
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        return None
    run = Run((samples() if run_id.startswith("sample-") else root()) / run_id)
    try:
        _facts(run.path)
    except RunError:
        return None
    return run


def list_runs() -> list[Run]:
    """Every run that can be read, newest first, then the samples."""
    runs, _ = _list()
    return runs


def unreadable() -> dict[str, RunError]:
    """Folders that look like runs and cannot be read, with the reason."""
    _, bad = _list()
    return bad


def _list() -> tuple[list[Run], dict[str, RunError]]:
    runs, bad = [], {}
    for folder, shipped in ((root(), False), (samples(), True)):
        try:
            names = sorted((e.name for e in os.scandir(folder) if RUN_ID.fullmatch(e.name)), reverse=True)
        except OSError:
            continue
        for name in names:
            if name.startswith("sample-") != shipped:
                continue
            path = folder / name
            try:
                _facts(path)
                runs.append(Run(path))
            except RunError as error:
                if path.is_dir():  # not one that was deleted just now
                    bad[name] = error
    return runs, bad


def delete(run_id: str) -> bool:
    """Delete a run, training or not: it is gone from the list at once, and its trainer ends when it sees that."""
    run = find(run_id) or (Run(root() / run_id) if RUN_ID.fullmatch(run_id) else None)
    if run is None or run.is_sample or not run.path.is_dir():
        return False
    trash = run.path.with_name(f".trash-{run.id}-{secrets.token_hex(4)}")
    for attempt in range(100):
        try:
            os.rename(run.path, trash)
            break
        except PermissionError:  # Windows keeps a folder whose files are open
            if attempt == 99 or not run.alive():
                raise
            run.ask("stop")
            time.sleep(0.02)
    shutil.rmtree(trash, ignore_errors=True)
    return True


def sweep() -> None:
    """Remove what a process that was killed left half deleted, or half made (a day ago: it may still be in the making)."""
    for left in root().glob(".trash-*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in root().glob(".new-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 24 * 3600:
                shutil.rmtree(left, ignore_errors=True)


def archive(run_id: str) -> Path:
    """The run as a zip in a temporary file, which the caller removes. Raises KeyError for an unknown run, OSError."""
    from playground.runs.archive import export

    run = find(run_id)
    if run is None:
        raise KeyError(run_id)
    return export(run)


@cache
def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("torch", "streamlit", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _steps(folder: Path, strict: bool = False) -> list[int]:
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError as error:
        if strict and not isinstance(error, FileNotFoundError):
            raise
        return []
    return sorted(int(m[1]) for name in names if (m := re.fullmatch(r"(\d{1,9})\.safetensors", name)))


class _File(BaseModel):
    """run.json, as this version writes it."""

    model_config = ConfigDict(strict=True)
    format: Literal[1] = Field(alias="schema")
    created: str
    owner: Any = ""
    config: RunConfig


class _Facts(NamedTuple):
    signature: int  # of time, size and inode: as one number a third less is kept for each run
    created: datetime
    owner: str


_cache: dict[str, _Facts] = {}  # oldest first, by folder, as text: Paths would double what is kept
_cache_lock = Lock()
_KEPT = 12_000


def _facts(path: Path) -> _Facts:
    """What run.json says besides the config. It is written once, so it is checked once, config and all. Raises RunError."""
    try:
        stat = os.stat(f"{path}/run.json")
    except OSError:
        raise RunError(UNREADABLE) from None
    signature = hash((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    key = str(path)
    with _cache_lock:
        known = _cache.get(key)
    if known is not None and known.signature == signature:
        return known
    file = _read(path)
    facts = _Facts(signature, datetime.fromisoformat(file.created), str(file.owner))
    with _cache_lock:
        _cache[key] = facts
        while len(_cache) > _KEPT:
            del _cache[next(iter(_cache))]
    return facts


@lru_cache(maxsize=200)
def _config(path: Path, signature: int) -> RunConfig:
    """The configs in use. Checking ten thousand takes 0.1 s, keeping them 0.4 s and most of the memory."""
    return _read(path).config


def _read(path: Path) -> _File:
    """Raises RunError."""
    try:
        with open(f"{path}/run.json", "rb") as opened:
            text = opened.read(LARGEST_FACTS + 1)
    except OSError:
        raise RunError(UNREADABLE) from None
    if len(text) > LARGEST_FACTS:
        raise RunError(UNREADABLE)
    try:
        return _checked(text)
    except ValueError:  # pydantic's ValidationError is one
        pass
    try:
        return _checked(json.dumps(current(json.loads(text))))
    except RunError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise RunError(UNREADABLE) from None


def _checked(text: str | bytes) -> _File:
    file = _File.model_validate_json(text)
    if datetime.fromisoformat(file.created).tzinfo is None:
        raise ValueError
    return file


def current(facts: dict[str, Any]) -> dict[str, Any]:
    """What run.json says, brought to the format of this version. Raises RunError for that of a newer one."""
    schema = facts.get("schema")
    if type(schema) is not int:
        return facts
    if schema > SCHEMA:
        raise RunError(NEWER, schema=schema, known=SCHEMA)
    while schema < SCHEMA and schema in MIGRATIONS:
        schema, facts = schema + 1, MIGRATIONS[schema](facts) | {"schema": schema + 1}
    return facts
