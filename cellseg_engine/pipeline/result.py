"""What a segmentation gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import expit

from cellseg_engine.settings import Settings


@dataclass(frozen=True)
class Segmentation:
    """The objects of one image.

    Attributes
    ----------
    labels
        int32 of shape (Y, X), or (T, Z, Y, X) with the axes that the image had; 0 is
        background. Planes of a stack are segmented one by one and no id occurs in two planes,
        unless they were linked (``stitch_threshold`` above 0 and more than one Z plane): then
        an id is a 3-D object, in one or more neighbouring planes of one time point. With a
        ``volume_mode`` ids are 3-D objects of one time point. Where objects were followed
        (``track_threshold`` above 0), an id is a track: the same object in all frames that it is
        in.
    axes
        Axes of the labels, for example ``"YX"`` or ``"ZYX"``.
    flows
        float32 of shape (2, *labels.shape): y and x component of the network's flow, unit
        length by convention; empty when fields were not kept. Of volumes (3, ...): z, y and x, the
        fused flow, in steps of the width of a voxel.
    logits
        float32 of the labels' shape: logit of the object probability; empty as above.
    style
        float32 of shape (256,): style of the image (mean over planes, unit length).
    diameter_px
        Diameter that the image was scaled by.
    objects
        Columns of the object table, each of one entry per object (of a track: per frame that it
        is in): ``label``, ``t``/``z`` (from 0) for stacks, ``centroid_y_px``,
        ``centroid_x_px``, ``area_px``, ``diameter_px``, ``mean_probability``, ``flow_error``,
        ``touches_edge``, ``intensity_mean_NAME``.

        Where planes were linked, an entry is a 3-D object and the columns are: ``label``, ``t``
        for time series, ``centroid_z_px``, ``centroid_y_px``, ``centroid_x_px``, ``volume_px``
        (voxels), ``z_first``, ``z_last`` (planes, from 0), ``mean_probability`` and
        ``intensity_mean_NAME`` (over the voxels), ``flow_error`` (mean over the planes, weighted
        by area), ``touches_edge`` (in Y or X, in any plane).

        Of volumes they are the same, and besides ``surface_px`` (see
        `cellseg_engine.core.labels.surface_areas`) and ``diameter_px`` (of a ball of equal volume,
        in widths of a voxel); ``flow_error`` is that of the volume.
    tracks
        Columns of the table of tracks, each of one entry per track; empty where objects were not
        followed. ``track`` (the label), ``parent`` (the track that has more than half of this
        one's first object one frame before, 0 for none), ``t_first``, ``t_last`` (frames, from
        0), ``n_frames`` (in which it is), ``n_missing`` (between them, in which it is not),
        ``displacement_y_px``, ``displacement_x_px`` and ``displacement_px`` (of the centroid,
        last minus first; ``displacement_z_px`` in planes, for linked stacks and volumes),
        ``path_px`` (sum of the steps in Y and X).
    settings
        The settings used.
    provenance
        What ran: model, weights' SHA-256, device, precision, versions, choices, seconds.
    warnings
        Sentences that the user should read.
    """

    labels: np.ndarray
    axes: str
    flows: np.ndarray
    logits: np.ndarray
    style: np.ndarray
    diameter_px: float
    objects: dict[str, np.ndarray]
    settings: Settings
    tracks: dict[str, np.ndarray] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def n_objects(self) -> int:
        """Number of objects; one that goes through several linked planes counts once.

        In a time series the objects of all frames count, also those of one track.
        """
        return len(self.objects["label"])

    @property
    def is_volume(self) -> bool:
        """Whether stacks were segmented as volumes."""
        return self.settings.volume_mode != "planes"

    @property
    def probability(self) -> np.ndarray:
        """Probability that each pixel belongs to an object, 0 to 1, float32."""
        return np.asarray(expit(self.logits))

    @property
    def outlines(self) -> np.ndarray:
        """The pixels of objects that touch another object or background; bool, labels' shape."""
        from cellseg_engine.core.outlines import outline_mask

        planes = self.labels.reshape(-1, *self.labels.shape[-2:])
        return np.stack([outline_mask(plane) for plane in planes]).reshape(self.labels.shape)
