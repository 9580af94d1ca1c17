"""The files of one image's results: which may be replaced, and all of them written."""

from __future__ import unicode_literals

import json

from java.io import File

from cellseg_jy import outputs, records, tables
from cellseg_jy.problems import Problem

_HINT = "Move it away, or choose another folder for the results."


def kinds_of(values):
    """Give the kinds of files that an image gets, as ``cellseg segment`` names them."""
    tracks = ("tracks",) if values["track_threshold"] > 0 else ()
    return ("labels", "rois", "table") + tracks + ("run",)


def find_earlier(stem, kinds, source_path=None):
    """Give the names of the files of an earlier run, which are the only ones to be replaced.

    Parameters
    ----------
    stem
        Path of the files, up to their endings.
    kinds
        Of the files that will be written.
    source_path
        Of the image, where only its own results may be replaced.

    Raises
    ------
    Problem
        One of them is there already and is not of an earlier run, or of one of another image.
    """
    run_path = stem + outputs.ENDINGS["run"]
    try:
        record = records.read_record(run_path)
        ours = set(record["outputs"].values()) if record else set()
    except Problem:  # damaged: what lies beside it is ours all the same
        record, ours = {}, set(name_files(stem, outputs.ENDINGS).values())
    if record and source_path not in (None, record["sources"][0]["path"]):
        raise Problem(
            "{} belongs to results of another image, {}.".format(
                run_path, record["sources"][0]["path"]
            ),
            _HINT,
            "existing",
        )
    if record is not None:
        ours.add(File(run_path).getName())
    for kind in kinds:
        there = File(stem + outputs.ENDINGS[kind])
        if there.exists() and there.getName() not in ours:
            raise Problem(
                "{} is there already and was not written by CellSeg (no run.json names it).".format(
                    there.getPath()
                ),
                _HINT,
                "existing",
            )
    return ours


def write(outcome, record, stem, earlier):
    """Write the files of one image, the run.json, which makes them count, last.

    Parameters
    ----------
    outcome
        `cellseg_jy.segmenting.Outcome`.
    record
        Content of the run.json; its outputs say which files are written.
    stem
        Path of the files, up to their endings.
    earlier
        Of `find_earlier`; files of it that are not written now are removed.
    """
    final = record["outputs"]
    outputs.check_folder(File(stem).getParent())
    there = dict(
        (kind, name)
        for kind, name in name_files(stem, outputs.ENDINGS).items()
        if name in earlier or kind in final
    )
    begun = {"format": record["format"], "sources": record["sources"], "complete": False}
    begun["outputs"] = there
    run_path = stem + outputs.ENDINGS["run"]
    outputs.write_text(run_path, json.dumps(begun, indent=2))
    for kind in there:
        if kind not in final:
            outputs.remove(stem + outputs.ENDINGS[kind])
    outputs.write_tiff(stem + outputs.ENDINGS["labels"], outcome.labels)
    outputs.write_bytes(stem + outputs.ENDINGS["rois"], outcome.archive)
    outputs.write_text(stem + outputs.ENDINGS["table"], tables.to_csv(outcome.rows))
    if outcome.tracks is not None:
        outputs.write_text(stem + outputs.ENDINGS["tracks"], tables.to_csv(outcome.tracks))
    outputs.write_text(run_path, json.dumps(record, indent=2, sort_keys=True))


def name_files(stem, kinds):
    """Give the name of each kind of file."""
    return dict((kind, File(stem + outputs.ENDINGS[kind]).getName()) for kind in kinds)
