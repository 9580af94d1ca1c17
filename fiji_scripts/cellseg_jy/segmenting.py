"""Segment Cells: the current image, or what is selected in it."""

from __future__ import unicode_literals

import json

from ij import IJ, WindowManager
from ij.plugin.frame import Recorder
from java.lang import Class
from java.nio.file import Files, Paths

from cellseg_jy import labels, listing, outputs, records, results, rois, tables
from cellseg_jy.engine import segment
from cellseg_jy.npy import delete
from cellseg_jy.parameters import IMAGE, Parameter, collect
from cellseg_jy.problems import Problem, has_display, tell
from cellseg_jy.settings import SETTINGS
from cellseg_jy.source import Source, find_image, whole_of
from cellseg_jy.texts import to_text

OWN = (
    Parameter("add_to_roi_manager", "boolean", True, ()),
    Parameter("show_table", "boolean", True, ()),
    Parameter("save_to", "text", "", ()),
)
TABLE_ENDING = "-objects"
TRACKS_ENDING = "-tracks"
ROIS_PROPERTY = "cellseg_rois"
"""Property of the label image: the path of its ROI archive."""
DIAMETER_PROPERTY = "cellseg_diameter_px"
_RECORD = Class.getField(Recorder, "record")  # Recorder.record is a method of the same name


class Outcome(object):
    """What was found, placed on the whole image.

    Attributes
    ----------
    result
        `cellseg_jy.engine.Result`.
    labels
        The label image, not shown yet.
    rois
        A list, or None where they were not asked for.
    archive
        The same as bytes of a ROI archive.
    rows
        The table as lists of text, names first, or None.
    tracks
        The table of tracks, where objects were followed, or None.
    """

    def __init__(self, source, result):
        self.result = result
        self.labels = labels.make_label_image(result, source)
        self.rows = tables.parse_csv(to_text(result.table)) if result.table is not None else None
        self.tracks = tables.parse_csv(to_text(result.tracks)) if result.tracks else None
        self.archive = result.rois
        self.rois = None
        if result.rois is not None:
            self.rois = rois.decode_rois(result.rois)
            rois.place(self.rois, source)
        if source.is_part and self.rows is not None:
            tables.shift(self.rows, source)

    @property
    def n_objects(self):
        """Number of objects."""
        return len(self.rows) - 1 if self.rows is not None else self.result.n_objects

    def keep_inside(self, selection):
        """Remove the objects whose centre lies outside a selection.

        Of an object that was followed its first frame decides.
        """
        x, y, ids = (
            tables.column(self.rows, name) for name in ("centroid_x_px", "centroid_y_px", "label")
        )
        is_inside = {}
        for a, b, label in zip(x, y, ids):
            if label not in is_inside:
                is_inside[label] = selection.contains(int(float(a) + 0.5), int(float(b) + 0.5))
        kept = set(int(label) for label in is_inside if is_inside[label])
        self.rows[1:] = [row for row, label in zip(self.rows[1:], ids) if is_inside[label]]
        if self.tracks is not None:
            self.tracks[1:] = [row for row in self.tracks[1:] if int(row[0]) in kept]
        outside = [roi for roi in self.rois if rois.parse_name(roi.getName())[0] not in kept]
        self.rois = [roi for roi in self.rois if rois.parse_name(roi.getName())[0] in kept]
        stack = self.labels.getStack()
        _, _, _, n_slices, n_frames = self.labels.getDimensions()
        for roi in outside:
            slice_number, frame = rois.get_plane(roi, n_slices, n_frames)
            index = self.labels.getStackIndex(1, max(1, slice_number), max(1, frame))
            processor = stack.getProcessor(index)
            processor.setValue(0)
            processor.fill(roi)

    def encode_again(self):
        """Make the archive of the ROIs as they are placed now."""
        self.archive = rois.encode_rois(self.rois)


class _Target(object):
    """Where the results of an open image are saved.

    Raises
    ------
    Problem
        No file can be written there, or one would replace what is not of this image.
    """

    def __init__(self, image, values):
        outputs.check_folder(values["save_to"])
        self._stem = "{}/{}".format(values["save_to"].rstrip("/\\"), file_stem(image.getTitle()))
        self._kinds = results.kinds_of(values)
        self._described = records.describe_open(image)
        self._earlier = results.find_earlier(self._stem, self._kinds, self._described["path"])

    def save(self, outcome, source):
        """Write the files and give the path of the ROI archive."""
        names = results.name_files(self._stem, self._kinds)
        record = records.make_record(source, self._described, outcome.result, names)
        # What is open may be changed, or a part: never the finished results of its file.
        record.update(complete=False, objects=outcome.n_objects)
        results.write(outcome, record, self._stem, self._earlier)
        return self._stem + outputs.ENDINGS["rois"]


def command(given):
    """Run the menu command."""
    values = collect(SETTINGS + OWN + (IMAGE,), given)
    image = find_image(values["image"])
    target = _Target(image, values) if values["save_to"] else None
    selection = _area_selection(image)
    source = Source(image, selection.getBounds() if selection is not None else None)
    is_open = WindowManager.getImage(image.getID()) is not None
    wants_table = (values["show_table"] and has_display()) or values["save_to"] or selection
    wants_table = wants_table or values["track_threshold"] > 0
    kinds = ("labels", "rois", "table") if wants_table else ("labels", "rois")
    outcome = Outcome(source, segment(source, chosen_settings(values), kinds))
    if selection is not None and selection.getMask() is not None:
        outcome.keep_inside(selection)
    if selection is not None or (source.n_channels > 1 and source.n_slices * source.n_frames > 1):
        outcome.encode_again()
    was_closed = is_open and WindowManager.getImage(image.getID()) is None
    describe(outcome)
    path = target.save(outcome, source) if target else _save_for_this_session(outcome)
    _show(outcome, image, values, was_closed, path)
    _report(outcome, image, selection, was_closed)


