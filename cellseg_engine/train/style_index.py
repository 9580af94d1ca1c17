"""The styles of annotated images, as `cellseg models suggest` sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cellseg_engine.io.images import read_image
from cellseg_engine.io.staging import staged
from cellseg_engine.nets.card import file_sha256
from cellseg_engine.nets.size_model import STYLE_LENGTH
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.pipeline.style import image_style
from cellseg_engine.settings import Settings, make_settings
from cellseg_engine.train.sources import Source
from cellseg_engine.zoo.styles import StyleIndex

_FORMAT = 1


def make_index(
    sources: Sequence[Source],
    settings: Settings,
    models: Mapping[str, str],
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
    axes: str = "",
) -> StyleIndex:
    """Give the index of the styles of images.

    The network looks at every image without being told the diameter, as it will look at others.

    Parameters
    ----------
    settings
        ``model`` is the network; the channels and percentiles count, too.
    models
        The model to suggest for each kind of image.
    cache
        Folder that keeps the style of each image, for the next call.
    progress
        Called with images done and all.
    axes
        What the dimensions of all images are, or empty.

    Raises
    ------
    CellSegError
        An image or the network cannot be used.
    """
    segmenter = Segmenter(settings)
    styles = []
    for number, source in enumerate(sources, start=1):
        chosen = make_settings(settings, channel=source.channel or settings.channel)
        path = (
            cache / f"{_key(source, axes or source.axes, chosen, segmenter)}.npy" if cache else None
        )
        style = _known(path)
        if style is None:
            style = _look(segmenter, source, axes or source.axes, chosen)
            if path is not None:
                with staged(path.parent) as stage:
                    np.save(stage.path(path.name), style)
        styles.append(style)
        progress(number, len(sources))
    return StyleIndex(
        np.array(styles, np.float32),
        tuple(source.name for source in sources),
        tuple(source.kind for source in sources),
        tuple(source.group for source in sources),
        {kind: models[kind] for kind in sorted({source.kind for source in sources})},
        settings.model,
        segmenter.model.weights_sha256,
    )


def _look(segmenter: Segmenter, source: Source, axes: str, settings: Settings) -> np.ndarray:
    image = read_image(source.image, axes=axes or None)
    return image_style(
        segmenter, image.pixels, image.axes, settings=settings, channel_names=image.channel_names
    ).style


def _key(source: Source, axes: str, settings: Settings, segmenter: Segmenter) -> str:
    parts = (
        _FORMAT,
        file_sha256(source.image),
        axes,
        segmenter.model.weights_sha256,
        settings.model_dump_json(exclude={"model", "device"}),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _known(path: Path | None) -> np.ndarray | None:
    """Give a style that was kept; None where it is missing or cut short."""
    if path is None:
        return None
    try:
        style: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return style if style.shape == (STYLE_LENGTH,) else None
