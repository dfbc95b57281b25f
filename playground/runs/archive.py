"""A run as one zip file, out and in. Nothing that comes in is believed: no path of the archive is ever used on disk."""

import json
import os
import re
import shutil
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from core.checkpoint import CheckpointError, load_state, load_weights
from core.messages import ConfigError
from core.read import read
from playground.i18n import N_, _
from playground.runs import store
from playground.runs.files import read_json
from playground.runs.store import ENDED, Run, RunError, Status

LARGEST = 512 * 2**20  # bytes in all, unpacked
MOST_HISTORY = 192 * 2**20  # bytes of metrics.jsonl, which is held in memory: a million records
MOST_FILES = 1_000
LARGEST_FILE = {"run.json": 2 * 2**20, "status.json": 2**16, "label.json": 2**16, "probe.json": 16 * 2**20}
TENSORS = re.compile(r"(weights|optimizer)/(\d{1,9})\.safetensors")
KNOWN = ("run.json", "status.json", "label.json", "probe.json", "metrics.jsonl")

NOT_A_RUN = N_("This is not the archive of a run.")
TOO_LARGE = N_("The archive unpacks to more than {limit} MB or {files} files.")


def export(run: Run, target: Path | None = None) -> Path:
    """Write the run to a zip (a temporary file where no target is given) and return its path. Raises OSError."""
    if target is None:
        handle, name = tempfile.mkstemp(prefix="run-", suffix=".zip")
        os.close(handle)
        target = Path(name)
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
            facts = read_json(run.path / "run.json", strict=True) | {"owner": ""}  # who queued it is nobody's business
            zipped.writestr(f"{run.id}/run.json", json.dumps(facts, ensure_ascii=False))
            names = [*KNOWN[1:], *(f"weights/{s}.safetensors" for s in run.saved_steps(strict=True))]
            names += [f"optimizer/{s}.safetensors" for s in run.resumable_steps(strict=True)[:1]]
            for name in names:
                kind = (
                    zipfile.ZIP_STORED if name.endswith(".safetensors") else zipfile.ZIP_DEFLATED
                )  # noise stays as long
                try:
                    zipped.write(run.path / name, f"{run.id}/{name}", kind)
                except FileNotFoundError:  # not written yet, or replaced while we looked
                    continue
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def import_(file: IO[bytes] | Path, owner: str = "") -> Run:
    """A new run, with a new id, from an archive. Raises RunError for anything that is not a whole and harmless run."""
    run = Run(store.root() / store.new_id())
    making = run.path.with_name(f".new-{run.id}")
    try:
        with zipfile.ZipFile(file) as zipped:
            members = _members(zipped)
            for name in ("weights", "optimizer", "control"):
                (making / name).mkdir(parents=True, exist_ok=True)
            config = read(_config(_object(zipped, members, "run.json")))
            facts = {
                "schema": store.SCHEMA,
                "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "seed": config.train.seed,
                "versions": store.versions(),
                "owner": owner,
                "config": config.model_dump(mode="json"),
            }
            for name, info in members.items():
                if name not in LARGEST_FILE:
                    with zipped.open(info) as source, (making / name).open("wb") as target:
                        _copy(source, target, info.file_size)
            for name in ("label.json", "probe.json", "status.json"):
                (making / name).write_text(json.dumps(_object(zipped, members, name)), encoding="utf-8")
        made = Run(making)
        for step in made.saved_steps():
            load_weights(made.weights_path(step), config.model)
        for step in made.resumable_steps():
            load_state(made.state_path(step), config)
        status, label = made.written_status(), made.label()
        state = status.state if status.state in ENDED else "interrupted"
        steps = made.saved_steps()
        made.set_label(name=label.name, notes=label.notes, tags=label.tags, pinned=False)
        step = min(max(status.step, 0), config.train.steps)
        return store.publish(run, facts, Status(state if steps else "draft", step, seconds=status.seconds), making)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, UnicodeDecodeError) as error:
        shutil.rmtree(making, ignore_errors=True)
        raise RunError(NOT_A_RUN) from error
    except CheckpointError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise RunError(error.template, **error.values) from error
    except ConfigError as error:
        shutil.rmtree(making, ignore_errors=True)
        sentences = (f"{p.loc}: {_(p.template).format(**p.values)}" for p in error.problems)
        raise RunError("{error}", error=" ".join(sentences)) from error
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _members(zipped: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of a run in the archive, by their name in the run folder: built from what matched, not from the archive."""
    infos = zipped.infolist()
    if len(infos) > MOST_FILES or sum(info.file_size for info in infos) > LARGEST:
        raise RunError(TOO_LARGE, limit=LARGEST // 2**20, files=MOST_FILES)
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.partition("/")[2] if info.filename.split("/")[0] not in KNOWN else info.filename
        if match := TENSORS.fullmatch(name):
            members[f"{match[1]}/{int(match[2])}.safetensors"] = info
        elif name in KNOWN:
            members[KNOWN[KNOWN.index(name)]] = info
    if "metrics.jsonl" in members and members["metrics.jsonl"].file_size > MOST_HISTORY:
        raise RunError(TOO_LARGE, limit=MOST_HISTORY // 2**20, files=MOST_FILES)
    if "run.json" not in members:
        raise RunError(NOT_A_RUN)
    return members


def _object(zipped: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str) -> dict[str, Any]:
    """A small JSON file of the archive; empty where it has none."""
    if name not in members:
        return {}
    with zipped.open(members[name]) as source:
        data = source.read(LARGEST_FILE[name] + 1)
    if len(data) > LARGEST_FILE[name]:
        raise RunError(TOO_LARGE, limit=LARGEST // 2**20, files=MOST_FILES)
    try:
        found = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise RunError(NOT_A_RUN) from None
    if not isinstance(found, dict):
        raise RunError(NOT_A_RUN)
    return found


def _config(facts: dict[str, Any]) -> str:
    """The settings in run.json, as JSON, whichever version wrote them."""
    try:
        config = store.current(facts)["config"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise error if isinstance(error, RunError) else RunError(NOT_A_RUN) from None
    return json.dumps(config)


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """The size an archive states may be a lie, so it is counted."""
    left = size
    while chunk := source.read(min(2**20, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise RunError(NOT_A_RUN)
        target.write(chunk)


def _refuse(name: str) -> float:
    raise ValueError(name)
