"""The door of core: every name of it, and that nobody pays for torch who does not ask for it."""

import subprocess
import sys
from importlib import import_module

import pytest

import core


@pytest.mark.parametrize("name", core.__all__)
def test_a_name_of_the_door_is_that_of_its_module(name):
    assert getattr(core, name) is getattr(import_module(f"core.{core._HOME[name]}"), name)


def test_the_list_is_whole():
    assert sorted(core.__all__) == sorted(core._HOME)
    assert set(core.__all__) <= set(dir(core))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        core.nothing  # noqa: B018 - asking is the test


def test_a_configuration_loads_no_torch():
    code = "import sys; from core import RunConfig, ConfigError, PAD; RunConfig(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
