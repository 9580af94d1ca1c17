"""``cellseg about``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cellseg_engine._version import __version__
from cellseg_engine.errors import ReadError

CITATIONS = (
    (
        "Stringer C, Wang T, Michaelos M, Pachitariu M (2021) Cellpose: a generalist algorithm for "
        "cellular segmentation. Nature Methods 18:100-106. doi:10.1038/s41592-020-01018-x"
    ),
    (
        "Caicedo JC et al. (2019) Nucleus segmentation across imaging experiments: the 2018 Data "
        "Science Bowl. Nature Methods 16:1247-1253. doi:10.1038/s41592-019-0612-7 (training data "
        "of nuclei-provisional)"
    ),
)


@click.command(name="about", context_settings={"max_content_width": 100})
@click.option(
    "--run",
    "run_file",
    type=click.Path(path_type=Path),
    help="A run.json: the methods paragraph then states what was really used.",
)
def command(run_file: Path | None) -> None:
    """Version, how to cite, and a methods paragraph for a paper."""
    click.echo(f"CellSeg Bridges, cellseg-engine {__version__} (BSD-3-Clause)\n")
    click.echo("Methods paragraph:\n")
    click.echo(methods_paragraph(_read_run(run_file) if run_file else None) + "\n")
    click.echo("Please cite:\n")
    for citation in CITATIONS:
        click.echo(f"- {citation}")
    if run_file is None:
        click.echo("\nWith --run NAME_run.json the paragraph states what was used for that image.")


def methods_paragraph(run: dict[str, Any] | None) -> str:
    """Give a paragraph for the methods section, filled from a run.json where there is one."""
    if run is None:
        return (
            "Objects were segmented with cellseg-engine "
            f"{__version__} (CellSeg Bridges), which implements the flow-field approach of "
            "Stringer et al. (2021), using the model [MODEL, weights SHA-256] with a diameter of "
            "[DIAMETER] px, a probability threshold of [0.5] and a flow-error threshold of [0.4]."
        )
    settings, model = run["settings"], run["model"]
    how = {"given": "set to", "estimate": "estimated for each image; here"}.get(
        run["diameter_source"], "taken from the model's training images:"
    )
    augmentation = settings["test_time_augmentation"]
    extra = "" if augmentation == "none" else f" and test-time augmentation ({augmentation})"
    return (
        f"Objects were segmented with cellseg-engine {run['cellseg_engine']} (CellSeg Bridges), "
        "which implements the flow-field approach of Stringer et al. (2021), using the model "
        f"{model['name']} (version {model['version']}, weights SHA-256 "
        f"{model['weights_sha256'][0][:12]}..., {model['licence']}). Images were normalised to the "
        f"{settings['percentile_low']:g} and {settings['percentile_high']:g} percentiles"
        f"{' and inverted' if run['inverted'] else ''}; the object diameter was {how} "
        f"{run['diameter_px']:.1f} px. Pixels with a probability above "
        f"{settings['probability_threshold']:g} were assigned to objects by {run['iterations']} "
        f"steps of the flow dynamics ({settings['interpolation']} interpolation){extra}. Objects "
        f"with a flow error above {settings['flow_threshold']:g} or an area below "
        f"{settings['min_area_px']} px were removed. The network ran in {run['precision']} on "
        f"{run['device']}."
    )


def _read_run(path: Path) -> dict[str, Any]:
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        run["settings"], run["model"]["weights_sha256"][0]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ReadError(f"{path} is not a run.json written by cellseg segment.") from error
    return run
