"""A zoo from one's own images: kinds that look alike by their styles, and a model for each.

Pachitariu and Stringer 2022, "Creating a model zoo": the styles of all training images, clustered
and named by the commonest kind, one model for each cluster, and the model of the nearest training
images for a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellseg_engine.errors import SettingsError
from cellseg_engine.io.staging import staged
from cellseg_engine.io.tables import write_table
from cellseg_engine.settings import DEFAULT_MODEL, make_settings
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.options import TrainingOptions
from cellseg_engine.train.prepare import find_images, prepare
from cellseg_engine.train.record import LEFT_OUT, all_remarks, finished_model, write_left_out
from cellseg_engine.train.run import train_prepared
from cellseg_engine.train.sources import Found
from cellseg_engine.train.state import TrainingProgress
from cellseg_engine.train.style_clusters import (
    RESOLUTION,
    check_packages,
    choose_neighbours,
    cluster_styles,
    dissolve_small,
    draw_map,
    map_styles,
    name_clusters,
)
from cellseg_engine.train.style_index import make_index
from cellseg_engine.zoo.store import find_model
from cellseg_engine.zoo.styles import StyleIndex, write_index

TABLE, INDEX, MAP = "clusters.csv", "styles.npz", "styles.png"
COLUMNS = ("image", "kind", "group", "cluster", "model", "x", "y")
MIN_IMAGES = 8
"""Pachitariu and Stringer 2022 train on batches of 8 images."""

Report = Callable[[TrainingProgress], None]


@dataclass(frozen=True)
class ZooOptions:
    """How a zoo is built.

    Attributes
    ----------
    training
        Of every model: images, ``out``, recipe, start, how images are read. ``name`` begins the
        names of the models.
    network
        Name of the model whose styles are compared.
    neighbours
        See `cluster_styles`; 0 for 100, or a tenth of fewer images.
    resolution
        See `cluster_styles`.
    min_images
        Smaller clusters are given to the others.
    train_models
        Also train the models; without, only clusters, map and index are made.
    """

    training: TrainingOptions
    network: str = DEFAULT_MODEL
    neighbours: int = 0
    resolution: float = RESOLUTION
    min_images: int = MIN_IMAGES
    train_models: bool = True


@dataclass(frozen=True)
class Cluster:
    """Images that look alike.

    Attributes
    ----------
    name
        After their commonest kind.
    model
        Name of their model.
    found
        The images.
    file
        The model's weights; None as long as it is not trained.
    """

    name: str
    model: str
    found: Found
    file: Path | None = None


def build_zoo(
    options: ZooOptions,
    report: Report = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
    on_cluster: Callable[[int, int, Cluster], None] = lambda *_: None,
) -> list[Cluster]:
    """Cluster the styles of annotated images and train a model for each cluster.

    ``out`` gets ``clusters.csv``, ``styles.png`` (a map), ``styles.npz`` (an index for
    `cellseg models suggest`), ``left_out.csv`` (files without partner) and a folder for each model
    under ``models``. A zoo that was stopped goes on where it was; models that are trained are left
    as they are.

    Parameters
    ----------
    report
        Called after every image and step.
    warn
        Called with sentences that the user should read.
    on_cluster
        Called with the number of each cluster from 1, their number, and the cluster, before its
        model is trained.

    Raises
    ------
    MissingDependencyError
        A package of the extra ``zoo`` is missing.
    SettingsError, TrainingDataError, ReadError, WriteError, ModelNotFoundError, WeightsError
        One sentence says why; what is there stays.
    """
    _check(options)
    training = options.training
    found = find_images(training, training.role)
    clusters = _find_clusters(options, found, report)
    _tell_lonely(training.out, found, warn)
    if not options.train_models:
        return clusters
    done = []
    for number, cluster in enumerate(clusters, start=1):
        on_cluster(number, len(clusters), cluster)
        done.append(replace(cluster, file=_train_model(training, cluster, report, warn)))
    return done


def _check(options: ZooOptions) -> None:
    check_packages()
    find_model(options.network)  # the index names the network, so a path will not do
    if options.neighbours < 0 or not 0 < options.resolution < float("inf"):
        raise SettingsError(
            "neighbours must not be negative, and resolution must be a positive number."
        )
    if options.min_images < 1:
        raise SettingsError(f"min_images = {options.min_images} is not allowed: at least 1.")


def _find_clusters(options: ZooOptions, found: Found, report: Report) -> list[Cluster]:
    """Look at all images, cluster them, and write table, map and index."""
    training, sources = options.training, found.sources
    if len(sources) < 2 * options.min_images:
        raise TrainingDataError(
            f"{len(sources)} annotated images are too few for clusters of {options.min_images} "
            "images and more.",
            hint="Train one model for all with `cellseg train`, or allow fewer with --min-images.",
        )
    index = make_index(
        sources,
        make_settings(training.settings, model=options.network),
        {source.kind: "" for source in sources},
        training.out / "styles",
        lambda done, total: report(TrainingProgress("styles", done, total)),
        axes=training.axes,
    )
    members = dissolve_small(
        index.styles,
        cluster_styles(
            index.styles,
            neighbours=options.neighbours or choose_neighbours(len(sources)),
            resolution=options.resolution,
            seed=training.seed,
        ),
        options.min_images,
    )
    names = name_clusters(members, index.kinds)
    prefix = training.name or training.out.resolve().name
    models = [f"{prefix}-{name}" for name in names]
    _write(options, index, members, names, models)
    return [
        Cluster(name, model, _part(found, members == number))
        for number, (name, model) in enumerate(zip(names, models, strict=True))
    ]


def _write(
    options: ZooOptions, index: StyleIndex, members: np.ndarray, names: list[str], models: list[str]
) -> None:
    places = map_styles(index.styles, options.training.seed)
    rows: list[dict[str, Any]] = [
        {
            "image": index.names[n],
            "kind": index.kinds[n],
            "group": index.groups[n],
            "cluster": names[cluster],
            "model": models[cluster],
            "x": places[n, 0],
            "y": places[n, 1],
        }
        for n, cluster in enumerate(members)
    ]
    suggesting = replace(
        index,
        kinds=tuple(names[cluster] for cluster in members),
        models=dict(zip(names, models, strict=True)),
    )
    with staged(options.training.out) as stage:
        write_table(stage.path(TABLE), COLUMNS, rows)
        write_index(stage.path(INDEX), suggesting)
        draw_map(stage.path(MAP), places, members, names, index.kinds)


def _part(found: Found, chosen: np.ndarray) -> Found:
    return Found(tuple(found.sources[n] for n in np.flatnonzero(chosen)))


def _tell_lonely(out: Path, found: Found, warn: Callable[[str], None]) -> None:
    """Write down the files without partner, which belong to no cluster, and say so."""
    remarks = all_remarks(found, [])
    write_left_out(out, remarks)
    if remarks:
        warn(f"{len(remarks)} files are left out; {out / LEFT_OUT} says why.")


def _train_model(
    training: TrainingOptions, cluster: Cluster, report: Report, warn: Callable[[str], None]
) -> Path:
    options = replace(
        training,
        name=cluster.model,
        out=training.out / "models" / cluster.model,
        flow_cache=training.flow_cache or training.out / "flows",
        description=training.description or f"Images like those of the cluster {cluster.name}.",
    )
    try:
        prepared = prepare(options, report, cluster.found)
    except TrainingDataError as error:
        raise TrainingDataError(
            f"The model {cluster.model} cannot be trained. {error.message}", hint=error.hint
        ) from error
    done = finished_model(options.out, prepared.fingerprint)
    if done is not None and not options.overwrite:
        return done
    return train_prepared(options, prepared, report, warn).model
