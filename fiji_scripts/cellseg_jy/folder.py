"""Segment Folder: image after image; a failure is named and the rest goes on."""

from __future__ import unicode_literals

import time

from ij import IJ
from java.io import File, IOException
from java.lang import OutOfMemoryError
from java.nio.file import Files

from cellseg_jy import listing, outputs, records, results, segmenting, tables
from cellseg_jy.engine import segment, weights_sha256
from cellseg_jy.launch import ensure
from cellseg_jy.parameters import Parameter, collect
from cellseg_jy.problems import Cancelled, Problem, has_display, tell
from cellseg_jy.settings import SETTINGS
from cellseg_jy.source import Source
from cellseg_jy.texts import as_text, to_text

OWN = (
    Parameter("input_folder", "text", "", ()),
    Parameter("output_folder", "text", "", ()),
    Parameter("existing", "choice", "skip", ("skip", "overwrite")),
)
SUMMARY = "summary.csv"
SUMMARY_TITLE = "CellSeg summary"
COLUMNS = ["image", "status", "objects", "diameter_px", "seconds", "labels", "warnings", "error"]
"""The columns that ``cellseg segment`` gives its summary."""
_FATAL = ("not-installed", "start")
"""Codes of errors that every further image would meet too."""


def command(given):
    """Run the menu command."""
    values = collect(OWN + SETTINGS, given)
    source, out = _check_folders(values)
    images = listing.find_images(source, out)
    outputs.check_folder(out)
    ensure()  # without an engine every image would fail
    rows, stopped = [], None
    for number, (path, name) in enumerate(images):
        title = "{} of {}".format(number + 1, len(images))
        try:
            rows.append(_run_one(path, out + "/" + name, values, title))
        except Cancelled:
            stopped = "Stopped: {} of {} images are done; the same command goes on from there."
        except Problem as problem:
            rows.append(_row(path, "failed", error=problem.text.replace("\n", " ")))
            if problem.code in _FATAL:
                stopped = "Stopped after {} of {} images: " + problem.text
        except OutOfMemoryError:
            rows.append(_row(path, "failed", error="It does not fit into the memory of ImageJ."))
        if stopped:
            stopped = stopped.format(len(rows), len(images))
            break
        IJ.showProgress(number + 1, len(images))
    _summarise(out, rows)
    _finish(rows, stopped)


def _check_folders(values):
    for name, what in (("input_folder", "images"), ("output_folder", "results")):
        if not values[name]:
            raise Problem(
                "No folder for the {} was given.".format(what), "Set {}.".format(name), "input"
            )
    # Whole paths, by which the summary tells images apart.
    source, out = (
        File(values[name]).toPath().toAbsolutePath().normalize().toString()
        for name in ("input_folder", "output_folder")
    )
    if File(source).getCanonicalFile() == File(out).getCanonicalFile():
        raise Problem(
            "The folder for results is the one with the images.",
            "Give another one, for example {}/results.".format(source),
            "output",
        )
    return source, out


def _run_one(path, stem, values, title):
    """Segment one image and give its row of the summary."""
    start = time.time()
    kinds = results.kinds_of(values)
    earlier = results.find_earlier(stem, kinds)
    if values["existing"] == "skip":
        row = _existing(path, stem, kinds, values)
        if row is not None:
            return row
    described = records.describe_source(path)
    image, remarks = listing.open_image(path)
    try:
        source = Source(image)
        result = segment(
            source, segmenting.chosen_settings(values), ("labels", "rois", "table"), title
        )
        result.warnings = remarks + result.warnings
        outcome = segmenting.Outcome(source, result)
        if source.n_channels > 1 and source.n_slices * source.n_frames > 1:
            outcome.encode_again()
        segmenting.describe(outcome)
        _check_unchanged(path, described)
        record = records.make_record(source, described, result, results.name_files(stem, kinds))
        results.write(outcome, record, stem, earlier)
        outcome.labels.flush()
    finally:
        image.changes = False
        image.close()
        image.flush()
    return _row(
        path,
        "ok",
        objects=result.n_objects,
        diameter_px=round(result.diameter_px, 3),
        seconds=round(time.time() - start, 3),
        labels=stem + outputs.ENDINGS["labels"],
        warnings=" ".join(result.warnings),
    )


def _existing(path, stem, kinds, values):
    """Give the row of results that are there and are those of this run, or None."""
    run_path = stem + outputs.ENDINGS["run"]
    record = records.read_record(run_path)
    if record is None:
        return None
    records.check_same(
        record,
        run_path,
        path,
        values,
        lambda: weights_sha256(segmenting.chosen_settings(values)),
    )
    is_there = all(File(stem + outputs.ENDINGS[kind]).exists() for kind in kinds)
    if not record.get("complete", True) or not is_there:
        return None
    return _row(
        path,
        "skipped",
        objects=record["objects"],
        diameter_px=round(record["diameter_px"], 3),
        labels=stem + outputs.ENDINGS["labels"],
        warnings=" ".join(record["warnings"]),
    )


def _check_unchanged(path, described):
    if records.describe_source(path) != described:
        raise Problem(
            "The file {} changed while it was segmented.".format(path),
            "Run again once it is complete.",
            "read",
        )


def _row(path, status, **values):
    row = dict.fromkeys(COLUMNS, "")
    row.update(values, image=path, status=status)
    return [as_text(row[name]) for name in COLUMNS]


def _summarise(out, rows):
    """Write the summary; rows of other images of earlier runs stay."""
    path = File(out, SUMMARY)
    earlier = []
    if path.exists():
        try:
            earlier = tables.parse_csv(to_text(Files.readAllBytes(path.toPath())))
        except IOException as error:
            raise Problem("{} cannot be read: {}.".format(path, error.getMessage()))
        if not earlier or earlier[0] != COLUMNS:
            tell("{} is no summary of CellSeg, so none was written.".format(path))
            return
    images = set(row[0] for row in rows)
    kept = [row for row in earlier[1:] if row[0] not in images]
    outputs.write_text(path.getPath(), tables.to_csv([COLUMNS] + kept + rows))
    if has_display():
        tables.make_table([COLUMNS] + rows).show(SUMMARY_TITLE)


def _finish(rows, stopped):
    """Say how the run ended, with each failure.

    Raises
    ------
    Problem
        No image could be segmented, or the run was stopped.
    """
    status = COLUMNS.index("status")
    failed = [row for row in rows if row[status] == "failed"]
    for row in failed:
        tell("{} failed: {}".format(row[0], row[COLUMNS.index("error")]))
    skipped = sum(row[status] == "skipped" for row in rows)
    text = "{} images: {} segmented, {} were done before, {} failed.".format(
        len(rows), len(rows) - skipped - len(failed), skipped, len(failed)
    )
    tell(text)
    IJ.showStatus("CellSeg: " + text)
    if stopped:
        raise Problem(stopped, code="stopped")
    if failed and len(failed) == len(rows):
        raise Problem(
            "No image could be segmented; the first: {}".format(failed[0][COLUMNS.index("error")]),
            "All reasons are in the Log window and in {}.".format(SUMMARY),
            "failed",
        )
    if failed and has_display():
        IJ.showMessage("CellSeg", text + "\nThe reasons are in the Log window and the summary.")
