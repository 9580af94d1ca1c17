"""Pipelines for the tests of IdentifyCells, saved by CellProfiler itself.

PYTHON -m tests.integration.cellprofiler_pipelines PLUGINS OUT [EXAMPLES]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tools.make_example_pipelines import (
    HUMAN,
    OUT,
    assemble,
    examples,
    export,
    keep_labels,
    load,
    load_images,
    make,
    save,
    save_image,
    stacks,
    start,
)

DISK_PX = 24.0
"""Diameter of the disks that tests draw (see cellprofiler_images.py)."""


def main() -> int:
    """Write all."""
    plugins, out, *more = map(Path, sys.argv[1:])
    start(plugins)
    pipelines = {
        "basic": basic(),
        "shown": shown(),
        "everything": everything(),
        "stacks": stacks_with_exact_labels(),
        "volumes": volumes(),
        "pairs": pairs(),
        "pairs-in-planes": pairs_in_planes(),
        "measured": measured_diameter("CellSeg_DiameterUsed_First"),
        "no-diameter": measured_diameter("Threshold_FinalThreshold_First"),
        "two-channels": two_channels(),
        "colour": colour(),
        "colour-stack": colour(is_stack=True),
        "no-model": assemble([*load_images({"DNA": ""}), cells(model="gone"), export()]),
    }
    if more:
        pipelines.update(from_examples(more[0], out / "examples"))
    for name, pipeline in pipelines.items():
        save(pipeline, out / f"{name}.cppipe")
    return 0


def from_examples(folder: Path, out: Path) -> dict[str, Any]:
    """Give ExampleHuman, classical and with IdentifyCells, with its labels saved.

    The example pipelines for users are written once more too, to be compared.
    """
    out.mkdir()
    for name, pipeline in examples(folder).items():
        save(pipeline, out / name)
    human = {"classical": folder / HUMAN, "human": OUT / "ExampleHuman.cppipe"}
    return {name: with_labels(load(path), "Nuclei") for name, path in human.items()}


def with_labels(pipeline: Any, objects: str) -> Any:
    """Have a pipeline save labels before its last module, which writes the tables."""
    for module in keep_labels(objects, "npy"):
        module.module_num = len(pipeline.modules())
        pipeline.add_module(module)
    return pipeline


def cells(name: str = "Nuclei", image: str = "DNA", **settings: Any) -> Any:
    """Give an IdentifyCells for disks that keeps all it finds, unless settings say otherwise."""
    values = {
        "x_name": image,
        "y_name": name,
        "diameter_choice": "Given here",
        "diameter_px": DISK_PX,
        "exclude_size": False,
        "exclude_border_objects": False,
        "nuclei_name": "NucleiOfCells",
        **settings,
    }
    return make("IdentifyCells", **values)


def basic() -> Any:
    """Give the shortest pipeline: objects and tables, image and labels as they are."""
    kept = [save_image("DNA", "npy"), *keep_labels("Nuclei", "npy")]
    return assemble([*load_images({"DNA": ""}), cells(), *kept, export()])


def shown() -> Any:
    """Give one where the module's window is open."""
    module = cells()
    module.show_window = True
    return assemble([*load_images({"DNA": ""}), module, export()])


def everything() -> Any:
    """Give one that looks at one field in many ways: masks, 12 bit, discards, extra images."""
    mask = make(
        "Crop",
        image_name="DNA",
        cropped_image_name="Masked",
        shape="Ellipse",
        crop_method="Coordinates",
        ellipse_center=(70, 60),
        ellipse_x_radius=52,
        ellipse_y_radius=44,
        remove_rows_and_columns="No",
    )
    modules = [
        *load_images({"DNA": "_dna", "Low": "_low", "High": "_high"}),
        mask,
        cells("Plain", wants_probability=True, wants_flows=True),
        cells("Inside", "Masked"),
        cells("Whole", "Masked", exclude_border_objects=True),
        cells("FromLow", "Low"),
        cells("FromHigh", "High"),
        cells("Edited", exclude_border_objects=True, exclude_size=True, size_range=(8, 80)),
        make(
            "IdentifySecondaryObjects",
            x_name="Edited",
            y_name="Grown",
            image_name="DNA",
            method="Distance - N",
            distance_to_dilate=12,
        ),
        make(
            "MeasureObjectNeighbors",
            object_name="Edited",
            neighbors_name="Edited",
            distance_method="Within a specified distance",
            distance=6,
            wants_excluded_objects=True,
        ),
    ]
    for name in ("Plain", "Inside", "Whole", "FromLow", "FromHigh", "Edited", "Grown"):
        modules += keep_labels(name, "npy")
    modules += [save_image(name, "npy") for name in ("DNA", "CellProbability", "Masked")]
    modules += [save_image("CellFlow", "png"), save_image("Masked", "npy")]
    modules[-1].save_image_or_figure.value = "Mask"
    modules[-1].single_file_name.value = "Mask_"
    return assemble([*modules, export()])


