"""A training folder: corrected images collected one by one, and the models made from them.

``NAME_img.tif`` and ``NAME_masks.tif`` of each image, which any training reads, and
``cellseg_training.json``, which says where they come from and what was corrected.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cellseg_engine.core.labels import areas
from cellseg_engine.io.folders import visible_names
from cellseg_engine.io.labels import write_labels
from cellseg_engine.io.staging import remove_stale, staged
from cellseg_engine.train.corrections import describe_overlaps, draw_objects, one_plane
from cellseg_engine.train.diameters import measure_sizes
from cellseg_engine.train.edits import Edits, count_edits
from cellseg_engine.train.endings import pair_name, without_image_ending
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.lock import only_writer
from cellseg_engine.train.part import Part, mark_part

RECORD = "cellseg_training.json"
FORMAT = 1
_MAX_NAME = 80
_UNSAFE = re.compile(r'[\x00-\x1f/\\:*?"<>|]')


@dataclass(frozen=True)
class CollectedImage:
    """One corrected image.

    Attributes
    ----------
    name
        Of its files, before ``_img.tif``.
    title
        As the user knows it.
    source
        Path of the file that it was opened from, or empty.
    sha256
        Of its pixels.
    objects
        After overlaps were settled.
    median_diameter_px
        Of these, as disks of equal area; see `cellseg_engine.train.diameters`.
    edits
        What was corrected, against what the model had found.
    model
        The model that had found it, or empty.
    added
        When, in UTC.
    part
        The rectangle that is annotated; None for the whole image.
    """

    name: str
    title: str
    source: str
    sha256: str
    objects: int
    median_diameter_px: float
    edits: Edits
    model: str
    added: str
    part: Part | None = None


@dataclass(frozen=True)
class TrainedModel:
    """A model made from the folder.

    Attributes
    ----------
    name, start
        Its name in the list of models, and that of the model it started from.
    images, objects
        How many it was trained on.
    epochs
        How long.
    made
        When, in UTC.
    """

    name: str
    start: str
    images: int
    objects: int
    epochs: int
    made: str


@dataclass(frozen=True)
class Content:
    """What is in a training folder, oldest first."""

    images: tuple[CollectedImage, ...] = ()
    models: tuple[TrainedModel, ...] = ()

    @property
    def objects(self) -> int:
        """Number of objects of all images."""
        return sum(image.objects for image in self.images)

    @property
    def median_diameter_px(self) -> float:
        """Median of the images' median diameters; 0 without images."""
        found = [image.median_diameter_px for image in self.images]
        return round(float(np.median(found)), 3) if found else 0.0


@dataclass(frozen=True)
class Correction:
    """An image and its corrected ROIs, as a program hands them over.

    Attributes
    ----------
    pixels
        One plane, (Y, X) or with channels.
    axes
        Of the pixels.
    rois
        Bytes of a ROI archive (.zip).
    predicted
        The same of what the model had found, or empty.
    title, source, model
        See `CollectedImage`.
    pixel_size_um
        Of the pixels along Y and X, as far as known.
    part
        In which every object has a ROI; None for the whole image. What lies outside is neither
        taught as object nor as background.
    """

    pixels: np.ndarray
    axes: str
    rois: bytes
    predicted: bytes = b""
    title: str = "image"
    source: str = ""
    model: str = ""
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    part: Part | None = None


