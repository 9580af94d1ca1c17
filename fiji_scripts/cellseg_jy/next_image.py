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
from cellseg_jy.source import Source, file_path

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


def command(given):
    """Run the menu command."""
    values = collect(OWN, given)
    folder = training_set.find_folder(values, "training_folder", "training folder")
    images = training_set.find_folder(values, "image_folder", "folder with images")
    seen = training_set.hash_rois(training_set.manager_rois())
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
    diameter = values["diameter_px"]
    if not diameter and model not in [entry["name"] for entry in content["models"]]:
        # a model of the folder estimates the diameters that it learned there
        diameter = content["median_diameter_px"]
    if diameter:
        settings["diameter_px"] = diameter
    image, remarks = listing.open_image(path)
    result = segment(Source(image), settings, ("labels", "rois"))
    found = rois.decode_rois(result.rois)
    _empty_manager(seen, image)
    _close_earlier(done)
    _show(image, path, found, model)
    for warning in remarks + result.warnings:
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


def _empty_manager(seen, image):
    """Empty the ROI Manager, unless its ROIs are not those seen at first and would be lost."""
    if training_set.has_work(seen):
        raise Problem(
            "ROIs were drawn or changed while {} was being segmented, so it was not opened.".format(
                image.getTitle()
            ),
            "Run Add To Training Set, then Next Image again.",
            "rois",
        )
    manager = RoiManager.getInstance() if has_display() else None
    if manager is not None:
        manager.reset()


def _close_earlier(done):
    """Close the images that this command opened and that are in the training set now.

    What was cut out of them stays open: it may have been changed.
    """
    for number in WindowManager.getIDList() or []:
        image = WindowManager.getImage(number)
        path = file_path(image)
        if path in done and path == image.getProp(training_set.SOURCE_PROPERTY):
            image.changes = False
            image.close()


def _show(image, path, found, model):
    """Show the image; the ROI Manager has and shows its ROIs and no others.

    The overlay has them too, as the model found them: what was corrected is counted by it. It is
    hidden, where the ROI Manager shows what became of them.
    """
    image.setProp(training_set.SOURCE_PROPERTY, path)
    image.setProp(MODEL_PROPERTY, model)
    show(image)
    rois.show_on(image, found)
    if has_display() and found:
        rois.add_to_manager(found)
        RoiManager.getInstance().runCommand(image, "Show All")
        image.setHideOverlay(True)
