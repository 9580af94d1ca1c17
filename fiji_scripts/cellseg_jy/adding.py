"""Add To Training Set: the current image and its corrected ROIs; the engine settles and writes."""

from __future__ import unicode_literals

from ij.gui import Roi

from cellseg_jy import npy, painting, rois, training_set
from cellseg_jy.launch import ask, ensure
from cellseg_jy.parameters import IMAGE, Parameter, collect
from cellseg_jy.problems import Problem, has_display, tell
from cellseg_jy.source import Source, find_image

OWN = (
    Parameter("training_folder", "text", "", ()),
    Parameter("source", "choice", "auto", ("auto", "manager", "overlay", "archive")),
    Parameter("archive", "text", "", ()),
    Parameter("only_selection", "boolean", False, ()),
)
MODEL_PROPERTY = "cellseg_model"
"""Property of an image: the model that found the ROIs of its overlay."""


def command(given):
    """Run the menu command."""
    values = collect(OWN + (IMAGE,), given)
    image = find_image(values["image"])
    found = painting.find_rois(image, _choose_source(values), values["archive"])
    _check_kinds(found)
    part = _selected_part(image, found) if values["only_selection"] else None
    source = Source(image)
    folder = training_set.find_folder(values, "training_folder", "training folder")
    sent = training_set.hash_rois(found)  # before ROIs are drawn while the engine works
    answer = _send(source, folder, found, part)
    if _choose_source(values) == "manager":
        training_set.note_added(sent)
    added = answer["image"]
    part = added["part"]  # what of the rectangle lies in the image
    for remark in answer["remarks"]:
        tell(remark)
    tell(
        "{}: {} objects{} ({}). The training set has {} images with {} objects now.".format(
            image.getTitle(),
            added["objects"],
            " in {} x {} px".format(part["width"], part["height"]) if part else "",
            _describe(added["edits"]),
            len(answer["images"]),
            answer["objects"],
        )
    )


def _choose_source(values):
    """Give where the ROIs come from; the overlay has those that nobody corrected yet."""
    if values["source"] != "auto":
        return values["source"]
    if values["archive"]:
        return "archive"
    return "manager" if has_display() else "overlay"


def _check_kinds(found):
    """Refuse lines, points and texts by name before anything is sent."""
    others = [roi for roi in found if not rois.is_object(roi)]
    if others:
        text = "{} of the ROIs are no areas (lines, points, texts): {}."
        raise Problem(
            text.format(len(others), rois.name_some(others)),
            "Remove them from the ROI Manager; only areas are objects.",
            "rois",
        )


def _selected_part(image, found):
    """Give the rectangle that is selected in the image; that of an object is none."""
    roi = image.getRoi()
    selected = ""
    if roi is None:
        selected = "nothing"
    elif any(one.equals(roi) for one in found):
        selected = "the ROI of an object"
    elif roi.getType() != Roi.RECTANGLE:
        selected = "no rectangle"
    if selected:
        raise Problem(
            "only_selection needs a rectangle, and {} is selected in {}.".format(
                selected, image.getTitle()
            ),
            "Draw one around the objects that you corrected, and do not add it to the ROI Manager.",
            "input",
        )
    box = roi.getBounds()
    return {"left": box.x, "top": box.y, "width": box.width, "height": box.height}


def _send(source, folder, found, part):
    """Hand image and ROIs over and give the engine's answer; nothing stays in the exchange."""
    image = source.image
    predicted = [roi for roi in painting.overlay_rois(image) if roi.getProperty(rois.MARK)]
    exchange = ensure().exchange
    paths = []

    def keep(written):
        paths.append(written[1])
        return {"array": written[0]}

    try:
        request = {
            "folder": folder,
            "image": keep(npy.write_array(exchange, source.dtype, source.shape, source.planes)),
            "rois": keep(training_set.send_bytes(exchange, rois.encode_rois(found))),
            "source": training_set.source_path(image),
            "model": image.getProp(MODEL_PROPERTY) or "",
        }
        if part:
            request["part"] = part
        if predicted:
            data = rois.encode_rois(predicted)
            request["predicted"] = keep(training_set.send_bytes(exchange, data))
        about = source.request()
        for name in ("axes", "title", "pixel_size_um"):
            request[name] = about[name]
        return ask("/v1/training/images", request)
    finally:
        for path in paths:
            npy.delete(path)


def _describe(edits):
    words = ("kept", "changed", "drawn", "removed")
    return ", ".join("{} {}".format(edits[word], word) for word in words if edits[word])