def stacks_with_exact_labels() -> Any:
    """Give the example for stacks, for disks, with labels that hold the numbers themselves.

    CellProfiler on Python 3.11 cannot save a stack as TIFF: tifffile dropped what it asks for.
    """
    pipeline = stacks()
    for module in pipeline.modules():
        if module.module_name == "IdentifyCells":
            module.engine_settings["diameter_px"].value = DISK_PX
        if module.module_name == "SaveImages":
            module.file_format.value = "npy"
    return pipeline


def volumes() -> Any:
    """Give the one for stacks, as one volume with voxels twice as deep as wide."""
    pipeline = stacks_with_exact_labels()
    for module in pipeline.modules():
        if module.module_name == "IdentifyCells":
            module.use_advanced.value = True
            module.engine_settings["volume_mode"].value = "fuse"
            module.wants_flows.value = True
        if module.module_name == "NamesAndTypes":
            module.z.value = 2.0
    return pipeline


def pairs() -> Any:
    """Give one that relates cells to nuclei in all ways; nuclei with known labels are loaded."""
    loaded = load_images({"Body": "_body", "DNA": "_dna", "Known": "_known"})
    known = loaded[2].assignments[2]
    known.load_as_choice.value = "Objects"
    known.object_name.value = "Known"
    found: dict[str, Any] = {
        "wants_nuclei": "Yes, found here with a second model",
        "nuclei_image": "DNA",
        "nuclei_model": "nuclei",
    }
    given: dict[str, Any] = {
        "wants_nuclei": "Yes, objects of an earlier module",
        "nuclei_objects": "Known",
    }
    body: dict[str, Any] = {"image": "Body", "diameter_px": 40.0}
    modules = [
        *loaded,
        cells("OfKnown", **body, **given),
        cells("OnlyOfKnown", **body, **given, pairs_only=True),
        cells("OfFound", **body, **found, nuclei_name="Found"),
        cells("OnlyOfFound", **body, **found, nuclei_name="OnlyFound", pairs_only=True),
    ]
    for name in ("OfKnown", "OfFound", "Found", "OnlyOfFound", "OnlyFound"):
        modules += keep_labels(name, "npy")
    return assemble([*modules, export()])


def pairs_in_planes() -> Any:
    """Give one that finds cells and nuclei of a stack plane by plane, and relates them."""
    module = cells(
        "Cells",
        wants_nuclei="Yes, found here with a second model",
        nuclei_image="DNA",
        nuclei_model="nuclei",
        use_advanced=True,
        stitch_threshold=0.0,
    )
    kept = [*keep_labels("Cells", "npy"), *keep_labels("NucleiOfCells", "npy")]
    return assemble([*load_images({"DNA": ""}, is_stack=True), module, *kept, export()])


def measured_diameter(measurement: str) -> Any:
    """Give one where the diameter of the second IdentifyCells is a measurement."""
    second = cells(
        diameter_choice="From a measurement", diameter_measurement=measurement, diameter_px=60.0
    )
    return assemble([*load_images({"DNA": ""}), cells("First"), second, export()])


def two_channels() -> Any:
    """Give one with a second image beside the first."""
    loaded = load_images({"DNA": "_dna", "Other": "_other"})
    return assemble([*loaded, cells(second_image="Other"), export()])


def colour(is_stack: bool = False) -> Any:
    """Give one that loads a colour image; CellProfiler makes a grey one three equal colours."""
    loaded = load_images({"DNA": ""}, is_stack=is_stack)
    loaded[2].single_load_as_choice.value = "Color image"
    return assemble([*loaded, cells(), export()])


if __name__ == "__main__":
    sys.exit(main())
