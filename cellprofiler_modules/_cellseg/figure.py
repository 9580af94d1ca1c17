"""What people see: the figure of an image set, and the flow as colours."""

from __future__ import annotations

from typing import Any, List, Mapping, Tuple

import numpy as np
from matplotlib.colors import hsv_to_rgb

from _cellseg.objects import Edited


def keep(
    workspace: Any, image: Any, result: Any, edited: Edited, settings: Mapping[str, Any]
) -> None:
    """Keep what `draw` needs; that runs in another process, so only arrays and texts."""
    data = workspace.display_data
    data.image = np.asarray(image.pixel_data)
    data.dimensions = image.dimensions
    data.labels = edited.segmented
    data.by_size = edited.by_size
    data.by_border = edited.by_border
    data.table = _table(result, edited, settings)


def draw(module: Any, workspace: Any, figure: Any) -> None:
    """Draw image, objects, outlines with what was discarded, and a table of what was done."""
    data = workspace.display_data
    figure.set_subplots((2, 2), dimensions=data.dimensions)
    number = workspace.measurements.image_set_number
    name = module.y_name.value
    axes = figure.subplot_imshow_grayscale(
        0, 0, data.image, "Input image, cycle #{}".format(number)
    )
    figure.subplot_imshow_labels(1, 0, data.labels, name, sharexy=axes)
    outlines = [
        dict(name=name, labels=[data.labels]),
        dict(name="Objects filtered out by size", labels=[data.by_size]),
        dict(name="Objects touching border", labels=[data.by_border]),
    ]
    figure.subplot_imshow_grayscale(
        0, 1, data.image, "{} outlines".format(name), cplabels=outlines, sharexy=axes
    )
    figure.subplot_table(
        1, 1, [[value] for _, value in data.table], row_labels=[label for label, _ in data.table]
    )


def _table(result: Any, edited: Edited, settings: Mapping[str, Any]) -> List[Tuple[str, str]]:
    count = edited.kept.size
    rows = [("Objects", str(count))]
    sizes = np.bincount(edited.segmented.ravel())[1:]
    if count and edited.segmented.ndim == 2:
        diameters = 2 * np.sqrt(np.percentile(sizes, (10, 50, 90)) / np.pi)
        rows.append(
            ("Diameters, 10/50/90 %", " / ".join("{:.1f}".format(d) for d in diameters) + " px")
        )
    rows.append(("Area covered", "{:.1f} %".format(100.0 * sizes.sum() / edited.segmented.size)))
    rows.append(("Discarded by size", str(_count(edited.by_size))))
    rows.append(("Discarded at border", str(_count(edited.by_border))))
    how = "given" if settings["diameter_px"] else "estimated"
    rows.append(("Diameter used", "{:.1f} px ({})".format(result.diameter_px, how)))
    rows.append(("Model", str(result.provenance["model"]["name"])))
    rows += [
        (name.replace("_", " ").capitalize(), "{:g}".format(settings[name]))
        for name in ("probability_threshold", "flow_threshold")
    ]
    rows.append(("Device", str(result.provenance["device"])))
    rows.append(("Engine's time", "{:.2f} s".format(result.seconds["total"])))
    rows += [("Warning", text) for text in result.warnings]
    return rows


def _count(labels: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(labels.ravel())[1:]))


def flow_colours(flows: np.ndarray) -> np.ndarray:
    """Give flows as colours: direction as hue, length as brightness.

    Parameters
    ----------
    flows
        float32 of shape (2, ..., Y, X): y and x; of volumes (3, ...), with z first, which is left
        out.

    Returns
    -------
    ndarray
        float32 of shape (..., Y, X, 3), 0 to 1.
    """
    y, x = flows[-2:]
    hue = (np.arctan2(y, x) / (2 * np.pi)) % 1.0
    length = np.hypot(y, x)
    value = np.clip(length / max(float(np.percentile(length, 99)), 1e-6), 0, 1)
    return hsv_to_rgb(np.stack([hue, np.ones_like(hue), value], axis=-1)).astype(np.float32)
