"""Serving a class: what is open by default, who gets an answer, what `serve` promises. Real requests to a real server."""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import websockets

from playground import api, host_key
from playground.hosts import Hosts
from playground.runs import retention, store
from playground.runs.store import Status
from tests.browser.conftest import ROOT, free_port
from tests.playground.small import config, until
from tests.reliability.client import Visitor
from tests.reliability.test_load import LONG, run

DAY = 24 * 3600
ME = "class.example"  # the name that the server is given


@dataclass
class Class:
    """A server started with the command for a class."""

    port: int
    token: str
    runs: Path
    process: subprocess.Popen[str]
    old: str
    kept: set[str]
    said: list[str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Class]:
    folder, port = tmp_path_factory.mktemp("class"), free_port()
    old, kept = old_runs(folder / "runs")
    options = ["--address", "127.0.0.1", "--port", str(port), "--slots", "1", "--runs-per-person", "1"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "playground", "serve", *options, "--keep-days", "14", "--host", ME],
            cwd=ROOT,
            env=os.environ | {"PLAYGROUND_RUNS": str(folder / "runs"), "LANGUAGE": "en"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        token = re.search(r"token=(\S+)", said[2])
        assert token, said
        until(lambda: answers(port), 60, 0.1)
        yield Class(port, token[1], folder / "runs", process, old, kept, said)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close() if process.stdout else None
    assert "Traceback" not in (folder / "server.log").read_text()


def old_runs(folder: Path) -> tuple[str, set[str]]:
    """Five runs: the id of the one that is to be removed, and of the others."""
    before = os.environ.get("PLAYGROUND_RUNS")
    os.environ["PLAYGROUND_RUNS"] = str(folder)
    try:
        runs = {name: store.create(config(5)) for name in ("old", "pinned", "paused", "young", "used")}
        runs["old"].set_status(Status("finished", 5))
        runs["pinned"].set_label(pinned=True)
        runs["paused"].set_status(Status("paused", 2))
    finally:
        del os.environ["PLAYGROUND_RUNS"]
        if before is not None:
            os.environ["PLAYGROUND_RUNS"] = before
    for name, made in runs.items():
        if name != "young":
            age_by(made, 15)
    (runs["used"].path / "metrics.jsonl").touch()  # somebody went on with it today
    return runs["old"].id, {made.id for name, made in runs.items() if name != "old"}


def age_by(made: store.Run, days: float) -> None:
    """As if it had been made, and last written to, so many days ago."""
    facts = json.loads((made.path / "run.json").read_text())
    then = time.time() - days * DAY
    facts["created"] = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(then))
    (made.path / "run.json").write_text(json.dumps(facts))
    for path in made.path.iterdir():
        os.utime(path, (then, then))


