"""Parts of a set of annotated images that hold a wanted number of objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.core.labels import centroids
from cellseg_engine.nets.size_model import MIN_DIAMETER_PX
from cellseg_engine.train.annotations import Disjoint, clean_labels
from cellseg_engine.train.dataset import TrainingImage, image_sha256
from cellseg_engine.train.diameters import measure_sizes
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.flow_cache import FlowCache

_ORDER, _CENTRE = 0, 1


@dataclass(frozen=True)
class Piece:
    """A part of an image.

    Attributes
    ----------
    index
        Of the image.
    window
        y start, y stop, x start, x stop.
    n_objects
        Objects in it, cut ones among them.
    """

    index: int
    window: tuple[int, int, int, int]
    n_objects: int


def draw_subset(
    images: Sequence[TrainingImage],
    n_objects: int,
    *,
    min_objects: int,
    seed: int,
    subset: int,
    disjoint: Disjoint = "split",
) -> list[Piece]:
    """Draw images at random until they hold a number of objects.

    Images come in random order. Each is taken whole as long as its objects are not too many; from
    the first that has more, the smallest square around one of its objects, chosen at random, is
    cut that holds what is missing, but at least ``min_objects``. Objects that the edge of the
    square cuts count, since a person who annotates the square draws them too. Subsets of one
    number and seed lie in one another: a larger one holds all of a smaller one.

    Parameters
    ----------
    n_objects
        At least so many; a few more where the square that holds them holds more.
    min_objects
        Objects that an image must have to be trained on.
    seed, subset
        Say which of the many subsets.
    disjoint
        As the images were read; see `cellseg_engine.train.annotations.clean_labels`.

    Raises
    ------
    TrainingDataError
        All images together have fewer objects.
    """
    there = sum(image.n_objects for image in images)
    if there < n_objects:
        raise TrainingDataError(
            f"{n_objects} objects are more than the {there} of the {len(images)} images.",
            hint="Annotate more, or ask for fewer.",
        )
    pieces: list[Piece] = []
    missing = n_objects
    for index in np.random.default_rng([seed, _ORDER, subset]).permutation(len(images)):
        if missing <= 0:
            break
        image = images[index]
        wanted = max(missing, min_objects)
        if image.n_objects <= wanted:
            height, width = image.labels.shape
            piece = Piece(int(index), (0, height, 0, width), image.n_objects)
        else:
            rng = np.random.default_rng([seed, _CENTRE, subset, index])
            piece = _smallest_square(int(index), image.labels, wanted, rng, disjoint)
        pieces.append(piece)
        missing -= piece.n_objects
    return pieces


def cut_image(
    image: TrainingImage,
    piece: Piece,
    cache: FlowCache,
    variant: FlowVariant,
    disjoint: Disjoint = "split",
) -> TrainingImage:
    """Give a part of an image as one of its own, with the flows of the objects as they are cut.

    The pixels keep the contrast of the whole image. The diameter is as
    `cellseg_engine.train.diameters` measures it where objects are cut.

    Raises
    ------
    WriteError
        The flow targets cannot be kept.
    """
    if piece.window == (0, image.labels.shape[0], 0, image.labels.shape[1]):
        return replace(image, flows=cache.flows(image.labels, variant))
    top, bottom, left, right = piece.window
    clean = clean_labels(image.marked_labels[top:bottom, left:right], disjoint)
    pixels = np.ascontiguousarray(image.pixels[:, top:bottom, left:right])
    return replace(
        image,
        name=f"{image.name} y {top} to {bottom}, x {left} to {right}",
        pixels=pixels,
        labels=clean.labels,
        flows=cache.flows(clean.labels, variant),
        diameter_px=max(MIN_DIAMETER_PX, measure_sizes(clean.labels).diameter_px),
        n_objects=clean.n_objects,
        sha256=image_sha256(pixels, clean.labels, clean.annotated),
        annotated=clean.annotated,
    )


def _smallest_square(
    index: int, labels: np.ndarray, wanted: int, rng: np.random.Generator, disjoint: Disjoint
) -> Piece:
    """Give the smallest square around a random object that holds enough objects."""
    height, width = labels.shape
    places = centroids(labels)[1:]
    row, column = np.rint(places[rng.integers(len(places))]).astype(int)

    def window(reach: int) -> tuple[int, int, int, int]:
        return (
            max(0, int(row) - reach),
            min(height, int(row) + reach + 1),
            max(0, int(column) - reach),
            min(width, int(column) + reach + 1),
        )

    def count(reach: int) -> int:
        top, bottom, left, right = window(reach)
        return clean_labels(labels[top:bottom, left:right], disjoint).n_objects

    too_small, enough = 0, max(height, width)
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if count(middle) >= wanted:
            enough = middle
        else:
            too_small = middle
    return Piece(index, window(enough), count(enough))
