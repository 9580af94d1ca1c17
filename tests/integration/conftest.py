"""What many tests of this folder start from."""

from __future__ import annotations

import pytest

from tests.integration.cli import Cli


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Give the command line in this process, with what it writes."""
    return Cli(capfd)
