"""One bad file in a run folder takes nothing from people who look at other runs: each field of each file × forty values.

`ARCHIVES=5000 pytest tests/reliability/test_hostile.py -k archives` is the long form of the fuzzing.
"""

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from streamlit.testing.v1 import AppTest

from core.checkpoint import CheckpointError, load_state, load_weights, save_state, save_weights
from core.files import open_plain
from core.messages import ConfigError
from core.read import read as config_of
from playground import __main__ as cli
from playground import api, draft, exports, hosts, pick, runs_list
from playground.i18n import _
from playground.lessons import frame
from playground.runs import archive, bounds, branches, log, retention, store
from playground.runs.probe import CELLS
from playground.runs.store import Run, RunError, Status
from tests.playground.pretended import Pretended
from tests.playground.small import trained
from tests.reliability import hostile

ROOT = Path(__file__).parents[2]
ARCHIVES = int(os.environ.get("ARCHIVES", "150"))
EACH = 1 if os.environ.get("HOSTILE") == "all" else 7  # the values take turns: 7 and 40 have no divisor in common


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("PLAYGROUND_RUNS", str(folder))
    monkeypatch.setattr(api, "FRESH", 0.0)
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.setenv(name, "en")
    return folder


@pytest.fixture
def good() -> Run:
    run = trained(9)
    run.set_label(name="good", notes="n", tags=("a",))
    reason = "The training process ended unexpectedly (exit status {code}). Resume goes on from the last checkpoint."
    run.set_status(Status("interrupted", 9, 3.0, 1.5, reason, {"code": 1}))
    return run


@pytest.fixture
def grown(good: Run) -> Run:
    """It has every field that a run may have: as a branch that was given more steps."""
    facts = json.loads((good.path / "run.json").read_text())
    facts["parent"] = store.Parent(store.new_id(), 3, True)._asdict()
    (good.path / "run.json").write_text(json.dumps(facts))
    status = good.written_status()
    good.set_status(Status("finished", 9))
    assert branches.train_on(good, 12)
    good.set_status(status)
    return good


def live(run: Run) -> Any:
    scope = {"type": "http", "path_params": {"id": run.id}, "query_string": b"", "headers": []}
    response = asyncio.run(api.live(Request(scope)))
    assert response.status_code in (200, 404)
    return json.loads(bytes(response.body), parse_constant=pytest.fail)


def shown(run: Run) -> None:
    """Every reader of a run folder: nothing raises but RunError, and what comes out can be shown, printed and sent."""
    status, label = run.status(), run.label()
    assert len(repr(status)) < 20_000
    assert len(repr(label)) < 12_000
    reason = _(status.template).format(**status.values) if status.template else ""
    for said in (status.reason, reason, label.name, *label.tags):
        said.encode()
        assert bounds.harmless(said)
        assert len(said) < 2_000
    json.dumps(asdict(status), allow_nan=False)
    for record in run.metrics():
        assert 0 <= record["step"] <= bounds.STEPS
        json.dumps(record, allow_nan=False)
    exports.metrics_csv(run).encode()
    log.last_exact_match(run.path / "metrics.jsonl")
    found = store.find(run.id)
    with suppress(RunError):
        run.owner.encode()
        assert run.parent is None or store.RUN_ID.fullmatch(run.parent.run)
        assert 0 < run.target_steps <= 1_000_000
        assert all(step in run.saved_steps() for step in run.exact_steps())
        assert run.created.astimezone().year
        pick.title(run).encode()
        runs_list.table([runs_list.row(run)])
    assert live(run) == {"error": "unknown run"} if found is None else live(run)["state"] in store.STATES


def named(run: Run) -> bool:
    """Is it said that this run is damaged, and in which file?"""
    return run.id in store.unreadable() or bool(run.damage()) or run.log().damaged > 0


