"""A run as one zip file, out and in. Nothing that comes in is believed: no path of the archive is ever used on disk."""

import json
import os
import re
import shutil
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

from core.checkpoint import UMASK, CheckpointError, check_weights, load_state
from core.files import open_plain
from core.messages import ConfigError
from core.read import read
from playground.i18n import N_, _
from playground.runs import bounds, store, stretches
from playground.runs.checkpoints import thin
from playground.runs.store import ENDED, Run, RunError, Status

LARGEST = 512 * 2**20  # bytes in all, unpacked, of an archive that comes through the app
MOST_HISTORY = bounds.LARGEST["metrics.jsonl"]
MOST_FILES = 1_000
SPARE = 64 * 2**20  # bytes that an import leaves free on the disk
CHUNK = 2**20  # bytes in memory at a time
MOST_AT_ONCE = 2 * CHUNK  # bytes that zipfile may ask for at once
HOUR = 3600.0
PREFIX = "run-of-transformer-playground-"  # of archives on their way to a browser, in the folder for temporary files
TENSORS = re.compile(r"(weights|optimizer)/([0-9]{1,9})\.safetensors")
SMALL = ("label.json", "probe.json", "status.json", stretches.NAME)
KNOWN = ("run.json", *SMALL, "metrics.jsonl")
PACKED = 0.5  # of a log's bytes stay in the archive, at most: 0.3 to 0.4 were measured
OVERHEAD = 300  # bytes that an archive needs for each file, at most

NOT_A_RUN = N_("This is not the archive of a run.")
DAMAGED = N_("The archive is damaged: its {file} holds what no run holds.")
TOO_LARGE = N_("The archive unpacks to more than {limit} MB or {files} files.")
NO_ROOM = N_("The archive unpacks to {size} MB, and the disk has room for {free} MB.")
EXISTS = N_("There is a file {file} already. To replace it: --force.")


class _Unsound(zipfile.BadZipFile):
    """The archive leads its reader astray."""


class _Source:
    """What zipfile reads from. It asks for as many bytes as the archive says, and seeks where the archive says."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(min(size, MOST_AT_ONCE + 1) if size >= 0 else MOST_AT_ONCE + 1)
        if len(data) > MOST_AT_ONCE:  # the list of far more than a thousand files
            raise _Unsound
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError, OverflowError) as error:
            raise _Unsound from error

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """The file belongs to who opened it."""


def steps_of(run: Run, cap: int | None = None) -> list[int]:
    """Which saved steps an archive holds: all, or as many as fit into so many bytes; the newest always."""
    sizes = {step: _size(run.weights_path(step)) for step in run.saved_steps(strict=True)}
    dropped = set() if cap is None else set(thin(sizes, cap=max(0, cap)))
    return [step for step in sizes if step not in dropped]


def size(run: Run, steps: Collection[int], state: bool = True) -> int:
    """Bytes that the archive will have, at most: what does not compress counts in full. Raises OSError."""
    parts = [_size(run.path / name) for name in KNOWN[:-1]] + [_size(run.weights_path(step)) for step in steps]
    parts += [_size(run.state_path(step)) for step in (run.resumable_steps(strict=True)[:1] if state else ())]
    return int(sum(parts) + PACKED * _size(run.path / "metrics.jsonl") + OVERHEAD * (len(parts) + 1))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def export(
    run: Run,
    target: Path | None = None,
    *,
    force: bool = False,
    steps: Collection[int] | None = None,
    state: bool = True,
) -> Path:
    """Write the run to a zip (a temporary file where no target is given) and return its path.

    The file appears whole, by one rename. `steps`: which saved weights (all), `state`: with what it needs to go on training.
    Raises FileExistsError where there is one already and nobody forces it, and other OSErrors.
    """
    if target is None:
        handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=".zip")
    else:
        if os.path.lexists(target) and not force:
            raise FileExistsError(target)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".part")
    made = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
                _pack(run, zipped, steps, state)
            if target is not None:
                file.flush()
                os.fsync(file.fileno())
        if target is None:
            return made
        os.chmod(made, 0o666 & ~UMASK)  # mkstemp makes files that only their owner can read
        if force:
            os.replace(made, target)
        else:
            _publish(made, target)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    return target


def _publish(made: Path, target: Path) -> None:
    """Rename, unless somebody made a file of that name meanwhile. Raises FileExistsError."""
    try:
        os.link(made, target)
    except FileExistsError:
        raise
    except OSError:  # a disk without links
        if os.path.lexists(target):
            raise FileExistsError(target) from None
        os.replace(made, target)
    else:
        made.unlink(missing_ok=True)


def _pack(run: Run, zipped: zipfile.ZipFile, steps: Collection[int] | None, state: bool) -> None:
    facts = bounds.read_object(run.path / "run.json") | {"owner": ""}  # who queued it is nobody's business
    zipped.writestr(f"{run.id}/run.json", json.dumps(facts, ensure_ascii=False))
    saved = run.saved_steps(strict=True)
    names = [*KNOWN[1:], *(f"weights/{step}.safetensors" for step in saved if steps is None or step in steps)]
    if state:
        names += [f"optimizer/{step}.safetensors" for step in run.resumable_steps(strict=True)[:1]]
    now = datetime.now().timetuple()[:6]
    for name in names:
        try:
            source = open_plain(run.path / name)
        except FileNotFoundError:  # not written yet, or replaced while we looked
            continue
        except OSError:
            if (run.path / name).is_symlink() or not (run.path / name).is_file():  # no run's file
                continue
            raise
        info = zipfile.ZipInfo(f"{run.id}/{name}", now)
        info.external_attr = 0o644 << 16
        # Noise stays as long.
        info.compress_type = zipfile.ZIP_STORED if name.endswith(".safetensors") else zipfile.ZIP_DEFLATED
        info.file_size = os.fstat(source.fileno()).st_size  # zipfile takes longer numbers where it has to
        with source, zipped.open(info, "w") as packed:
            shutil.copyfileobj(source, packed, CHUNK)


def sweep() -> None:
    """Remove archives that a process which was killed left in the folder for temporary files: ours, older than an hour."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*.zip"):
        with suppress(OSError):
            stat = left.lstat()
            mine = not hasattr(os, "getuid") or stat.st_uid == os.getuid()
            if mine and time.time() - stat.st_mtime > HOUR:
                left.unlink()


