"""The module itself: its settings, its way through an image set, its measurements."""

from __future__ import annotations

import logging
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from cellprofiler_core.image import Image
from cellprofiler_core.module.image_segmentation import ImageSegmentation
from cellprofiler_core.object import Objects
from cellprofiler_core.setting import ValidationError

from _cellseg import connection, figure, measured, own_settings, revisions
from _cellseg.engine_settings import DIAMETER, EngineSettings
from _cellseg.objects import Edited, Pairs, edit, fill_outside, pair, renumber

log = logging.getLogger(__name__)

# What holds for the second model too: how stacks are taken, and where the engine runs.
FOR_BOTH = (
    "stitch_threshold",
    "volume_mode",
    "anisotropy",
    "device",
    "precision",
    "batch_size",
)


class Found(NamedTuple):
    """What the engine answered, and the objects made of it."""

    result: Any
    edited: Edited


class IdentifyCellsModule(ImageSegmentation):
    """Everything of IdentifyCells; `identifycells.py` is what CellProfiler finds."""

    def create_settings(self) -> None:
        """Make the settings: the module's own, then the engine's."""
        super().create_settings()
        own_settings.create(self)
        self.engine_settings = EngineSettings()

    def settings(self) -> List[Any]:
        """Give all settings in the order in which pipelines keep them."""
        own = [getattr(self, name) for name in own_settings.ORDER]
        return own + self.engine_settings.all()

    def visible_settings(self) -> List[Any]:
        """Give the settings to be shown."""
        return own_settings.visible(self)

    def help_settings(self) -> List[Any]:
        """Give the settings that the help explains: all."""
        return self.settings()

    def upgrade_settings(
        self, setting_values: List[str], variable_revision_number: int, module_name: str
    ) -> Tuple[List[str], int]:
        """Give the values of an older revision in the present order."""
        return revisions.upgrade(list(setting_values), variable_revision_number)

    def validate_module(self, pipeline: Any) -> None:
        """Check what CellProfiler cannot check setting by setting."""
        self.engine_settings.check(self.use_advanced.value)
        model = self.engine_settings["model"]
        if not model.value_text.strip():
            raise ValidationError("Name a model (`cellseg models list` shows them).", model)
        diameter = self.engine_settings[DIAMETER]
        if self.diameter_choice.value == own_settings.DIAMETER_GIVEN and diameter.value <= 0:
            raise ValidationError(
                "The diameter is 0, but one that is given must be above 0. Measure the typical "
                "diameter in pixels, or choose '{}'.".format(own_settings.DIAMETER_ESTIMATED),
                diameter,
            )
        has_both = self.wants_probability.value and self.wants_flows.value
        if has_both and self.flows_name.value == self.probability_name.value:
            raise ValidationError("Probability and flow need different names.", self.flows_name)
        if self.wants_nuclei.value == own_settings.NUCLEI_FROM_MODEL:
            if self.nuclei_name.value == self.y_name.value:
                raise ValidationError("Nuclei and cells need different names.", self.nuclei_name)
            if not self.nuclei_model.value_text.strip():
                raise ValidationError("Name the model for the nuclei.", self.nuclei_model)

    def is_object_identification_module(self) -> bool:
        """Say that it is one, as the Identify modules are."""
        return True

    def volumetric(self) -> bool:
        """Say that volumes are taken too."""
        return True

    # --- an image set ----------------------------------------------------------------------

    def run(self, workspace: Any) -> None:
        """Find the objects of an image set.

        Raises
        ------
        ValueError
            A setting that is not allowed, images of different shapes, or a diameter measurement
            that is none.
        cellseg_client.EngineError
            With the engine's own sentence and hint.
        """
        self._check_settings(workspace.pipeline)
        image = self._image(workspace, self.x_name.value)
        settings = self.engine_settings.values(self.use_advanced.value)
        settings[DIAMETER] = self._diameter(workspace)
        settings.update(_volume_settings(settings, image))
        cells = self._find_cells(workspace, image, settings)
        nuclei = self._find_nuclei(workspace, image)
        pairs = None
        if self.wants_nuclei.value != own_settings.NUCLEI_NONE:
            cells, nuclei, pairs = self._relate(workspace, cells, nuclei)
        self._add(workspace, self.y_name.value, cells, image)
        if nuclei is not None:
            self._add(workspace, self.nuclei_name.value, nuclei, image)
        if pairs is not None:
            measured.add_pairs(self, workspace, pairs)
        self._add_images(workspace, cells.result, image)
        if self.show_window:
            figure.keep(workspace, image, cells.result, cells.edited, settings)

    def _check_settings(self, pipeline: Any) -> None:
        """Check what a saved pipeline brought; without a window CellProfiler does not."""
        try:
            for setting in self.visible_settings():
                setting.test_valid(pipeline)
            self.validate_module(pipeline)
        except ValidationError as error:
            name = getattr(error.setting, "text", "settings")
            raise ValueError("IdentifyCells, {}: {}".format(name, error.message)) from error

    def _find_cells(self, workspace: Any, image: Any, settings: Dict[str, Any]) -> Found:
        pixels, axes = self._pixels(workspace, image)
        result = self._ask(workspace, pixels, axes, settings, self._outputs())
        size_range = self.size_range.value if self.exclude_size.value else None
        at_border = self.exclude_border_objects.value
        return Found(result, edit(result.labels, _mask(image), size_range, at_border))

    def _image(self, workspace: Any, name: str) -> Any:
        image = workspace.image_set.get_image(name, must_be_grayscale=True)
        _check_dimensions(name, image)
        return image

    def _pixels(self, workspace: Any, image: Any) -> Tuple[np.ndarray, str]:
        """Give what the engine looks at: the image, and the second one as a second channel."""
        names = [self.x_name.value]
        if not self.second_image.is_blank:
            names.append(self.second_image.value)
        channels = []
        for name in names:
            channel = self._image(workspace, name)
            pixels = np.asarray(channel.pixel_data, dtype=np.float32)
            _check_shapes("The image " + name, pixels.shape, image.pixel_data.shape)
            channels.append(fill_outside(pixels, image.mask) if image.has_mask else pixels)
        axes = "ZYX" if image.volumetric else "YX"
        if len(channels) == 1:
            return channels[0], axes
        return np.stack(channels), "C" + axes

    def _outputs(self) -> List[str]:
        outputs = ["labels", "table"]
        if self.wants_probability.value:
            outputs.append("probability")
        if self.wants_flows.value:
            outputs.append("flows")
        return outputs

    def _diameter(self, workspace: Any) -> float:
        choice = self.diameter_choice.value
        if choice == own_settings.DIAMETER_ESTIMATED:
            return 0.0
        if choice == own_settings.DIAMETER_GIVEN:
            return float(self.engine_settings[DIAMETER].value)
        name = self.diameter_measurement.value
        value = workspace.measurements.get_current_image_measurement(name)
        try:
            diameter = float(np.asarray(value).ravel()[0])
        except (TypeError, ValueError, IndexError):
            diameter = float("nan")
        if not np.isfinite(diameter) or diameter <= 0:
            raise ValueError(
                "The measurement {} gives {} as diameter, but it must be a number of pixels above "
                "0.".format(name, value)
            )
        return diameter

    def _ask(
        self,
        workspace: Any,
        pixels: np.ndarray,
        axes: str,
        settings: Dict[str, Any],
        outputs: List[str],
    ) -> Any:
        if "C" in axes:
            settings = dict(settings, channel="1", nuclear_channel="2")
        # Small objects are this module's to discard, and other modules need to see them.
        settings = dict(settings, min_area_px=1)
        title = "image set {}".format(workspace.measurements.image_set_number)
        result = connection.segment(pixels, axes, settings, outputs, title)
        for warning in result.warnings:
            log.warning("IdentifyCells, %s: %s", title, warning)
        return result

    def _find_nuclei(self, workspace: Any, image: Any) -> Optional[Found]:
        """Give the nuclei of the second model; None if none is asked for."""
        if self.wants_nuclei.value != own_settings.NUCLEI_FROM_MODEL:
            return None
        source = self._image(workspace, self.nuclei_image.value)
        pixels = np.asarray(source.pixel_data, dtype=np.float32)
        mask = _mask(image)
        _check_shapes("The image of the nuclei", pixels.shape, image.pixel_data.shape)
        if mask is not None:
            pixels = fill_outside(pixels, mask)
        settings = self.engine_settings.stack_defaults()
        settings.update({"model": self.nuclei_model.value_text.strip(), DIAMETER: 0.0})
        chosen = self.engine_settings.values(self.use_advanced.value)
        settings.update({name: chosen[name] for name in FOR_BOTH if name in chosen})
        settings.update(_volume_settings(settings, image))
        axes = "ZYX" if image.volumetric else "YX"
        result = self._ask(workspace, pixels, axes, settings, ["labels", "table"])
        return Found(result, edit(result.labels, mask, None, False))

    def _relate(
        self, workspace: Any, cells: Found, nuclei: Optional[Found]
    ) -> Tuple[Found, Optional[Found], Pairs]:
        """Give the cells and nuclei that stay, and who belongs to whom."""
        if nuclei is not None:
            labels = nuclei.edited.segmented
        else:
            labels = workspace.object_set.get_objects(self.nuclei_objects.value).segmented
        _check_shapes("The nuclei", labels.shape, cells.edited.segmented.shape)
        pairs = pair(cells.edited.segmented, labels)
        if not self.pairs_only.value:
            return cells, nuclei, pairs
        cells = cells._replace(edited=_keep(cells.edited, pairs.nucleus_of_cell > 0))
        if nuclei is not None:
            nuclei = nuclei._replace(edited=_keep(nuclei.edited, pairs.cell_of_nucleus > 0))
            labels = nuclei.edited.segmented
        return cells, nuclei, pair(cells.edited.segmented, labels)

    def _add(self, workspace: Any, name: str, found: Found, image: Any) -> None:
        """Give the pipeline a set of objects, and its measurements."""
        objects = Objects()
        objects.segmented = found.edited.segmented
        objects.unedited_segmented = found.edited.unedited
        objects.small_removed_segmented = found.edited.small_removed
        objects.parent_image = image
        workspace.object_set.add_objects(objects, name)
        measured.add(self, workspace, name, found.result, found.edited)

    def _add_images(self, workspace: Any, result: Any, image: Any) -> None:
        wanted = (
            (self.wants_probability, self.probability_name, lambda: result.probability),
            (self.wants_flows, self.flows_name, lambda: figure.flow_colours(result.flows)),
        )
        for wants, name, make in wanted:
            if wants.value:
                made = Image(make(), parent_image=image, dimensions=image.dimensions)
                workspace.image_set.add(name.value, made)

    def display(self, workspace: Any, figure_window: Any) -> None:
        """Show image, objects, outlines with what was discarded, and a table."""
        figure.draw(self, workspace, figure_window)

    # --- measurements ----------------------------------------------------------------------

    def get_measurement_columns(
        self, pipeline: Any, object_name: Optional[str] = None
    ) -> List[Any]:
        """Give all measurements with their types."""
        return measured.columns(self)

    def get_categories(self, pipeline: Any, object_name: str) -> List[str]:
        """Give the categories of measurements of a set of objects, or of the image."""
        return measured.categories(self, object_name)

    def get_measurements(self, pipeline: Any, object_name: str, category: str) -> List[str]:
        """Give the features of a category."""
        return measured.features(self, object_name, category)

    def get_measurement_objects(
        self, pipeline: Any, object_name: str, category: str, measurement: str
    ) -> List[str]:
        """Give the objects that an image measurement is about."""
        return measured.objects_of(self, object_name, category, measurement)

    def get_object_relationships(self, pipeline: Any) -> List[Any]:
        """Give the relationships: nuclei are parents of their cells."""
        return measured.relationships(self)


