"""Which images are held out, and which ones the network sees in which order.

Everything is a function of the seed and the epoch, so a run that goes on after a kill sees what
an uninterrupted one sees.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from cellseg_engine.errors import SettingsError
from cellseg_engine.train.dataset import TrainingImage
from cellseg_engine.train.faults import TrainingDataError

HELD_OUT_SHARE = 0.12
"""Stringer et al. 2021 ("12% of the training set was used for validation")."""

_SPLIT, _ORDER, _VIEW = 0, 1, 2
_NAMED_WEIGHT = re.compile(r"(.+?)=([^,=]*)(?:,|$)")  # the names of kinds may have commas


def hold_out(
    images: Sequence[TrainingImage], share: float | None, seed: int
) -> tuple[list[TrainingImage], list[TrainingImage]]:
    """Split images into those to train on and those to choose the model by.

    Groups stay whole. Of each kind, random groups are held out until they are at least the share
    of its images. Groups that would make it more than about twice the share are passed over; where
    all would, the smallest is held out. The last group of a kind is never held out.

    Parameters
    ----------
    share
        None for `HELD_OUT_SHARE`, or for nothing where that cannot be.

    Returns
    -------
    Training images and held-out images, each in the given order; nothing is held out with a
    share of 0.

    Raises
    ------
    TrainingDataError
        There are too few groups to hold the given share out.
    """
    if share == 0:
        return list(images), []
    wanted_share = HELD_OUT_SHARE if share is None else share
    rng = np.random.default_rng([seed, _SPLIT])
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for image in images:
        counts[image.kind][image.group] += 1
    held: set[str] = set()

    def is_last(group: str) -> bool:
        return any(of_kind.keys() <= held | {group} for of_kind in counts.values())

    for _, of_kind in sorted(counts.items()):
        groups = [sorted(of_kind)[index] for index in rng.permutation(len(of_kind))]
        wanted, taken = wanted_share * of_kind.total(), 0
        for group in groups:
            if taken >= wanted:
                break
            fits = taken + of_kind[group] <= 2 * wanted + 1 and not is_last(group)
            if group in held or fits:  # with the images of another kind it may be there already
                held.add(group)
                taken += of_kind[group]
        free = [group for group in groups if not is_last(group)]
        if not taken and free:
            held.add(min(free, key=of_kind.__getitem__))
    training = [image for image in images if image.group not in held]
    validation = [image for image in images if image.group in held]
    if not training or not validation:
        if share is None:
            return list(images), []
        raise TrainingDataError(
            f"{_count(images)} cannot be split into images to train on and images to choose the "
            "best model by.",
            hint="Annotate another image, or train without with --held-out-share 0: then the last "
            "weights are kept, whether they are the best or not.",
        )
    return training, validation


def parse_weights(text: str, kinds: Sequence[str]) -> dict[str, float]:
    """Read how often each kind of image is drawn.

    Parameters
    ----------
    text
        ``fluo=60,histology=20,brightfield=20``, or ``60/20/20`` for the kinds in their order;
        empty for every image alike.
    kinds
        The kinds of the images, in the order in which they were found.

    Returns
    -------
    Share of each kind, adding up to 1; empty if every image is drawn alike.

    Raises
    ------
    SettingsError
        A kind is missing or unknown, or a number is not positive.
    """
    if not text:
        return {}
    known = ", ".join(kinds)
    if "=" in text:
        given = {name.strip(): value for name, value in _NAMED_WEIGHT.findall(text)}
    else:
        given = dict(zip(kinds, text.split("/"), strict=False))
        if len(text.split("/")) != len(kinds):
            raise SettingsError(
                f"--weights {text} gives {len(text.split('/'))} numbers for the {len(kinds)} kinds "
                f"of images {known}.",
                hint="Give one number for each, in this order.",
            )
    if set(given) != set(kinds):
        raise SettingsError(
            f"--weights names {', '.join(given)}; the kinds of images are {known}.",
            hint="Name each kind once; leave images out with --kind.",
        )
    try:
        numbers = {name: float(value) for name, value in given.items()}
    except ValueError:
        numbers = {}
    if not numbers or not all(0 < number < float("inf") for number in numbers.values()):
        raise SettingsError(
            f"--weights {text} is not understood: the weights are positive numbers.",
            hint="For example 60/20/20.",
        )
    total = sum(numbers.values())
    return {name: number / total for name, number in numbers.items()}


def epoch_order(
    images: Sequence[TrainingImage],
    weights: Mapping[str, float],
    *,
    n_wanted: int,
    seed: int,
    epoch: int,
) -> np.ndarray:
    """Give the indices of the images of an epoch.

    Parameters
    ----------
    weights
        Share of each kind, see `parse_weights`. Without weights every image comes once, in random
        order, and again when more are wanted; with weights they are drawn with replacement.
    n_wanted
        Images of an epoch, see `cellseg_engine.train.recipes.Recipe.images_wanted`.

    Notes
    -----
    Pachitariu and Stringer 2022: fewer than 8 images are drawn again to make a batch of 8;
    data sets were mixed with probabilities of 60, 20 and 20 %.
    """
    rng = np.random.default_rng([seed, _ORDER, epoch])
    if not weights:
        rounds = -(-n_wanted // len(images))
        return np.concatenate([rng.permutation(len(images)) for _ in range(rounds)])[:n_wanted]
    sizes: dict[str, int] = defaultdict(int)
    for image in images:
        sizes[image.kind] += 1
    chances = np.array([weights[image.kind] / sizes[image.kind] for image in images])
    return np.asarray(rng.choice(len(images), n_wanted, p=chances / chances.sum()))


def view_rng(seed: int, epoch: int, place: int) -> np.random.Generator:
    """Give the source of randomness of one view: the ``place``-th of an epoch."""
    return np.random.default_rng([seed, _VIEW, epoch, place])


def _count(images: Sequence[TrainingImage]) -> str:
    groups = len({image.group for image in images})
    plural = "s" * (len(images) != 1)
    return f"{len(images)} annotated image{plural} (of {groups} group{'s' * (groups != 1)})"
