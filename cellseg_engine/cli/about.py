"""``cellseg about``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cellseg_engine._version import __version__
from cellseg_engine.cli.options import GivenPath
from cellseg_engine.errors import ReadError
from cellseg_engine.zoo.citations import DATA, METHOD, Citation

SOFTWARE = (
    f"CellSeg Bridges developers (2026). CellSeg Bridges {__version__}: one cell and nucleus "
    "segmentation engine for Python, Fiji and CellProfiler."
)


@click.command(name="about", context_settings={"max_content_width": 100})
@click.option(
    "--run",
    "run_file",
    type=GivenPath(),
    help="A run.json: the methods paragraph then states what was really used.",
)
def command(run_file: Path | None) -> None:
    """Version, how to cite, and a methods paragraph for a paper."""
    run = _read_run(run_file) if run_file else None
    click.echo(f"CellSeg Bridges, cellseg-engine {__version__} (BSD-3-Clause)\n")
    click.echo("Methods paragraph:\n")
    click.echo(methods_paragraph(run) + "\n")
    click.echo("Please cite:\n")
    click.echo(f"- {METHOD}")
    click.echo(f"- {SOFTWARE} (this program)")
    for citation in _data_citations(run):
        click.echo(f"- {citation} (training data)")
    if run_file is None:
        click.echo("\nWith --run NAME_run.json the paragraph states what was used for that image.")


def _data_citations(run: dict[str, Any] | None) -> list[Citation]:
    """Give whose images taught the models of a run; without a run those of the default model."""
    names = ["nuclei"]
    if run is not None:
        side = (run.get("volume") or {}).get("model_side_views") or {}
        names = [run["model"]["name"], side.get("name", "")]
    return list(dict.fromkeys(one for name in names for one in DATA.get(name, ())))


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
    volume = run.get("volume") or {}
    how = {
        "given": "set to",
        "estimate": "estimated for each image; here",
        "folder estimate": "estimated once for all images as",
    }.get(run["diameter_source"], "taken from the model's training images:")
    augmentation = settings["test_time_augmentation"]
    extra = "" if augmentation == "none" else f" and test-time augmentation ({augmentation})"
    nuclear = settings["nuclear_channel"]
    smallest = run.get("min_area_px", settings["min_area_px"])  # of old runs as set
    channels = f"channel {settings['channel']}" + (
        "" if nuclear == "none" else f" with nuclear channel {nuclear}"
    )
    return (
        f"Objects were segmented with cellseg-engine {run['cellseg_engine']} (CellSeg Bridges), "
        "which implements the flow-field approach of Stringer et al. (2021), using the model "
        f"{model['name']} (version {model['version']}, {_weights(model, volume)}, "
        f"{model['licence']}){_chosen(run)}{_views(volume, settings)}. Images ({channels}) were "
        f"normalised to the {_percentiles(settings)} percentiles{_second_look(run)}"
        f"{' and inverted' if run['inverted'] else ''}; the object diameter was {how} "
        f"{run['diameter_px']:.1f} px. Pixels with a probability above "
        f"{settings['probability_threshold']:g} were assigned to objects by {run['iterations']} "
        f"steps of the flow dynamics ({settings['interpolation']} interpolation){extra}. "
        f"{_removals(_reasons_in_volumes(settings) if volume else _reasons(settings, smallest))}"
        f"{_linking(settings)} "
        f"The network ran in {run['precision']} on {run['device']}."
    )


def _chosen(run: dict[str, Any]) -> str:
    """Say that the model was not named by the user, where it was so."""
    if not run.get("model_suggestion"):
        return ""
    return ", chosen for the image by the training images whose styles are nearest"


def _percentiles(values: dict[str, float]) -> str:
    return f"{values['percentile_low']:.6g} and {values['percentile_high']:.6g}"


def _second_look(run: dict[str, Any]) -> str:
    """Say which other percentiles showed what the first ones did not."""
    looks = run.get("second_look")
    if not looks:
        return ""
    if isinstance(looks, dict):
        return f" and, since these showed background only, to the {_percentiles(looks)} percentiles"
    each = ", ".join(sorted({_percentiles(look) for look in looks}))
    parts = "volumes" if "volume" in looks[0] else "planes"
    return (
        f" ({len(looks)} {parts}, of which these showed background only, to the {each} percentiles)"
    )


def _linking(settings: dict[str, Any]) -> str:
    """Say how planes were linked, and that holes were left, where it was so."""
    text = "" if settings.get("fill_holes", True) else " Holes inside objects were left."
    if settings.get("stitch_threshold", 0) and settings.get("volume_mode", "planes") == "planes":
        text += (
            " In stacks, objects of neighbouring planes were linked where their intersection "
            f"over union exceeded {settings['stitch_threshold']:g}."
        )
    if settings.get("track_threshold", 0):
        gap = settings.get("track_max_gap", 0)
        text += (
            " In time series, objects were followed from frame to frame where their intersection "
            f"over union exceeded {settings['track_threshold']:g}"
            + (f", also over up to {gap} frames without them." if gap else ".")
        )
    return text


def _weights(model: dict[str, Any], volume: dict[str, Any]) -> str:
    """Name the weights of a model, of an ensemble those of each network; not of the side views."""
    hashes = model["weights_sha256"]
    side = volume.get("model_side_views")
    if side and len(hashes) > len(side["weights_sha256"]):
        hashes = hashes[: -len(side["weights_sha256"])]
    several = f"the average of {len(hashes)} networks, " if len(hashes) > 1 else ""
    return several + _named(hashes)


def _named(hashes: Sequence[str]) -> str:
    return f"weights SHA-256 {', '.join(hashes)}"


def _views(volume: dict[str, Any], settings: dict[str, Any]) -> str:
    """Say how a volume was looked at."""
    if not volume:
        return ""
    side, how = volume["model_side_views"], "averaged"
    if volume["mode"] == "cellpose3":
        how = "summed as in Cellpose 3"
    smoothed = ""
    if settings["flow_smoothing_px"]:
        smoothed = (
            " and its flow smoothed by a Gaussian with a standard deviation of "
            f"{settings['flow_smoothing_px']:g} px"
        )
    return (
        f", in three dimensions: what it finds in all XY slices, and in all XZ and YZ slices the "
        f"model {side['name']} (version {side['version']}, {_named(side['weights_sha256'])}), "
        f"was {how}{smoothed}; planes were {volume['anisotropy']:g} times as far apart as pixels"
    )


def _removals(reasons: Sequence[str]) -> str:
    several = f"{', '.join(reasons[:-1])} or " if len(reasons) > 1 else ""
    return f"Objects with {several}{reasons[-1]} were removed."


def _reasons(settings: dict[str, Any], min_area_px: int) -> list[str]:
    """Say which objects of planes were removed."""
    reasons = [f"an area below {min_area_px} px²"] if min_area_px > 1 else []
    if settings["max_area_px"]:
        reasons.append(f"an area above {settings['max_area_px']} px²")
    return [*reasons, *_reasons_everywhere(settings, settings["flow_threshold"])]


def _reasons_in_volumes(settings: dict[str, Any]) -> list[str]:
    """Say which objects of volumes were removed."""
    from cellseg_engine.pipeline.volume_masks import VOLUME_ALLOWANCE

    reasons = [
        f"a volume {which} {settings[f'{name}_volume_{unit}']:g} {called}"
        for name, which in (("min", "below"), ("max", "above"))
        for unit, called in (("px", "voxels"), ("um3", "µm³"))
        if settings[f"{name}_volume_{unit}"]
    ]
    limit = settings["flow_threshold"] * VOLUME_ALLOWANCE
    if settings["volume_mode"] == "cellpose3":
        limit = 0
    elif settings["min_volume_share"]:
        reasons.append(f"a volume below {settings['min_volume_share']:.0%} of the median")
    return [*reasons, *_reasons_everywhere(settings, limit)]


def _reasons_everywhere(settings: dict[str, Any], max_flow_error: float) -> list[str]:
    reasons = [f"more than {settings['max_size_fraction']:.0%} of the image"]
    if max_flow_error:
        reasons.append(f"a flow error above {max_flow_error:g}")
    if settings["exclude_edge_objects"]:
        reasons.append("pixels at the border of the image")
    return reasons


def _read_run(path: Path) -> dict[str, Any]:
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        methods_paragraph(run)
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ReadError(f"{path} is not a run.json written by cellseg segment.") from error
    return run