def read_folder(folder: Path) -> Content:
    """Give what is in a training folder.

    Raises
    ------
    TrainingDataError
        It is none.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}")
        images = tuple(_image_of(entry) for entry in record["images"])
        return Content(images, tuple(TrainedModel(**entry) for entry in record["models"]))
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "is no training folder" if folder.is_dir() else "does not exist"
        raise TrainingDataError(
            f"The folder {folder} {what}: there is no {RECORD} in it.",
            hint="A new or empty folder becomes one when the first image is added.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingDataError(
            f"The file {folder / RECORD} cannot be read: {error}.",
            hint="It was written by another version or is damaged; start a new training folder.",
        ) from error


def _image_of(entry: dict[str, Any]) -> CollectedImage:
    part = entry.get("part")
    made = {"edits": Edits(**entry["edits"]), "part": Part(**part) if part else None}
    return CollectedImage(**{**entry, **made})


def read_or_begin(folder: Path) -> Content:
    """Give what is in a training folder; nothing, if it is empty or does not exist yet.

    Raises
    ------
    TrainingDataError, ReadError
        It has other files, so it is not taken for one; or it cannot be read.
    """
    names = visible_names(folder, "Choose another folder.")
    if RECORD in names:
        return read_folder(folder)
    if not names:
        return Content()
    raise TrainingDataError(
        f"The folder {folder} is no training folder: it has other files, such as {names[0]}, "
        f"and no {RECORD}.",
        hint="Choose a new or an empty folder.",
    )


def add_image(
    folder: Path, correction: Correction
) -> tuple[CollectedImage, tuple[str, ...], Content]:
    """Add an image and its ROIs; an image that is there already is replaced.

    Each pixel goes to one object as `cellseg_engine.core.overlaps.settle_overlaps` says.

    Parameters
    ----------
    folder
        A training folder, or one that is empty or does not exist.
    correction
        What to add.

    Returns
    -------
    The image, sentences about what was changed, and what is in the folder now.

    Raises
    ------
    TrainingDataError, ImageError, ReadError
        The folder, image or ROIs cannot be used; nothing was written.
    WriteError
        It cannot be written; the folder is as it was.
    """
    read_or_begin(folder)  # refuses a wrong one before anything is computed
    title = correction.title
    pixels, axes = one_plane(correction.pixels, correction.axes, title)
    drawn = draw_objects(correction.rois, pixels.shape, title)
    labels, n_outside, part = drawn.labels, 0, None
    if correction.part is not None:
        part = correction.part.within(pixels.shape, title)
        labels, n_outside = mark_part(labels, part, title)
    objects = np.maximum(labels, 0)
    sha256 = hashlib.sha256(repr((pixels.shape, pixels.dtype.str)).encode())
    sha256.update(np.ascontiguousarray(pixels).tobytes())
    image = CollectedImage(
        name="",  # is chosen beside those that are there then
        title=title,
        source=correction.source,
        sha256=sha256.hexdigest(),
        objects=int(np.count_nonzero(areas(objects))),
        median_diameter_px=round(measure_sizes(objects).diameter_px, 3),
        edits=count_edits(correction.predicted, correction.rois, labels.shape, part),
        model=correction.model,
        added=now(),
        part=part,
    )
    with only_writer(folder), staged(folder) as stage:
        content = read_or_begin(folder)
        earlier = next((i for i in content.images if i.sha256 == image.sha256), None)
        name = earlier.name if earlier else _free_name(title, folder, content)
        image = replace(image, name=name)
        kept = tuple(other for other in content.images if other is not earlier)
        content = Content((*kept, image), content.models)
        remove_stale(folder)
        _write_image(stage.path(f"{name}_img.tif"), pixels, axes, correction.pixel_size_um)
        write_labels(stage.path(f"{name}_masks.tif"), labels, "YX", correction.pixel_size_um)
        stage.path(RECORD).write_text(_as_text(content), encoding="utf-8")
    remarks = describe_overlaps(drawn)
    if n_outside:
        remarks.append(f"{n_outside} ROIs outside the selected rectangle were left out.")
    if pixels.min() == pixels.max():
        remarks.append(f"All pixels of {title} are the same, so a training will leave it out.")
    if earlier:
        remarks.append(f"{title} was in the training set already and was replaced.")
    return image, tuple(remarks), content


def note_model(folder: Path, model: TrainedModel) -> None:
    """Write down a model that was made from the folder, as the newest one.

    Raises
    ------
    TrainingDataError, WriteError
        The folder is none any more, or cannot be written.
    """
    read_folder(folder)  # no folder is made for it
    with only_writer(folder), staged(folder) as stage:
        content = read_folder(folder)
        changed = Content(content.images, (*content.models, model))
        stage.path(RECORD).write_text(_as_text(changed), encoding="utf-8")


def now() -> str:
    """Give the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _free_name(title: str, folder: Path, content: Content) -> str:
    """Give a name for the files of an image that is safe everywhere and not taken.

    Files that are there and not in the record are somebody's: their names are taken, too.
    """
    stem = title.strip()
    for ending in (".ome.tif", ".ome.tiff"):
        if stem.lower().endswith(ending):
            stem = stem[: -len(ending)]
    stem = _UNSAFE.sub("_", stem.rpartition(".")[0] or stem).strip(". ")[:_MAX_NAME]
    stem = without_image_ending(stem) or "image"
    taken = {image.name.casefold() for image in content.images}
    taken |= {pair_name(folder / name).casefold() for name in visible_names(folder)}
    name, number = stem, 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}_{number}"
    return name


def _write_image(path: Path, pixels: np.ndarray, axes: str, size: dict[str, float]) -> None:
    """Write an image as ImageJ's own TIFF, with its pixels as they are."""
    metadata: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {}
    if size.get("Y", 0) > 0 and size.get("X", 0) > 0:
        metadata["unit"] = "micron"
        options = {"resolution": (1 / size["X"], 1 / size["Y"]), "resolutionunit": "NONE"}
    tifffile.imwrite(
        path, np.ascontiguousarray(pixels), imagej=True, photometric="minisblack",
        metadata=metadata, **options,
    )  # fmt: skip


def _as_text(content: Content) -> str:
    record = {"format": FORMAT, **asdict(content)}
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"
