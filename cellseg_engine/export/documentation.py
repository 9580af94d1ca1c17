"""The words of a model package, made from the card of the model."""

from __future__ import annotations

from collections.abc import Sequence

from cellseg_engine.nets.card import WeightsFile

_TEXT = """# {name}

{description}

## What goes in

`image`, axes batch, channel, y, x; y and x are multiples of 8. {channels}
Resize the image before, so that its objects have a diameter of about **{diam_mean_px:g} px**: the
network knows no other size. Every channel is scaled so that its {low:g} % and {high:g} %
percentiles become 0 and 1 (the preprocessing of the package does it; over the whole image is better
than over single tiles).
Dark objects on a bright background are inverted first.

## What comes out

`fields`, channels `flow_y` and `flow_x`: the direction towards the centre of the object that the
pixel belongs to, as a vector of length 5; `logit`: the logit of the probability that it belongs to
one.
`style`: 256 numbers that tell the kind of image.

Objects are the pixels with a logit above 0, grouped by where they arrive after following the flow
(divided by 5) for 200 steps: Stringer et al. 2021. Flow targets: `{flow_variant}`. CellSeg Bridges,
Cellpose 1 to 3 and the `cellpose_flow_dynamics` of BioImage.IO do this.{size_model}

## Where it comes from

- Origin: {origin}
- Training data: {training_data}
- Mean diameter of its objects: {diam_labels_px:.1f} px
- Licence of the weights: {licence}
- Source of the network (`network.py`): CellSeg Bridges, BSD-3-Clause
{networks}
## Validation

Annotate a few of your own images that the model has not seen, and score the objects found against
them, for example by average precision at an IoU of 0.5. The test tensors of this package show only
that a program computes the same.
"""

_SIZE_MODEL = """

`size_model.npz` estimates the diameter: `diam_mean_px * exp(coefficients . (style - style_mean) +
log_offset)`, with the style of the image seen at {scale:.3g} times its size."""


def describe_model(name: str, files: Sequence[WeightsFile]) -> str:
    """Give the README of a model package, in Markdown."""
    from cellseg_engine.export.example import PERCENTILE_HIGH, PERCENTILE_LOW

    card = files[0].card
    scale = card.diam_mean_px / card.diam_labels_px
    several = f"- Ensemble: the mean of {len(files)} networks\n" if len(files) > 1 else ""
    channels = {
        1: "One channel.",
        2: "The first channel shows the objects, the second one nuclei, or zeros.",
    }
    return _TEXT.format(
        name=name,
        description=card.description or "Objects in microscopy images.",
        channels=channels.get(card.n_channels, f"{card.n_channels} channels."),
        diam_mean_px=card.diam_mean_px,
        diam_labels_px=card.diam_labels_px,
        low=PERCENTILE_LOW,
        high=PERCENTILE_HIGH,
        flow_variant=card.flow_variant,
        origin=card.origin,
        training_data=card.training_data,
        licence=card.licence,
        networks=several,
        size_model=_SIZE_MODEL.format(scale=scale) if files[0].size_model else "",
    )
