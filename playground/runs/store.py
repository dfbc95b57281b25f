"""The run folder: the one contract between training and looking. DESIGN: training writes it, the app only reads it.

<id>/run.json                   written once: schema version, RunConfig, seed, versions, parent (of a branch)
     added.json                 steps that were added to the run, see stretches.py
     status.json                replaced atomically: state, why, step
     label.json                 name, notes, tags, pinned: the only part a person edits
     metrics.jsonl              one writer, one line a record
     probe.json                 the newest look inside: attention of one example, six outputs
     weights/<step>.safetensors, optimizer/<step>.safetensors
     control/                   pause, step, stop, lr: what people asked of the trainer, and its pace
     writer.lock                held while a trainer lives
"""

import errno
import json
import os
import platform
import re
import secrets
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

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from core.config import REWARM, RunConfig
from core.files import is_plain, open_plain
from core.read import crowded
from playground.i18n import N_, ours
from playground.runs import bounds, files, log, states, stretches
from playground.runs.bounds import Damaged
from playground.runs.files import held, number, read_json, write_json

SCHEMA = 1
# How run.json of format n becomes one of n + 1. In memory: what stands on the disk stays. There is one format so far.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
LARGEST_FACTS = bounds.LARGEST["run.json"]
USUAL_FACTS = (
    2**14
)  # bytes of run.json where the task has no pairs, and more: of a larger one the values are counted first
NAME, NOTES, TAG, TAGS = 80, 10_000, 40, 20  # longest name, note and tag of a label, in characters; most tags
RUN_ID = re.compile(r"(?:[0-9]{8}-[0-9]{9}-[0-9a-f]{16}|sample-[a-z0-9-]{1,40})")
TRASH = re.compile(rf"\.trash-({RUN_ID.pattern})-[0-9a-f]{{8}}")  # a deleted run, see trash.py
STATES, ACTIVE, ENDED = states.NAMES, states.ACTIVE, states.ENDED
SERVER = re.compile("[0-9a-f]{16}")
STEP_FILE = re.compile(r"(0|[1-9][0-9]{0,8})\.safetensors")
PATTERN = re.compile(r"(encoder|decoder)\.([0-9]{1,3})\.(self|cross)")

PACES = 0.1, 1000.0  # steps a second that a run may be slowed down to: from, to

UNREADABLE = N_("Its run.json cannot be read.")
PARTLY = N_("Damaged, and left out as far as it is: {files}.")
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
        except (LookupError, ValueError, AttributeError, TypeError):
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


