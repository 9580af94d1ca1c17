"""The styles of annotated images, as `cellseg models suggest` sees them."""

from __future__ import annotations

import functools
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
from cellseg_engine.train.drawings import draw_strange
from cellseg_engine.train.sources import Source
from cellseg_engine.zoo.styles import StyleIndex

_FORMAT = 1
N_STRANGE = 128
"""As many as it takes for the nearest of photographs not to change much."""


def make_index(
    sources: Sequence[Source],
    settings: Settings,
    models: Mapping[str, str],
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
    axes: str = "",
) -> StyleIndex:
    """Give the index of the styles of images.

    The network looks at every image without being told the diameter, as it will look at others,
    and at drawn pictures without cells, to tell strange images by.

    Parameters
    ----------
    settings
        ``model`` is the network; the channels and percentiles count, too.
    models
        The model to suggest for each kind of image.
    cache
        Folder that keeps the style of each image, for the next call.
    progress
        Called with images done and all, the drawn ones too.
    axes
        What the dimensions of all images are, or empty.

    Raises
    ------
    CellSegError
        An image or the network cannot be used.
    """
    segmenter = Segmenter(settings)
    total = len(sources) + N_STRANGE
    styles = []
    for number, source in enumerate(sources, start=1):
        chosen = make_settings(settings, channel=source.channel or settings.channel)
        image_axes = axes or source.axes
        key = (file_sha256(source.image), image_axes)
        look = functools.partial(_look, segmenter, source, image_axes, chosen)
        styles.append(_keep(cache, _key(key, chosen, segmenter), look))
        progress(number, total)
    strange = np.zeros((N_STRANGE, STYLE_LENGTH), np.float32)
    for number in range(N_STRANGE):
        picture = draw_strange(number)
        key = (hashlib.sha256(picture.tobytes()).hexdigest(), "YX")
        look = functools.partial(_look_at_drawing, segmenter, picture)
        strange[number] = _keep(cache, _key(key, settings, segmenter), look)
        progress(len(sources) + number + 1, total)
    return StyleIndex(
        np.array(styles, np.float32),
        tuple(source.name for source in sources),
        tuple(source.kind for source in sources),
        tuple(source.group for source in sources),
        {kind: models[kind] for kind in sorted({source.kind for source in sources})},
        settings.model,
        segmenter.model.weights_sha256,
        strange,
    )


def _keep(cache: Path | None, key: str, look: Callable[[], np.ndarray]) -> np.ndarray:
    """Give a style, from the cache if it is there, and keep it there."""
    path = cache / f"{key}.npy" if cache else None
    style = _known(path)
    if style is None:
        style = look()
        if path is not None:
            with staged(path.parent) as stage:
                np.save(stage.path(path.name), style)
    return style


def _look(segmenter: Segmenter, source: Source, axes: str, settings: Settings) -> np.ndarray:
    image = read_image(source.image, axes=axes or None)
    return image_style(
        segmenter, image.pixels, image.axes, settings=settings, channel_names=image.channel_names
    ).style


def _look_at_drawing(segmenter: Segmenter, picture: np.ndarray) -> np.ndarray:
    settings = make_settings(segmenter.settings, channel="auto", nuclear_channel="none")
    return image_style(segmenter, picture, "YX", settings=settings).style


def _key(image: tuple[str, str], settings: Settings, segmenter: Segmenter) -> str:
    parts = (
        _FORMAT,
        *image,
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
