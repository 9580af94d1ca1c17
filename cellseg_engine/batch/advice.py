"""Which model to try for an image file, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg_engine.io.images import ImageData
from cellseg_engine.nets.card import file_sha256
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.pipeline.style import ImageStyle, image_style
from cellseg_engine.settings import Settings
from cellseg_engine.zoo.store import list_models
from cellseg_engine.zoo.styles import (
    INDEX_FILE,
    Suggestion,
    check_network,
    read_index,
    suggest_model,
)


@dataclass(frozen=True)
class Advice:
    """The model to try for an image.

    Attributes
    ----------
    suggestion
        The model and the training images that speak for it.
    style
        How the image was seen.
    is_here
        Whether the model is on this computer.
    index_sha256
        Of the file of training styles.
    """

    suggestion: Suggestion
    style: ImageStyle
    is_here: bool
    index_sha256: str

    @property
    def model(self) -> str:
        """Name of the model to try."""
        return self.suggestion.model

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that the user should read."""
        if not self.style.has_contrast:
            return ("The image shows nothing, so the suggestion says nothing either.",)
        return self.suggestion.warnings

    def as_record(self) -> dict[str, Any]:
        """Give it as values for JSON."""
        return {
            **self.suggestion.as_record(),
            "diameter_px": round(self.style.diameter_px, 3),
            "diameter_source": self.style.diameter_source,
            "index_sha256": self.index_sha256,
        }


class Adviser:
    """Suggests models; the network that tells styles is loaded once.

    Parameters
    ----------
    settings
        Which channel is looked at, and how; the model in them does not count.
    index_file
        The styles of training images.

    Raises
    ------
    ReadError
        There is no index, or it is damaged.
    ModelNotFoundError, WeightsError
        The network of the index is not here, or has other weights.
    DeviceError
        The device is not there.
    """

    def __init__(self, settings: Settings, index_file: Path = INDEX_FILE) -> None:
        self.index = read_index(index_file)
        check_network(self.index)
        self.index_sha256 = file_sha256(index_file)
        self._settings = settings.model_copy(update={"model": self.index.network})
        self._segmenter = Segmenter(self._settings)

    def advise(self, image: ImageData) -> Advice:
        """Give the model to try for an image.

        Raises
        ------
        AxesError, ChannelError, ImageError, SettingsError
            As `cellseg_engine.pipeline.segmenter.Segmenter.segment`.
        """
        style = image_style(
            self._segmenter,
            image.pixels,
            image.axes,
            settings=self._settings,
            channel_names=image.channel_names,
        )
        suggestion = suggest_model(self.index, style.style)
        is_here = any(entry.name == suggestion.model for entry in list_models())
        return Advice(suggestion, style, is_here, self.index_sha256)
