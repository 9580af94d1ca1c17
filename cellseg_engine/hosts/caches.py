"""What Python and Jython make from our files: compiled copies that go when the file goes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def remove_caches(folder: Path, names: Iterable[str]) -> None:
    """Remove the compiled copies of files, and the ``__pycache__`` folders that are empty then.

    They are left where they cannot be removed: the host makes them again, or ignores them.
    """
    for name in names:
        path = folder / name
        if path.suffix != ".py":
            continue
        cache = path.parent / "__pycache__"
        compiled = [*cache.glob(f"{path.stem}.*.pyc"), path.with_name(f"{path.stem}$py.class")]
        for copy in compiled:
            with suppress(OSError):
                copy.unlink(missing_ok=True)
        with suppress(OSError):
            cache.rmdir()
