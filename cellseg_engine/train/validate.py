"""Scores of the held-out images, by which the best weights of a training are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cellseg_engine.backends.flow_unet import FlowUNet
from cellseg_engine.core.labels import NOT_ANNOTATED, keep_annotated
from cellseg_engine.core.metrics import PooledScore, pool_scores, score_image
from cellseg_engine.errors import ImageError, SettingsError
from cellseg_engine.nets.card import ModelCard
from cellseg_engine.nets.choose_runtime import make_runtime
from cellseg_engine.nets.unet import FLOW_SCALE, ResidualUNet
from cellseg_engine.pipeline.masks import derive_iterations, fields_to_labels
from cellseg_engine.pipeline.prepare import check_scale, predict_at_scale, resize_fields
from cellseg_engine.pipeline.progress import Ticker
from cellseg_engine.settings import make_settings
from cellseg_engine.train.augment import apply_view, plain_view
from cellseg_engine.train.dataset import IMAGE_LEFT_OUT, Remark, TrainingImage
from cellseg_engine.train.faults import TrainingDivergedError
from cellseg_engine.train.losses import losses


@dataclass(frozen=True)
class Validation:
    """How good a network is on the held-out images.

    Attributes
    ----------
    flow_loss, probability_loss
        Means over the middles of the images, without augmentation.
    scores
        Of the objects found with the default settings.
    """

    flow_loss: float
    probability_loss: float
    scores: PooledScore

    @property
    def selection_score(self) -> float:
        """Give the number by which weights are chosen: mean AP over images and thresholds."""
        return self.scores.mean_per_image.mean_average_precision

    def as_columns(self) -> dict[str, float]:
        """Give the numbers as columns of the curves."""
        mean, pooled = self.scores.mean_per_image, self.scores.pooled
        at = {threshold: pooled.thresholds.index(threshold) for threshold in (0.5, 0.75, 0.9)}
        return {
            "held_out_flow_loss": self.flow_loss,
            "held_out_probability_loss": self.probability_loss,
            **{
                f"held_out_ap_{threshold:.2f}": float(mean.average_precision[place])
                for threshold, place in at.items()
            },
            "held_out_ap_mean": self.selection_score,
            "held_out_ap_0.50_pooled": float(pooled.average_precision[at[0.5]]),
        }


def full_channels(image: TrainingImage, n_channels: int) -> np.ndarray:
    """Give the pixels with the empty channels that `TrainingImage` leaves out."""
    missing = n_channels - len(image.pixels)
    return np.pad(image.pixels, ((0, missing), (0, 0), (0, 0))) if missing else image.pixels


def make_model(net: ResidualUNet, card: ModelCard, device: str, precision: str) -> FlowUNet:
    """Give a network in evaluation mode as the pipeline uses models, with its present weights."""
    return FlowUNet([make_runtime(net, device=device, precision=precision)], card, None, [])


def leave_out_unscorable(
    images: Sequence[TrainingImage], diam_mean_px: float, diameter_px: float = 0.0
) -> tuple[list[TrainingImage], list[Remark]]:
    """Give the images that `validate` can score, and remarks on the others.

    Parameters
    ----------
    diam_mean_px
        At which the network sees objects.
    diameter_px
        As of `validate`.
    """
    kept, remarks = [], []
    for image in images:
        scale = diam_mean_px / (diameter_px or image.diameter_px)
        height, width = image.labels.shape
        try:
            check_scale(diam_mean_px, scale, (height, width))
        except SettingsError as error:
            reason = f"it cannot be scored: {error.message}"
            remarks.append(Remark(image.name, IMAGE_LEFT_OUT, reason))
        else:
            kept.append(image)
    return kept, remarks


def validate(
    net: ResidualUNet,
    images: Sequence[TrainingImage],
    card: ModelCard,
    *,
    crop_px: int,
    device: str,
    precision: str,
    diameter_px: float = 0.0,
) -> Validation:
    """Score a network on images; it is left in training mode.

    Parameters
    ----------
    diameter_px
        For the objects of all images; 0 for the true one of each.

    Raises
    ------
    TrainingDivergedError
        The network gives values that are not finite.
    """
    net.eval()
    model = make_model(net, card, device, precision)
    settings = make_settings(device=device, precision=precision)
    scores = []
    sums = np.zeros(2)
    for image in images:
        sums += _image_losses(model, image, card, crop_px)
        pixels = full_channels(image, card.n_channels)
        diameter = diameter_px or image.diameter_px
        scale = card.diam_mean_px / diameter
        try:
            fields = predict_at_scale(model, pixels, scale, settings, Ticker(None, None))
        except ImageError as error:
            raise TrainingDivergedError(
                f"The network {card.name} gave values that are NaN or infinite for {image.name}, "
                "on which it is scored.",
                hint="Train with a smaller --learning-rate.",
            ) from error
        fields = resize_fields(fields, (pixels.shape[1], pixels.shape[2]))
        iterations = derive_iterations(settings, diameter, card.diam_mean_px)
        found = fields_to_labels(fields, settings, iterations, card.flow_variant)
        scores.append(score_image(image.labels, keep_annotated(found.labels, image.annotated)))
    net.train()
    flow, probability = sums / len(images)
    return Validation(float(flow), float(probability), pool_scores(scores))


def _image_losses(
    model: FlowUNet, image: TrainingImage, card: ModelCard, crop_px: int
) -> np.ndarray:
    view = plain_view(card.diam_mean_px / image.diameter_px, crop_px)
    pixels, labels, flows = apply_view(
        view,
        full_channels(image, card.n_channels),
        image.marked_labels,
        image.flows,
        image.annotated_area,
    )
    shown = model.predict(pixels)
    fields = np.concatenate([shown.flows * np.float32(FLOW_SCALE), shown.logit[np.newaxis]])
    targets = np.concatenate([flows, (labels > 0)[np.newaxis].astype(np.float32)])
    annotated = None
    if image.annotated is not None:
        annotated = torch.from_numpy((labels != NOT_ANNOTATED).astype(np.float32))[None]
    both = losses(torch.from_numpy(fields)[None], torch.from_numpy(targets)[None], annotated)
    return both.numpy().astype(float)
