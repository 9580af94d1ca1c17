"""``cellseg learning-curve``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_engine.cli.options import GivenPath
from cellseg_engine.cli.train_options import reading_options, take_settings
from cellseg_engine.cli.train_report import minutes_left, print_event
from cellseg_engine.settings import DEFAULT_MODEL
from cellseg_engine.train.recipes import DEFAULT_RECIPE, load_recipe, recipe_names

if TYPE_CHECKING:
    from cellseg_engine.train.learning_points import CurveProgress, Start

_STARTS: tuple[Start, ...] = ("pretrained", "scratch")


class NumberList(click.ParamType[tuple[int, ...]]):
    """Whole numbers separated by commas."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Check and convert the value."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of whole numbers such as 5,20,100.", param, ctx)


@click.command(
    name="learning-curve",
    context_settings={"max_content_width": 100},
    epilog="Example: cellseg learning-curve my_cells/ --test kept_apart/ --out curve",
)
@click.argument("paths", nargs=-1, required=True, type=GivenPath(), metavar="DIR...")
@click.option(
    "--test",
    multiple=True,
    required=True,
    type=GivenPath(),
    help="Annotated images to score on: a folder or a manifest.csv, also that of DIR. May be "
    "repeated. None of them may be among the images to train on.",
)
@click.option(
    "--test-role", default="val", show_default=True, help="Rows of its manifest.csv that count."
)
@click.option("--out", required=True, type=GivenPath(file_okay=False), help="Folder for all files.")
@click.option(
    "--start-from",
    "--from",
    "start_from",
    default=DEFAULT_MODEL,
    show_default=True,
    help="Model that the pretrained networks go on from.",
)
@click.option("--allow-chain", is_flag=True, help="Let --start-from name a fine-tuned model.")
@click.option(
    "--sizes",
    type=NumberList(),
    default="5,20,100,500",
    show_default=True,
    help="Numbers of annotated objects.",
)
@click.option(
    "--subsets",
    type=NumberList(),
    default="1,2,3",
    show_default=True,
    help="Random subsets of each size: their numbers, which also are their seeds.",
)
@click.option(
    "--starts",
    type=click.Choice(["both", *_STARTS]),
    default="both",
    show_default=True,
    help="Networks that go on from a model, from random weights, or both.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Of every network, whatever the size: batches of 8 squares.",
)
@click.option("--recipe", type=click.Choice(recipe_names()), default=DEFAULT_RECIPE)
@click.option("--learning-rate", type=float, default=None)
@click.option("--batch-size", type=int, default=None)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Of the training; auto is bf16 where the device has it. Scores are always in fp32.",
)
@click.option("--crop-px", type=int, default=224, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--diameter-px",
    type=float,
    default=0.0,
    help="At which test images are segmented.  [default: mean of the images to train on]",
)
@click.option("--keep-models", is_flag=True, help="Keep the weights of every network.")
@reading_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for programs.")
def command(
    paths: Sequence[Path],
    test: Sequence[Path],
    as_json: bool,
    **arguments: Any,
) -> int:
    """Say how many annotated objects are worth having.

    Trains networks on random subsets of your annotated images with 5, 20, 100 and 500 objects,
    three subsets of each, from a model and from random weights, and scores all of them on test
    images that none has seen. Writes learning_curve.png, .csv and .json. Started again in the same
    way it goes on where it was; --sizes, --subsets and --starts make parts of it, which add up in
    one folder, one after the other.
    """
    from cellseg_engine.nets.runtimes import choose_device
    from cellseg_engine.train.arithmetic import fast_precision
    from cellseg_engine.train.learning_curve import CurveOptions, make_learning_curve
    from cellseg_engine.train.options import TrainingOptions

    settings = take_settings(arguments)
    names = ("test_role", "sizes", "subsets", "steps", "diameter_px", "keep_models")
    curve = {name: arguments.pop(name) for name in names}
    starts = arguments.pop("starts")
    precision = arguments.pop("precision")
    if precision == "auto":
        precision = fast_precision(choose_device(settings.device))
    recipe = load_recipe(
        arguments.pop("recipe"),
        precision=precision,
        **{name: arguments.pop(name) for name in ("learning_rate", "batch_size", "min_objects")},
    )
    options = CurveOptions(
        TrainingOptions(paths=paths, recipe=recipe, settings=settings, **arguments),
        test=test,
        starts=_STARTS if starts == "both" else (starts,),
        **curve,
    )
    with _reporter(as_json) as (report, on_point, warn):
        rows = make_learning_curve(options, report, on_point, warn)
    out = options.training.out
    if as_json:
        print_event("done", points=len(rows), out=str(out))
    else:
        click.echo(f"{len(rows)} points are in {out}: learning_curve.png, .csv and .json.")
    return 0


@contextmanager
def _reporter(
    as_json: bool,
) -> Iterator[
    tuple[
        Callable[[CurveProgress], None],
        Callable[[dict[str, Any]], None],
        Callable[[str], None],
    ]
]:
    """Give how to show progress, points and warnings: a bar, or lines for logs and programs."""
    if as_json:
        yield (
            lambda now: print_event("progress", **vars(now)),
            lambda row: print_event("point", **row),
            lambda text: print_event("warning", message=text),
        )
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  elapsed"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("reading", total=None, left="")
        left = minutes_left()
        told: set[str] = set()

        def report(now: CurveProgress) -> None:
            place = f" ({now.number} of {now.n_points})" if now.n_points else ""
            text = f"{now.what}{place}"
            rest = left(now.what == "reading", now.done, now.total)
            bar.update(task, description=text, completed=now.done, total=now.total, left=rest)
            if not console.is_terminal and text not in told:
                told.add(text)
                click.echo(text + rest, err=True)

        def on_point(row: dict[str, Any]) -> None:
            click.echo(
                f"{row['start']}, {row['objects']} objects in {row['images']} images, subset "
                f"{row['subset']}: AP {row['ap_0.50']:.3f} at IoU 0.5, {row['ap_0.75']:.3f} at "
                f"0.75 ({row['seconds'] / 60:.1f} min)"
                if row["objects"]
                else f"the model as it is: AP {row['ap_0.50']:.3f} at IoU 0.5, "
                f"{row['ap_0.75']:.3f} at 0.75"
            )

        yield report, on_point, lambda text: click.echo(f"Warning: {text}", err=True)
