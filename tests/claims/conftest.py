"""`pytest tests/claims` trains every claim on three seeds. Without that path only the quick ones (marked quick_claims) run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.claims.training import Crew

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [item for item in items if HERE in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.claims)
    named = any(HERE in (path := Path(arg.split("::")[0]).resolve()).parents or path == HERE for arg in config.args)
    if named or "claims" in config.option.markexpr:
        return
    slow = [item for item in mine if item.get_closest_marker("quick_claims") is None]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    """Trains all that the chosen tests need, from the first moment on."""
    crew = Crew()
    crew.add(
        job
        for item in request.session.items
        if hasattr(item, "callspec")
        for job in item.callspec.params.get("needs", ())
    )
    yield crew
    crew.close()
