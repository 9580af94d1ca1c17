"""``cellseg models build-zoo``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from cellseg_engine.cli.options import GivenPath
from cellseg_engine.cli.train_options import (
    reading_options,
    recipe_options,
    take_recipe,
    take_settings,
)
from cellseg_engine.cli.train_report import print_event, training_reporter
from cellseg_engine.settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from cellseg_engine.train.build_zoo import Cluster


@click.command(
    name="build-zoo",
    epilog="Example: cellseg models build-zoo my_cells/ --out my_zoo",
)
@click.argument("paths", nargs=-1, required=True, type=GivenPath(), metavar="DIR...")
@click.option("--out", required=True, type=GivenPath(file_okay=False), help="Folder for the zoo.")
@click.option(
    "--name", default="", help="Begins the models' names; that of the folder if left out."
)
@click.option(
    "--network",
    default=DEFAULT_MODEL,
    show_default=True,
    help="Name of the model whose styles are compared.",
)
@click.option(
    "--neighbours",
    type=click.IntRange(0),
    default=0,
    help="Images that each one is joined to.  [default: 100, or a tenth of fewer images]",
)
@click.option(
    "--resolution",
    type=float,
    default=0.45,
    show_default=True,
    help="More gives more clusters. Cellpose 2: 0.45 for cells, 0.25 (and 50 neighbours) for "
    "nuclei.",
)
@click.option(
    "--min-images",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Images of smaller clusters go to the others.",
)
@click.option(
    "--train/--no-train",
    "train_models",
    default=True,
    show_default=True,
    help="--no-train makes clusters, map and index only, which is quick.",
)
@click.option("--install", is_flag=True, help="Import the models, to use them by name.")
@recipe_options
@reading_options
@click.option("--licence", default="unknown", help="Of the weights, for the models' cards.")
@click.option("--overwrite", is_flag=True, help="Train models again that are there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for programs.")
def command(
    paths: Sequence[Path], out: Path, install: bool, as_json: bool, **arguments: Any
) -> int:
    """Make a zoo from your annotated images: one model for each kind of look.

    The styles of all images are clustered, each cluster is named by the kind (the folder, or the
    manifest's column) that most of its images are of, and a model is trained for each as by
    `cellseg train`. Writes clusters.csv, styles.png (a map of the images), styles.npz (for
    `cellseg models suggest --index`) and the models. Started again in the same way it goes on
    where it was.
    """
    from cellseg_engine.train.build_zoo import ZooOptions, build_zoo
    from cellseg_engine.train.options import TrainingOptions

    if install and not arguments["train_models"]:
        raise click.UsageError("--install takes trained models, so it does not go with --no-train.")
    names = ("network", "neighbours", "resolution", "min_images", "train_models")
    zoo = {name: arguments.pop(name) for name in names}
    settings, recipe = take_settings(arguments), take_recipe(arguments)
    training = TrainingOptions(paths=paths, out=out, recipe=recipe, settings=settings, **arguments)

    def tell(number: int, n_clusters: int, cluster: Cluster) -> None:
        if install and number == 1:
            _check_names(out, training.overwrite)
        if as_json:
            print_event("model", number=number, of=n_clusters, model=cluster.model)
        else:
            n_images = len(cluster.found.sources)
            click.echo(f"{cluster.model} ({number} of {n_clusters}): {n_images} images", err=True)

    with training_reporter(as_json) as (report, warn):
        clusters = build_zoo(ZooOptions(training, **zoo), report, warn, tell)
    if install:
        for cluster in clusters:
            _install(cluster)
    if as_json:
        models = {cluster.model: cluster.file and str(cluster.file) for cluster in clusters}
        print_event("done", models=models, out=str(out))
    else:
        _tell(clusters, out, install)
    return 0


def _check_names(out: Path, overwrite: bool) -> None:
    """Refuse names that models cannot have, before the first of them is trained."""
    from cellseg_engine.train.build_zoo import INDEX
    from cellseg_engine.zoo.store import check_new_name
    from cellseg_engine.zoo.styles import read_index

    for model in read_index(out / INDEX).models.values():
        earlier = out / "models" / model / f"{model}.safetensors"
        if overwrite or not _is_imported(model, earlier):
            check_new_name(model)


def _install(cluster: Cluster) -> None:
    """Import a model, if that was not done before."""
    from cellseg_engine.zoo.store import import_model

    if cluster.file is not None and not _is_imported(cluster.model, cluster.file):
        import_model([cluster.file], cluster.model)


def _is_imported(model: str, file: Path) -> bool:
    """Say whether the imported model of that name has the weights of a file."""
    from cellseg_engine.nets.card import read_weights
    from cellseg_engine.zoo.store import list_models

    files = {one.name: one.files for one in list_models() if one.source == "imported"}.get(model)
    if files is None or len(files) > 1 or not file.is_file():
        return False
    here, given = read_weights(files[0]).arrays, read_weights(file).arrays
    return here.keys() == given.keys() and all(
        np.array_equal(here[name], given[name]) for name in here
    )


def _tell(clusters: Sequence[Cluster], out: Path, is_installed: bool) -> None:
    """Say what came out, in a few lines."""
    for cluster in clusters:
        click.echo(
            f"{cluster.model}: {len(cluster.found.sources)} images, "
            + (f"{cluster.file}" if cluster.file else "not trained")
        )
    click.echo(f"Clusters: {out / 'clusters.csv'}; map: {out / 'styles.png'}")
    trained = [str(cluster.file) for cluster in clusters if cluster.file]
    if trained and not is_installed:
        click.echo("Make the models names: cellseg models import FILE, for each of these files.")
    if trained:
        index = out / "styles.npz"
        click.echo(f"Which one for an image: cellseg models suggest IMAGE --index {index}")
