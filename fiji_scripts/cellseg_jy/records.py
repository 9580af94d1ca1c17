"""``run.json`` of one image: what made its results, and whether they are those of this run.

The same file as ``cellseg segment`` writes, so that each can go on where the other stopped.
"""

from __future__ import unicode_literals

import json

import jarray
from java.io import File, FileInputStream, IOException
from java.nio.file import Files
from java.security import MessageDigest
from java.util.concurrent import TimeUnit

from cellseg_jy.problems import Problem
from cellseg_jy.settings import SETTINGS
from cellseg_jy.source import file_path
from cellseg_jy.texts import to_hex, to_text

FORMAT = 1
_RUNNING_ONLY = ("batch_size", "device", "precision")
"""Settings that do not say what was asked of the image itself."""
_CHUNK_BYTES = 1 << 20
_HINT = "Choose overwrite to replace them, or another folder for the results."


def describe_source(path):
    """Give path, size, time and SHA-256 of an input file."""
    file = File(path).toPath()
    try:
        return {
            "path": file.toRealPath([]).toString(),
            "bytes": Files.size(file),
            "modified_ns": Files.getLastModifiedTime(file, []).to(TimeUnit.NANOSECONDS),
            "sha256": _sha256(path),
        }
    except IOException as error:
        raise Problem("The file {} cannot be read: {}.".format(path, error.getMessage()))


def describe_open(image):
    """Give the same of the file of an open image; of an image without one its title."""
    path = file_path(image)
    if path:
        return describe_source(path)
    return {"path": image.getTitle(), "bytes": 0, "modified_ns": 0, "sha256": ""}


def make_record(source, described, result, names):
    """Give the content of run.json.

    Parameters
    ----------
    source
        `cellseg_jy.source.Source`.
    described
        Of `describe_source`.
    result
        `cellseg_jy.engine.Result`.
    names
        Name of each kind of file.
    """
    request = source.request()
    record = {
        "format": FORMAT,
        "complete": True,
        "sources": [described],
        "fields": {},
        "axes_given": None,
        "axes": source.axes,
        "shape": source.shape,
        "dtype": source.dtype,
        "channel_names": request["channel_names"],
        "pixel_size_um": request["pixel_size_um"],
    }
    record.update(result.provenance)
    record.update(
        objects=result.n_objects,
        diameter_px=result.diameter_px,
        warnings=result.warnings,
        outputs=names,
    )
    return record


def read_record(path):
    """Give the content of a run.json, or None if there is none.

    Raises
    ------
    Problem
        It is damaged, or of another version.
    """
    file = File(path)
    if not file.exists():
        return None
    try:
        record = json.loads(to_text(Files.readAllBytes(file.toPath())))
        if record["format"] != FORMAT:
            raise ValueError
        record["sources"][0]["sha256"], record["sources"][0]["path"], record["outputs"].values()
        if record.get("complete", True):
            record["settings"]["model"], record["objects"], record["diameter_px"]
            record["model"]["name"], list(record["model"]["weights_sha256"])
    except (IOException, ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise Problem("{} is not a run.json of this version.".format(path), _HINT, "existing")
    return record


def check_same(record, path, image_path, values, find_weights):
    """Make sure that results are those that this run would make.

    Parameters
    ----------
    record, path
        The run.json found, and where.
    image_path, values
        Of this run.
    find_weights
        Gives the SHA-256 of the weights of this run; called where all else is the same.

    Raises
    ------
    Problem
        They come from another or a changed image, other settings or other weights.
    """
    reason = _source_difference(record["sources"], image_path)
    if not reason and record.get("complete", True):
        if record.get("axes_given"):
            reason = "made with other axes: {}".format(record["axes_given"])
        reason = reason or (
            _settings_difference(record["settings"], values)
            or _weights_difference(record["model"], find_weights())
        )
    if reason:
        raise Problem("{} belongs to results {}.".format(path, reason), _HINT, "existing")


def _source_difference(sources, image_path):
    file = File(image_path).toPath()
    known = sources[0]
    try:
        if len(sources) > 1 or known["path"] != file.toRealPath([]).toString():
            return "of another image, {}".format(known["path"])
        time = Files.getLastModifiedTime(file, []).to(TimeUnit.NANOSECONDS)
        if Files.size(file) == known["bytes"] and time == known["modified_ns"]:
            return ""
        changed = _sha256(image_path) != known["sha256"]
    except IOException as error:
        raise Problem("The file {} cannot be read: {}.".format(image_path, error.getMessage()))
    return "made before {} changed".format(File(image_path).getName()) if changed else ""


def _settings_difference(then, values):
    changed = [
        "{} {} instead of {}".format(setting.name, then.get(setting.name), values[setting.name])
        for setting in SETTINGS
        if setting.name not in _RUNNING_ONLY
        and then.get(setting.name, setting.default) != values[setting.name]
    ]
    return "made with other settings: " + ", ".join(changed) if changed else ""


def _weights_difference(model, weights_sha256):
    if list(model["weights_sha256"]) == list(weights_sha256):
        return ""
    return "made with other weights of {}".format(model["name"])


def _sha256(path):
    digest = MessageDigest.getInstance("SHA-256")
    stream = FileInputStream(path)
    try:
        chunk = jarray.zeros(_CHUNK_BYTES, str("b"))
        count = stream.read(chunk)
        while count > 0:
            digest.update(chunk, 0, count)
            count = stream.read(chunk)
    finally:
        stream.close()
    return to_hex(digest.digest())
