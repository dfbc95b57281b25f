"""One run folder and the links of each format that was ever written: kept here as they were, and they open.

Whoever raises store.SCHEMA adds a folder: a run of the format before, made by the version before, with its links.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.checkpoint import load_state, load_weights
from playground.runs import archive, store
from playground.runs.store import Run
from tests.playground.small import train_here

ROOT = Path(__file__).parents[2]
EARLIER = Path(__file__).parent / "earlier"


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("PLAYGROUND_RUNS", str(folder))
    return folder


def kept(schema: int) -> Path:
    (found,) = (path for path in (EARLIER / f"schema-{schema}").iterdir() if path.is_dir())
    return found


def test_each_format_is_kept() -> None:
    assert {path.name for path in EARLIER.iterdir()} == {f"schema-{n}" for n in range(1, store.SCHEMA + 1)}
    for schema in range(1, store.SCHEMA + 1):
        assert json.loads((kept(schema) / "run.json").read_text())["schema"] == schema


@pytest.mark.parametrize("schema", range(1, store.SCHEMA + 1))
def test_a_run_of_each_format_opens_whole(schema: int, runs: Path) -> None:
    source = kept(schema)
    shutil.copytree(source, runs / source.name)
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    run = store.find(source.name)
    assert run is not None
    assert not run.damage()
    assert run.label().name == f"of schema {schema}"
    assert run.label().pinned
    status = run.status()
    assert (status.state, status.step, status.values) == ("interrupted", 6, {"code": 1})
    assert "exit status 1" in status.reason
    assert [record["step"] for record in run.metrics()] == [1, 2, 3, 4, 5, 6]
    assert run.log().events
    assert run.log().damaged == 0
    assert run.probe()
    for step in run.saved_steps():
        load_weights(run.weights_path(step), run.config.model)
    assert run.saved_steps() == [0, 3, 6]
    assert load_state(run.state_path(6), run.config).step == 6
    copy = archive.import_(archive.export(run))
    assert (copy.config, copy.metrics(), copy.saved_steps()) == (run.config, run.metrics(), run.saved_steps())
    assert train_here(copy) == "finished"
    assert {runs / source.name / path.relative_to(source): data for path, data in before.items()}.items() <= {
        path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()
    }.items()


LINKS = [
    (schema, link)
    for schema in range(1, store.SCHEMA + 1)
    for link in json.loads((EARLIER / f"schema-{schema}" / "links.json").read_text())
]


@pytest.mark.parametrize(("schema", "link"), LINKS, ids=[f"{schema}-{link['page']}" for schema, link in LINKS])
def test_a_link_of_each_format_opens(schema: int, link: dict[str, Any], runs: Path) -> None:
    source = kept(schema)
    shutil.copytree(source, runs / source.name)
    script = "playground/main.py" if link["page"] in ("train", "runs") else f"pages/{link['page']}.py"
    at = AppTest.from_file(str(ROOT / script), default_timeout=60)
    query = {name: value for name, value in link["query"].items() if value}
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    if link["page"] == "runs":
        at.switch_page("../pages/runs.py").run()
    assert not at.exception, at.exception
    assert not [text.value for text in (*at.error, *at.warning)]
    assert not [text.value for text in at.markdown if "not usable" in text.value]
    sent = [json.loads(part.proto.json or "{}") for part in at.get("bidi_component")]
    if link["page"] == "train":
        assert at.session_state["draft"].data["model"]["n_heads"] == 8
        assert at.session_state["draft"].data["task"]["name"] == "sort"
        assert at.session_state["draft"].data["train"]["lr"] == 0.004
        return
    if link["page"] == "runs":
        assert at.dataframe[0].value["name"].tolist()[0] == f"of schema {schema}"
        return
    (data,) = (found for found in sent if "input" in found)
    assert json.loads(data["input"])[0] == Run(source).id
    if link["page"] == "attention":
        assert (data["view"]["step"], data["view"]["layer"], data["view"]["head"]) == (3, 0, 1)
    else:
        assert at.session_state[f"generate.step.{source.name}"] == 3
        assert at.query_params["method"] in ("sample", ["sample"])
