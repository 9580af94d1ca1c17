"""The settings that are CellProfiler's matter: images, objects, sizes, what to keep."""

from __future__ import annotations

from typing import Any, List

from cellprofiler_core.constants.measurement import IMAGE
from cellprofiler_core.setting import Binary, Divider, Measurement
from cellprofiler_core.setting.choice import Choice
from cellprofiler_core.setting.range import FloatRange
from cellprofiler_core.setting.subscriber import ImageSubscriber, LabelSubscriber
from cellprofiler_core.setting.text import ImageName, LabelName, Text

from _cellseg.engine_settings import DIAMETER

DIAMETER_ESTIMATED = "Estimated from the image"
DIAMETER_GIVEN = "Given here"
DIAMETER_MEASURED = "From a measurement"

NUCLEI_NONE = "No"
NUCLEI_FROM_OBJECTS = "Yes, objects of an earlier module"
NUCLEI_FROM_MODEL = "Yes, found here with a second model"

# Pipelines keep settings by position: a name is only ever added, with a new revision
# (see revisions.py).
ORDER = (
    "x_name",
    "y_name",
    "second_image",
    "diameter_choice",
    "diameter_measurement",
    "size_range",
    "exclude_size",
    "exclude_border_objects",
    "wants_probability",
    "probability_name",
    "wants_flows",
    "flows_name",
    "use_advanced",
    "wants_nuclei",
    "nuclei_objects",
    "nuclei_image",
    "nuclei_model",
    "nuclei_name",
    "pairs_only",
)


def create(module: Any) -> None:
    """Make the settings as attributes of the module, which has x_name and y_name already."""
    module.x_name.doc = "The grayscale image that shows the objects."
    module.y_name.set_text("Name the objects to be identified")
    module.y_name.value = "Cells"
    module.y_name.doc = "The name under which later modules find the objects."
    module.second_image = ImageSubscriber(
        "Select a second image that shows the nuclei",
        can_be_blank=True,
        doc="For models of whole cells that look at two channels: the image of the nuclei. Leave "
        "it blank for models of one channel, such as those of nuclei.",
    )
    module.diameter_choice = Choice(
        "Diameter of the objects",
        [DIAMETER_ESTIMATED, DIAMETER_GIVEN, DIAMETER_MEASURED],
        doc="The image is scaled so that its objects have the size that the network was trained "
        "with.\n\n-  *{}:* from each image by itself; an image almost without objects may be "
        "estimated wrongly.\n-  *{}:* the typical diameter in pixels, the same for all images; the "
        "choice for a screen, where results of images shall be comparable.\n-  *{}:* a measurement "
        "of the image by an earlier module, in pixels.".format(
            DIAMETER_ESTIMATED, DIAMETER_GIVEN, DIAMETER_MEASURED
        ),
    )
    module.diameter_measurement = Measurement(
        "Select the measurement with the diameter",
        lambda: IMAGE,
        doc="A measurement of the image: the diameter in pixels.",
    )
    module.size_range = FloatRange(
        "Typical diameter of objects, in pixel units (Min,Max)",
        (5, 500),
        minval=0,
        doc="As in IdentifyPrimaryObjects: an object is compared with the area of a disk of these "
        "diameters, in a stack with the volume of a ball. The network does not use them.",
    )
    module.exclude_size = Binary(
        "Discard objects outside the diameter range?",
        True,
        doc="Discarded objects are lost to this set of objects, but IdentifySecondaryObjects still "
        "sees them as competitors.",
    )
    module.exclude_border_objects = Binary(
        "Discard objects touching the border of the image?",
        True,
        doc="Objects cut by the border, or by that of the image's mask, would be measured too "
        "small. In a stack the first and the last plane are no border.",
    )
    _create_outputs(module)
    _create_nuclei(module)


def _create_outputs(module: Any) -> None:
    module.wants_probability = Binary(
        "Keep the probability as an image?",
        False,
        doc="An image of the probability, 0 to 1, that a pixel belongs to an object.",
    )
    module.probability_name = ImageName("Name the probability image", "CellProbability")
    module.wants_flows = Binary(
        "Keep the flow as a colour image?",
        False,
        doc="The direction in which the network sends each pixel, as a hue, brighter where it is "
        "more certain. Good to look at where objects are split or merged wrongly.",
    )
    module.flows_name = ImageName("Name the flow image", "CellFlow")
    module.use_advanced = Binary(
        "Use advanced settings?",
        False,
        doc="Show all settings of the engine. With *No* those not shown have their defaults.",
    )
    module.divider = Divider(line=True)


def _create_nuclei(module: Any) -> None:
    module.wants_nuclei = Choice(
        "Relate the cells to their nuclei?",
        [NUCLEI_NONE, NUCLEI_FROM_OBJECTS, NUCLEI_FROM_MODEL],
        doc="A nucleus belongs to the cell that holds at least half of it. If a cell holds "
        "several, its parent is the one that shares most pixels with it, and "
        "*CellSeg\\_NucleiCount* tells how many there are. Nuclei are parents and cells children, "
        "as with IdentifySecondaryObjects.\n\n-  *{}:* for example of an IdentifyCells before this "
        "one.\n-  *{}:* both sets of objects come from this module.".format(
            NUCLEI_FROM_OBJECTS, NUCLEI_FROM_MODEL
        ),
    )
    module.nuclei_objects = LabelSubscriber(
        "Select the nuclei", doc="The objects that are the nuclei of these cells."
    )
    module.nuclei_image = ImageSubscriber(
        "Select the image of the nuclei",
        doc="The image in which the second model finds the nuclei.",
    )
    module.nuclei_model = Text(
        "Model for the nuclei",
        "nuclei",
        doc="As the model above; its diameter is estimated. Of the advanced settings those of "
        "linked planes and volumes, device, precision and batch size hold for it too.",
    )
    module.nuclei_name = LabelName(
        "Name the nuclei", "Nuclei", doc="The name under which later modules find the nuclei."
    )
    module.pairs_only = Binary(
        "Keep only cells with a nucleus?",
        False,
        doc="Discard cells without a nucleus, and of nuclei that are found here those without "
        "a cell.",
    )


def visible(module: Any) -> List[Any]:
    """Give the settings to be shown, in the order of the work."""
    engine = module.engine_settings
    shown = [module.x_name, module.second_image, module.y_name, engine["model"]]
    shown.append(module.diameter_choice)
    if module.diameter_choice.value == DIAMETER_GIVEN:
        shown.append(engine[DIAMETER])
    elif module.diameter_choice.value == DIAMETER_MEASURED:
        shown.append(module.diameter_measurement)
    shown += [engine["probability_threshold"], engine["flow_threshold"]]
    shown += [module.size_range, module.exclude_size, module.exclude_border_objects]
    shown += [module.divider, module.wants_nuclei]
    if module.wants_nuclei.value == NUCLEI_FROM_OBJECTS:
        shown.append(module.nuclei_objects)
    elif module.wants_nuclei.value == NUCLEI_FROM_MODEL:
        shown += [module.nuclei_image, module.nuclei_model, module.nuclei_name]
    if module.wants_nuclei.value != NUCLEI_NONE:
        shown.append(module.pairs_only)
    shown += [module.divider, module.wants_probability]
    if module.wants_probability.value:
        shown.append(module.probability_name)
    shown.append(module.wants_flows)
    if module.wants_flows.value:
        shown.append(module.flows_name)
    shown += [module.divider, module.use_advanced]
    shown += engine.advanced_only(module.use_advanced.value)
    return shown
