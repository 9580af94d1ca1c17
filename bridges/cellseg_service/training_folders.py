"""Training folders: what is in one, and an image more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cellseg_engine.train.finetune import newest_model
from cellseg_engine.train.folder import Content, Correction, add_image, read_or_begin
from cellseg_engine.train.part import Part
from cellseg_service.arrays import load_array
from cellseg_service.training_messages import AddRequest


def describe_folder(folder: Path) -> dict[str, Any]:
    """Give what is in a training folder, as an answer has it.

    Raises
    ------
    CellSegError
        It is none, or cannot be read.
    """
    return _describe(read_or_begin(folder))


def add_to_folder(request: AddRequest, find: Callable[[str], Path]) -> dict[str, Any]:
    """Add an image to a training folder and give the answer.

    Parameters
    ----------
    request
        Names its files.
    find
        Gives the path of a file of the exchange folder.

    Raises
    ------
    CellSegError
        It is refused, and the training folder is as it was.
    """
    references = [request.image, request.rois, request.predicted]
    paths = [find(file.array) for file in references if file is not None]
    pixels, rois, *predicted = (load_array(path) for path in paths)
    correction = Correction(
        pixels=pixels,
        axes=request.axes,
        rois=rois.tobytes(),
        predicted=predicted[0].tobytes() if predicted else b"",
        title=request.title,
        source=request.source,
        model=request.model,
        pixel_size_um={str(axis): um for axis, um in request.pixel_size_um.items()},
        part=Part(**request.part.model_dump()) if request.part else None,
    )
    image, remarks, content = add_image(request.path, correction)
    return {"image": asdict(image), "remarks": list(remarks), **_describe(content)}


def _describe(content: Content) -> dict[str, Any]:
    return {
        "images": [asdict(image) for image in content.images],
        "models": [asdict(model) for model in content.models],
        "objects": content.objects,
        "median_diameter_px": content.median_diameter_px,
        "newest_model": newest_model(content),
    }