def import_(file: IO[bytes] | Path, owner: str = "", *, limited: bool = True) -> Run:
    """A new run, with a new id, from an archive that unpacks to LARGEST at most (not `limited`: to what the disk has room for).

    Raises RunError for anything that is not a whole and harmless run, OSError where the file cannot be opened or the run not
    be written.
    """
    if isinstance(file, Path):
        with open_plain(file.resolve(strict=True)) as opened:
            return _import(opened, owner, limited)
    return _import(file, owner, limited)


@contextmanager
def _judged() -> Iterator[None]:
    """Whatever a damaged archive makes its readers say becomes one sentence."""
    try:
        yield
    except RunError:
        raise
    except CheckpointError as error:
        raise RunError(error.template, **error.values) from error
    except ConfigError as error:
        sentences = (f"{p.loc}: {_(p.template).format(**p.values)}" for p in error.problems)
        raise RunError("{error}", error=" ".join(sentences)[:2000]) from error
    except (
        *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError),
        *(ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError),  # unknown methods, passwords, odd names
    ) as error:
        raise RunError(NOT_A_RUN) from error


def _import(file: IO[bytes], owner: str, limited: bool) -> Run:
    run = Run(store.root() / store.new_id())
    making = run.path.with_name(f".new-{run.id}")
    try:
        with _judged(), zipfile.ZipFile(_Source(file)) as zipped:
            members = _members(zipped, limited)
            small = {name: _object(zipped, members, name) for name in SMALL}
            facts = _object(zipped, members, "run.json")
            config, said_parent = read(_config(facts)), facts.get("parent")
            for name, data in small.items():
                if not _sound(name, data, config):
                    raise RunError(DAMAGED, file=name)
            for folder in ("weights", "optimizer", "control"):
                (making / folder).mkdir(parents=True, exist_ok=True)
            for name, info in members.items():
                if name == "metrics.jsonl" or "/" in name:
                    with zipped.open(info) as source, (making / name).open("wb") as target:
                        _copy(source, target, info.file_size)
            for name, data in small.items():
                if name == stretches.NAME and not data:
                    continue
                (making / name).write_text(json.dumps(data), encoding="utf-8")
            made = Run(making)
            added = stretches.added_of(small[stretches.NAME], config.train) or ()
            steps_in_all = (config.train.steps, *added)[-1]
            for step in made.saved_steps():
                said = check_weights(made.weights_path(step), config.model)
                if step > steps_in_all or said not in (None, str(step)):
                    raise RunError(DAMAGED, file=f"weights/{step}.safetensors")
            for step in made.resumable_steps():
                if load_state(made.state_path(step), config, steps_in_all).step != step:
                    raise RunError(DAMAGED, file=f"optimizer/{step}.safetensors")
        facts = store.facts(config, owner, store.parent_of(said_parent))
        status, label = made.written_status(), made.label()
        state = status.state if status.state in ENDED else "interrupted"
        steps = made.saved_steps()
        made.set_label(name=label.name, notes=label.notes, tags=label.tags, pinned=False)
        step = min(status.step, steps_in_all)
        return store.publish(run, facts, Status(state if steps else "draft", step, seconds=status.seconds), making)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _sound(name: str, data: dict[str, Any], config: Any) -> bool:
    """Holds this small file what a run of this config may hold? An empty one is like one that is not there. A reason in words
    of another version is left out and harms nothing.
    """
    if not data:
        return True
    if name == "status.json":
        status, whole = store.status_of(data | {"template": "", "values": {}})
        return status is not None and whole
    if name == "label.json":
        return store.label_of(data)[1]
    if name == stretches.NAME:
        return stretches.added_of(data, config.train) is not None
    return store.probe_of(data, config) is not None


