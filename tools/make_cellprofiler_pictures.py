"""Draw the pictures of docs/cellprofiler.md: ExampleHuman, ExampleFly and the module's window.

PYTHON tools/make_cellprofiler_pictures.py --examples FOLDER

PYTHON has a CellProfiler (tools/cellprofiler_host.py makes one); the variable CELLSEG_ENGINE_PYTHON
names the engine's Python. Objects and the table come from a real run. The window itself needs
wxPython, which a headless CellProfiler lacks: a stand-in makes the same calls to matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.make_example_pipelines import FLY, HUMAN, OUT, PLUGINS, load, start  # noqa: E402

PICTURES = ROOT / "docs/images"
NUCLEI = "Nuclei"
OUTLINES = ("#f9f900", "#ffffff", "#00c8ff")
CLASSICAL, OURS = "#ff9d2e", "#2ee6a8"


def main() -> int:
    """Draw all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=Path, required=True)
    examples = parser.parse_args().examples
    import matplotlib as mpl

    mpl.use("Agg")
    start(PLUGINS)
    from cellprofiler_core.utilities.java import start_java, stop_java

    start_java()
    try:
        for name, classical in (("human", HUMAN), ("fly", FLY)):
            images = (examples / classical).parent / "images"
            ours = OUT / Path(classical).name
            results = [find_nuclei(path, images) for path in (examples / classical, ours)]
            draw_pair(results, PICTURES / f"cellprofiler-{name}.png")
            if name == "human":
                draw_window(results[1], PICTURES / "cellprofiler-window.png")
    finally:
        stop_java()
    return 0


def find_nuclei(path: Path, images: Path) -> dict[str, Any]:
    """Run a pipeline up to the module that finds the nuclei, on the first image set."""
    pipeline = load(path)
    modules = pipeline.modules()
    finder = next(
        module
        for module in modules
        if getattr(module, "y_name", None) is not None and module.y_name.value == NUCLEI
    )
    for module in reversed(modules[finder.module_num :]):
        pipeline.remove_module(module.module_num)
    finder.show_window = True
    result: dict[str, Any] = {}
    run = finder.run

    def run_and_look(workspace: Any) -> None:
        run(workspace)
        result.update(
            module=finder,
            workspace=workspace,
            image=workspace.image_set.get_image(finder.x_name.value).pixel_data.copy(),
            labels=workspace.object_set.get_objects(NUCLEI).segmented.copy(),
            number=workspace.measurements.image_set_number,
        )

    finder.run = run_and_look
    pipeline.add_pathnames_to_file_list([str(file) for file in sorted(images.iterdir())])
    result["measurements"] = pipeline.run(image_set_end=1)
    return result


def draw_pair(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the outlines of two results on a crop of their image, side by side."""
    import matplotlib.pyplot as plt

    names = ("IdentifyPrimaryObjects", "IdentifyCells")
    figure, all_axes = plt.subplots(1, 2, figsize=(9, 4.9))
    for axes, name, result, colour in zip(all_axes, names, results, (CLASSICAL, OURS)):  # noqa: B905 - Python 3.9
        crop = (slice(-256, None), slice(-256, None))
        count = int(result["labels"].max())
        axes.imshow(brighten(result["image"][crop]), cmap="gray", vmin=0, vmax=1)
        outline(axes, result["labels"][crop], colour)
        axes.set_title(f"{name}: {count} nuclei in the whole image", fontsize=10)
        axes.axis("off")
    finish(figure, path)


def draw_window(result: dict[str, Any], path: Path) -> None:
    """Draw what the module shows of an image set."""
    figure = StandIn()
    result["workspace"].measurements.image_set_number = result["number"]
    result["module"].display(result["workspace"], figure)
    finish(figure.figure, path)


def finish(figure: Any, path: Path) -> None:
    """Save a figure as a small PNG."""
    from PIL import Image

    figure.tight_layout()
    figure.savefig(path, dpi=90)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    sys.stdout.write(f"{path.name}: {path.stat().st_size // 1000} kB\n")


def brighten(image: np.ndarray) -> np.ndarray:
    """Give an image with its percentiles 1 and 99.8 at 0 and 1, and dim parts lifted."""
    low, high = np.percentile(image, (1, 99.8))
    scaled: np.ndarray = np.clip((image - low) / max(high - low, 1e-9), 0, 1) ** 0.6
    return scaled


def outline(axes: Any, labels: np.ndarray, colour: str) -> None:
    """Draw a line around each object."""
    for number in np.unique(labels[labels > 0]):
        axes.contour(labels == number, levels=[0.5], colors=[colour], linewidths=0.9)


class StandIn:
    """Takes the calls of the module's display that CellProfiler's own window takes."""

    def __init__(self) -> None:
        self.figure: Any = None
        self._grid: Any = None

    def set_subplots(self, subplots: tuple[int, int], dimensions: int = 2) -> None:
        """Make the grid of plots."""
        import matplotlib.pyplot as plt

        self.figure, self._grid = plt.subplots(subplots[1], subplots[0], figsize=(8.6, 7.8))

    def subplot_imshow_grayscale(
        self, x: int, y: int, image: np.ndarray, title: str = "", **options: Any
    ) -> Any:
        """Show an image, with outlines of objects if given."""
        axes = self._grid[y][x]
        axes.imshow(brighten(image), cmap="gray")
        axes.set_title(title, fontsize=10)
        for colour, objects in zip(OUTLINES, options.get("cplabels") or []):  # noqa: B905
            for labels in objects["labels"]:
                outline(axes, labels, colour)
            axes.plot([], [], color=colour, label=objects["name"])
        if options.get("cplabels"):
            axes.legend(fontsize=7, loc="lower right")
        return axes

    def subplot_imshow_labels(
        self, x: int, y: int, labels: np.ndarray, title: str = "", **options: Any
    ) -> Any:
        """Show objects in colours."""
        import matplotlib as mpl

        axes = self._grid[y][x]
        colours = mpl.colormaps["hsv"](np.linspace(0, 0.95, max(int(labels.max()), 1)))
        np.random.default_rng(0).shuffle(colours)
        table = np.vstack([[0, 0, 0, 1], colours])
        axes.imshow(table[labels])
        axes.set_title(title, fontsize=10)
        return axes

    def subplot_table(
        self, x: int, y: int, statistics: list[list[str]], row_labels: Any = None, **options: Any
    ) -> Any:
        """Show a table."""
        axes = self._grid[y][x]
        axes.axis("off")
        rows = [[label, *values] for label, values in zip(row_labels, statistics)]  # noqa: B905
        table = axes.table(rows, loc="center", cellLoc="left", colWidths=[0.48, 0.48])
        table.auto_set_font_size(False)
        table.set_fontsize(8)
        table.scale(1, 1.35)
        return axes


if __name__ == "__main__":
    sys.exit(main())
