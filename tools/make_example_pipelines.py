"""Write the example pipelines in docs/examples/cellprofiler; CellProfiler itself saves them.

PYTHON tools/make_example_pipelines.py --examples FOLDER [--out FOLDER] [--plugins FOLDER]

PYTHON has a CellProfiler (tools/cellprofiler_host.py makes one); the folder of examples holds
CellProfiler's own ExampleHuman and ExampleFly.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ROOT / "cellprofiler_modules"
OUT = ROOT / "docs/examples/cellprofiler"
HUMAN = "ExampleHuman/ExampleHuman.cppipe"
FLY = "ExampleFly/ExampleFly.cppipe"
NUCLEI_HUMAN_PX = 20.0
NUCLEI_FLY_PX = 21.0
CELLS_HUMAN_PX = 40.0
NUCLEI_3D_PX = 12.0
OWN_MODEL = (
    "The model finds nuclei, for want of a free one for whole cells: it takes the cell bodies for "
    "large nuclei. Give a model of whole cells of your own here, for example the path of official "
    "cyto weights."
)


def main() -> int:
    """Write all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--plugins", type=Path, default=PLUGINS)
    options = parser.parse_args()
    start(options.plugins)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, pipeline in examples(options.examples).items():
        print(save(pipeline, options.out / name))
    return 0


def start(plugins: Path) -> None:
    """Load CellProfiler's modules and those of a plugins directory."""
    from cellprofiler_core.preferences import set_headless, set_plugin_directory
    from cellprofiler_core.utilities.core.modules import fill_modules

    logging.basicConfig(level=logging.ERROR)
    set_headless()
    set_plugin_directory(str(plugins), globally=False)
    fill_modules()


def examples(folder: Path) -> dict[str, Any]:
    """Give all example pipelines by file name; folder: CellProfiler's own examples."""
    human, fly = load(folder / HUMAN), load(folder / FLY)
    take_place(human, "Nuclei", NUCLEI_HUMAN_PX)
    take_place(fly, "Nuclei", NUCLEI_FLY_PX)
    return {
        "ExampleHuman.cppipe": human,
        "ExampleFly.cppipe": fly,
        "NucleiInStacks.cppipe": stacks(),
        "CellsOfNuclei.cppipe": pairs_of_two_modules(load(folder / HUMAN)),
        "CellsAndNuclei.cppipe": pairs_of_one_module(load(folder / HUMAN)),
    }


def stacks() -> Any:
    """Give a pipeline that measures nuclei in stacks and saves their labels."""
    cells = make(
        "IdentifyCells",
        x_name="DNA",
        y_name="Nuclei",
        diameter_choice="Given here",
        diameter_px=NUCLEI_3D_PX,
        size_range=(5, 60),
        exclude_border_objects=False,
    )
    labels, saved = keep_labels("Nuclei", "tiff")
    loaded = load_images({"DNA": ""}, is_stack=True)
    return assemble([*loaded, cells, *measure(["Nuclei"], ["DNA"]), labels, saved, export()])


def pairs_of_two_modules(human: Any) -> Any:
    """Give a pipeline where the cells are related to nuclei found by an earlier module."""
    nuclei = make(
        "IdentifyCells",
        x_name="DNA",
        y_name="Nuclei",
        diameter_choice="Given here",
        diameter_px=NUCLEI_HUMAN_PX,
        size_range=(8, 80),
    )
    cells = whole_cells(wants_nuclei="Yes, objects of an earlier module", nuclei_objects="Nuclei")
    measured = measure(["Nuclei", "Cells"], ["DNA", "cellbody"])
    return assemble([*human.modules()[:4], nuclei, cells, *measured, export()])


def pairs_of_one_module(human: Any) -> Any:
    """Give a pipeline where one module finds the cells, and with a second model their nuclei."""
    cells = whole_cells(
        wants_nuclei="Yes, found here with a second model",
        nuclei_image="DNA",
        nuclei_model="nuclei",
        nuclei_name="Nuclei",
        pairs_only=True,
    )
    measured = measure(["Nuclei", "Cells"], ["DNA", "cellbody"])
    return assemble([*human.modules()[:4], cells, *measured, export()])


