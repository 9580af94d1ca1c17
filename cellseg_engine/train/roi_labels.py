"""Annotations drawn in ImageJ: ROI archives (.zip) and single ROIs (.roi) to label images."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from cellseg_engine.core.overlaps import Region, settle_overlaps
from cellseg_engine.errors import ReadError
from cellseg_engine.train.roi_drawing import draw_roi

_AREAS = frozenset(
    {ROI_TYPE.POLYGON, ROI_TYPE.RECT, ROI_TYPE.OVAL, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED}
)
MAX_ROIS = 1_000_000


@dataclass(frozen=True)
class RoiLabels:
    """What was drawn.

    Attributes
    ----------
    labels
        int32 of shape (Y, X); the ROIs are numbered 1, 2, ... in the order of the archive.
    not_areas
        Names of ROIs that are lines, points or texts; left out.
    outside
        Names of ROIs without a pixel in the image; left out.
    covered
        Names of ROIs that others cover by more than 75 %; left out.
    n_overlap_px
        Pixels that several of the others cover; the one with the nearest centroid has them.
    """

    labels: np.ndarray
    not_areas: tuple[str, ...]
    outside: tuple[str, ...]
    covered: tuple[str, ...]
    n_overlap_px: int


def read_roi_labels(path: Path, shape: tuple[int, int], n_channels: int = 1) -> RoiLabels:
    """Read ROIs of one plane as a label image.

    The pixels of a ROI are those that ImageJ fills; see `cellseg_engine.train.roi_drawing`. Where
    ROIs overlap, `cellseg_engine.core.overlaps.settle_overlaps` says whose a pixel is.

    Parameters
    ----------
    path
        A ROI archive (.zip) or a single .roi file.
    shape
        (Y, X) of the image.
    n_channels
        Of the image: a ROI can have the number of the channel that was shown as its position.

    Raises
    ------
    ReadError
        Damaged, not of ImageJ, or with ROIs on several planes.
    """
    return settle_rois(_read_rois(path), shape, str(path), n_channels)


def settle_rois(
    rois: Sequence[ImagejRoi], shape: tuple[int, int], where: str, n_channels: int = 1
) -> RoiLabels:
    """Give ROIs of one plane as a label image; see `read_roi_labels`.

    Parameters
    ----------
    rois
        In their order.
    shape
        (Y, X) of the image.
    where
        What they were read from, for messages.
    n_channels
        Of the image.
    """
    planes = {
        (roi.position, roi.z_position, roi.t_position) if is_elsewhere(roi, n_channels) else ()
        for roi in rois
    }
    if len(planes) > 1:
        raise ReadError(
            f"The ROIs of {where} lie on {len(planes)} planes of a stack; annotations are read "
            "plane by plane.",
            hint="Save the planes and their ROIs separately, or make a label image of the stack.",
        )
    not_areas: list[str] = []
    outside: list[str] = []
    regions: list[Region] = []
    numbers: list[int] = []
    for number, roi in enumerate(rois, start=1):
        if not has_area(roi):
            not_areas.append(roi.name or str(number))
            continue
        try:
            region = draw_roi(roi, shape)
        except (NotImplementedError, RuntimeError, IndexError) as error:
            raise ReadError(
                f"The outline of ROI {roi.name or number} in {where} cannot be read: {error}.",
                hint="Give a label image instead of the ROIs.",
            ) from error
        if not region.mask.any():
            outside.append(roi.name or str(number))
            continue
        regions.append(region)
        numbers.append(number)
    settled = settle_overlaps(regions, shape)
    covered = [rois[numbers[n] - 1].name or str(numbers[n]) for n in settled.removed]
    labels = np.array([0, *numbers], np.int32)[settled.labels]
    return RoiLabels(labels, tuple(not_areas), tuple(outside), tuple(covered), settled.n_shared_px)


def decode_rois(archive: bytes, where: str) -> list[ImagejRoi]:
    """Give the ROIs of an archive in its order.

    Raises
    ------
    ReadError
        It is damaged or holds none; the sentence begins with ``where``.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            names = [name for name in opened.namelist() if _is_roi(name)]
            if names and len(names) <= MAX_ROIS:
                return [ImagejRoi.frombytes(opened.read(name)) for name in names]
    except Exception as error:  # damaged bytes can raise nearly anything
        raise _damaged(where) from error
    raise ReadError(f"The archive {where} holds no ROIs of ImageJ.")


def _is_roi(name: str) -> bool:
    """Say whether a file of an archive is a ROI, and not what macOS puts beside it."""
    *folders, file = name.split("/")
    return file.lower().endswith(".roi") and not file.startswith("._") and "__MACOSX" not in folders


def has_area(roi: ImagejRoi) -> bool:
    """Say whether a ROI is an area, and no line, point or text."""
    is_text = ROI_SUBTYPE(roi.subtype) in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE)
    return ROI_TYPE(roi.roitype) in _AREAS and not is_text


def is_elsewhere(roi: ImagejRoi, n_channels: int) -> bool:
    """Say whether a ROI lies on another plane than the first; any channel will do."""
    return bool(max(roi.z_position, roi.t_position) > 1 or roi.position > n_channels)


def _read_rois(path: Path) -> list[ImagejRoi]:
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".roi":
            return [ImagejRoi.frombytes(content)]
    except Exception as error:  # damaged bytes can raise nearly anything
        raise _damaged(str(path)) from error
    return decode_rois(content, str(path))


def _damaged(where: str) -> ReadError:
    return ReadError(
        f"The file {where} is damaged or holds no ROIs of ImageJ.",
        hint="Save the ROIs again with the ROI Manager (More, Save).",
    )