def answers(port: int, path: str = "/_stcore/health", method: str = "GET", **headers: str) -> int:
    """The status of an answer; 0 without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers=headers)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_what_the_command_says(served: Class) -> None:
    assert f"http://{ME}:{served.port}\n" in served.said[0]
    assert "no logins" in served.said[1]
    assert f"http://{ME}:{served.port}/host?token=" in served.said[2]
    assert len(served.token) >= 20


@pytest.mark.parametrize(
    "path", ["/", "/host", "/static/nothing.js", "/api/runs/x/live", "/_stcore/health", "/_stcore/metrics"]
)
def test_a_foreign_name_gets_no_answer(served: Class, path: str) -> None:
    for name in (f"127.0.0.1:{served.port}", "localhost", f"{ME}:{served.port}", ME.upper(), "[::1]:80"):
        assert answers(served.port, path, Host=name) != 403, name
    foreign = (
        "evil.example",
        f"evil.example:{served.port}",
        f"{ME}.evil.example",
        "127.0.0.1.evil.example",
        "192.168.7.7",
    )
    for name in (*foreign, f"{ME}@evil.example", "evil.example#localhost", "", "localhost, evil.example", "0x7f.1"):
        assert answers(served.port, path, Host=name) in (400, 403), name


@pytest.mark.parametrize(
    ("host", "origin", "welcome"),
    [
        ("127.0.0.1", "http://127.0.0.1:{port}", True),
        ("localhost", "http://localhost:{port}", True),
        (ME, f"http://{ME}:{{port}}", True),
        ("127.0.0.1", None, True),  # no browser
        ("127.0.0.1", "http://evil.example", False),
        ("127.0.0.1", "http://localhost:1", False),  # another server on this computer
        ("127.0.0.1", "http://127.0.0.1", False),
        ("127.0.0.1", "null", False),
        ("evil.example", "http://evil.example:{port}", False),  # a name that was pointed here
        ("evil.example", None, False),
    ],
)
def test_a_websocket_of_another_site_is_refused(served: Class, host: str, origin: str | None, welcome: bool) -> None:
    async def connect() -> int:
        try:
            async with websockets.connect(
                f"ws://{host}:{served.port}/_stcore/stream",
                host="127.0.0.1",
                origin=origin and origin.format(port=served.port),  # type: ignore[arg-type]
                subprotocols=["streamlit"],  # type: ignore[list-item]
                proxy=None,
            ):
                return 101
        except websockets.InvalidStatus as error:
            return error.response.status_code

    assert run(connect()) == (101 if welcome else 403)


def test_an_upload_of_another_site_is_refused(served: Class) -> None:
    path = "/_stcore/upload_file/x/y"
    assert answers(served.port, path, "PUT", Origin="http://evil.example") == 403
    assert answers(served.port, path, "PUT", Origin=f"http://127.0.0.1:{served.port}") in (400, 403)  # no such session


def test_runs_a_person(served: Class) -> None:
    """One browser is one person, in every tab and after a refresh; another browser is another."""

    async def press() -> None:
        ann, again, bob = (Visitor(served.port, LONG, person=name) for name in ("ann", "ann", "bob"))
        for visitor in (ann, again, bob):
            await visitor.open()
            await visitor.press("Train")
        assert ann.run
        assert (again.run, "Here one person may have 1 run training or waiting" in again.text()) == ("", True)
        assert bob.run
        await ann.press("Stop")
        ann.watch()
        await ann.until("stopped", seconds=30)
        await again.press("Train")
        assert again.run
        for visitor in (again, bob):
            await visitor.press("Stop")
            visitor.watch()
            await visitor.until("stopped", seconds=30)
        for visitor in (ann, again, bob):
            await visitor.leave()
            assert visitor.exceptions == []

    run(press())


def get(port: int, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer
    finally:
        connection.close()


def test_the_page_of_the_host(served: Class) -> None:
    """Only the key opens it: no address does, since a proxy on this computer gives everybody this computer's."""

    async def visit() -> None:
        ann = Visitor(served.port, LONG, person="carol")
        await ann.open()
        await ann.press("Train")
        for key, host, welcome in [
            ("", "127.0.0.1", False),
            ("", "localhost", False),
            ("", ME, False),
            (served.token[:-1], "127.0.0.1", False),
            (served.token.swapcase(), ME, False),
            (served.token, ME, True),
            (served.token, "127.0.0.1", True),
        ]:
            page = Visitor(served.port, "", "host", host, key=key)
            await page.open()
            assert ("This page is for the host." in page.text()) is not welcome, (key, host)
            assert ("Training 1 / 1" in page.text() or "Nobody trains now" in page.text()) is welcome, page.text()
            if page.button("■ Stop"):
                assert welcome
                assert "Pages open 2" in page.text()
                await page.press("■ Stop")
            assert page.exceptions == []
            await page.leave()
        ann.watch()
        await ann.until("stopped", seconds=10)
        await ann.leave()

    run(visit())


@pytest.mark.parametrize(
    "query", ["token=", "token={short}", "token=%C3%B6", "token=x&token={key}x", "lang=en&token=x"]
)
def test_a_wrong_key_leaves_the_address_and_makes_nobody_a_host(served: Class, query: str) -> None:
    answer = get(served.port, "/host?" + query.format(short=served.token[:-1], key=served.token))
    assert (answer.status, answer.getheader("Set-Cookie")) == (303, None)
    assert answer.getheader("Location") == ("/host?lang=en" if "lang" in query else "/host")


