"""``cellseg demo``."""

from __future__ import annotations

from pathlib import Path

import click

from cellseg_engine.cli.options import GivenPath

DEMO_FOLDER = Path(__file__).parents[1] / "demo"


@click.command(name="demo", context_settings={"max_content_width": 100})
@click.option(
    "--out",
    default="demo_output",
    show_default=True,
    type=GivenPath(file_okay=False),
    help="Folder for the results.",
)
def command(out: Path) -> int:
    """Segment the real fluorescence images that come with the program.

    They are validation images of BBBC038v1 (CC0), which no shipped model was trained on. Can be
    repeated; results that are there are kept.
    """
    from cellseg_engine.batch.outputs import DEFAULT_OUTPUTS
    from cellseg_engine.batch.plan import make_plan
    from cellseg_engine.cli.segment import run
    from cellseg_engine.settings import make_settings

    plan = make_plan([str(DEMO_FOLDER)], out)
    status = run(plan, make_settings(), out, None, "skip", DEFAULT_OUTPUTS, as_json=False)
    if status == 0:
        click.echo(f"\nLook at the results in {out.resolve()}, for example of {plan.jobs[0].name}:")
        for ending, what in (
            ("_overlay.png", "the image with outlines, to look at"),
            ("_labels.tif", "the label image, for ImageJ, CellProfiler, Python"),
            ("_rois.zip", "ROIs for ImageJ's ROI Manager"),
            ("_objects.csv", "the table of objects"),
            ("_run.json", "how the results were made"),
        ):
            click.echo(f"  {plan.jobs[0].name}{ending}  {what}")
        click.echo("Your own images: cellseg segment FOLDER --out RESULTS")
    return status
