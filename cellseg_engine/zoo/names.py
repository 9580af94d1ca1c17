"""Names that a model can have on every computer."""

from __future__ import annotations

import re

from cellseg_engine.errors import SettingsError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DEVICES = frozenset(
    ("CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10)))
)
"""Windows takes these for devices, whatever comes behind a dot."""


def check_usable(name: str) -> None:
    """Refuse a name that cannot be that of a folder everywhere.

    Raises
    ------
    SettingsError
        One sentence says what a name may have.
    """
    stem = name.partition(".")[0].upper()
    if not _NAME.fullmatch(name) or name.endswith(".") or stem in _DEVICES:
        raise SettingsError(
            f"{name!r} cannot name a model: use up to 100 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit and not ending with a dot, and no name of a device.",
            hint="Give another name (on the command line: --name).",
        )