def test_the_key_comes_once_and_stays_as_a_cookie(served: Class) -> None:
    answer = get(served.port, f"/host?token={served.token}&lang=zh_CN")
    assert (answer.status, answer.getheader("Location")) == (303, "/host?lang=zh_CN")
    name, *rules = (answer.getheader("Set-Cookie") or "").split("; ")
    assert name == f"playground_host={served.token}"
    assert {"Path=/", "HttpOnly", "SameSite=Strict"} <= set(rules)
    assert any(rule.startswith("Max-Age=") for rule in rules)  # a restart of the browser does not lose it
    for elsewhere in ("//evil.example/host", "/x/host", "/api/runs/host", "/hosts"):
        assert (
            get(served.port, f"{elsewhere}?token={served.token}").getheader("Set-Cookie", "").count(served.token) == 0
        )


def test_the_key_outlives_the_server(tmp_path: Path) -> None:
    """The cookie of yesterday opens the page today; nobody else on the computer may read the file."""
    first = host_key.kept(tmp_path / "runs")
    assert host_key.kept(tmp_path / "runs") == first
    assert len(first) >= 20
    file = tmp_path / "runs" / host_key.FILE
    assert sys.platform == "win32" or file.stat().st_mode & 0o077 == 0
    for damaged in (b"", b"short", b"\xff" * 30, b"x" * 10_000, b"a b" * 10):
        file.write_bytes(damaged)
        assert len(new := host_key.kept(tmp_path / "runs")) >= 20
        assert host_key.kept(tmp_path / "runs") == new
    assert host_key.kept(Path("/proc/none")) != host_key.kept(Path("/proc/none"))