# Damage wherever it stands. The other values may stand in one field or another: a note is any text, a number small.
ALWAYS = {
    "400 digits", "4,300 digits", "5,000 digits", "seconds of 10^400", "an exponent of a hundred digits", "NaN", "Infinity",
    "-Infinity", "10 MB", "300,000 characters", "a lone surrogate", "a deep list",
}  # fmt: skip


def test_every_field_of_every_file_with_forty_values_one_by_one(grown: Run, show: Any) -> None:
    assert len(hostile.VALUES) == 40
    before = sorted(run.id for run in store.list_runs())
    unsaid, slowest, start = [], 0.0, time.monotonic()
    cases = list(hostile.cases(grown))[::EACH]
    for name, keys, what in cases:
        run = hostile.bad_run(grown, name, hostile.text(grown, name, keys, hostile.VALUES[what]))
        begun = time.monotonic()
        if name == "run.json" and store.find(run.id) is None:  # the other files are the good ones
            assert str(store.unreadable()[run.id])
            assert live(run) == {"error": "unknown run"}
        else:
            shown(run)
        slowest = max(slowest, time.monotonic() - begun)
        if what in ALWAYS and not named(run):
            unsaid.append((name, keys, what))
        shutil.rmtree(run.path)
    assert sorted(run.id for run in store.list_runs()) == before
    took = time.monotonic() - start
    show(f"{len(cases):,} bad files read one by one in {took:.0f} s; slowest {slowest:.2f} s; not named: {len(unsaid)}")
    assert not unsaid, unsaid
    assert slowest < 2.0


def many_values(what: str) -> bytes:
    """A run.json of many values, all of which are wrong."""
    if what == "pairs of numbers":
        facts = json.loads((Run(store.root() / trained(9).id).path / "run.json").read_text())
        facts["config"]["task"]["pairs"] = [[1, 2]] * 150_000
        return json.dumps(facts).encode()
    return b'{"schema":1,"x":[' + b",".join([b"[]"] * 690_000) + b"]}"


@pytest.mark.parametrize("what", ["pairs of numbers", "lists"])
def test_many_wrong_values_are_counted_once_and_not_described(
    good: Run, what: str, monkeypatch: pytest.MonkeyPatch, show: Any
) -> None:
    bad = [hostile.bad_run(good, "run.json", many_values(what).decode()) for _ in range(5)]
    read, blocked = [], []
    text = store._text
    monkeypatch.setattr(store, "_text", lambda path: read.append(path.name) or text(path))

    async def beside() -> None:
        """What else the server does while somebody asks for such a run."""
        asking = asyncio.create_task(
            api.live(Request({"type": "http", "path_params": {"id": bad[0].id}, "query_string": b"", "headers": []}))
        )
        while not asking.done():
            before = time.monotonic()
            await asyncio.sleep(0.001)
            blocked.append(time.monotonic() - before)
        assert (await asking).status_code == 404

    start = time.process_time()
    asyncio.run(beside())
    for _time in range(3):
        assert good.id in [run.id for run in store.list_runs()]
        assert {run.id for run in bad} <= store.unreadable().keys()
    took = time.process_time() - start
    show(f"five run.json of {what}: {took:.2f} s; the server stood still for {max(blocked):.3f} s")
    assert [read.count(run.id) for run in bad] == [1] * 5
    assert took < 2.5
    assert max(blocked) < 0.5
    (bad[0].path / "run.json").write_bytes((good.path / "run.json").read_bytes())  # and once mended, it is there
    assert store.find(bad[0].id) is not None
    with pytest.raises(ConfigError) as caught:
        config_of(json.dumps({"task": {"name": "pairs", "pairs": [[1, 2]] * 100_000}}))
    assert len(caught.value.problems) == 1


