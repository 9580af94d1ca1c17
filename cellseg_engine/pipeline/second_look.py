"""A second look at images with next to no objects, whose percentiles show nothing but background.

Percentiles 1 and 99 (Stringer et al. 2021) are those of the background where objects cover less
than 1 % of an image: a network then sees its noise as large as 1, and objects many times as
bright, which it misses. Pixels that stand out and lie in no object give this away. Each plane of
a stack, or the volume of each time point, is judged by itself, as percentiles are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cellseg_engine.core.labels import areas
from cellseg_engine.core.normalize import background_end, outlier_limit
from cellseg_engine.core.sums import row_strips
from cellseg_engine.pipeline.parts import Parts
from cellseg_engine.pipeline.prepare import Preparation, choose_channels
from cellseg_engine.settings import Settings

MAX_COVERED = 0.02
"""Of an image by its objects; with more it is none with next to no objects."""
MIN_OUTLIERS = 15
"""Fewer pixels than the smallest object has are dust."""
ENOUGH_EXPLAINED = 0.5
"""Of the pixels that stand out, inside of objects."""
MAX_LOST = 0.2
"""Area of objects found first that a second result may lack, in that of its own objects."""
SAME_SHARE = 0.5
"""Of the pixels of an object, in objects of the second result: then it has this one too."""
BRIGHT_SHARE = 0.5
"""Of the pixels of an object, above the background: fewer, and it is one of noise."""
_PERCENTILES = ("percentile_low", "percentile_high")


@dataclass(frozen=True)
class SecondLook:
    """How to look at a plane or volume again, and what is hoped to be found.

    Attributes
    ----------
    preparation
        With the high percentile (of a bright background: the low one) that shows what stands out.
    places
        Indices of the pixels that stand out, in the flattened plane or volume.
    bright
        Likewise of those that the background does not reach.
    """

    preparation: Preparation
    places: np.ndarray
    bright: np.ndarray

    @property
    def used(self) -> dict[str, float]:
        """The percentiles, as settings."""
        return {name: getattr(self.preparation.settings, name) for name in _PERCENTILES}

    def explained(self, labels: np.ndarray) -> float:
        """Give the part of what stands out that lies in objects, 0 to 1."""
        return np.count_nonzero(labels.ravel()[self.places]) / self.places.size

    def lost(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Give the areas of objects of the first labels that the second ones do not have.

        What the first look finds in the noise that it enlarges does not count.
        """
        sizes = areas(first)[1:]
        again = np.bincount(first[second > 0], minlength=sizes.size + 1)[1:]
        bright = np.bincount(first.ravel()[self.bright], minlength=sizes.size + 1)[1:]
        is_lost = (again < SAME_SHARE * sizes) & (bright >= BRIGHT_SHARE * sizes)
        return np.asarray(sizes[is_lost])


def plan_second_looks(
    parts: Parts, labels: np.ndarray, preparation: Preparation
) -> dict[int, SecondLook]:
    """Decide which parts of an image to look at again, and with which percentiles.

    Only after the default ones: others are taken literally.

    Parameters
    ----------
    parts
        The planes, or volumes, of the image.
    labels
        Of each of them, int32 of shape (n, ...).

    Returns
    -------
    By the number of the part; without those where nothing stands out, or it was found.
    """
    settings, fields = preparation.settings, Settings.model_fields
    if any(getattr(settings, name) != fields[name].default for name in _PERCENTILES):
        return {}
    sparse = [
        index
        for index, part in enumerate(labels)
        if np.count_nonzero(part) <= MAX_COVERED * part.size
    ]
    looks = dict(_find_looks(parts, sparse, preparation))
    if not looks and len(sparse) == len(labels) and settings.invert == "auto":
        # a background without objects to compare it with is not told to be bright
        flipped = replace(preparation, invert=not preparation.invert)
        looks = dict(_find_looks(parts, sparse, flipped))
    return {
        index: look
        for index, look in looks.items()
        if look.explained(labels[index]) < ENOUGH_EXPLAINED
    }


def _find_looks(
    parts: Parts, indices: Sequence[int], preparation: Preparation
) -> Iterator[tuple[int, SecondLook]]:
    """Yield the looks at parts where pixels stand out that the percentiles do not show."""
    for index in indices:
        pixels, sample = parts.pixels(index), parts.sample(index)
        places = find_outliers(pixels, sample, preparation)
        if places.size >= MIN_OUTLIERS:
            n_pixels = pixels.shape[1] * pixels.shape[2]
            shown = _show(preparation, 100 * (1 - places.size / (2 * n_pixels)))
            bright = _find_brighter(pixels, sample, preparation, background_end)
            yield index, SecondLook(shown, places, bright)


def _show(preparation: Preparation, percentile: float) -> Preparation:
    """Give the preparation in which a percentile becomes 1 (of dark objects: 0)."""
    changes = {"percentile_high": percentile}
    if preparation.invert:
        changes = {"percentile_low": 100 - percentile}
    settings = preparation.settings.model_copy(update=changes)
    return replace(preparation, settings=settings)


def find_outliers(pixels: np.ndarray, sample: np.ndarray, preparation: Preparation) -> np.ndarray:
    """Find the pixels that stand out where the percentiles do not show them.

    Parameters
    ----------
    pixels
        ndarray of shape (C, Y, X).
    sample
        What percentiles are taken from, (C, y, x).

    Returns
    -------
    Their indices in the flattened plane (Y, X).
    """
    return _find_brighter(pixels, sample, preparation, outlier_limit)