class Parent(NamedTuple):
    """Which step of which run a branch grew from, and whether it began with all of the training state there."""

    run: str
    step: int
    exact: bool


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

    @property
    def parent(self) -> Parent | None:
        """Of a branch. It may be gone. Raises RunError."""
        return _facts(self.path).parent

    @property
    def added(self) -> tuple[int, ...]:
        """Where it would have ended, then the end of every stretch that was added; mostly empty. Raises RunError."""
        return stretches.read(self.path, self.config.train)

    @property
    def target_steps(self) -> int:
        """Its steps in all, with those that were added. Raises RunError."""
        return (self.added or (self.config.train.steps,))[-1]

    def goes_on(self) -> bool:
        """Has it something left to train? Raises RunError."""
        status = self.written_status()
        return status.state != "finished" or (bool(self.added) and status.step < self.target_steps)

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
        """The status file as it stands; what training never writes is left out."""
        return self._status()[0]

    def _status(self) -> tuple[Status, bool]:
        """The status, and whether its file says only what training writes."""
        try:
            data = bounds.read_object(self.path / "status.json")
        except (OSError, Damaged) as error:
            data, whole = {}, isinstance(error, FileNotFoundError)
        else:
            status, whole = status_of(data)
            if status is not None:
                return status, whole
        step = max(self.saved_steps(), default=0)
        return Status("interrupted" if self.saved_steps() else "draft", step), whole

    def set_status(self, status: Status) -> None:
        """Raises OSError, also where the folder is gone."""
        write_json(self.path / "status.json", asdict(status))

    def alive(self, patience: float = 0.0) -> bool:
        """Does a trainer hold this folder? See `held` for patience."""
        return held(self.path / "writer.lock", patience)

    def label(self, strict: bool = False) -> Label:
        """`strict` as in `read_json`."""
        return label_of(read_json(self.path / "label.json", strict))[0]

    def set_label(self, **changes: Any) -> Label:
        """Change name, notes, tags or pinned; the rest stays. Too long a text is cut. Raises OSError."""
        label = replace(self.label(strict=True), **changes)
        label = replace(
            label,
            name=_one_line(label.name, NAME),
            notes=bounds.cleaned(label.notes, NOTES, lines=True),
            tags=tuple(filter(None, (_one_line(tag, TAG) for tag in label.tags)))[:TAGS],
        )
        write_json(self.path / "label.json", asdict(label))
        return label

    def damage(self) -> list[str]:
        """Names of its small files that hold what no run of ours holds: that part of them is left out wherever they are read."""
        found = [] if self._status()[1] else ["status.json"]
        for name, fits in (
            ("label.json", lambda data: label_of(data)[1]),
            ("probe.json", self._fits),
            (stretches.NAME, lambda data: stretches.added_of(data, self.config.train) is not None),
        ):
            try:
                if not fits(bounds.read_object(self.path / name)):
                    found.append(name)
            except Damaged:
                found.append(name)
            except OSError:
                continue
        if os.path.lexists(self.path / "metrics.jsonl") and not is_plain(self.path / "metrics.jsonl"):
            found.append("metrics.jsonl")
        return found + [name for name in files.foreign(self.path) if name not in found]

    def _fits(self, probe: dict[str, Any]) -> bool:
        return probe_of(probe, self.config) is not None

    def log(self) -> log.Log:
        """The records with what else the log knows: `events`, `damaged` (how many lines were skipped)."""
        return log.log(self.path / "metrics.jsonl")

    def metrics(self) -> list[dict[str, Any]]:
        """One record a step, in order: step, loss, lr, grad_norm, tokens_per_s, token_accuracy, exact_match, seconds. Those of a
        long run are thinned out: enough to be drawn. `log.each` has all of them.
        """
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

    def exact_steps(self) -> list[int]:
        """Saved steps from which a branch without changes is this run, bit for bit on the CPU. Raises RunError."""
        from core.model import parameter_counts  # loads torch, which who lists runs does without

        found = self.resumable_steps()
        with suppress(OSError):
            # Where no step was made there are no moments: the weights are all, unless they are rounded.
            if 0 in self.saved_steps() and self.weights_path(0).stat().st_size >= 4 * sum(
                parameter_counts(self.config.model).values()
            ):
                found.append(0)
        grew = self.parent
        cold = range(grew.step, grew.step + REWARM) if grew is not None and not grew.exact else ()
        return sorted(set(found) - set(cold))  # a rate that is still warming up anew stands in no state

    def pace(self) -> float | None:
        """Steps a second that it is slowed down to; None for full speed."""
        pace = number(self.path / "control" / "pace")
        return pace if pace is not None and PACES[0] <= pace <= PACES[1] else None

    def set_pace(self, pace: float | None) -> None:
        """Slow it down to so many steps a second, or None: as fast as it can. At once, and until it is set anew. Raises OSError."""
        if pace is None:
            self.withdraw("pace")
        elif PACES[0] <= pace <= PACES[1]:
            self.ask("pace", pace)

    def probe(self) -> dict[str, Any] | None:
        """The newest look inside, or None where there is none that fits this run."""
        try:
            return probe_of(read_json(self.path / "probe.json"), self.config) or None
        except RunError:
            return None

    def ask(self, request: str, value: object = "") -> None:
        """Leave a request for the trainer: pause, step (a number), stop, lr (a number). Raises OSError, also where the folder for
        it is a link: another run would be asked.
        """
        (self.path / "control").mkdir(exist_ok=True)
        if not (files.is_folder(self.path) and files.is_folder(self.path / "control")):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.path / "control"))
        write_json(self.path / "control" / request, value)

    def withdraw(self, *requests: str) -> None:
        """Take requests back, whatever lies there in their place. Raises OSError."""
        if not (files.is_folder(self.path) and files.is_folder(self.path / "control")):  # a link: to another run's
            return
        for request in requests:
            path = self.path / "control" / request
            if files.is_folder(path):
                files.remove(path)
            else:
                path.unlink(missing_ok=True)


