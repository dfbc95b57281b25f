"""What several of these tests use."""

from collections.abc import Iterator

import pytest

from playground.runs.launcher import Launcher


@pytest.fixture(scope="module")
def crew() -> Iterator[Launcher]:
    """A launcher with one slot, its worker warm."""
    made = Launcher(slots=1)
    made.warm()
    yield made
    made.close()
