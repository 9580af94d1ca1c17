r"""
IdentifyCells
=============

**IdentifyCells** finds cells or nuclei with a trained network, without a threshold to tune. It
takes the place of **IdentifyPrimaryObjects**: the objects can go to every module that takes
primary objects (IdentifySecondaryObjects, the Measure modules, ExportToSpreadsheet and so on).

The network runs in the CellSeg engine, a program of its own that is started when the first image
set needs it and serves all analysis workers, so its model is loaded once. Install it and this
module with ``cellseg install cellprofiler``; ``cellseg doctor`` explains a set-up that does not
work.

|

============ ============ ===============
Supports 2D? Supports 3D? Respects masks?
============ ============ ===============
YES          YES          YES
============ ============ ===============

What do I need as input?
^^^^^^^^^^^^^^^^^^^^^^^^

A grayscale image, or for models of whole cells a second one that shows the nuclei. Convert a
colour image with **ColorToGray** or **UnmixColors** first. Intensities need no rescaling: each
image is normalised by its own percentiles. With a mask (**MaskImage**, **Crop**) pixels outside
of it are not looked at, and objects are cut at it.

What do I get as output?
^^^^^^^^^^^^^^^^^^^^^^^^

A set of objects. If asked for, images of the probability that a pixel belongs to an object, and
of the flow; and the nuclei of the cells as objects of their own.

Measurements made by this module
^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

**Image measurements:**

-  *Count:* the number of objects.
-  *CellSeg\_DiameterUsed:* the diameter, in pixels, that the image was scaled by.
-  *CellSeg\_Seconds:* the engine's time.
-  *CellSeg\_Model, CellSeg\_WeightsSHA256, CellSeg\_EngineVersion:* what ran, for the methods
   section.
-  *Threshold\_...:* not a number. IdentifyPrimaryObjects has these measurements, so the tables
   of a pipeline keep their columns; there is no intensity threshold here.

**Object measurements:**

-  *Location\_Center\_X, \_Y, \_Z* and *Number\_Object\_Number*.
-  *CellSeg\_MeanProbability:* the mean over the object's pixels of the probability to belong to
   one.
-  *CellSeg\_FlowError:* how far the network's flow is from the one that the object's shape
   gives (mean squared error); low is good.
-  *Parent*, *Children* and *CellSeg\_NucleiCount:* for cells with nuclei, see the settings.

In a stack each plane is segmented, and objects of neighbouring planes that overlap become one.

References
^^^^^^^^^^

Stringer C, Wang T, Michaelos M, Pachitariu M (2021), Cellpose: a generalist algorithm for
cellular segmentation, *Nature Methods* 18, 100-106.
"""

from __future__ import annotations

import logging
from typing import Any, List

from cellprofiler_core.module.image_segmentation import ImageSegmentation
from cellprofiler_core.setting import ValidationError
from cellprofiler_core.setting.text import Text

try:
    from _cellseg.module import IdentifyCellsModule as _Base

    DAMAGE = ""
except Exception as error:  # whatever it is: a module that cannot be imported vanishes silently
    logging.getLogger(__name__).exception("IdentifyCells is damaged")
    _Base = ImageSegmentation  # type: ignore[misc]
    DAMAGE = (
        "IdentifyCells is damaged: a file of the folder _cellseg beside it cannot be used "
        "({}: {}). Install it again: cellseg install cellprofiler"
    ).format(type(error).__name__, error)


class IdentifyCells(_Base):
    """The module, also when its files are damaged or a pipeline's settings cannot be read.

    Then it stays in the pipeline with the settings as they were saved, so that saving loses
    nothing, and says what is wrong when it is looked at or run. (CellProfiler drops a module that
    raises while a pipeline is loaded, and runs the rest.)
    """

    module_name = "IdentifyCells"
    category = "Object Processing"
    variable_revision_number = 4

    def create_settings(self) -> None:
        """Make the settings."""
        self.problem = DAMAGE
        self.kept = []  # type: List[Any]
        super().create_settings()

    def set_settings_from_values(
        self, setting_values: List[str], variable_revision_number: int, module_name: str
    ) -> None:
        """Take the settings of a saved pipeline."""
        if not DAMAGE:
            self.problem = ""
            try:
                super().set_settings_from_values(
                    setting_values, variable_revision_number, module_name
                )
            except ValueError as error:
                self.problem = str(error)
        if self.problem:
            self.variable_revision_number = int(variable_revision_number)
            self.kept = [Text("Kept", value) for value in setting_values[2:]]
            for setting, value in zip(self.settings(), setting_values):
                setting.value = value

    def settings(self) -> List[Any]:
        """Give all settings in the order in which pipelines keep them."""
        if self.problem:
            return [self.x_name, self.y_name] + self.kept
        return super().settings()

    def visible_settings(self) -> List[Any]:
        """Give the settings to be shown."""
        if self.problem:
            return [self.x_name, self.y_name]
        return super().visible_settings()

    def validate_module(self, pipeline: Any) -> None:
        """Say what is wrong as soon as the module is looked at."""
        if self.problem:
            raise ValidationError(self.problem, self.x_name)
        super().validate_module(pipeline)

    def run(self, workspace: Any) -> None:
        """Find the objects of an image set, or say what is wrong."""
        if self.problem:
            raise RuntimeError(self.problem)
        super().run(workspace)


IdentifyCells.__doc__ = __doc__
