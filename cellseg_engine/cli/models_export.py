"""``cellseg models export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_engine.cli.options import GivenPath
from cellseg_engine.errors import SettingsError
from cellseg_engine.zoo import store

if TYPE_CHECKING:
    from cellseg_engine.nets.card import WeightsFile

SUFFIXES = {"onnx": ".onnx", "bioimageio": ".zip"}


@click.command(name="export")
@click.argument("model")
@click.argument("target", type=GivenPath())
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["official", *SUFFIXES]),
    default="official",
    show_default=True,
    help="official: the layout of cellpose 2 and 3; onnx: for onnxruntime and the programs that "
    "use it; bioimageio: a package for ilastik, deepImageJ and the BioImage Model Zoo.",
)
@click.option(
    "--author",
    "authors",
    multiple=True,
    help="Who trained the model, for a BioImage.IO package; may be repeated.",
)
@click.option(
    "--sample",
    type=GivenPath(),
    default=None,
    help="An image that the model is for, as test input and cover of a BioImage.IO package; "
    "without, a demo image of nuclei.",
)
@click.option(
    "--sample-diameter-px", type=float, default=None, help="Diameter of the objects in it. [px]"
)
@click.option("--force", is_flag=True, help="Replace existing files.")
def command(
    model: str,
    target: Path,
    file_format: str,
    authors: Sequence[str],
    sample: Path | None,
    sample_diameter_px: float | None,
    force: bool,
) -> None:
    """Write a model for other programs.

    TARGET is the file to write: for example my_nuclei.pth (official), my_nuclei.onnx or
    my_nuclei.zip (bioimageio). In the official layout the size model goes beside it as
    TARGET_size.npy, and an ensemble becomes TARGET_0, TARGET_1 ..., the first with the size model.
    In the other formats an ensemble is averaged inside the file; the file is run and compared
    before it gets its name.
    """
    _check_target(target, file_format)
    for option, is_given in (
        ("--author", bool(authors)),
        ("--sample", sample is not None),
        ("--sample-diameter-px", sample_diameter_px is not None),
    ):
        if is_given and file_format != "bioimageio":
            raise click.UsageError(f"{option} is only for packages: use --format bioimageio.")
    if sample_diameter_px is not None and sample is None:
        raise click.UsageError(
            "--sample-diameter-px is the diameter of the objects in an image: give it with "
            "--sample, or leave it out."
        )
    if file_format == "official":
        _export_official(model, target, force)
        return
    _refuse_existing([target], force)
    files = store.read_model(model)
    if file_format == "onnx":
        from cellseg_engine.export.onnx_file import export_onnx

        difference = export_onnx(target, files)
    else:
        from cellseg_engine.export.bioimageio import AUTHORS_OF_SHIPPED, export_bioimageio
        from cellseg_engine.export.example import make_example

        example = make_example(files[0].card, sample, sample_diameter_px or 0)
        ours = any(
            entry.name == model and entry.source != "imported" for entry in store.list_models()
        )
        authors = authors or (AUTHORS_OF_SHIPPED if ours else ())
        difference = export_bioimageio(target, _name(model, files), files, authors, example)
        _remark(files, authors)
    click.echo(f"Wrote {target}")
    click.echo(
        f"Run by onnxruntime it gives the fields of the model to {difference:.1g} (relative rms)."
    )


def _check_target(target: Path, file_format: str) -> None:
    if file_format == "official":
        if not target.name or target.suffix in (".safetensors", *SUFFIXES.values()):
            raise click.UsageError(
                f"TARGET {str(target)!r} must be the name of a file in the official layout, for "
                "example my_nuclei.pth; --format chooses another."
            )
    elif target.suffix != SUFFIXES[file_format] or target.name == target.suffix:
        raise click.UsageError(
            f"TARGET {str(target)!r} must be the name of a file that ends in "
            f"{SUFFIXES[file_format]}, for --format {file_format}."
        )


def _export_official(model: str, target: Path, force: bool) -> None:
    from cellseg_engine.export.official import official_names, write_official

    files = store.read_model(model)
    _refuse_existing([target.with_name(name) for name in official_names(target, files)], force)
    for path in write_official(target, files):
        click.echo(f"Wrote {path}")
    variant = files[0].card.flow_variant
    if variant != "v3":
        click.echo(
            f"It was trained on flows of the variant {variant}, which this layout does not say: "
            f"import it with --flow-variant {variant}, or it is taken for v3.",
            err=True,
        )


def _refuse_existing(paths: Sequence[Path], force: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise SettingsError(f"{there[0]} is there already.", hint="Use --force to replace it.")


def _name(model: str, files: Sequence[WeightsFile]) -> str:
    is_known = any(entry.name == model for entry in store.list_models())
    return model if is_known else files[0].card.name


def _remark(files: Sequence[WeightsFile], authors: Sequence[str]) -> None:
    """Say what a package lacks for being passed on."""
    if files[0].card.licence == "unknown":
        click.echo(
            "The package states no licence: import the model with --licence first.", err=True
        )
    if not authors:
        click.echo("The package names no author: give one with --author.", err=True)
