"""What tests of every kind use."""

from collections.abc import Callable

import pytest


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a figure whatever pytest captures."""

    def write(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}")

    return write
