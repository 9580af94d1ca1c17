"""Which model to try: the styles of training images, and the ones nearest to an image's.

Pachitariu and Stringer 2022, "Style clustering and classification": an image belongs where its 5
nearest neighbours among the styles of the training images do. Styles of different networks cannot
be compared, so all are those of one network, which the index names.
"""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellseg_engine.errors import ReadError, WeightsError
from cellseg_engine.nets.card import file_sha256
from cellseg_engine.nets.size_model import STYLE_LENGTH
from cellseg_engine.zoo.store import find_model

INDEX_FILE = Path(__file__).with_name("styles.npz")
FORMAT = 2
N_NEAREST = 5
FAMILIAR_PERCENTILE = 99.0
"""An image is unfamiliar where its style is farther away than those of this share of the training
images of the kind are from other groups of them."""
ENOUGH_OF_A_KIND = 20
"""A kind of fewer images is measured by the distance of all kinds."""
_HOW_TO_MAKE = "Make one with: python tools/make_style_index.py TABLE --network MODEL"


@dataclass(frozen=True)
class StyleIndex:
    """The styles of training images.

    Attributes
    ----------
    styles
        float32 of shape (N, 256), unit length.
    names, kinds, groups
        Of each image; images of one group look alike (one slide, one well).
    models
        The model to suggest for each kind.
    network
        Name of the model whose styles these are.
    weights_sha256
        Of the files of that model.
    strange
        float32 of shape (M, 256), unit length: styles of drawn pictures that show no cells; see
        `cellseg_engine.train.drawings`.
    """

    styles: np.ndarray
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    groups: tuple[str, ...]
    models: Mapping[str, str]
    network: str
    weights_sha256: tuple[str, ...]
    strange: np.ndarray = field(default_factory=lambda: np.zeros((0, STYLE_LENGTH), np.float32))

    def familiar_distance(self, kind: str = "") -> float:
        """Give the largest distance of a familiar style of a kind: see `FAMILIAR_PERCENTILE`.

        Without a kind, or of one of fewer than 20 images that can be compared, it is that of all.
        """
        distances, kinds = self._distances_between_groups
        own = distances[kinds == kind]
        counted = own if len(own) >= ENOUGH_OF_A_KIND else distances
        return float(np.percentile(counted, FAMILIAR_PERCENTILE)) if len(counted) else float("inf")

    @functools.cached_property
    def _distances_between_groups(self) -> tuple[np.ndarray, np.ndarray]:
        """The distances of training images to their 5 nearest of other groups, and their kinds.

        Images whose kind has fewer than 5 of those do not count, as long as there are others.
        """
        distances = style_distances(self.styles, self.styles)
        kinds, groups = np.array(self.kinds), np.array(self.groups)
        distances[groups[:, None] == groups[None, :]] = np.inf
        others = (np.isfinite(distances) & (kinds[:, None] == kinds[None, :])).sum(axis=1)
        nearest = np.sort(distances, axis=1)[:, :N_NEAREST]
        usable = np.isfinite(nearest).all(axis=1)
        counted = (
            usable & (others >= N_NEAREST) if (usable & (others >= N_NEAREST)).any() else usable
        )
        return nearest[counted].mean(axis=1), kinds[counted]

    def without_group(self, group: str) -> StyleIndex:
        """Give the index without the images of a group."""
        kept = [n for n, one in enumerate(self.groups) if one != group]
        return replace(
            self,
            styles=self.styles[kept],
            names=tuple(self.names[n] for n in kept),
            kinds=tuple(self.kinds[n] for n in kept),
            groups=tuple(self.groups[n] for n in kept),
        )


@dataclass(frozen=True)
class Neighbour:
    """A training image whose style is near.

    Attributes
    ----------
    name, kind
        Of the image.
    model
        To suggest for its kind.
    distance
        Between the styles: 0 is the same, 1.41 nothing in common, 2 the opposite.
    """

    name: str
    kind: str
    model: str
    distance: float


