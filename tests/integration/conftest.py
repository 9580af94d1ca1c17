"""What many tests of this folder start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli import Cli
from tests.integration.fiji_host import ImageJ
from tests.integration.fiji_runs import close_all, fiji_with_engine
from tests.integration.training import draw_pairs, small_network


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Give the command line in this process, with what it writes."""
    return Cli(capfd)


@pytest.fixture(scope="module")
def fiji_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageJ]:
    """Give a headless Fiji with an engine of its own."""
    with fiji_with_engine(tmp_path_factory.mktemp("fiji")) as (fiji, _):
        yield fiji


@pytest.fixture
def fiji(fiji_host: ImageJ) -> Iterator[ImageJ]:
    """Give it without what an earlier test left open."""
    yield fiji_host
    close_all(fiji_host)


@pytest.fixture
def small_networks() -> Iterator[None]:
    """Let networks be small."""
    with small_network():
        yield


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of images and their labels."""
    return draw_pairs(tmp_path_factory.mktemp("pairs"))
