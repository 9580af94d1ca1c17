"""``--model auto``: for each image the model that its style suggests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cellseg_engine.batch.advice import Adviser
from cellseg_engine.batch.record import is_complete, read_record
from cellseg_engine.errors import ReadError, SettingsError
from cellseg_engine.io.images import ImageData
from cellseg_engine.pipeline.result import Segmentation
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.settings import Settings
from cellseg_engine.zoo.store import AUTO
from cellseg_engine.zoo.styles import INDEX_FILE

RECORD_KEY = "model_suggestion"


@dataclass(frozen=True)
class ChosenModel:
    """The model for one image.

    Attributes
    ----------
    segmenter
        With the model loaded.
    settings
        Those of the run, with the model's name.
    record
        Why, for run.json; empty where the model was given.
    warnings
        Sentences about the choice.
    """

    segmenter: Segmenter
    settings: Settings
    record: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def annotate(self, result: Segmentation) -> Segmentation:
        """Give a result that says why this model was chosen."""
        if not self.record:
            return result
        provenance = {**result.provenance, RECORD_KEY: self.record}
        return replace(result, provenance=provenance, warnings=(*self.warnings, *result.warnings))


class ModelChooser:
    """Chooses a model for each image, and keeps those that it loaded.

    Parameters
    ----------
    settings
        With ``model`` ``auto``.
    index_file
        The styles of training images.

    Raises
    ------
    SettingsError
        One diameter is wanted for all images.
    CellSegError
        As of `cellseg_engine.batch.advice.Adviser`.
    """

    def __init__(self, settings: Settings, index_file: Path = INDEX_FILE) -> None:
        if settings.diameter_scope == "folder" and settings.diameter_px == 0:
            raise SettingsError(
                "model auto may take another model for each image, so no diameter can be estimated "
                "for all of them together.",
                hint="Give --diameter-px, a model, or --diameter-scope image.",
            )
        self._settings = settings
        self._adviser = Adviser(settings, index_file)
        self._segmenters: dict[str, Segmenter] = {}

    def choose(self, run_file: Path | None, load: Callable[[], ImageData]) -> ChosenModel:
        """Give the model for an image.

        Parameters
        ----------
        run_file
            The run.json of an earlier run: what it chose by the same index stays. None looks at
            the image in any case.
        load
            Reads the image.

        Raises
        ------
        ModelNotFoundError
            The model is not on this computer.
        CellSegError
            The image cannot be read or looked at.
        """
        earlier = self._earlier(run_file) if run_file else None
        if earlier is not None:
            return self._with_model(earlier, ())
        advice = self._adviser.advise(load())
        return self._with_model(advice.as_record(), advice.warnings)

    def _with_model(self, record: dict[str, Any], warnings: tuple[str, ...]) -> ChosenModel:
        name = record["model"]
        settings = self._settings.model_copy(update={"model": name})
        if name not in self._segmenters:
            self._segmenters[name] = Segmenter(settings)
        return ChosenModel(self._segmenters[name], settings, record, warnings)

    def _earlier(self, run_file: Path) -> dict[str, Any] | None:
        try:
            record = read_record(run_file)
        except ReadError:
            return None
        suggestion = record.get(RECORD_KEY) if is_complete(record) else None
        if not isinstance(suggestion, dict) or not isinstance(suggestion.get("model"), str):
            return None
        same = suggestion.get("index_sha256") == self._adviser.index_sha256
        return suggestion if same and suggestion["model"] != AUTO else None