def root() -> Path:
    """Where runs live: PLAYGROUND_RUNS, or ./runs."""
    return Path(os.environ.get("PLAYGROUND_RUNS") or "runs").absolute()


@cache
def samples() -> Path:
    """The trained runs that ship with the app: folders named sample-…, never written to."""
    return Path(__file__).parents[1] / "samples"


def server_lock(folder: Path, server: str) -> Path:
    """The lock a server holds for life, in the folder of runs. The name may come from a file, so it is checked."""
    return folder / f".server-{server if SERVER.fullmatch(server) else 'none'}.lock"


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
    return publish(Run(root() / new_id()), facts(config, owner), Status())


def facts(config: RunConfig, owner: str, parent: Parent | None = None) -> dict[str, Any]:
    """What run.json says of a run that is made now."""
    found = {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "seed": config.train.seed,
        "versions": versions(),
        "owner": owner,
        "config": config.model_dump(mode="json"),
    }
    return found if parent is None else found | {"parent": parent._asdict()}


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
        files.remove(making)
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


def folder_of(run_id: object) -> Run | None:
    """The folder of a person's run, readable or not: for those who want to be rid of it."""
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id) or run_id.startswith("sample-"):
        return None
    run = Run(root() / run_id)
    return run if run.path.is_dir() else None


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
    """Delete a run, training or not: it is gone from the list at once, and its trainer ends when it sees that. It lies in the
    trash for a day (see trash.py). Of a link to a folder only the link goes, at once. Raises OSError.
    """
    run = find(run_id) or (Run(root() / run_id) if RUN_ID.fullmatch(run_id) else None)
    if run is None or run.is_sample or not os.path.lexists(run.path):
        return False
    if not files.is_folder(run.path):
        return run.path.is_symlink() and files.remove(run.path)
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
    with suppress(OSError):
        os.utime(trash)  # since when it lies there
    return True


def disk(run: Run) -> int:
    """Bytes that a run takes on the disk."""
    return files.size(run.path, 10_000)[0]


def sweep() -> None:
    """Remove what has lain in the trash for a day, and what a process that was killed left half made as long ago."""
    for left in [*root().glob(".trash-*"), *root().glob(".new-*")]:
        deleted = TRASH.fullmatch(left.name)
        if left.name.startswith(".trash-") and not deleted:  # was being deleted for good
            files.remove(left)
            continue
        with suppress(OSError):
            age = time.time() - left.lstat().st_mtime
            if age < 0 and files.is_folder(left):  # the clock was set back: its day begins now
                os.utime(left)
            if age > 24 * 3600 and deleted:
                half = left.with_name(f".trash-{secrets.token_hex(8)}")  # nobody restores half a run
                os.rename(left, half)
                left = half
            if age > 24 * 3600 or left.is_symlink():
                files.remove(left)


def status_of(data: dict[str, Any]) -> tuple[Status | None, bool]:
    """What a status file says, or None where it says neither state nor step; and whether training could have written it.

    The reason is one of our own texts, filled with short values, or none: a text of the file's own is never a template.
    """
    try:
        if data.get("state") not in STATES:
            raise Damaged
        status = Status(data["state"], bounds.whole(data.get("step"), 0, bounds.STEPS))
    except (Damaged, TypeError):  # a list is in no tuple, but a dict cannot even be looked for
        return None, False
    whole = True
    try:
        if data.get("steps_per_s") is not None:
            status = replace(status, steps_per_s=bounds.real(data["steps_per_s"], 0, bounds.SPEED))
    except Damaged:
        whole = False
    try:
        status = replace(status, seconds=bounds.real(data.get("seconds") or 0.0, 0, bounds.SECONDS))
    except Damaged:
        whole = False
    template, values, server = data.get("template") or "", data.get("values") or {}, data.get("server") or ""
    if isinstance(server, str) and (not server or SERVER.fullmatch(server)):
        status = replace(status, server=server)
    else:
        whole = False
    if not isinstance(values, dict) or len(values) > 20 or not all(map(bounds.scalar, (*values, *values.values()))):
        return status, False
    if template:
        try:
            known = isinstance(template, str) and template in ours() and len(template.format(**values)) < 10_000
        except (LookupError, ValueError, AttributeError, TypeError):
            known = False
        if not known:
            return status, False
        status = replace(status, template=template, values=values)
    return status, whole


