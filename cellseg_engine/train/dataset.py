"""The images of a training: read, checked, prepared as the network sees them, with flow targets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cellseg_engine.core.axes import check_finite, to_planes
from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.core.labels import NOT_ANNOTATED, bounding_boxes
from cellseg_engine.errors import AxesError, CellSegError
from cellseg_engine.io.images import read_image
from cellseg_engine.nets.size_model import MIN_DIAMETER_PX
from cellseg_engine.pipeline.prepare import prepare_stack
from cellseg_engine.pipeline.volume import find_anisotropy
from cellseg_engine.settings import Settings, make_settings
from cellseg_engine.train.annotations import (
    Annotation,
    CleanLabels,
    Disjoint,
    clean_labels,
    read_annotation,
)
from cellseg_engine.train.augment import WHOLE
from cellseg_engine.train.diameters import measure_sizes, settle_diameters
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.flow_cache import FlowCache, KeptFlows
from cellseg_engine.train.slices import Slice, Slices, cut_planes, cut_volumes
from cellseg_engine.train.sources import Source

_NAMED_FAULTS = 5


@dataclass(frozen=True)
class TrainingImage:
    """One plane with its targets.

    Attributes
    ----------
    name, kind, group
        As of its `Source`; planes and slices of a stack have which one in their name, and one
        group. Images with the same pixels are of one group.
    pixels
        float32 of shape (C, Y, X), as the network sees it; channels that are empty at the end
        are left out.
    labels
        int32 of shape (Y, X), ids 1 to n.
    flows
        float32 of shape (2, Y, X), as an array or on the disk.
    diameter_px
        Median diameter of its objects, as `cellseg_engine.train.diameters` settles it for all
        images of its kind, or of all of its volume; at least 5.
    n_objects
        n.
    sha256
        Of pixels and labels, and of what is annotated where that is not all.
    annotated
        bool of shape (Y, X), True where the labels are known; None for everywhere.
    """

    name: str
    kind: str
    group: str
    pixels: np.ndarray
    labels: np.ndarray
    flows: np.ndarray | KeptFlows
    diameter_px: float
    n_objects: int
    sha256: str
    annotated: np.ndarray | None = None

    @cached_property
    def pixels_sha256(self) -> str:
        """Give the hash of the pixels alone, whatever is annotated in them."""
        return image_sha256(self.pixels, np.zeros(0, np.int32))

    @cached_property
    def marked_labels(self) -> np.ndarray:
        """Give the labels with `NOT_ANNOTATED` where they are not known."""
        if self.annotated is None:
            return self.labels
        return np.where(self.annotated, self.labels, np.int32(NOT_ANNOTATED))

    @cached_property
    def annotated_area(self) -> tuple[slice, slice]:
        """Give the rows and columns that enclose what is annotated."""
        if self.annotated is None:
            return WHOLE
        top, bottom, left, right = bounding_boxes(self.annotated.astype(np.int32))[1].tolist()
        return slice(top, bottom), slice(left, right)


IMAGE_LEFT_OUT = "image left out"


@dataclass(frozen=True)
class Remark:
    """Something that was left out or changed, and why."""

    image: str
    what: str
    reason: str


def count_left_out(remarks: Sequence[Remark]) -> int:
    """Give how many images remarks say to be left out."""
    return sum(remark.what == IMAGE_LEFT_OUT for remark in remarks)


@dataclass(frozen=True)
class TrainingData:
    """The images of a training, sorted into their parts.

    Attributes
    ----------
    training, held_out
        Images to train on, and to choose the best weights by.
    weights
        Share of each kind of image; empty for every image alike.
    remarks
        What was left out or changed.
    """

    training: list[TrainingImage]
    held_out: list[TrainingImage]
    weights: dict[str, float]
    remarks: list[Remark]

    @property
    def all_images(self) -> list[TrainingImage]:
        """Give training and held-out images."""
        return [*self.training, *self.held_out]


@dataclass(frozen=True)
class DataOptions:
    """How images and annotations are read.

    Attributes
    ----------
    settings
        Of them the channels, the percentiles and ``invert`` are used.
    n_channels
        Of the network.
    min_objects
        Images with fewer objects are left out.
    disjoint
        See `cellseg_engine.train.annotations.clean_labels`.
    flow_variant
        Of the targets.
    axes
        What the dimensions of all images are, or empty.
    slices
        Of stacks along Z: their ``planes``, or ``all`` slices in XY, XZ and YZ.
    """

    settings: Settings
    n_channels: int = 2
    min_objects: int = 5
    disjoint: Disjoint = "split"
    flow_variant: FlowVariant = "v3"
    axes: str = ""
    slices: Slices = "planes"


def load_images(
    sources: Sequence[Source],
    options: DataOptions,
    cache: FlowCache,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[list[TrainingImage], list[Remark]]:
    """Read all images, and say what was left out or changed.

    Raises
    ------
    TrainingDataError
        Files that cannot be used, all of them named up to five; or no image is left.
    WriteError
        The flow targets cannot be kept.
    """
    images: list[TrainingImage] = []
    remarks: list[Remark] = []
    faults: list[tuple[Source, CellSegError]] = []
    for done, source in enumerate(sources, start=1):
        try:
            annotation, slices, warnings = _read(source, options)
        except CellSegError as error:
            faults.append((source, error))
        else:
            remarks += [Remark(source.name, "annotation", text) for text in annotation.remarks]
            remarks += [Remark(source.name, "image", text) for text in warnings]
            for one in slices:
                name = f"{source.name} {one.name}".rstrip()
                clean = clean_labels(one.labels, options.disjoint)
                remarks += [Remark(name, "labels", text) for text in clean.remarks]
                reason = _reason_to_leave_out(clean, one.has_contrast, options.min_objects)
                if reason:
                    remarks.append(Remark(name, IMAGE_LEFT_OUT, reason))
                else:
                    flows = cache.flows(clean.labels, options.flow_variant)
                    images.append(_make_image(source, name, one, clean, flows))
        progress(done, len(sources))
    _refuse_faults(faults, len(sources))
    if not images:
        raise _nothing_left(remarks)
    images, joined = _join_same(images)
    return _with_diameters(images), [*remarks, *joined]


def _join_same(images: list[TrainingImage]) -> tuple[list[TrainingImage], list[Remark]]:
    """Make one group of the groups that have an image in common, and say so.

    Else a network would be scored on pixels that it has seen with another annotation.
    """
    first_of: dict[str, TrainingImage] = {}
    into: dict[str, str] = {}
    remarks = []

    def join(group: str) -> str:
        while group in into:
            group = into[group]
        return group

    for image in images:
        first = first_of.setdefault(image.pixels_sha256, image)
        if join(image.group) != join(first.group):
            into[join(image.group)] = join(first.group)
            what = f"the same pixels as {first.name}, so their groups are one"
            remarks.append(Remark(image.name, "group", what))
    return [replace(image, group=join(image.group)) for image in images], remarks


def _with_diameters(images: list[TrainingImage]) -> list[TrainingImage]:
    """Settle the diameters that are not known yet, of every kind of image by itself."""
    settled = [image.diameter_px for image in images]
    for kind in {image.kind for image in images}:
        unknown = [n for n, image in enumerate(images) if image.kind == kind and not settled[n]]
        sizes = [measure_sizes(images[n].labels) for n in unknown]
        for n, diameter in zip(unknown, settle_diameters(sizes), strict=True):
            settled[n] = diameter
    return [
        replace(image, diameter_px=max(MIN_DIAMETER_PX, diameter))
        for image, diameter in zip(images, settled, strict=True)
    ]


def _read(
    source: Source, options: DataOptions
) -> tuple[Annotation, Iterator[Slice], tuple[str, ...]]:
    """Give annotation, slices, and what to say about the image."""
    data = read_image(source.image, axes=options.axes or source.axes or None)
    stack = to_planes(data.pixels, data.axes)
    check_finite(stack.pixels)
    time, depth, n_channels, height, width = stack.pixels.shape
    annotation = read_annotation(source, (time, depth, height, width), stack.axes, n_channels)
    settings = options.settings
    if source.channel:
        settings = make_settings(settings, channel=source.channel)
    preparation = prepare_stack(stack, settings, data.channel_names, options.n_channels)
    if options.slices == "all" and "Z" in stack.axes:
        if depth < 2:
            raise AxesError(
                "slices all needs at least 2 planes along Z; this image has one.",
                hint="Set slices to planes.",
            )
        anisotropy = find_anisotropy(settings, data.pixel_size_um)
        slices = cut_volumes(stack, annotation.planes, preparation, anisotropy.value)
        return annotation, slices, (*data.warnings, *anisotropy.warnings)
    return annotation, cut_planes(stack, annotation.planes, preparation), data.warnings


def _reason_to_leave_out(clean: CleanLabels, has_contrast: bool, min_objects: int) -> str:
    if clean.n_objects == 0:
        return "no annotated objects"
    if clean.n_objects < min_objects:
        return f"{clean.n_objects} annotated objects, fewer than {min_objects}"
    return "" if has_contrast else "no contrast in its pixels"


def _make_image(
    source: Source, name: str, one: Slice, clean: CleanLabels, flows: KeptFlows
) -> TrainingImage:
    n_used = 1 + max(np.flatnonzero(one.pixels.any(axis=(1, 2))), default=0)
    kept = np.ascontiguousarray(one.pixels[:n_used])
    return TrainingImage(
        name=name,
        kind=source.kind,
        group=source.group,
        pixels=kept,
        labels=clean.labels,
        flows=flows,
        diameter_px=one.diameter_px,  # 0 is settled with the others
        n_objects=clean.n_objects,
        sha256=image_sha256(kept, clean.labels, clean.annotated),
        annotated=clean.annotated,
    )


def image_sha256(
    pixels: np.ndarray, labels: np.ndarray, annotated: np.ndarray | None = None
) -> str:
    """Give the hash of an image, its labels, and where they are known if not everywhere."""
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    digest.update(np.ascontiguousarray(labels).data)
    if annotated is not None:
        digest.update(np.packbits(annotated).data)
    return digest.hexdigest()


def _refuse_faults(faults: Sequence[tuple[Source, CellSegError]], n_sources: int) -> None:
    if not faults:
        return
    listed = " ".join(_name_fault(source, error) for source, error in faults[:_NAMED_FAULTS])
    more = f" And {len(faults) - _NAMED_FAULTS} more." if len(faults) > _NAMED_FAULTS else ""
    raise TrainingDataError(
        f"{len(faults)} of {n_sources} images cannot be trained on. {listed}{more}",
        hint=faults[0][1].hint or "Correct them or take them out of the folder.",
    )


def _name_fault(source: Source, error: CellSegError) -> str:
    """Give the sentence of an error, with the image where it does not name a file itself."""
    is_named = any(str(path) in error.message for path in (source.image, source.annotation))
    return error.message if is_named else f"{source.image}: {error.message}"


def _nothing_left(remarks: Sequence[Remark]) -> TrainingDataError:
    left_out = [remark for remark in remarks if remark.what == IMAGE_LEFT_OUT]
    reasons = "; ".join(f"{remark.image}: {remark.reason}" for remark in left_out[:_NAMED_FAULTS])
    more = f"; and {len(left_out) - _NAMED_FAULTS} more" if len(left_out) > _NAMED_FAULTS else ""
    return TrainingDataError(
        f"No image is left to train on ({reasons}{more}).",
        hint="Annotate more objects, or allow fewer in an image with --min-objects.",
    )
