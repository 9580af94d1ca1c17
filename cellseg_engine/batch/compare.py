"""Several models on one image: a picture side by side, and a table."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np

from cellseg_engine.batch.outputs import middle_plane
from cellseg_engine.core.labels import median_diameter
from cellseg_engine.core.metrics import score_image
from cellseg_engine.errors import SettingsError
from cellseg_engine.io.figures import figure_class
from cellseg_engine.io.images import ImageData, image_stem
from cellseg_engine.io.overlays import render_overlay, thumbnail
from cellseg_engine.io.staging import staged
from cellseg_engine.io.tables import write_table
from cellseg_engine.pipeline.result import Segmentation
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.settings import Settings
from cellseg_engine.zoo.store import find_model, looks_like_path

AGREEMENT_IOU = 0.5
PICTURE_ENDING, TABLE_ENDING = "_models.png", "_models.csv"

_LONGEST_PX, _SHORTEST_PX = 900, 360
_MOST_IN_A_ROW = 4
_CAPTION_PX = 64
_GAP_PX = 8
_DPI = 100


@dataclass(frozen=True)
class ModelResult:
    """What one model made of an image.

    Attributes
    ----------
    name
        Of the model, as it is shown.
    result
        The segmentation.
    seconds
        For the segmentation, without loading the model.
    """

    name: str
    result: Segmentation
    seconds: float


def model_titles(models: Sequence[str]) -> list[str]:
    """Give a short name for each model, of paths the file's, and make sure that all are there.

    Raises
    ------
    SettingsError
        None is given, or one twice.
    ModelNotFoundError
        No such name.
    """
    if not models:
        raise SettingsError(
            "No model is given to compare.", hint="Give names with --models, separated by commas."
        )
    titles = []
    for model in models:
        is_path = looks_like_path(model)
        if not is_path:
            find_model(model)
        titles.append(Path(model).name if is_path else model)
    repeated = [title for title in titles if titles.count(title) > 1]
    if repeated:
        raise SettingsError(
            f"Two of the models are called {repeated[0]}.",
            hint="Give each once; files of one name can be told apart by `cellseg models import`.",
        )
    return titles


def run_models(
    image: ImageData, models: Sequence[str], settings: Settings
) -> Iterator[ModelResult]:
    """Segment one image with each model, yielding one result after the other.

    Parameters
    ----------
    settings
        For all models; the model in them does not count.

    Raises
    ------
    CellSegError
        A model cannot be loaded, or not be used for the image.
    """
    for title, model in zip(model_titles(models), models, strict=True):
        segmenter = Segmenter(settings.model_copy(update={"model": model}))
        start = time.perf_counter()
        result = segmenter.segment(
            image.pixels, image.axes, channel_names=image.channel_names, keep_fields=False
        )
        yield ModelResult(title, result, time.perf_counter() - start)


def comparison_files(image: Path, out: Path) -> list[Path]:
    """Give the paths of the picture and the table of an image."""
    stem = image_stem(image)
    return [out / f"{stem}{ending}" for ending in (PICTURE_ENDING, TABLE_ENDING)]


def write_comparison(image: ImageData, results: Sequence[ModelResult], out: Path) -> list[Path]:
    """Write the picture and the table.

    Parameters
    ----------
    out
        Folder, made if needed; files of the same names are replaced.

    Returns
    -------
    ``NAME_models.png`` and ``NAME_models.csv``.

    Raises
    ------
    MissingDependencyError
        matplotlib, which writes the captions, is not installed.
    WriteError
        They cannot be written; none is there then.
    """
    paths = comparison_files(image.source, out)
    rows = comparison_rows(results)
    with staged(out) as stage:
        picture = draw_comparison(image, results)
        stage.path(paths[0].name).write_bytes(imagecodecs.png_encode(picture, level=3))
        write_table(stage.path(paths[1].name), list(rows[0]), rows)
    return paths


def comparison_rows(results: Sequence[ModelResult]) -> list[dict[str, object]]:
    """Give a row for each model.

    ``agreement_NAME`` is TP / (TP + FP + FN) of the objects of both models that overlap with an
    IoU of 0.5 or more: 1 where both find the same.
    """
    rows = []
    for one in results:
        result = one.result
        probability = result.objects["mean_probability"]
        row: dict[str, object] = {
            "model": one.name,
            "objects": result.n_objects,
            "diameter_px": result.diameter_px,
            "diameter_source": result.provenance["diameter_source"],
            "median_object_diameter_px": median_diameter(result.labels),
            "mean_probability": float(probability.mean()) if len(probability) else None,
            "seconds": round(one.seconds, 3),
        }
        for other in results:
            score = score_image(other.result.labels, result.labels, (AGREEMENT_IOU,))
            row[f"agreement_{other.name}"] = float(score.average_precision[0])
        row["weights_sha256"] = " ".join(result.provenance["model"]["weights_sha256"])
        row["warnings"] = " ".join(result.warnings)
        rows.append(row)
    return rows


def draw_comparison(image: ImageData, results: Sequence[ModelResult]) -> np.ndarray:
    """Draw the image, and beside it the outlines that each model gives, with captions.

    Of a stack the middle plane is drawn. Large images are shrunk, small ones enlarged; up to
    four stand in a row.

    Returns
    -------
    uint8 of shape (Y, X, 3).
    """
    pixels, _ = middle_plane(image, results[0].result)
    shape = pixels.shape[:2]
    panels = [_panel(pixels, np.zeros(shape, np.int32), [image.source.name, "the image"])]
    for one in results:
        n_objects = one.result.n_objects
        source = {"given": "given", "estimate": "estimated"}.get(
            one.result.provenance["diameter_source"], "not estimated"
        )
        lines = [
            one.name,
            f"{n_objects:,} object{'s' * (n_objects != 1)}",
            f"diameter {one.result.diameter_px:.1f} px ({source})",
        ]
        panels.append(_panel(pixels, middle_plane(image, one.result)[1], lines))
    return _grid(panels)


def _panel(pixels: np.ndarray, labels: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """Give the picture of one model with its caption below."""
    if max(labels.shape) > _LONGEST_PX:
        plain = render_overlay(pixels, np.zeros(labels.shape, np.int32))
        small = thumbnail(plain, _LONGEST_PX)
        step = -(-max(labels.shape) // _LONGEST_PX)
        rows, columns = (np.arange(n) * step + step // 2 for n in small.shape[:2])
        limits = [length - 1 for length in labels.shape]
        chosen = np.ix_(np.minimum(rows, limits[0]), np.minimum(columns, limits[1]))
        picture = render_overlay(small, labels[chosen])
    else:
        picture = render_overlay(pixels, labels)
        factor = max(1, -(-_SHORTEST_PX // max(labels.shape)))
        picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    if picture.shape[1] < _SHORTEST_PX:
        sides = (0, _SHORTEST_PX - picture.shape[1])
        picture = np.pad(picture, ((0, 0), sides, (0, 0)))
    return np.concatenate([picture, _caption(lines, picture.shape[1])])


def _caption(lines: Sequence[str], width: int) -> np.ndarray:
    """Give lines of white text on black, uint8 of shape (y, width, 3); long ones are cut."""
    figure = figure_class("Captions are written")(
        figsize=(width / _DPI, _CAPTION_PX / _DPI), dpi=_DPI, facecolor="black"
    )
    most = width // 7
    for number, line in enumerate(lines):
        text = line if len(line) <= most else f"{line[: most - 1]}…"
        figure.text(
            6 / width,
            1 - (4 + 20 * number) / _CAPTION_PX,
            re.sub(r"([$\\])", r"\\\1", text),
            color="white",
            size=9,
            weight="bold" if number == 0 else "normal",
            va="top",
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=_DPI)
    drawn = np.frombuffer(buffer.getvalue(), np.uint8).reshape(_CAPTION_PX, -1, 4)
    exact = np.zeros((_CAPTION_PX, width, 3), np.uint8)
    exact[:, : drawn.shape[1]] = drawn[:, :width, :3]
    return exact


def _grid(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Give panels of one shape in rows, with gaps between them."""
    n_rows = -(-len(panels) // _MOST_IN_A_ROW)
    n_columns = -(-len(panels) // n_rows)
    height, width = panels[0].shape[:2]
    canvas = np.full(
        (n_rows * (height + _GAP_PX) - _GAP_PX, n_columns * (width + _GAP_PX) - _GAP_PX, 3),
        60,
        np.uint8,
    )
    for number, panel in enumerate(panels):
        row, column = divmod(number, n_columns)
        y, x = row * (height + _GAP_PX), column * (width + _GAP_PX)
        canvas[y : y + height, x : x + width] = panel
    return canvas