def label_of(data: dict[str, Any]) -> tuple[Label, bool]:
    """What a label file says, with texts cut and cleaned; and whether nothing had to be."""
    name, notes, tags = data.get("name") or "", data.get("notes") or "", data.get("tags") or []
    right = isinstance(name, str) and isinstance(notes, str) and isinstance(tags, list)
    right = right and len(tags) <= TAGS and all(isinstance(tag, str) for tag in tags)
    label = Label(
        _one_line(name, NAME) if isinstance(name, str) else "",
        bounds.cleaned(notes, NOTES, lines=True) if isinstance(notes, str) else "",
        tuple(filter(None, (_one_line(tag, TAG) for tag in tags[:TAGS] if isinstance(tag, str))))
        if isinstance(tags, list)
        else (),
        data.get("pinned") is True,
    )
    same = right and (label.name, label.notes, list(label.tags)) == (name, notes, tags)
    return label, same and isinstance(data.get("pinned", False), bool)


def _one_line(text: str, most: int) -> str:
    return " ".join(bounds.cleaned(text, most + 1_000).split())[:most].rstrip()


def probe_of(data: dict[str, Any], config: RunConfig) -> dict[str, Any] | None:
    """The look inside, if every part of it that is there fits a run of this config: shares from 0 to 1, as many heads as it
    has (or says to show) and as many rows and columns as it names tokens, short tokens.
    """
    try:
        for name in {"version", "step"} & data.keys():
            bounds.whole(data[name], 0, bounds.STEPS)
        most = config.model.n_layers, config.model.n_heads
        shown = data.get("shown", list(most))
        if not isinstance(shown, list) or len(shown) != 2:
            return None
        layers, heads = (bounds.whole(n, 0, high) for n, high in zip(shown, most, strict=True))
        src, tgt = (_tokens(data.get(name, []), config.model.max_len + 1) for name in ("src", "tgt"))
        samples = data.get("samples", [])
        if not isinstance(samples, list) or len(samples) > 100:
            return None
        for sample in samples:
            if not isinstance(sample, dict) or sample.keys() != {"src", "expected", "got"}:
                return None
            for tokens in sample.values():
                _tokens(tokens, config.model.max_len + 1)
        patterns = data.get("patterns", {})
        if not isinstance(patterns, dict):
            return None
        for name, pattern in patterns.items():
            match = PATTERN.fullmatch(name)
            if not match or not most[0] - layers <= int(match[2]) < most[0]:  # the last layers
                return None
            rows = src if match[1] == "encoder" else tgt
            columns = src if match[3] == "cross" else rows
            if not isinstance(pattern, list) or len(pattern) != heads:
                return None
            for head in pattern:
                if not isinstance(head, list) or len(head) != len(rows):
                    return None
                for row in head:
                    if not isinstance(row, list) or len(row) != len(columns):
                        return None
                    if not all(type(x) in (float, int) and 0 <= x <= 1 for x in row):
                        return None
    except Damaged:
        return None
    return data


def _tokens(value: object, most: int) -> list[str]:
    if not isinstance(value, list) or len(value) > most or not all(isinstance(t, str) and len(t) <= 20 for t in value):
        raise Damaged
    if any("\ud800" <= c <= "\udfff" for token in value for c in token):
        raise Damaged
    return value


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
        if folder.is_symlink():
            return []
        with os.scandir(folder) as found:
            names = [entry.name for entry in found if entry.is_file(follow_symlinks=False)]
    except OSError as error:
        if strict and not isinstance(error, FileNotFoundError):
            raise
        return []
    return sorted(int(m[1]) for name in names if (m := STEP_FILE.fullmatch(name)))


class _Parent(BaseModel):
    model_config = ConfigDict(strict=True)
    run: str = Field(max_length=80)
    step: int = Field(ge=0, le=stretches.MOST_STEPS)
    exact: bool = False

    @field_validator("run")
    @classmethod
    def _is_an_id(cls, run: str) -> str:
        if not RUN_ID.fullmatch(run):
            raise ValueError(run)
        return run


