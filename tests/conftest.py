"""What more than one test needs and is built once: the sdist and the wheel."""

from pathlib import Path

import pytest

from tests import built


@pytest.fixture(scope="session")
def sdist(tmp_path_factory) -> Path:
    """The sdist of a copy of the checkout."""
    return built.sdist(tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def wheel(sdist) -> Path:
    """The wheel of the sdist."""
    return built.wheel(sdist)
