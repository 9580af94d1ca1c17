"""How alike two results are, and which step makes them differ."""

from __future__ import annotations

import numpy as np
from _peer import Arrays

from cellseg_engine import make_settings
from cellseg_engine.backends.flow_unet import Fields, FlowUNet
from cellseg_engine.core.metrics import match_objects, score_image
from cellseg_engine.pipeline.masks import derive_iterations, fields_to_labels


def average_precision(truth: np.ndarray, found: np.ndarray, threshold: float) -> float:
    """Give TP / (TP + FP + FN) at one threshold."""
    return float(score_image(truth, found, (threshold,)).average_precision[0])


def relative_rms(values: np.ndarray, reference: np.ndarray) -> float:
    """Give the rms of the difference over the rms of the reference."""
    reference = reference.astype(np.float64)
    return float(np.sqrt(((values - reference) ** 2).mean() / (reference**2).mean()))


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Give the cosine of the angle between two vectors."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def share_alike(truth: np.ndarray, found: np.ndarray) -> float:
    """Give the share of pixels that are background in both, or in objects matched at IoU 0.5."""
    matches = match_objects(truth, found)
    translation = np.full(int(found.max(initial=0)) + 1, -1)
    translation[0] = 0
    translation[matches.prediction_ids] = matches.truth_ids
    return float((translation[found] == truth).mean())


def explain_difference(
    peer: Arrays, index: int, own: np.ndarray, model: FlowUNet, diameter: float
) -> str:
    """Say which step makes our labels differ from the peer's masks."""
    masks, renumbered = peer[f"masks_{index}"], peer[f"renumbered_{index}"]
    if average_precision(renumbered, own, 0.9) == 1:
        return (
            "the peer's size filter. Its flow check leaves gaps in the ids and the filter takes "
            "positions for ids, so it removes objects that are not small; with ids renumbered in "
            "between, AP@0.9 is 1."
        )
    stacked = peer[f"fields_{index}"]
    fields = Fields(stacked[:2] / np.float32(5), stacked[2], np.zeros(256, np.float32))
    settings = make_settings()
    iterations = derive_iterations(settings, diameter, model.card.diam_mean_px)
    same = fields_to_labels(fields, settings, iterations, model.card.flow_variant).labels
    from_fields = average_precision(masks, same, 0.9)
    step = "the fields" if from_fields == 1 else "the masks"
    return (
        f"{step}; from the peer's own fields AP@0.9 is {from_fields:.4f}, with the peer's ids "
        f"renumbered before its size filter {average_precision(renumbered, own, 0.9):.4f}."
    )