def _find_brighter(
    pixels: np.ndarray,
    sample: np.ndarray,
    preparation: Preparation,
    limit_of: Callable[[np.ndarray, float, float], float],
) -> np.ndarray:
    """Give the indices of pixels above a limit, of a bright background of those below."""
    settings = preparation.settings
    low, high = settings.percentile_low, settings.percentile_high
    if preparation.invert:
        low, high = 100 - high, 100 - low

    def upright(part: np.ndarray) -> np.ndarray:
        values: np.ndarray = choose_channels(part, preparation)[0].astype(np.float64)
        return -values if preparation.invert else values

    limit = limit_of(upright(sample), low, high)
    width = pixels.shape[2]
    return np.concatenate(
        [
            np.flatnonzero(upright(pixels[:, rows]) > limit) + rows.start * width
            for rows in row_strips((pixels.shape[1], width))
        ]
    )


@dataclass(frozen=True)
class Outcome:
    """What came of a second look at a part that found more of what stands out.

    Attributes
    ----------
    index
        Of the part.
    look
        The second look.
    n_first, n_lost
        Objects found first, and how many of them were not found again.
    lost_share
        Their area in that of the objects of the second result.
    """

    index: int
    look: SecondLook
    n_first: int
    n_lost: int
    lost_share: float

    @property
    def is_taken(self) -> bool:
        """Whether the second result counts."""
        return self.lost_share <= MAX_LOST


def look_again(parts: Parts, labels: np.ndarray, looks: dict[int, SecondLook]) -> list[Outcome]:
    """Look at parts again; keep what has more of what stands out and all that was found first.

    Parameters
    ----------
    parts, labels
        As for `plan_second_looks`; the labels are those of the results, which change.
    """
    outcomes = (_look_at(parts, labels[index], index, look) for index, look in looks.items())
    return [outcome for outcome in outcomes if outcome is not None]


def _look_at(parts: Parts, first: np.ndarray, index: int, look: SecondLook) -> Outcome | None:
    """Look at one part again; None if it does not show more."""
    found = parts.segment(index, look.preparation)
    if look.explained(found.labels) <= look.explained(first):
        return None
    lost = look.lost(first, found.labels)
    share = float(lost.sum() / np.count_nonzero(found.labels))
    outcome = Outcome(index, look, int(first.max()), lost.size, share)
    if outcome.is_taken:
        found.keep()
    return outcome


@dataclass(frozen=True)
class Story:
    """What came of all second looks at an image.

    Attributes
    ----------
    outcomes
        Where they found more of what stands out.
    n_parts, kind
        How many ``planes`` or ``volumes`` the image has.
    """

    outcomes: Sequence[Outcome]
    n_parts: int
    kind: str

    @property
    def taken(self) -> list[Outcome]:
        """Those whose results count."""
        return [outcome for outcome in self.outcomes if outcome.is_taken]

    @property
    def is_inverted(self) -> bool:
        """Whether those that count inverted the intensities."""
        return self.taken[0].look.preparation.invert

    def facts(self) -> dict[str, Any]:
        """Give what run.json says about them; empty where no result of one counts."""
        if not self.taken:
            return {}
        if self.n_parts == 1:
            return {"second_look": self.taken[0].look.used}
        return {"second_look": [{self._part: one.index, **one.look.used} for one in self.taken]}

    def warnings(self) -> tuple[str, ...]:
        """Give sentences for the user."""
        refused = [outcome for outcome in self.outcomes if not outcome.is_taken]
        sentences = []
        if self.taken:
            seen = "the image was"
            if self.n_parts > 1:
                seen = (
                    f"these {self.kind} were" if len(self.taken) > 1 else f"this {self._part} was"
                )
            sentences.append(
                f"{self._begin(self.taken)}, so {seen} looked at again with {_range(self.taken)}."
            )
        if refused:
            lost = sum(outcome.n_lost for outcome in refused)
            count = sum(outcome.n_first for outcome in refused)
            sentences.append(
                f"{self._begin(refused)}. With {_range(refused)} they are, but {lost} of the "
                f"{count} objects found first are not, so those were kept."
            )
        return tuple(sentences)

    @property
    def _part(self) -> str:
        return self.kind.removesuffix("s")

    def _begin(self, outcomes: Sequence[Outcome]) -> str:
        """Say which pixels were not found."""
        of_parts = f" of {len(outcomes)} of {self.n_parts} {self.kind}" if self.n_parts > 1 else ""
        kind = "dark" if outcomes[0].look.preparation.invert else "bright"
        low, high = (Settings.model_fields[name].default for name in _PERCENTILES)
        return (
            f"The few {kind} pixels{of_parts} lie outside the percentiles {low:g} and {high:g} and "
            "were not found with them"
        )


def _range(outcomes: Sequence[Outcome]) -> str:
    """Name the percentile that shows what stands out, with its values."""
    name = _PERCENTILES[not outcomes[0].look.preparation.invert]
    values = [outcome.look.used[name] for outcome in outcomes]
    least, most = (f"{value:.6g}" for value in (min(values), max(values)))
    return f"{name} = {least}" if least == most else f"{name} from {least} to {most}"
