"""The plan of the house against the imports of the code: arrows point down, and there is no circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [*ROOT.glob("core/**/*.py"), *ROOT.glob("playground/**/*.py"), *ROOT.glob("pages/*.py")]
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
OUTSIDE = ("streamlit", "pandas", "altair")


def named(path: Path) -> Iterator[str]:
    """What a file imports, at the top or in a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


GRAPH = {name: {found for found in named(path) if found in MODULES} for name, path in MODULES.items()}


def reached(start: str) -> set[str]:
    """All that a module imports, directly or not."""
    found: set[str] = set()
    ahead = [*GRAPH[start]]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += GRAPH[name]
    return found


def test_there_is_no_circle() -> None:
    door = {"core"}  # for a type checker it imports what it hands out
    assert [name for name in GRAPH if name in reached(name) and name not in door] == []
    assert not [name for name, found in GRAPH.items() if name.startswith("core.") and found & door]


# Who may not import whom: a room from one above it.
ABOVE = {
    "core": ("playground", "pages"),
    "playground.runs.": (
        "playground.settings.",
        "playground.views.",
        "playground.lessons.",
        "playground.components",
        "pages",
    ),
    "playground.settings.": ("playground.views.", "playground.lessons.", "playground.components", "pages"),
    "playground.views.": ("playground.lessons.", "pages"),
    "playground.lessons.": ("playground.views.", "pages"),
    "playground.components": ("playground.views.", "playground.lessons.", "pages"),
}


@pytest.mark.parametrize("room", ABOVE)
def test_arrows_point_down(room: str) -> None:
    climbing = {
        f"{name} -> {found}"
        for name in GRAPH
        if name.startswith(room)
        for found in GRAPH[name]
        if found.startswith(ABOVE[room])
    }
    assert not climbing


def test_core_knows_no_app() -> None:
    for name, path in MODULES.items():
        if name.startswith("core"):
            assert not [found for found in named(path) if found.split(".")[0] in OUTSIDE], name
