"""A real ImageJ in this very process: run these files alone, by name (see `__init__`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.fiji_host import require_host


@pytest.fixture(scope="session", autouse=True)
def java() -> Callable[[str], Any]:
    """Start ImageJ, and give what looks up its classes."""
    from cellseg_imagej import start_imagej
    from cellseg_imagej.java import java_class

    start_imagej(os.path.relpath(require_host() / "jars"), options=["-Xmx1g"])
    return java_class


Java = Callable[[str], Any]