@pytest.mark.skipif(sys.platform == "win32", reason="owners, modes and pipes of POSIX")
@pytest.mark.parametrize("kind", ["open to all", "open to the group", "foreign", "link", "pipe", "folder", "device"])
def test_a_key_that_somebody_else_may_know_is_no_key(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a pipe in its place keep the server from starting. A new key takes the place of an old file."""
    file, planted = tmp_path / host_key.FILE, "k" * 22
    if kind == "link":
        (tmp_path / "elsewhere").write_text(planted)
        (tmp_path / "elsewhere").chmod(0o600)
        file.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(file, 0o600)
    elif kind == "folder":
        (file / "x").mkdir(parents=True)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        file.write_text(planted)
        file.chmod({"open to all": 0o666, "open to the group": 0o640}.get(kind, 0o600))
    if kind == "foreign":
        mine = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    key = host_key.kept(tmp_path)
    assert len(key) >= 20
    assert key != planted
    if kind != "folder":
        monkeypatch.undo()
        assert file.stat().st_mode & 0o077 == 0
        assert host_key.kept(tmp_path) == key
    if kind == "link":
        assert (tmp_path / "elsewhere").read_text() == planted


def test_alone_nobody_is_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(host_key.VARIABLE, raising=False)
    assert not host_key.served()
    assert not any(map(host_key.right, ("", None, "None", "x" * 22)))


def test_serve_opens_the_browser_of_the_host_with_the_key(tmp_path: Path) -> None:
    """A browser of five lines, which writes down where it was sent."""
    browser, port = tmp_path / "browser", free_port()
    browser.write_text(
        f'#!/bin/sh\necho "$1" > {tmp_path}/opened.part && mv {tmp_path}/opened.part {tmp_path}/opened\n'
    )
    browser.chmod(0o755)
    link = tmp_path / "bin" / "xdg-open"  # what Streamlit asks first on Linux
    link.parent.mkdir()
    link.symlink_to(browser)
    environment = os.environ | {"PLAYGROUND_RUNS": str(tmp_path / "runs"), "BROWSER": str(browser), "LANGUAGE": "en"}
    environment |= {"PATH": f"{link.parent}{os.pathsep}{os.environ['PATH']}"}
    for options, opens in (["--no-browser"], False), ([], True):
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "playground", "serve", "--address=127.0.0.1", f"--port={port}", *options],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            until(lambda: answers(port), 60, 0.1)
            if opens:
                until((tmp_path / "opened").exists, 10, 0.1)
                key = (tmp_path / "runs" / host_key.FILE).read_text()
                assert (tmp_path / "opened").read_text().strip() == f"http://localhost:{port}/host?token={key}"
            else:
                time.sleep(1.0)
                assert not (tmp_path / "opened").exists()
        finally:
            process.terminate()
            process.wait(10)


@pytest.mark.parametrize(
    "path", ["/", "/host", "/static/nothing.js", "/api/runs/x/live", "/_stcore/health", "/favicon.png"]
)
@pytest.mark.parametrize("name", [ME, "evil.example"])
def test_every_answer_keeps_other_sites_out(served: Class, path: str, name: str) -> None:
    """No frame of theirs holds the app, no referrer hands them the id of a run."""
    answer = get(served.port, path, Host=name)
    assert answer.getheader("Content-Security-Policy") == "frame-ancestors 'self'"
    assert answer.getheader("X-Frame-Options") == "SAMEORIGIN"
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Referrer-Policy") == "same-origin"


def test_the_page_of_the_host_is_in_no_menu(served: Class) -> None:
    async def look() -> None:
        visitor = Visitor(served.port)
        await visitor.open()
        assert "runs" in visitor.navigation
        assert "host" not in visitor.navigation
        await visitor.leave()

    run(look())


def test_old_runs_are_removed_at_the_start(served: Class) -> None:
    there = {path.name for path in served.runs.iterdir() if store.RUN_ID.fullmatch(path.name)}
    assert served.kept <= there
    assert served.old not in there


def test_only_what_is_old_idle_and_not_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYGROUND_RUNS", str(tmp_path / "runs"))
    old, kept = old_runs(tmp_path / "runs")
    assert {made.id for made in retention.expired(14)} == {old}
    assert retention.expired(16) == []
    assert retention.remove_old(14) == 1
    assert {made.id for made in store.list_runs() if not made.is_sample} == kept


@pytest.mark.parametrize(
    ("text", "days"), [("", None), ("0", None), ("-3", None), ("nan", None), ("x", None), ("14", 14)]
)
def test_nothing_is_removed_unless_it_was_asked_for(
    text: str, days: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYGROUND_KEEP_DAYS", text)
    assert retention.keep_days() == days


@pytest.mark.parametrize(
    ("address", "names", "host", "ours"),
    [
        ("localhost", (), "localhost:8501", True),
        ("localhost", (), "192.168.0.9:8501", False),  # nobody gets here by it
        ("0.0.0.0", (), "192.168.0.9:8501", True),
        ("0.0.0.0", (), "[fe80::1]:8501", True),
        ("0.0.0.0", (), "evil.example", False),
        ("0.0.0.0", ("play.school",), "Play.School.:8501", True),
        ("0.0.0.0", ("play.school",), "play.school:x", False),
        ("play.school", (), "play.school", True),
        ("0.0.0.0", (), "", False),
        ("0.0.0.0", (), "192.168.0.9.evil.example", False),
    ],
)
def test_names_of_a_server(address: str, names: tuple[str, ...], host: str, ours: bool) -> None:
    assert (host in Hosts(address, names)) is ours


@pytest.mark.parametrize(
    "option",
    ["--port=0", "--port=70000", "--slots=0", "--slots=x", "--runs-per-person=-1", "--keep-days=0", "--host=a b"],
)
def test_wrong_options_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    from playground.__main__ import main

    with pytest.raises(SystemExit) as stopped:
        main(["serve", option])
    assert stopped.value.code == 2
    assert "is no" in capsys.readouterr().err


def test_the_defaults_are_those_for_one_person() -> None:
    """What `streamlit run` uses here, read back from Streamlit itself."""
    code = (
        "import json; from streamlit import config; from streamlit.web import bootstrap; bootstrap.load_config_options({});"
        "names = ['server.address', 'server.maxUploadSize', 'browser.gatherUsageStats', 'client.showErrorDetails',"
        "'server.enableCORS', 'server.enableXsrfProtection', 'server.enableStaticServing', 'server.enableAgentApi'];"
        "print(json.dumps({name: config.get_option(name) for name in names}))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLIT_")}
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(out.stdout)
    assert (
        found.pop("server.maxUploadSize") == 64
    )  # an archive of a run fits; who may send one, and how many at once: Uploads
    assert found == {
        "server.address": "localhost",
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "type",  # details go to the console
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,
    }


def test_it_listens_where_it_was_told(served: Class) -> None:
    listening = [
        c.laddr for c in psutil.Process(served.process.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN
    ]
    assert {tuple(address) for address in listening} == {("127.0.0.1", served.port)}


def test_the_live_route_lies_under_the_base_path() -> None:
    assert api.routes("/class/a/")[0].path == "/class/a/api/runs/{id}/live"
    assert api.routes("")[0].path == "/api/runs/{id}/live"
