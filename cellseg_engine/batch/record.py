"""``run.json``: what made the results of an image, and whether they are still those."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellseg_engine.errors import ReadError, WriteError
from cellseg_engine.settings import Settings

FORMAT = 1
_RUNNING_ONLY = frozenset({"batch_size", "device", "precision", "diameter_scope"})
"""Settings that do not say what was asked of the image itself."""


def describe_sources(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Give path, size, time and SHA-256 of the input files."""
    described = []
    for path in files:
        state = path.stat()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        described.append(
            {
                "path": str(path.resolve()),
                "bytes": state.st_size,
                "modified_ns": state.st_mtime_ns,
                "sha256": digest,
            }
        )
    return described


def read_record(path: Path) -> dict[str, Any]:
    """Read a run.json.

    Raises
    ------
    ReadError
        Damaged or of a newer version.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadError(
            f"{path} is not a run.json of this version.",
            hint="Use --existing overwrite to make the results again.",
        ) from error
    return record


def check_same_run(
    record: dict[str, Any],
    path: Path,
    files: Sequence[Path],
    settings: Settings,
    weights_sha256: Sequence[str],
) -> None:
    """Make sure that existing results are those that this run would make.

    Parameters
    ----------
    record, path
        The run.json found, and where.
    files, settings, weights_sha256
        Of this run.

    Raises
    ------
    WriteError
        They come from another image, a changed image, other settings or other weights.
    """
    reason = (
        _source_difference(record["sources"], files)
        or _settings_difference(record["settings"], settings)
        or _weights_difference(record["model"], weights_sha256)
    )
    if reason:
        raise WriteError(
            f"{path} belongs to results {reason}.",
            hint="Use --existing overwrite to replace them, or another --out.",
        )


def _source_difference(sources: list[dict[str, Any]], files: Sequence[Path]) -> str:
    if [source["path"] for source in sources] != [str(path.resolve()) for path in files]:
        return f"of another image, {sources[0]['path']}"
    for source, path in zip(sources, files, strict=True):
        state = path.stat()
        if state.st_mtime_ns == source["modified_ns"] and state.st_size == source["bytes"]:
            continue
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != source["sha256"]:
                return f"made before {path.name} changed"
    return ""


def _settings_difference(then: dict[str, Any], settings: Settings) -> str:
    now = settings.model_dump()
    changed = [
        f"{name} {then.get(name)!r} instead of {value!r}"
        for name, value in now.items()
        if name not in _RUNNING_ONLY and then.get(name) != value
    ]
    return f"made with other settings: {', '.join(changed)}" if changed else ""


def _weights_difference(model: dict[str, Any], weights_sha256: Sequence[str]) -> str:
    if list(model["weights_sha256"]) == list(weights_sha256):
        return ""
    return f"made with other weights of {model['name']}"