def chosen_settings(values):
    """Give the settings that differ from their defaults; the engine knows the others."""
    return dict(
        (setting.name, values[setting.name])
        for setting in SETTINGS
        if values[setting.name] != setting.default
    )


def describe(outcome):
    """Note in the label image how it was made: Image > Show Info, and properties for macros."""
    provenance = outcome.result.provenance
    model = provenance.get("model") or {}
    lines = [
        "CellSeg: {} objects".format(outcome.n_objects),
        "model: {} {}".format(model.get("name", ""), model.get("version", "")),
        "diameter_px: {:g}".format(outcome.result.diameter_px),
        "seconds: " + json.dumps(outcome.result.seconds, sort_keys=True),
        json.dumps(provenance, indent=1, sort_keys=True),
    ]
    outcome.labels.setProperty("Info", "\n".join(lines))
    outcome.labels.setProp(DIAMETER_PROPERTY, "{:g}".format(outcome.result.diameter_px))


def _area_selection(image):
    """Give the selection to segment inside of, or None; one without an inside is named.

    Raises
    ------
    Problem
        It lies outside the image.
    """
    selection = image.getRoi()
    if selection is None:
        return None
    bounds = selection.getBounds()
    if selection.isArea() and bounds.width > 0 and bounds.height > 0:
        if not bounds.intersects(whole_of(image)):
            raise Problem(
                "The selection lies outside the image {}.".format(image.getTitle()),
                "Move it into the image, or remove it: Edit > Selection > Select None.",
                "image",
            )
        return selection
    tell("The selection has no inside, so the whole image is segmented.")
    return None


def _show(outcome, image, values, was_closed, path):
    outcome.labels.setProp(ROIS_PROPERTY, path)
    if not has_display():
        labels.show(outcome.labels)
        if not was_closed:
            rois.show_on(image, outcome.rois)
        return
    # A window that comes up would be recorded before the command itself.
    is_recording = _RECORD.getBoolean(None)
    _RECORD.setBoolean(None, False)
    try:
        _show_windows(outcome, image, values, was_closed)
    finally:
        _RECORD.setBoolean(None, is_recording)


def _show_windows(outcome, image, values, was_closed):
    """Show labels, table and ROIs; the input stays the current image, as it does headless."""
    if outcome.n_objects > labels.LAST_OWN_COLOUR:
        rois.outline_on(outcome.labels, outcome.rois)
    labels.show(outcome.labels)
    if values["show_table"]:
        tables.make_table(outcome.rows).show(image.getTitle() + TABLE_ENDING)
        if outcome.tracks is not None:
            tables.make_table(outcome.tracks).show(image.getTitle() + TRACKS_ENDING)
    if not was_closed:
        if image.getWindow() is not None:
            image.getWindow().toFront()
            WindowManager.setCurrentWindow(image.getWindow())
        # Last, because Edit > Undo forgets when another image becomes the current one.
        rois.show_on(image, outcome.rois)
    if values["add_to_roi_manager"] and outcome.rois:
        rois.add_to_manager(outcome.rois)


def _save_for_this_session(outcome):
    """Write the ROI archive for a macro, where it stays until the next run; headless only."""
    if has_display():
        return ""
    path = Files.createTempFile("cellseg-", "-rois.zip", [])
    path.toFile().deleteOnExit()
    outputs.write_bytes(path.toString(), outcome.archive)
    earlier = IJ.getProperty(ROIS_PROPERTY)
    if earlier:
        delete(Paths.get(earlier, []))
    IJ.setProperty(ROIS_PROPERTY, path.toString())
    return path.toString()


def file_stem(title):
    """Give a title without its ending and without what file names may not have."""
    stem = listing.title_stem(title)
    return "".join("_" if letter in '/\\:*?"<>|' else letter for letter in stem)


def _report(outcome, image, selection, was_closed):
    """Say what was found, and all that the user should know about it."""
    if selection is not None:
        tell(
            "Only the selection was segmented ({} of {}).".format(
                selection.getTypeAsString(), image.getTitle()
            )
        )
    if was_closed:
        tell("{} was closed meanwhile, so no outlines were drawn.".format(image.getTitle()))
    for warning in outcome.result.warnings:
        tell("{}: {}".format(image.getTitle(), warning))
    if outcome.n_objects == 0 and outcome.result.n_objects > 0:
        tell("No objects have their centre inside the selection.")
    if outcome.tracks is not None:
        text = "{}: {} tracks, {} objects in all frames"
        tell(text.format(image.getTitle(), len(outcome.tracks) - 1, outcome.n_objects))
    seconds = outcome.result.seconds.get("total", 0.0)
    IJ.showStatus(
        "CellSeg: {} objects, diameter {:.1f} px, {:.1f} s".format(
            outcome.n_objects, outcome.result.diameter_px, seconds
        )
    )
