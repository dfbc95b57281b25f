"""What tests of every kind use."""

from collections.abc import Callable
from functools import cache

import pytest
from streamlit.components.v2 import manifest_scanner

# Every AppTest looks through all installed packages for components, 0.15 s each time; none is installed meanwhile.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a figure whatever pytest captures."""

    def write(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}")

    return write