def _volume_settings(settings: Dict[str, Any], image: Any) -> Dict[str, Any]:
    """Give what changes where a stack is one volume: its spacing, and no size limit here."""
    if settings.get("volume_mode", "planes") == "planes":
        return {}
    changed = {"min_volume_px": 0}  # type: Dict[str, Any]
    if settings.get("anisotropy", "auto") == "auto" and image.volumetric:
        # CellProfiler's spacing is that of NamesAndTypes: z first, relative to X.
        changed["anisotropy"] = "{:.6f}".format(float(image.spacing[0] / image.spacing[1]))
    return changed


def _mask(image: Any) -> Optional[np.ndarray]:
    return image.mask if image.has_mask else None


def _keep(edited: Edited, keep: np.ndarray) -> Edited:
    """Give the objects less those without a partner; keep: bool of shape (n,)."""
    segmented = renumber(edited.segmented, np.append(False, keep))
    return edited._replace(segmented=segmented, kept=edited.kept[keep])


def _check_dimensions(name: str, image: Any) -> None:
    """Refuse a stack with colours or channels, and what is no stack in a pipeline for stacks.

    A stack of equal colours, as of a grey one that NamesAndTypes loads as a colour image, is
    grayscale for CellProfiler, which then cuts off columns instead of colours.
    """
    if image.pixel_data.ndim != image.dimensions or (image.volumetric and image.multichannel):
        raise ValueError(
            "The image {} has the dimensions {}, but must have {}. Load it as a grayscale image "
            "(NamesAndTypes), from a file that holds {}.".format(
                name,
                " x ".join(str(length) for length in image.get_image().shape),
                "planes, rows and columns" if image.volumetric else "rows and columns",
                "a stack of one channel" if image.volumetric else "one channel",
            )
        )


def _check_shapes(what: str, shape: Tuple[int, ...], wanted: Tuple[int, ...]) -> None:
    if shape != wanted:
        sizes = [" x ".join(str(length) for length in lengths) for lengths in (shape, wanted)]
        raise ValueError(
            "{} and the image of the cells differ in shape: {} and {} pixels. They must show the "
            "same field of view.".format(what, *sizes)
        )