def whole_cells(**settings: Any) -> Any:
    """Give an IdentifyCells for the cell bodies of ExampleHuman."""
    cells = make(
        "IdentifyCells",
        x_name="cellbody",
        y_name="Cells",
        diameter_choice="Given here",
        diameter_px=CELLS_HUMAN_PX,
        size_range=(10, 120),
        exclude_border_objects=False,
        **settings,
    )
    cells.notes = [OWN_MODEL]
    return cells


# --- parts -------------------------------------------------------------------------------------


def load(path: Path) -> Any:
    """Give a saved pipeline."""
    from cellprofiler_core.pipeline import Pipeline

    pipeline = Pipeline()
    pipeline.load(str(path))
    return pipeline


def take_place(pipeline: Any, objects: str, diameter_px: float) -> None:
    """Put IdentifyCells where IdentifyPrimaryObjects finds some objects, with what they share."""
    old = next(
        module
        for module in pipeline.modules()
        if module.module_name == "IdentifyPrimaryObjects" and module.y_name.value == objects
    )
    new = make(
        "IdentifyCells",
        x_name=old.x_name.value,
        y_name=objects,
        diameter_choice="Given here",
        diameter_px=diameter_px,
        size_range=old.size_range.value,
        exclude_size=old.exclude_size.value,
        exclude_border_objects=old.exclude_border_objects.value,
    )
    new.show_window = old.show_window
    new.module_num = old.module_num
    pipeline.remove_module(old.module_num)
    pipeline.add_module(new)


def make(name: str, **settings: Any) -> Any:
    """Give a module with settings, each named as its attribute or as the engine's setting."""
    from cellprofiler_core.utilities.core.modules import instantiate_module

    module = instantiate_module(name)
    for setting, value in settings.items():
        own = getattr(module, setting, None)
        (module.engine_settings[setting] if own is None else own).value = value
    return module


def load_images(rules: dict[str, str], is_stack: bool = False) -> list[Any]:
    """Give the four modules that load images, by a text in the file name; "" takes all."""
    names = make("NamesAndTypes")
    names.assignment_method.value = "Images matching rules" if any(rules.values()) else "All images"
    for number, (image, text) in enumerate(rules.items()):
        if number:
            names.add_assignment()
        names.assignments[number].image_name.value = image
        names.assignments[number].rule_filter.value = f'and (file does contain "{text}")'
    names.single_image_provider.value = next(iter(rules))
    names.pipeline = _Listener()
    names.process_as_3d.value = is_stack
    return [make("Images"), make("Metadata"), names, make("Groups")]


class _Listener:
    """Takes what NamesAndTypes tells its pipeline before it is in one."""

    def set_volumetric(self, value: bool) -> None:
        """Do nothing: `assemble` tells the pipeline."""


def measure(objects: list[str], images: list[str]) -> list[Any]:
    """Give the modules that measure shape and intensity."""
    return [
        make("MeasureObjectSizeShape", objects_list=", ".join(objects)),
        make(
            "MeasureObjectIntensity",
            images_list=", ".join(images),
            objects_list=", ".join(objects),
        ),
    ]


def keep_labels(objects: str, file_format: str) -> list[Any]:
    """Give the modules that save the labels of objects; npy keeps them exactly."""
    image = f"{objects}Labels"
    return [
        make("ConvertObjectsToImage", object_name=objects, image_name=image, image_mode="uint16"),
        save_image(image, file_format, bit_depth="16-bit integer"),
    ]


def save_image(image: str, file_format: str, **settings: Any) -> Any:
    """Give the module that saves an image into the output folder, under the image's name."""
    return make(
        "SaveImages",
        image_name=image,
        file_name_method="Sequential numbers",
        single_file_name=f"{image}_",
        file_format=file_format,
        overwrite=True,
        **settings,
    )


def export() -> Any:
    """Give the module that writes all tables."""
    return make(
        "ExportToSpreadsheet",
        delimiter='Comma (",")',
        wants_everything=True,
        wants_prefix=False,
        wants_overwrite_without_warning=True,
    )


def assemble(modules: list[Any]) -> Any:
    """Give a pipeline of modules."""
    from cellprofiler_core.pipeline import Pipeline

    pipeline = Pipeline()
    for number, module in enumerate(modules, 1):
        module.module_num = number
        pipeline.add_module(module)
    return pipeline


def save(pipeline: Any, path: Path) -> Path:
    """Write a pipeline as CellProfiler does."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        pipeline.dump(file)
    return path


if __name__ == "__main__":
    sys.exit(main())
