"""One image to the engine and its result back: progress in the status bar, Escape cancels."""

from __future__ import unicode_literals

import json
import uuid

from ij import IJ
from java.io import IOException
from java.nio.file import Files, Paths

from cellseg_jy import WIRE, npy
from cellseg_jy.connection import NotRunning, make_problem
from cellseg_jy.launch import ask, ensure
from cellseg_jy.problems import Cancelled, Problem

CLIENT = "Fiji " + uuid.uuid4().hex[:12]
"""The queue of the engine takes turns between its clients."""
_WORDS = {
    "loading": "loading the model",
    "size": "estimating the diameter",
    "network": "network",
    "labels": "objects",
}
_STAGES = ("loading", "size", "network", "labels")


class Result(object):
    """What the engine found in one image.

    Attributes
    ----------
    n_objects, diameter_px, axes, warnings, provenance, seconds
        As the engine gives them.
    shape, planes
        Of the labels: the planes are Java arrays, short[] or int[].
    rois, table, tracks
        Bytes of a ROI archive and of CSV files, None where not asked for; tracks come with the
        table where objects were followed through time.
    largest_label
        In the labels.
    """

    def __init__(self, event):
        self.n_objects = event["objects"]
        self.diameter_px = event["diameter_px"]
        self.axes = event["axes"]
        self.warnings = event.get("warnings") or []
        self.provenance = event.get("provenance") or {}
        self.seconds = event.get("seconds") or {}
        self.shape, self.planes = npy.read_labels(event["labels"]["path"])
        self.rois = _take(event.get("rois"))
        self.table = _take((event.get("table") or {}).get("csv"))
        followed = event.get("tracks") or {}
        self.largest_label = followed.get("rows", self.n_objects)
        self.tracks = _take(followed.get("csv"))


def segment(source, settings, outputs=("labels", "rois", "table"), title=""):
    """Segment an image and give the `Result`.

    Parameters
    ----------
    source
        `cellseg_jy.source.Source`.
    settings
        Names and values of the contract.
    outputs
        Of ``labels``, ``rois``, ``table``.
    title
        Put before the progress, for example "3 of 12".

    Raises
    ------
    Problem
        In the engine's words where it has some.
    Cancelled
        Escape was pressed, or the job was cancelled at the engine.
    """
    connection = ensure()
    try:
        return _Job(connection, source, settings, outputs, title).run()
    except (NotRunning, npy.FolderGone):
        # Nothing was asked yet: the engine ended since, for example after an idle hour.
        return _Job(ensure(), source, settings, outputs, title).run()


def weights_sha256(settings):
    """Give the SHA-256 of the weights that a segmentation with these settings would use.

    Raises
    ------
    Problem
        There is no such model.
    """
    return ask("/v1/weights", {"settings": settings})["weights_sha256"]


class _Job(object):
    def __init__(self, connection, source, settings, outputs, title):
        self._connection = connection
        self._source = source
        self._settings = settings
        self._outputs = outputs
        self._title = "CellSeg {}: ".format(title) if title else "CellSeg: "
        self._is_cancelled = False

    def run(self):
        source = self._source
        IJ.showStatus(self._title + "sending the image")
        name, path = npy.write_array(
            self._connection.exchange, source.dtype, source.shape, source.planes
        )
        try:
            body = {
                "wire": WIRE,
                "settings": self._settings,
                "image": {"array": name},
                "client": CLIENT,
                "outputs": list(self._outputs),
            }
            body.update(source.request())
            return Result(self._ask(json.dumps(body)))
        finally:
            npy.delete(path)

    def _ask(self, body):
        answer = self._connection.open("POST", "/v1/segment", body)
        try:
            for event in self._connection.events(answer):
                if event.get("event") == "result":
                    break
                self._show(event)
                if IJ.escapePressed() and not self._is_cancelled:
                    self._cancel(event.get("job", ""))
        finally:
            answer.disconnect()
        if event.get("status") != "ok":
            raise make_problem(event.get("status"), event.get("error") or {})
        if self._is_cancelled:
            _discard(event)
            raise Cancelled()
        return event

    def _cancel(self, job):
        """Ask the engine to stop; its answer to the image, a few tiles later, says that it did."""
        self._is_cancelled = True
        IJ.showStatus(self._title + "cancelling")
        try:
            self._connection.ask("DELETE", "/v1/jobs/" + job)
        except Problem:
            pass  # it was over already: its result is thrown away

    def _show(self, event):
        kind = event.get("event")
        if kind == "queued" and event.get("position"):
            IJ.showStatus("{}{} images come first".format(self._title, event["position"]))
        if kind != "progress" or self._is_cancelled:
            return
        stage, planes = event.get("stage", ""), max(1, event.get("planes", 1))
        fraction, plane = event.get("fraction", 0.0), event.get("plane", 0)
        where = ", plane {} of {}".format(plane + 1, planes) if planes > 1 else ""
        words = _WORDS.get(stage, stage)
        IJ.showStatus("{}{} {:.0f} %{}".format(self._title, words, 100 * fraction, where))
        if stage in _STAGES:
            done = (_STAGES.index(stage) + fraction) / len(_STAGES)
            IJ.showProgress(min(0.99, (plane + done) / planes))


def _take(file):
    """Read a file of the result, if it is there, and remove it."""
    if not file:
        return None
    path = Paths.get(file["path"], [])
    try:
        return Files.readAllBytes(path)
    except IOException as error:
        raise Problem("The engine's result cannot be read: {}.".format(error.getMessage()))
    finally:
        npy.delete(path)


def _discard(event):
    """Remove the files of a result that nobody wants any more."""
    files = [event.get("labels"), event.get("rois")]
    files += [(event.get(name) or {}).get("csv") for name in ("table", "tracks")]
    for file in files:
        if file:
            npy.delete(Paths.get(file["path"], []))
