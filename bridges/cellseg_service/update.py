"""Whether the engine on the disk is still the one that runs."""

from __future__ import annotations

import re
from pathlib import Path

from cellseg_engine import _version

_VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)


def newer_version() -> str:
    """Give the version on the disk if it is another one than runs, else nothing.

    A file that is not there, or half written, tells nothing: it is being replaced.
    """
    try:
        found = _VERSION.search(Path(_version.__file__).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found and found[1] != _version.__version__ else ""