class _File(BaseModel):
    """run.json, as this version writes it."""

    model_config = ConfigDict(strict=True)
    format: Literal[1] = Field(alias="schema")
    created: str = Field(max_length=64)
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    versions: dict[str, str] = Field({}, max_length=50)
    owner: str = Field("", max_length=100)
    parent: _Parent | None = None
    config: RunConfig


class _Facts(NamedTuple):
    signature: int  # of time, size, inode and what can be read: as one number a third less is kept for each run
    created: datetime
    owner: str
    parent: Parent | None


class _Verdict(NamedTuple):
    """Why it cannot be read: found once, told as long as the file stays the same."""

    signature: int
    template: str
    values: dict[str, Any]


_cache: dict[str, _Facts | _Verdict] = {}  # oldest first, by folder, as text: Paths would double what is kept
_cache_lock = Lock()
_KEPT = 12_000


def _facts(path: Path) -> _Facts:
    """What run.json says besides the config. It is written once, so it is checked once, config and all. Raises RunError."""
    try:
        stat = os.lstat(f"{path}/run.json")
    except OSError:
        raise RunError(UNREADABLE) from None
    signature = hash((stat.st_mtime_ns, stat.st_size, stat.st_ino, len(MIGRATIONS)))  # who knows more reads more
    key = str(path)
    with _cache_lock:
        known = _cache.get(key)
    if known is None or known.signature != signature:
        text = _text(path)
        try:
            file = _parsed(text)
            known = _Facts(signature, bounds.moment(file.created), file.owner, parent_of(file.parent))
        except RunError as error:
            known = _Verdict(signature, error.template, error.values)
        with _cache_lock:
            _cache[key] = known
            while len(_cache) > _KEPT:
                del _cache[next(iter(_cache))]
    if isinstance(known, _Verdict):
        raise RunError(known.template, **known.values)
    return known


@lru_cache(maxsize=200)
def _config(path: Path, signature: int) -> RunConfig:
    """The configs in use. Checking ten thousand takes 0.1 s, keeping them 0.4 s and most of the memory."""
    return _parsed(_text(path)).config


def parent_of(said: object) -> Parent | None:
    """What a run.json says of its parent; None where it has none, or says what no run of ours says."""
    try:
        found = said if isinstance(said, _Parent) else _Parent.model_validate(said)
    except ValidationError:
        return None
    return Parent(found.run, found.step, found.exact)


def _text(path: Path) -> bytes:
    """Raises RunError where it cannot be read now: it may be another time."""
    try:
        with open_plain(f"{path}/run.json") as opened:
            return opened.read(LARGEST_FACTS + 1)
    except OSError:
        raise RunError(UNREADABLE) from None


def _parsed(text: bytes) -> _File:
    """Raises RunError for what no run.json says."""
    if len(text) > LARGEST_FACTS:
        raise RunError(UNREADABLE)
    if crowded(text):
        raise RunError(UNREADABLE)
    try:
        return _checked(text)
    except ValueError:  # pydantic's ValidationError is one
        pass
    try:
        facts = bounds.parse(text)
        moved = current(facts)
        if moved is facts:  # of this format: that was checked
            raise Damaged
        return _checked(json.dumps(moved))
    except RunError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise RunError(UNREADABLE) from None


def _checked(text: str | bytes) -> _File:
    file = _File.model_validate_json(text)
    bounds.moment(file.created)
    words = (file.owner, *file.versions, *file.versions.values())
    if not all(len(word) <= 200 and bounds.harmless(word) for word in words):
        raise Damaged
    return file


def current(facts: dict[str, Any]) -> dict[str, Any]:
    """What run.json says, brought to the format of this version. Raises RunError for that of a newer one."""
    schema = facts.get("schema")
    if type(schema) is not int or not 0 <= schema < 10**6:
        return facts
    if schema > SCHEMA:
        raise RunError(NEWER, schema=schema, known=SCHEMA)
    while schema < SCHEMA and schema in MIGRATIONS:
        schema, facts = schema + 1, MIGRATIONS[schema](facts) | {"schema": schema + 1}
    return facts
