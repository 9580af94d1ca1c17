"""The size model: from the style of an image to the diameter of its objects.

Stringer et al. 2021, "Test time resizing": a ridge regression from the style vector to the
logarithm of the diameter. Official ``size_*.npy`` files are pickled dictionaries; they are read
with an unpickler that admits NumPy arrays and plain containers only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellseg_engine.errors import WeightsError
from cellseg_engine.io.plain_pickle import RefusedError, load_plain_npy

STYLE_LENGTH = 256
MIN_DIAMETER_PX = 5.0
"""Smaller objects count as this large, in estimates and in training, as in Cellpose."""
MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True)
class SizeModel:
    """A linear model on the style vector.

    Attributes
    ----------
    coefficients, style_mean
        float64 of shape (256,).
    diam_mean_px
        Diameter that the logarithm is relative to.
    log_offset
        Mean of log(diameter / diam_mean_px) over the training images.
    range_px
        Smallest and largest diameter of the training images; (0, 0) if unknown.
    """

    coefficients: np.ndarray
    style_mean: np.ndarray
    diam_mean_px: float
    log_offset: float
    range_px: tuple[float, float] = (0.0, 0.0)

    def predict(self, style: np.ndarray) -> float:
        """Give the diameter in px, at least 5.

        ``exp(coefficients . (style - style_mean) + log(diam_mean) + log_offset)``, the layout
        of Cellpose's size models.
        """
        exponent = float(self.coefficients @ (style.astype(np.float64) - self.style_mean))
        log_diameter = exponent + float(np.log(self.diam_mean_px)) + self.log_offset
        return max(MIN_DIAMETER_PX, float(np.exp(min(log_diameter, 20.0))))

    def covers(self, diameter_px: float) -> bool:
        """Say whether a diameter is within the trained range (True if that is unknown)."""
        low, high = self.range_px
        return high <= 0 or low <= diameter_px <= high

    @property
    def sha256(self) -> str:
        """SHA-256 of its values, the same for every file that holds them."""
        values = np.concatenate([array.ravel() for array in self.to_arrays().values()])
        return hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Give the values as named float64 arrays, for a weights file."""
        return {
            "coefficients": self.coefficients,
            "style_mean": self.style_mean,
            "diam_mean_px": np.array([self.diam_mean_px]),
            "log_offset": np.array([self.log_offset]),
        }

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, np.ndarray], range_px: tuple[float, float] = (0.0, 0.0)
    ) -> SizeModel:
        """Build it from the arrays of `to_arrays`.

        Raises
        ------
        WeightsError
            Values missing, of another length, or not finite.
        """
        try:
            model = cls(
                np.asarray(arrays["coefficients"], np.float64).ravel(),
                np.asarray(arrays["style_mean"], np.float64).ravel(),
                float(np.asarray(arrays["diam_mean_px"], np.float64).ravel()[0]),
                float(np.asarray(arrays["log_offset"], np.float64).ravel()[0]),
                range_px,
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise WeightsError("The size model lacks values or holds something else.") from error
        shapes_fit = model.coefficients.size == model.style_mean.size == STYLE_LENGTH
        numbers = (*model.coefficients, *model.style_mean, model.diam_mean_px, model.log_offset)
        if not shapes_fit or not np.isfinite(numbers).all() or model.diam_mean_px <= 0:
            raise WeightsError(
                f"The size model must hold {STYLE_LENGTH} finite coefficients and style means and "
                "a positive diameter."
            )
        return model


_OFFICIAL_NAMES = {
    "coefficients": "A",
    "style_mean": "smean",
    "diam_mean_px": "diam_mean",
    "log_offset": "ymean",
}


def read_official_size_model(path: Path) -> SizeModel:
    """Read an official ``size_*.npy`` file.

    Raises
    ------
    WeightsError
        Damaged, of another kind, or a pickle that asks for anything but NumPy arrays and
        plain containers; nothing of such a file is executed.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else b""
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        values = load_plain_npy(data)
        arrays = {ours: values[theirs] for ours, theirs in _OFFICIAL_NAMES.items()}
    except RefusedError as error:
        raise WeightsError(
            f"{path} is refused: It asks for {error}, which a size model does not need.",
            hint="Do not use this file: loading it could run a program hidden in it.",
        ) from None
    except Exception as error:  # unpickling damaged bytes can raise nearly anything
        raise WeightsError(
            f"{path} is not an official size model (a .npy file with A, smean, diam_mean, ymean)."
        ) from error
    return SizeModel.from_arrays(arrays)


def write_official_size_model(path: Path, model: SizeModel) -> None:
    """Write a size model in the official layout, as Cellpose reads it."""
    ours = model.to_arrays()
    values: dict[str, Any] = {theirs: ours[name] for name, theirs in _OFFICIAL_NAMES.items()}
    values["diam_mean"] = model.diam_mean_px
    values["ymean"] = model.log_offset
    with path.open("wb") as file:
        np.save(file, np.array(values, dtype=object), allow_pickle=True)
