"""How much each pixel of a view counts in the losses.

A large object has many pixels, and each counts alike, so that a network learns small objects and
the borders between close ones last; yet an object that is missed, or drawn as one with its
neighbour, is one error whatever its size. Ronneberger et al. 2015, "U-Net: convolutional networks
for biomedical image segmentation", equation 2, weigh the pixels between close objects; we do so in
steps, and weigh those of small objects too.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

MAX_WEIGHT = 2.0
SMALL_AREA_PX2 = 120
"""Half the area of an object of 17 px; the weight grows with the root of what is below."""
_NEAR_PX = 5
"""Side of the square in which two objects are close."""


def weight_map(labels: np.ndarray) -> np.ndarray:
    """Give the weight of every pixel.

    Parameters
    ----------
    labels
        int32 of shape (V, V), no ids below 0.

    Returns
    -------
    float32 of shape (V, V), from 1 to `MAX_WEIGHT`: more inside objects smaller than
    `SMALL_AREA_PX2`, unless the border of the view cuts them, and the most where two objects lie
    within two pixels.
    """
    areas = np.maximum(np.bincount(labels.ravel()), 1)
    of_object = np.clip(np.sqrt(SMALL_AREA_PX2 / areas), 1, MAX_WEIGHT).astype(np.float32)
    of_object[0] = 1
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        of_object[edge] = 1
    highest = maximum_filter(labels, _NEAR_PX)
    lowest = minimum_filter(np.where(labels > 0, labels, np.iinfo(labels.dtype).max), _NEAR_PX)
    close = (highest > 0) & (lowest != highest)
    return np.where(close, np.float32(MAX_WEIGHT), of_object[labels])