def _members(zipped: zipfile.ZipFile, limited: bool) -> dict[str, zipfile.ZipInfo]:
    """The files of a run in the archive, by their name in the run folder: built from what matched, not from the archive."""
    infos = zipped.infolist()
    if len(infos) > MOST_FILES or (limited and sum(info.file_size for info in infos) > LARGEST):
        raise RunError(TOO_LARGE, limit=LARGEST // 2**20, files=MOST_FILES)
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.partition("/")[2] if info.filename.split("/")[0] not in KNOWN else info.filename
        if match := TENSORS.fullmatch(name):
            name = f"{match[1]}/{int(match[2])}.safetensors"
        elif name not in KNOWN:
            continue
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others may take any amount of memory
            raise RunError(NOT_A_RUN)
        members[name] = info
    if "metrics.jsonl" in members and members["metrics.jsonl"].file_size > MOST_HISTORY:
        raise RunError(TOO_LARGE, limit=MOST_HISTORY // 2**20, files=MOST_FILES)
    if "run.json" not in members:
        raise RunError(NOT_A_RUN)
    for name in [name for name in members if name.startswith("optimizer/")]:
        if name.replace("optimizer", "weights") not in members:  # nobody goes on from that
            del members[name]
    need = sum(info.file_size for info in members.values())
    store.root().mkdir(parents=True, exist_ok=True)
    free = max(0, shutil.disk_usage(store.root()).free - SPARE)
    if need > free:
        raise RunError(NO_ROOM, size=-(-need // 2**20), free=free // 2**20)
    return members


def _object(zipped: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str) -> dict[str, Any]:
    """A small JSON file of the archive; empty where it has none."""
    if name not in members:
        return {}
    with zipped.open(members[name]) as source:
        data = _all(source, bounds.LARGEST[name] + 1)
    if len(data) > bounds.LARGEST[name]:
        raise RunError(DAMAGED, file=name)
    try:
        return bounds.parse(data)
    except bounds.Damaged:
        raise RunError(DAMAGED, file=name) from None


def _all(source: IO[bytes], most: int) -> bytes:
    parts, left = [], most
    while left > 0 and (chunk := source.read(min(CHUNK, left))):
        parts.append(chunk)
        left -= len(chunk)
    return b"".join(parts)


def _config(facts: dict[str, Any]) -> str:
    """The settings in run.json, as JSON, whichever version wrote them."""
    try:
        config = store.current(facts)["config"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise error if isinstance(error, RunError) else RunError(NOT_A_RUN) from None
    return json.dumps(config)


def _copy(source: IO[bytes], target: BinaryIO | IO[bytes], size: int) -> None:
    """The size an archive states may be a lie, so it is counted."""
    left = size
    while chunk := source.read(min(CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise RunError(NOT_A_RUN)
        target.write(chunk)
