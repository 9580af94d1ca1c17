"""Next Image: one that is not in the training set yet, with what the newest model finds in it."""

from __future__ import unicode_literals

from ij import WindowManager
from ij.plugin.frame import RoiManager
from java.io import File

from cellseg_jy import listing, rois, training_set
from cellseg_jy.adding import MODEL_PROPERTY
from cellseg_jy.engine import segment
from cellseg_jy.labels import show
from cellseg_jy.parameters import Parameter, collect
from cellseg_jy.problems import Problem, has_display, tell
from cellseg_jy.source import Source

OWN = (
    Parameter("image_folder", "text", "", ()),
    Parameter("training_folder", "text", "", ()),
    Parameter("model", "text", "auto", ()),
    Parameter("diameter_px", "number", 0.0, ()),
    Parameter("channel", "text", "auto", ()),
    Parameter("nuclear_channel", "text", "none", ()),
    Parameter("invert", "choice", "auto", ("auto", "yes", "no")),
    Parameter("discard_rois", "boolean", False, ()),
)
FIRST_MODEL = "nuclei"
_OPENED = "cellseg_next_image"
"""Property of an image that this command opened, and may close."""


def command(given):
    """Run the menu command."""
    values = collect(OWN, given)
    folder = training_set.find_folder(values, "training_folder", "training folder")
    images = training_set.find_folder(values, "image_folder", "folder with images")
    if training_set.has_work() and not values["discard_rois"]:
        raise Problem(
            "The ROI Manager has ROIs that are not in the training set.",
            "Run Add To Training Set first, or tick Discard ROIs (discard_rois) to lose them.",
            "rois",
        )
    content = training_set.describe_folder(folder)
    done = set(entry["source"] for entry in content["images"])
    paths = [File(path).getCanonicalPath() for path, _ in listing.find_images(images, folder)]
    path = _choose(paths, done)
    model = values["model"]
    if model == "auto":
        model = content["newest_model"] or FIRST_MODEL
    settings = dict(training_set.chosen_channels(values), model=model)
    diameter = values["diameter_px"] or content["median_diameter_px"]
    if diameter:
        settings["diameter_px"] = diameter
    image = listing.open_image(path)
    result = segment(Source(image), settings, ("labels", "rois"))
    found = rois.decode_rois(result.rois)
    _close_earlier(done)
    _show(image, found, model)
    for warning in result.warnings:
        tell("{}: {}".format(image.getTitle(), warning))
    tell(
        "{}: {} objects by {}, diameter {:.1f} px. {} of {} images are in the training set.".format(
            image.getTitle(),
            result.n_objects,
            model,
            result.diameter_px,
            len([one for one in paths if one in done]),
            len(paths),
        )
    )


def _choose(paths, done):
    """Give the first image after the current one that is not in the training set."""
    current = WindowManager.getCurrentImage()
    here = training_set.source_path(current) if current is not None else ""
    start = paths.index(here) + 1 if here in paths else 0
    left = [path for path in paths[start:] + paths[:start] if path not in done]
    if left == [here]:
        raise Problem(
            "{} is the only image that is not in the training set, and it is open.".format(
                current.getTitle()
            ),
            "Correct it and run Add To Training Set.",
            "done",
        )
    if left:
        return left[0] if left[0] != here else left[1]
    raise Problem(
        "All {} images of the folder are in the training set.".format(len(paths)),
        "Choose another folder, or train the model with them.",
        "done",
    )


def _close_earlier(done):
    """Close the images that this command opened and that are in the training set now."""
    for number in WindowManager.getIDList() or []:
        image = WindowManager.getImage(number)
        if image.getProp(_OPENED) and training_set.source_path(image) in done:
            image.changes = False
            image.close()


def _show(image, found, model):
    """Show the image; the ROI Manager has and shows its ROIs and no others.

    The overlay has them too, as the model found them: what was corrected is counted by it. It is
    hidden, where the ROI Manager shows what became of them.
    """
    image.setProp(_OPENED, "1")
    image.setProp(MODEL_PROPERTY, model)
    show(image)
    rois.show_on(image, found)
    if not has_display():
        return
    manager = RoiManager.getInstance()
    if manager is not None:
        manager.reset()
    if found:
        rois.add_to_manager(found)
        RoiManager.getInstance().runCommand(image, "Show All")
        image.setHideOverlay(True)