@dataclass(frozen=True)
class Suggestion:
    """The model to try for a style.

    Attributes
    ----------
    model
        Its name.
    neighbours
        The nearest training images, nearest first.
    distance
        Mean distance to them.
    familiar_distance
        The largest that training images of the commonest kind among them have.
    n_strange
        How many of the 5 nearest pictures are drawn ones without cells, if those count, too.
    network
        Whose styles were compared.
    """

    model: str
    neighbours: tuple[Neighbour, ...]
    distance: float
    familiar_distance: float
    n_strange: int
    network: str

    @property
    def is_near(self) -> bool:
        """Whether training images are as near as they are to one another."""
        return self.distance <= self.familiar_distance

    @property
    def is_familiar(self) -> bool:
        """Whether the image looks like those that the models were trained on."""
        return self.is_near and self.n_strange <= N_NEAREST // 2

    @property
    def reason(self) -> str:
        """Why this model: one sentence."""
        kinds = Counter(one.kind for one in self.neighbours if one.model == self.model)
        votes = sum(kinds.values())
        which = " and ".join(kinds)
        return (
            f"{votes} of the {len(self.neighbours)} training images that look most like it are of "
            f"the kind{'s' * (len(kinds) > 1)} {which}"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that the user should read."""
        if self.is_familiar:
            return ()
        if self.is_near:
            why = (
                "its style is nearer to those of drawn pictures without cells, of noise and of "
                "things that cover each other, as in photographs"
            )
        else:
            why = (
                f"its style is {self.distance:.3f} away from the {len(self.neighbours)} nearest of "
                f"them; {FAMILIAR_PERCENTILE:g} % of such images are within "
                f"{self.familiar_distance:.3f}"
            )
        warning = (
            f"The image looks unlike those that the models were trained on: {why}. "
            "Check the result, and train a model on such images if it is wrong."
        )
        return (warning,)

    def as_record(self) -> dict[str, Any]:
        """Give it as values for JSON."""
        return {
            "model": self.model,
            "reason": self.reason,
            "neighbours": [
                {
                    "name": one.name,
                    "kind": one.kind,
                    "model": one.model,
                    "distance": round(one.distance, 4),
                }
                for one in self.neighbours
            ],
            "distance": round(self.distance, 4),
            "familiar_distance": round(self.familiar_distance, 4),
            "n_strange": self.n_strange,
            "is_familiar": self.is_familiar,
            "network": self.network,
        }


def suggest_model(index: StyleIndex, style: np.ndarray) -> Suggestion:
    """Give the model that most of the 5 nearest training images name; of equals the nearest.

    Parameters
    ----------
    style
        float of shape (256,), unit length, of the network of the index.
    """
    distances = style_distances(style[None], index.styles)[0]
    order = np.argsort(distances, kind="stable")[:N_NEAREST]
    neighbours = tuple(
        Neighbour(
            index.names[n],
            index.kinds[n],
            index.models[index.kinds[n]],
            float(distances[n]),
        )
        for n in order
    )
    # a Counter keeps the order of the first of each, which is that of nearness
    (model, _), *_ = Counter(one.model for one in neighbours).most_common(1)
    (kind, _), *_ = Counter(one.kind for one in neighbours).most_common(1)
    strange = np.sort(style_distances(style[None], index.strange)[0])[:N_NEAREST]
    fifth = np.sort(np.append(distances[order], strange))[:N_NEAREST][-1]
    return Suggestion(
        model,
        neighbours,
        float(distances[order].mean()),
        index.familiar_distance(kind),
        int(np.count_nonzero(strange <= fifth)),
        index.network,
    )


def score_index(index: StyleIndex) -> dict[str, tuple[int, int]]:
    """Give how often the model of its kind is suggested for a training image.

    Each image is compared with those of other groups.

    Returns
    -------
    Right suggestions and images, by kind.
    """
    scores: dict[str, tuple[int, int]] = {}
    for n, (kind, group) in enumerate(zip(index.kinds, index.groups, strict=True)):
        rest = index.without_group(group)
        if rest.names:
            is_right = suggest_model(rest, index.styles[n]).model == index.models[kind]
            right, images = scores.get(kind, (0, 0))
            scores[kind] = (right + is_right, images + 1)
    return scores


def write_index(path: Path, index: StyleIndex) -> None:
    """Write an index, about 600 bytes an image.

    Raises
    ------
    OSError
        The file cannot be written; inside `staged` it is a `WriteError`.
    """
    facts = {
        "format": FORMAT,
        "network": index.network,
        "weights_sha256": list(index.weights_sha256),
        "models": dict(index.models),
    }
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            facts=np.array(json.dumps(facts, sort_keys=True)),
            styles=index.styles.astype(np.float16),
            names=np.array(index.names, str),
            kinds=np.array(index.kinds, str),
            groups=np.array(index.groups, str),
            strange=index.strange.astype(np.float16),
        )


def read_index(path: Path = INDEX_FILE) -> StyleIndex:
    """Read an index of styles.

    Raises
    ------
    ReadError
        There is none, or it is damaged or of another version.
    """
    if not path.is_file():
        raise ReadError(
            f"There is no index of training styles ({path.name}), so no model can be suggested.",
            hint=_HOW_TO_MAKE,
        )
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            facts = json.loads(str(arrays["facts"]))
            if facts["format"] != FORMAT:
                raise ValueError("another format")
            styles, strange = (
                _unit(arrays[name].astype(np.float32)) for name in ("styles", "strange")
            )
            names, kinds, groups = (
                tuple(map(str, arrays[name])) for name in ("names", "kinds", "groups")
            )
        index = StyleIndex(
            styles,
            names,
            kinds,
            groups,
            dict(facts["models"]),
            str(facts["network"]),
            tuple(facts["weights_sha256"]),
            strange,
        )
        _check_index(index)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ReadError(
            f"{path} is damaged or not an index of training styles of this version.",
            hint=_HOW_TO_MAKE,
        ) from error
    return index


def check_network(index: StyleIndex) -> None:
    """Make sure that the network on this computer is the one that made the styles.

    Raises
    ------
    ModelNotFoundError
        There is no such model here.
    WeightsError
        It has other weights.
    """
    entry = find_model(index.network)
    found = tuple(file_sha256(path) for path in entry.files)
    if found != index.weights_sha256:
        raise WeightsError(
            f"The index of training styles was made by other weights of {index.network} "
            f"({_short(index.weights_sha256)}) than those here ({_short(found)}), so styles cannot "
            "be compared.",
            hint=_HOW_TO_MAKE,
        )


def _check_index(index: StyleIndex) -> None:
    n_images = len(index.names)
    fits = index.styles.shape == (n_images, STYLE_LENGTH) and n_images > 0
    fits = fits and len(index.kinds) == len(index.groups) == n_images
    fits = fits and index.strange.shape[1:] == (STYLE_LENGTH,) and np.isfinite(index.strange).all()
    if not fits or not np.isfinite(index.styles).all() or set(index.kinds) - index.models.keys():
        raise ValueError("the parts do not fit together")


def style_distances(styles: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Give Euclidean distances of unit vectors (N, 256) and (M, 256): float64 (N, M)."""
    cosines = styles.astype(np.float64) @ others.astype(np.float64).T
    return np.asarray(np.sqrt(np.maximum(0, 2 - 2 * cosines)))


def _unit(styles: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(styles, axis=-1, keepdims=True)
    return np.asarray(styles / lengths)


def _short(hashes: Sequence[str]) -> str:
    return ", ".join(one[:12] for one in hashes)