def test_a_file_that_cannot_be_read_for_a_moment_is_tried_again(good: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    store._cache.clear()
    with monkeypatch.context() as patch:
        patch.setattr(store, "open_plain", lambda path: (x for x in ()).throw(OSError("too many open files")))
        assert store.find(good.id) is None
    assert store.find(good.id) is not None


def test_ids_have_the_digits_that_an_address_has(good: Run) -> None:
    """Other scripts have digits, too, which no header and no address can carry."""
    odd = good.id.replace("2", "\u0662").replace("0", "\uff10")
    shutil.copytree(good.path, good.path.with_name(odd))
    trash = f".trash-{odd}-01234567"
    assert store.find(odd) is None
    assert store.folder_of(odd) is None
    assert not store.TRASH.fullmatch(trash)
    assert odd not in store.unreadable()
    assert [run.id for run in store.list_runs() if not run.is_sample] == [good.id]
    for pattern in (hosts.HOST, draft.NUMBER):
        assert not any(map(pattern.fullmatch, ("a:\u0662", "\u0662")))
    assert not frame.GUESS.fullmatch("\u0662")


def test_a_large_look_inside_keeps_nobody_waiting(good: Run, show: Any) -> None:
    """As large as the file may be, of one kind or another; and one of as many weights as training writes is taken."""
    probe = json.loads((good.path / "probe.json").read_text())
    size = bounds.LARGEST["probe.json"]
    for what, samples in (
        ("numbers", [0.5] * (size // 4 - 5000)),
        ("lists", [[]] * (size // 3 - 5000)),
        ("texts", [{"src": ["x" * 20] * 20_000, "expected": [], "got": []}] * 4),
    ):
        text = json.dumps(probe | {"samples": samples}, separators=(",", ":"))
        assert size // 2 < len(text) <= size
        run = hostile.bad_run(good, "probe.json", text)
        blocked = []

        async def beside(run: Run = run, blocked: list[float] = blocked) -> None:
            scope = {"type": "http", "path_params": {"id": run.id}, "query_string": b"", "headers": []}
            asking = asyncio.create_task(api.live(Request(scope)))
            while not asking.done():
                before = time.monotonic()
                await asyncio.sleep(0.001)
                blocked.append(time.monotonic() - before)
            assert json.loads(bytes((await asking).body))["probe"] is None

        begun = time.process_time()
        asyncio.run(beside())
        show(f"a look of {len(text):,} bytes of {what}: {max(blocked):.3f} s without an answer")
        assert max(blocked) < 0.25
        assert time.process_time() - begun < 1.0
        assert run.damage() == ["probe.json"]
    most = {"a": [[[0.123] * 12] * 12] * (CELLS // 144)}
    assert bounds.parse(json.dumps(most)) == most
    assert len(json.dumps([0.123] * CELLS)) * 2 < size


def test_a_package_that_is_not_handed_out_leaves_nothing(
    good: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges that nobody can give, a browser that goes away, an answer without a body."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())

    async def ask(method: str, headers: list[tuple[bytes, bytes]], fails: bool = False) -> int:
        scope = {"type": "http", "method": method, "path_params": {"id": good.id}, "headers": headers}
        told = []

        async def send(message: Any) -> None:
            told.append(message)
            if fails and message["type"] == "http.response.body":
                raise OSError("gone")

        async def receive() -> Any:
            await asyncio.sleep(60)

        with suppress(OSError, *([ExceptionGroup] if fails else [])):
            await api.archive(Request(scope))(scope, receive, send)
        return int(told[0]["status"])

    for value, status in ((b"bytes=9-1", 400), (b"x", 400), (b"bytes=999999999-", 416), (b"bytes=0-9", 206)):
        assert asyncio.run(ask("GET", [(b"range", value)])) == status
        assert sorted(tmp_path.iterdir()) == before, value
    assert asyncio.run(ask("HEAD", [])) == asyncio.run(ask("GET", [])) == asyncio.run(ask("GET", [], True)) == 200
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("named", "is_step"),
    [("weights/999999999", 9), ("weights/7", 9), ("weights/12", 12), ("optimizer/9", 7)],
)
def test_a_saved_step_is_the_step_that_its_name_says(good: Run, named: str, is_step: int, tmp_path: Path) -> None:
    state = load_state(good.state_path(9), good.config)
    file = tmp_path / "file"
    if named.startswith("weights"):
        save_weights(file, load_weights(good.weights_path(9), good.config.model), is_step)
    else:
        state.step = is_step
        save_state(file, state)
    whole = archive.export(good)
    changed = io.BytesIO()
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(changed, "w") as new:
        name = f"{good.id}/{named}.safetensors"
        for member in old.namelist():
            if member != name:
                new.writestr(member, old.read(member))
        new.writestr(name, file.read_bytes())
    whole.unlink()
    with pytest.raises(RunError, match=f"{named}.safetensors holds what no run holds"):
        archive.import_(changed)


def test_a_state_without_its_weights_is_left_out(good: Run) -> None:
    lone = next(step for step in range(99) if step not in good.saved_steps())
    whole = archive.export(good)
    with zipfile.ZipFile(whole, "a") as zipped:
        zipped.writestr(f"{good.id}/optimizer/{lone}.safetensors", b"junk")
    with whole.open("rb") as file:
        made = archive.import_(file)
    whole.unlink()
    assert [path.name for path in (made.path / "optimizer").iterdir()] == ["9.safetensors"]


# All at once, beside the runs of others


def odd_files(good: Run) -> dict[str, Run]:
    """Folders in which a file is none."""
    found = {}
    secret = good.path.parent.parent / "secret"
    secret.write_text('{"name": "secret"}')

    def make(what: str, name: str) -> Path:
        run = found[what] = hostile.bad_run(good, name, "")
        (run.path / name).unlink()
        return run.path / name

    for name in (*hostile.FILES, "weights/9.safetensors", "optimizer/9.safetensors", "writer.lock"):
        if name == "writer.lock":
            (good.path / name).touch()
        if hasattr(os, "mkfifo"):
            os.mkfifo(make(f"a pipe as {name}", name))
        make(f"a link out as {name}", name).symlink_to(secret)
        make(f"a folder as {name}", name).mkdir()
        if Path("/dev/zero").exists():
            make(f"a device as {name}", name).symlink_to("/dev/zero")
    linked = found["weights elsewhere"] = hostile.bad_run(good, "probe.json", "{}")
    shutil.rmtree(linked.path / "weights")
    (linked.path / "weights").symlink_to(good.path / "weights")
    return found


@pytest.fixture
def crowd(grown: Run) -> dict[str, Run]:
    """A bad run for each file and value, another field each time, and those whose files are none."""
    found = odd_files(grown)
    for name in hostile.FILES:
        cases = [case for case in hostile.cases(grown) if case[0] == name]
        for i, what in enumerate(hostile.VALUES):
            fits = [keys for _name, keys, value in cases if value == what]
            keys = fits[i % len(fits)]
            found[f"{what} as {keys} of {name}"] = hostile.bad_run(
                grown, name, hostile.text(grown, name, keys, hostile.VALUES[what])
            )
    return found


def page(name: str, **query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "playground" / "main.py"), default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    if name != "train":
        at.switch_page(f"../pages/{name}.py").run()
    assert not at.exception, at.exception
    return at


def test_readers_of_what_is_no_file_wait_for_nobody(grown: Run) -> None:
    for what, run in odd_files(grown).items():
        start = time.monotonic()
        shown(run)
        assert "secret" not in run.label().name, what
        if "weights/" in what or what == "weights elsewhere":
            assert run.saved_steps() != grown.saved_steps(), what
        elif run.saved_steps():
            load_weights(run.weights_path(9), grown.config.model)
        if not any(word in what for word in ("safetensors", "lock", "weights")):
            assert named(run) or (what.startswith("a folder") and "label" in what), what
        assert not run.alive(), what
        with suppress(RunError, bounds.Damaged), zipfile.ZipFile(archive.export(run)) as zipped:
            assert b"secret" not in b"".join(map(zipped.read, zipped.namelist()))
        assert time.monotonic() - start < 2.0, what
    with pytest.raises(CheckpointError):
        load_weights(Path("/dev/zero"), grown.config.model)
    with pytest.raises(OSError, match=r"."):
        open_plain(grown.path)


def test_other_runs_answer_as_before_with_all_of_them_at_once(
    good: Run, crowd: dict[str, Run], capsys: pytest.CaptureFixture[str], show: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [run for run in crowd.values() if store.find(run.id) is None]
    damaged = [run for run in crowd.values() if store.find(run.id) is not None and run.damage()]
    for name in ("runs", "attention", "generate", "train", "host"):
        start = time.monotonic()
        at = page(name, run=good.id, text="abc")
        show(f"{name}, beside {len(crowd)} bad folders: {time.monotonic() - start:.1f} s")
        if name == "runs":
            said = "\n".join(text.value for text in at.text)
            for run in bad[:100]:
                assert run.id in said
    assert live(good)["n"] == 9
    assert cli.main(["runs", "--all"]) == 0
    out, err = capsys.readouterr()
    assert good.id in out
    assert "\x1b" not in out + err
    for run in (*bad, *damaged):
        assert f"{run.id}: " in err, run
    crew = Pretended(slots=1)
    with suppress(OSError):  # said after the others are in the queue: in one folder no status can be written
        crew.resume_all("me")
    assert good.written_status().state in ("queued", "running")
    crew.close()
    good.set_status(Status("finished", 9))
    long_ago = time.time() - 100 * retention.DAY
    for run in (good, *crowd.values()):
        for path in run.path.rglob("*"):
            with suppress(OSError):
                os.utime(path, (long_ago, long_ago), follow_symlinks=False)
    facts = json.loads((good.path / "run.json").read_text()) | {"created": "2026-01-01T00:00:00+00:00"}
    (good.path / "run.json").write_text(json.dumps(facts))
    monkeypatch.setattr(time, "time", lambda now=time.time(): now + 400 * retention.DAY)  # noqa: B008
    assert retention.remove_old(30) >= 1
    assert store.find(good.id) is None
    for run in bad:
        assert cli.main(["delete", run.id, "--yes"]) == 0, run


def test_imported_they_are_refused_or_harmless(grown: Run, runs: Path, show: Any) -> None:
    whole = archive.export(grown)
    with zipfile.ZipFile(whole) as zipped:
        members = {name.partition("/")[2]: zipped.read(name) for name in zipped.namelist()}
    whole.unlink()
    refused = taken = 0
    cases = list(hostile.cases(grown))[::EACH]
    for name, keys, what in cases:
        if what != list(hostile.VALUES)[hash_of(name, keys) % 40] and what not in ALWAYS:
            continue
        text = hostile.text(grown, name, keys, hostile.VALUES[what])
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as zipped:
            for member, data in members.items():
                zipped.writestr(member, text.encode() if member == name else data)
        try:
            run = archive.import_(file)
        except RunError as error:
            assert len(_(error.template).format(**error.values)) < 3_000
            refused += 1
        else:
            shown(run)
            assert name == "metrics.jsonl" or not run.damage()
            shutil.rmtree(run.path)
            taken += 1
    show(f"{refused} of {refused + taken} archives with a bad field refused by a sentence, the rest harmless")
    assert [path.name for path in runs.iterdir()] == [grown.id]


def hash_of(name: str, keys: tuple[Any, ...]) -> int:
    return sum(map(ord, f"{name}{keys}"))


# Damaged archives

FLIP = st.tuples(st.just("flip"), st.integers(0, 10**9), st.integers(0, 7))
CUT = st.tuples(st.just("cut"), st.integers(0, 10**9), st.integers(0, 10**9))
SPLICE = st.tuples(st.just("splice"), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 400))
NOISE = st.tuples(st.just("noise"), st.integers(0, 10**9), st.binary(min_size=1, max_size=40))
HEADER = st.tuples(st.just("header"), st.integers(0, 40), st.integers(0, 45), st.binary(min_size=1, max_size=8))
ENDING = st.tuples(st.just("ending"), st.integers(0, 21), st.binary(min_size=1, max_size=4))
MEMBER = st.tuples(st.just("member"), st.integers(0, 10**6), st.sampled_from(sorted(hostile.VALUES)))
LINE = st.tuples(st.just("junk"), st.sampled_from([*hostile.FILES, "weights/9.safetensors"]), st.binary(max_size=60))
HEADERS = (b"PK\x03\x04", b"PK\x01\x02")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, bytes]]:
    """A run and its archive, of all kinds of files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_RUNS", str(tmp_path_factory.mktemp("whole")))
        run = trained(9)
        run.set_label(name="whole")
        path = archive.export(run)
        yield run, path.read_bytes()
        path.unlink()


def mutated(run: Run, data: bytes, changes: list[tuple[Any, ...]]) -> bytes:
    """The archive after these changes; those inside its files are made first, the zip is sound then."""
    inside = {}
    for kind, *how in changes:
        if kind == "member":
            paths = list(hostile.fields(run))
            name, keys = paths[how[0] % len(paths)]
            inside[name] = hostile.text(run, name, keys, hostile.VALUES[how[1]][: 2**20]).encode()
        elif kind == "junk":
            inside[how[0]] = how[1]
    if inside:
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, inside.get(name.partition("/")[2], old.read(name)))
        data = file.getvalue()
    found = bytearray(data)
    for kind, *how in changes:
        if not found:
            break
        if kind == "flip":
            found[how[0] % len(found)] ^= 1 << how[1]
        elif kind == "cut":
            start, end = sorted((how[0] % (len(found) + 1), how[1] % (len(found) + 1)))
            del found[start:end]
        elif kind == "splice":
            start, to = how[0] % len(found), how[1] % len(found)
            found[to : to + how[2]] = found[start : start + how[2]]
        elif kind == "noise":
            place = how[0] % len(found)
            found[place : place + len(how[1])] = how[1]
        elif kind == "header":
            places = [i for sign in HEADERS for i in every(found, sign)]
            if places:
                place = places[how[0] % len(places)] + how[1]
                found[place : place + len(how[2])] = how[2]
        elif kind == "ending":
            place = max(0, len(found) - 22 + how[0])
            found[place : place + len(how[1])] = how[1]
    return bytes(found)


def every(data: bytearray, sign: bytes) -> Iterator[int]:
    place = data.find(sign)
    while place >= 0:
        yield place
        place = data.find(sign, place + 1)


def test_damaged_archives_end_in_a_sentence(whole: tuple[Run, bytes], runs: Path, show: Any) -> None:
    """A traceback is any exception but RunError; what is taken nevertheless is a run that can be read."""
    run, data = whole
    counted = {"refused": 0, "taken": 0}

    @settings(
        max_examples=ARCHIVES,
        deadline=None,
        derandomize=ARCHIVES < 1000,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.lists(st.one_of(FLIP, CUT, SPLICE, NOISE, HEADER, HEADER, ENDING, MEMBER, LINE), min_size=1, max_size=3))
    def damaged(changes: list[tuple[Any, ...]]) -> None:
        file = io.BytesIO(mutated(run, data, changes))
        try:
            made = archive.import_(file)
        except RunError as error:
            assert str(error)
            assert len(_(error.template).format(**error.values)) < 3_000
            counted["refused"] += 1
        else:
            counted["taken"] += 1
            assert made.config
            made.status(), made.label(), made.metrics(), made.probe()
            shutil.rmtree(made.path)
        assert not list(runs.iterdir())

    damaged()
    show(
        f"{sum(counted.values()):,} damaged archives: {counted['refused']:,} refused, {counted['taken']:,} taken, 0 tracebacks"
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_take_any_amount_of_memory_are_refused(whole: tuple[Run, bytes], method: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole[1])) as old, zipfile.ZipFile(file, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(RunError, match="not the archive"):
        archive.import_(file)


def test_a_list_of_a_million_files_is_not_read(runs: Path) -> None:
    """Sixty megabytes of names would become a gigabyte of objects."""
    file, name = io.BytesIO(), b"n" * 80
    entry = b"PK\x01\x02" + bytes(24) + len(name).to_bytes(2, "little") + bytes(16) + name
    count = 500_000
    file.write(entry * count)
    size = file.tell()
    file.write(b"PK\x05\x06" + bytes(4) + b"\xff\xff" * 2 + size.to_bytes(4, "little") + bytes(6))
    start = time.process_time()
    with pytest.raises(RunError, match="not the archive"):
        archive.import_(file)
    assert time.process_time() - start < 0.5


# Exports


def test_an_export_replaces_nothing_unasked(good: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "kept.zip"
    target.write_text("somebody's")
    with pytest.raises(FileExistsError):
        archive.export(good, target)
    assert cli.main(["export", good.id, str(target)]) == 1
    assert "--force" in capsys.readouterr().err
    assert target.read_text() == "somebody's"
    assert cli.main(["export", good.id, str(target), "--force"]) == 0
    assert zipfile.ZipFile(target).testzip() is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.zip", "runs"]


def test_a_killed_export_leaves_no_half_file(good: Run, tmp_path: Path) -> None:
    """Killed at any moment: under the final name there is a whole archive, or nothing."""
    with (good.path / "metrics.jsonl").open("ab") as file:
        file.write(os.urandom(2**25))
    target, left = tmp_path / "out.zip", 0
    for wait in (0.0, 0.1, 0.2, 0.4):
        process = subprocess.Popen([sys.executable, "-m", "playground", "export", good.id, str(target)], cwd=ROOT)
        begun = time.monotonic()
        while process.poll() is None and time.monotonic() - begun < 60 and not list(tmp_path.glob(".out.zip.*")):
            time.sleep(0.005)
        time.sleep(wait)
        process.kill()
        process.wait()
        left += bool(list(tmp_path.glob(".out.zip.*")))
        if target.exists():
            assert zipfile.ZipFile(target).testzip() is None
            target.unlink()
    assert left, "killed too late to see anything"


def test_what_killed_downloads_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names = (f"{archive.PREFIX}old.zip", f"{archive.PREFIX}new.zip", "run-of-somebody.zip", f"{archive.PREFIX}x.txt")
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    for name in (names[0], names[2], names[3]):
        os.utime(tmp_path / name, (1e9, 1e9))
    archive.sweep()
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == set(names[1:])


def test_smaller_packages_hold_what_they_say(good: Run) -> None:
    def names(**what: Any) -> set[str]:
        path = archive.export(good, **what)
        with zipfile.ZipFile(path) as zipped:
            found = {name.partition("/")[2] for name in zipped.namelist()}
        assert path.stat().st_size <= archive.size(good, what.get("steps", good.saved_steps()), what.get("state", True))
        path.unlink()
        return found

    assert "optimizer/9.safetensors" in names()
    assert not [name for name in names(state=False) if name.startswith("optimizer")]
    few = archive.steps_of(good, 2 * good.weights_path(9).stat().st_size)
    assert len(few) == 2
    assert few[-1] == 9
    kept = names(steps=few, state=False)
    assert {name for name in kept if name.startswith("weights")} == {f"weights/{step}.safetensors" for step in few}
    assert archive.import_(archive.export(good, steps=few, state=False)).saved_steps() == few


def test_an_import_asks_whether_the_disk_has_room(good: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = archive.export(good, tmp_path / "a.zip")
    monkeypatch.setattr(archive, "LARGEST", 1000)
    with pytest.raises(RunError, match="unpacks to more than"):
        archive.import_(path)
    assert archive.import_(path, limited=False).config == good.config
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, archive.SPARE + 10))  # type: ignore[attr-defined]
    with pytest.raises(RunError, match="the disk has room for 0 MB"):
        archive.import_(path, limited=False)
