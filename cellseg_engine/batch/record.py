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
_RUNNING_ONLY = frozenset(
    {"batch_size", "device", "precision", "diameter_scope", "volume_block_px"}
)
"""Settings that do not say what was asked of the image itself."""


class ExistingResultsError(WriteError):
    """Results are there that this run would not make; they stay as they are."""


def describe_sources(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Give path, size, time and SHA-256 of the input files.

    Raises
    ------
    ReadError
        One is gone or cannot be read.
    """
    described = []
    for path in files:
        try:
            state = path.stat()
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ReadError(f"The file {path} cannot be read: {error.strerror}.") from error
        described.append(
            {
                "path": str(path.resolve()),
                "bytes": state.st_size,
                "modified_ns": state.st_mtime_ns,
                "sha256": digest,
            }
        )
    return described


def check_unchanged(sources: Sequence[dict[str, Any]]) -> None:
    """Make sure that the input files are still those that `describe_sources` saw.

    Raises
    ------
    ReadError
        One is gone, or has another size or time.
    """
    for source in sources:
        path = Path(source["path"])
        try:
            state = path.stat()
        except OSError as error:
            raise ReadError(f"The file {path} was removed while it was segmented.") from error
        if (state.st_size, state.st_mtime_ns) != (source["bytes"], source["modified_ns"]):
            raise ReadError(
                f"The file {path} changed while it was segmented.",
                hint="Run again once it is complete.",
            )


def is_complete(record: dict[str, Any]) -> bool:
    """Say whether all files were in place; a process that was killed leaves a record without."""
    return record.get("complete", True) is True


def read_record(path: Path) -> dict[str, Any]:
    """Read a run.json.

    Raises
    ------
    ReadError
        It cannot be read, is damaged or of a newer version.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError
        _check_content(record)
    except OSError as error:
        raise ReadError(
            f"The file {path} cannot be read: {error.strerror}.",
            hint="Ask for the permission, or use another --out.",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(
            f"{path} is not a run.json of this version.",
            hint="Use --existing overwrite to make the results again.",
        ) from error
    return record


def _check_content(record: dict[str, Any]) -> None:
    """Touch all that is read later, so that what is missing or of another kind raises here."""
    for source in record["sources"]:
        source["path"], source["sha256"], source["bytes"], source["modified_ns"]
    if not record["sources"] or not all(isinstance(n, str) for n in record["outputs"].values()):
        raise ValueError
    if is_complete(record):
        record["settings"].keys(), record["model"]["name"], list(record["model"]["weights_sha256"])
        int(record["objects"]), float(record["diameter_px"]), " ".join(record["warnings"])


def record_state(path: Path) -> tuple[int, int, int] | None:
    """Give what changes when a run.json is written anew; None where there is none."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def check_record_state(path: Path, then: tuple[int, int, int] | None) -> None:
    """Make sure that no other run wrote a run.json since `record_state` looked.

    Raises
    ------
    ExistingResultsError
        One did.
    """
    if record_state(path) != then:
        raise ExistingResultsError(
            f"Another run wrote {path} meanwhile, so its results stay.",
            hint="Run again to see whether they are those of this run.",
        )


def check_same_run(
    record: dict[str, Any],
    path: Path,
    files: Sequence[Path],
    settings: Settings,
    weights_sha256: Sequence[str],
    *,
    size_model_sha256: str | None = None,
    axes: str | None = None,
    fields: dict[str, str] | None = None,
) -> None:
    """Make sure that existing results are those that this run would make.

    Parameters
    ----------
    record, path
        The run.json found, and where.
    files, settings, weights_sha256, size_model_sha256, axes, fields
        Of this run; ``axes`` as given, ``fields`` of the plate.

    Raises
    ------
    ExistingResultsError
        They come from another image, a changed image, other settings or other weights.
    """
    reason = _source_difference(record, files)
    if not reason and is_complete(record):
        reason = (
            _request_difference(record, axes, fields or {})
            or _settings_difference(record["settings"], settings)
            or _weights_difference(record["model"], weights_sha256)
            or _size_model_difference(record["model"], settings, size_model_sha256)
        )
    if reason:
        raise ExistingResultsError(
            f"{path} belongs to results {reason}.",
            hint="Use --existing overwrite to replace them, or another --out.",
        )


def _request_difference(record: dict[str, Any], axes: str | None, fields: dict[str, str]) -> str:
    then = record.get("axes_given")
    if then != axes:
        return f"made with other axes: {then or 'those of the file'}"
    if record.get("fields", {}) != fields:
        return f"made with other fields of the plate: {record.get('fields') or 'none'}"
    return ""


def settings_agree(then: dict[str, Any], settings: Settings) -> bool:
    """Say whether settings of a run.json are those of this run, the diameter aside."""
    now = settings.model_copy(update={"diameter_px": then.get("diameter_px")})
    return not _settings_difference(then, now)


def same_size_model(model: dict[str, Any], size_model_sha256: str | None) -> bool:
    """Say whether the size model of a run.json is this one; early ones do not name theirs."""
    return bool(model.get("size_model_sha256", size_model_sha256) == size_model_sha256)


def _source_difference(record: dict[str, Any], files: Sequence[Path]) -> str:
    sources = record["sources"]
    given = [str(path.resolve()) for path in files]
    if [source["path"] for source in sources[: len(given)]] != given:
        return f"of another image, {sources[0]['path']}"
    if (then := record.get("files_given", len(given))) != len(given):
        return f"made of {then} files of this image instead of {len(given)}"
    for source in sources:  # behind the given ones: other files with parts of the same image
        path = Path(source["path"])
        try:
            state = path.stat()
        except OSError:
            return f"made before {path.name} was removed"
        if state.st_mtime_ns == source["modified_ns"] and state.st_size == source["bytes"]:
            continue
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != source["sha256"]:
                return f"made before {path.name} changed"
    return ""


def _settings_difference(then: dict[str, Any], settings: Settings) -> str:
    # A setting that the engine of then did not know worked as its default does now.
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    before = {**defaults, **then}
    changed = [
        f"{name} {before[name]!r} instead of {value!r}"
        for name, value in settings.model_dump().items()
        if name not in _RUNNING_ONLY and before[name] != value
    ]
    return f"made with other settings: {', '.join(changed)}" if changed else ""


def _weights_difference(model: dict[str, Any], weights_sha256: Sequence[str]) -> str:
    if list(model["weights_sha256"]) == list(weights_sha256):
        return ""
    return f"made with other weights of {model['name']}"


def _size_model_difference(
    model: dict[str, Any], settings: Settings, size_model_sha256: str | None
) -> str:
    if settings.diameter_px > 0 or same_size_model(model, size_model_sha256):
        return ""
    then, now = (
        sha256[:8] if sha256 else "none"
        for sha256 in (model["size_model_sha256"], size_model_sha256)
    )
    return f"made with another size model of {model['name']}: {then} instead of {now}"
