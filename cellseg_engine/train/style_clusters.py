"""Clusters of image styles, their names, and a map of them.

Pachitariu and Stringer 2022, "Style clustering and classification": Leiden on the graph of nearest
neighbours; an image that was not clustered belongs where its 5 nearest neighbours do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np

from cellseg_engine.errors import MissingDependencyError
from cellseg_engine.io.figures import figure_class
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.zoo.styles import N_NEAREST, style_distances

NEIGHBOURS = 100
RESOLUTION = 0.45
"""Both of Pachitariu and Stringer 2022, for 1,700 images of cells; for nuclei 50 and 0.25."""
_SHARE = 10
_TRIALS = 10
_INSTALL = 'pip install "cellseg-engine[zoo]"'


def check_packages() -> None:
    """Make sure that everything is installed, before images are looked at.

    Raises
    ------
    MissingDependencyError
        With the line that installs it.
    """
    for name, what in (("graspologic_native", "graspologic-native"), ("sklearn", "scikit-learn")):
        try:
            __import__(name)
        except ImportError as error:
            raise MissingDependencyError(
                f"A zoo is built with {what}, which is not installed.", hint=_INSTALL
            ) from error
    figure_class("The map of styles is drawn")


def choose_neighbours(n_images: int) -> int:
    """Give the neighbours of an image for its clusters: 100, or a tenth of fewer images."""
    return max(N_NEAREST, min(NEIGHBOURS, n_images // _SHARE))


def cluster_styles(
    styles: np.ndarray, *, neighbours: int, resolution: float = RESOLUTION, seed: int = 0
) -> np.ndarray:
    """Give the cluster of each style by the Leiden algorithm.

    Parameters
    ----------
    styles
        float of shape (N, 256), unit length; N at least 2.
    neighbours
        Each style is joined to so many of its nearest ones; a pair that chose each other counts
        twice.
    resolution
        Of the modularity: more gives more clusters.

    Returns
    -------
    int64 of shape (N,): 0 for the largest cluster, 1 for the next one ...

    Raises
    ------
    MissingDependencyError
        graspologic-native is not installed.

    Notes
    -----
    Traag, Waltman and van Eck 2019; modularity as of Reichardt and Bornholdt 2006. The best of 10
    runs with one seed: the same styles give the same clusters.
    """
    try:
        import graspologic_native
    except ImportError as error:
        raise MissingDependencyError(
            "Clusters are found with graspologic-native, which is not installed.", hint=_INSTALL
        ) from error
    distances = style_distances(styles, styles)
    np.fill_diagonal(distances, np.inf)
    n_images = len(styles)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, : min(neighbours, n_images - 1)]
    joined = np.zeros((n_images, n_images), np.int8)
    np.put_along_axis(joined, nearest, 1, axis=1)
    weights = joined + joined.T
    edges = [
        (str(one), str(other), float(weights[one, other]))
        for one, other in np.argwhere(np.triu(weights))
    ]
    _, found = graspologic_native.leiden(
        edges, resolution=resolution, iterations=_TRIALS, trials=_TRIALS, seed=seed
    )
    return _by_size(np.array([found[str(n)] for n in range(n_images)]))


def dissolve_small(styles: np.ndarray, clusters: np.ndarray, min_images: int) -> np.ndarray:
    """Give the images of small clusters to those of their 5 nearest neighbours in large ones.

    Raises
    ------
    TrainingDataError
        No cluster is large enough.
    """
    counts = np.bincount(clusters)
    is_large = counts[clusters] >= min_images
    if not is_large.any():
        raise TrainingDataError(
            f"The largest of {len(counts)} clusters has {counts.max()} images, fewer than "
            f"{min_images}.",
            hint="Annotate more, or allow fewer with --min-images; train one model for all with "
            "`cellseg train`.",
        )
    result = clusters.copy()
    large = np.flatnonzero(is_large)
    distances = style_distances(styles, styles[large])
    for n in np.flatnonzero(~is_large):
        votes = clusters[large[np.argsort(distances[n], kind="stable")[:N_NEAREST]]]
        result[n] = Counter(votes.tolist()).most_common(1)[0][0]
    return _by_size(result)


def name_clusters(clusters: np.ndarray, kinds: Sequence[str]) -> list[str]:
    """Name each cluster by the commonest kind of its images.

    Returns
    -------
    A name for each cluster, of letters, digits, '.', '_' and '-', different from all others also
    in another letter case; clusters of one kind get numbers that are free, the largest the first.
    """
    commonest = [
        Counter(kind for kind, one in zip(kinds, clusters, strict=True) if one == cluster)
        for cluster in range(int(clusters.max()) + 1)
    ]
    names = [_plain(counts.most_common(1)[0][0]) for counts in commonest]
    counted = Counter(name.casefold() for name in names)
    taken = {name for name, n in counted.items() if n == 1}
    result = []
    for name in names:
        unique = name
        if counted[name.casefold()] > 1:
            numbered = (f"{name}-{number}" for number in count(1))
            unique = next(one for one in numbered if one.casefold() not in taken)
            taken.add(unique.casefold())
        result.append(unique)
    return result


def map_styles(styles: np.ndarray, seed: int = 0) -> np.ndarray:
    """Give a place on a plane for each style: float64 of shape (N, 2), by t-SNE.

    Raises
    ------
    MissingDependencyError
        scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise MissingDependencyError(
            "The map of styles is made with scikit-learn, which is not installed.", hint=_INSTALL
        ) from error
    if len(styles) < 3:
        return np.stack([np.arange(len(styles)), np.zeros(len(styles))], axis=1)
    perplexity = min(30.0, (len(styles) - 1) / 3)
    found = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(
        styles.astype(np.float64)
    )
    return np.asarray(found, np.float64)


def draw_map(
    path: Path, places: np.ndarray, clusters: np.ndarray, names: Sequence[str], kinds: Sequence[str]
) -> None:
    """Draw the map of styles: a colour for each cluster, a mark for each kind of image."""
    figure = figure_class("The map of styles is drawn")(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    marks = dict(zip(dict.fromkeys(kinds), _marks(len(set(kinds))), strict=True))
    for cluster, name in enumerate(names):
        for kind, mark in marks.items():
            mine = (clusters == cluster) & (np.array(kinds) == kind)
            if mine.any():
                axes.plot(
                    places[mine, 0],
                    places[mine, 1],
                    mark,
                    ms=4,
                    color=f"C{cluster % 10}",
                    label=f"{name}: {kind} ({mine.sum()})",
                )
    axes.set(xticks=[], yticks=[], xlabel="t-SNE of the styles of the training images")
    axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)


def _by_size(clusters: np.ndarray) -> np.ndarray:
    """Number clusters anew: the largest 0; of equals the one that comes first."""
    found, first, inverse, counts = np.unique(
        clusters, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -counts))
    new = np.empty(len(found), np.int64)
    new[order] = np.arange(len(found))
    return np.asarray(new[inverse.ravel()])


def _plain(text: str) -> str:
    """Give a text that can be part of a model's name."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "images"


def _marks(count: int) -> list[str]:
    marks = "os^vD<>Pp*Xh"
    return [marks[n % len(marks)] for n in range(count)]
