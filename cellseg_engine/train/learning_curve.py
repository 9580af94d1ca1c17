"""The score against the number of annotated objects: how many are worth annotating.

Pachitariu and Stringer 2022, figure 3: networks from a trained model and from random weights learn
from random subsets of the images, and all are scored on the same test images at one diameter.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from cellseg_engine._version import __version__
from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.errors import SettingsError
from cellseg_engine.io.staging import remove_stale
from cellseg_engine.nets.card import WeightsFile
from cellseg_engine.nets.weights import build_network, load_weights
from cellseg_engine.train.dataset import TrainingData, TrainingImage, count_left_out
from cellseg_engine.train.faults import TrainingDataError, TrainingDivergedError
from cellseg_engine.train.flow_cache import FlowCache
from cellseg_engine.train.learning_files import (
    POINTS,
    SCORES,
    read_point,
    write_curve,
    write_point,
)
from cellseg_engine.train.learning_images import CurveImages, read_curve_images
from cellseg_engine.train.learning_points import (
    CurveProgress,
    Point,
    Start,
    list_points,
    tell_steps,
)
from cellseg_engine.train.lock import only_training
from cellseg_engine.train.options import SCRATCH, TrainingOptions, check_options
from cellseg_engine.train.prepare import find_start, prepare_data
from cellseg_engine.train.record import (
    LEFT_OUT,
    describe_images,
    finished_model,
    identify,
    read_record,
    write_left_out,
)
from cellseg_engine.train.run import train_prepared
from cellseg_engine.train.subsets import cut_image, draw_subset
from cellseg_engine.train.validate import validate

SIZES = (5, 20, 100, 500)
STEPS = 300
"""Pachitariu and Stringer 2022: 300 epochs, of one batch where there are 8 images or fewer."""
SCORE_PRECISION = "auto"
_STEPS_PER_EPOCH = 10


@dataclass(frozen=True)
class CurveOptions:
    """What a learning curve is made of.

    Attributes
    ----------
    training
        Of every network: images to draw from, ``out``, recipe, seed, the model that the pretrained
        ones start from, and how images are read. Recipe and images by themselves say how many
        epochs there are: see ``steps``.
    test
        Folders or manifests of the images that all networks are scored on.
    test_role
        Rows of a manifest that count for them.
    sizes
        Objects of the subsets.
    subsets
        Which of the subsets: numbers from 1.
    starts
        ``pretrained``, ``scratch`` or both.
    steps
        Of every network, whatever the number of objects.
    diameter_px
        At which test images are segmented; 0 for the mean of the images to draw from.
    keep_models
        Keep the weights of all networks, 26 MB each.
    """

    training: TrainingOptions
    test: Sequence[Path]
    test_role: str = "val"
    sizes: Sequence[int] = SIZES
    subsets: Sequence[int] = (1, 2, 3)
    starts: Sequence[Start] = ("pretrained", "scratch")
    steps: int = STEPS
    diameter_px: float = 0.0
    keep_models: bool = False


def make_learning_curve(
    options: CurveOptions,
    report: Callable[[CurveProgress], None] = lambda _: None,
    on_point: Callable[[dict[str, Any]], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Train and score all networks; points that are there already are taken as they are.

    Files in ``options.training.out``: a JSON file for each point under ``points``,
    ``left_out.csv``, and ``learning_curve.csv``, ``.json`` and ``.png``, which are written anew
    after every point.

    Parameters
    ----------
    report
        Called after every image and step.
    on_point
        Called with the row of each point when it is made.
    warn
        Called with sentences about images that were left out, and about networks that diverged.

    Returns
    -------
    The rows of the table, those of earlier calls among them; the first is the first model itself.
    A network that diverged has none; the next call makes it anew.

    Raises
    ------
    SettingsError, TrainingDataError, ReadError, WriteError, WeightsError, ModelNotFoundError
        One sentence says why, also that another one is being made in the folder. What is there
        stays, and the same call goes on from there.
    """
    training = _check(options)
    with only_training(training.out):
        for folder in (training.out, training.out / POINTS):
            remove_stale(folder)
        return _make_points(options, training, report, on_point, warn)


def _make_points(
    options: CurveOptions,
    training: TrainingOptions,
    report: Callable[[CurveProgress], None],
    on_point: Callable[[dict[str, Any]], None],
    warn: Callable[[str], None],
) -> list[dict[str, Any]]:
    threads = torch.get_num_threads()  # before kernels of numba change it
    base = _find_base(training)
    images = read_curve_images(
        training,
        options.test,
        options.test_role,
        options.diameter_px,
        base,
        lambda done, total: report(CurveProgress("reading", 0, 0, done, total)),
    )
    _check_sizes(options, images)
    curve = _Curve(options, training, base, images, threads)
    points = list_points(options.starts, options.sizes, options.subsets)
    todo = [point for point in points if curve.known(point) is None]
    write_left_out(training.out, images.remarks)
    if n_left_out := count_left_out(images.remarks):
        warn(f"{n_left_out} images are left out; {training.out / LEFT_OUT} says why.")
    for number, point in enumerate(todo, start=1):
        try:
            row = curve.run(point, tell_steps(report, point, number, todo, options.steps))
        except TrainingDivergedError as error:
            warn(
                f"The point {point.name} is missing: {error.message} The next call makes it anew; "
                "a smaller --learning-rate needs another --out."
            )
            continue
        on_point(row)
        curve.write()
    return curve.write()


class _Curve:
    """Makes the points of one learning curve."""

    def __init__(
        self,
        options: CurveOptions,
        training: TrainingOptions,
        base: WeightsFile,
        images: CurveImages,
        threads: int,
    ) -> None:
        self._options, self._training, self._base = options, training, base
        self._images, self._threads = images, threads
        self._out = training.out
        self._cache = FlowCache(training.flow_cache or training.out / "flows")
        self._diameter_px = images.diameter_px

    def known(self, point: Point) -> dict[str, Any] | None:
        """Give the row of a point that was made before."""
        return read_point(self._out, point.name, self._fingerprint(point))

    def run(self, point: Point, tell: Callable[[int], None]) -> dict[str, Any]:
        """Train and score a network, and keep its row."""
        began = time.monotonic()
        if point.n_objects == 0:
            weights, counts = self._base, {"images": 0, "objects": 0}
        else:
            weights, counts = self._train(point, tell)
        row: dict[str, Any] = {
            "start": point.start,
            "wanted": point.n_objects,
            "subset": point.subset,
            **counts,
            **self._score(weights),
            "seconds": round(time.monotonic() - began, 1),
            "weights_sha256": weights.sha256,
        }
        write_point(self._out, point.name, self._fingerprint(point), row)
        if not self._options.keep_models:
            shutil.rmtree(self._folder(point), ignore_errors=True)
        return row

    def write(self) -> list[dict[str, Any]]:
        """Write the table, the facts and the picture of all points that are there."""
        facts = {
            "cellseg_engine": __version__,
            "start": {"name": self._base.card.name, "sha256": self._base.sha256},
            **self._plan(),
            "training": describe_images(self._images.training),
            "test": describe_images(self._images.test),
        }
        return write_curve(self._out, facts)

    def _train(
        self, point: Point, tell: Callable[[int], None]
    ) -> tuple[WeightsFile, dict[str, int]]:
        folder = self._folder(point)
        options = replace(
            self._training,
            out=folder,
            overwrite=bool((read_record(folder) or {}).get("stopped")),  # it diverged
            name=point.name,
            seed=self._training.seed + point.subset,
        )
        start: WeightsFile | None = self._base
        if point.start == "scratch":
            card, start = self._base.card, None
            options = replace(
                options,
                start_from=SCRATCH,
                n_channels=card.n_channels,
                diam_mean_px=card.diam_mean_px,
            )
        data = TrainingData(self._subset(point), [], {}, [])
        prepared = prepare_data(options, start, data, self._threads)
        model = finished_model(options.out, prepared.fingerprint)
        if model is None:
            torch.set_num_threads(self._threads)
            model = train_prepared(
                options,
                prepared,
                lambda now: tell(now.done) if now.stage == "training" else None,
            ).model
        n_objects = sum(image.n_objects for image in data.training)
        return load_weights(model), {"images": len(data.training), "objects": n_objects}

    def _subset(self, point: Point) -> list[TrainingImage]:
        images = self._images.training
        pieces = draw_subset(
            images,
            point.n_objects,
            min_objects=self._training.recipe.min_objects,
            seed=self._training.seed,
            subset=point.subset,
            disjoint=self._training.disjoint,
        )
        variant = "v3" if point.start == "scratch" else self._base.card.flow_variant
        return [
            cut_image(
                images[piece.index],
                piece,
                self._cache,
                cast(FlowVariant, variant),
                self._training.disjoint,
            )
            for piece in pieces
        ]

    def _score(self, weights: WeightsFile) -> dict[str, float]:
        torch.set_num_threads(self._threads)
        found = validate(
            build_network(weights),
            self._images.test,
            weights.card,
            crop_px=self._training.crop_px,
            device=self._training.settings.device,
            precision=SCORE_PRECISION,
            diameter_px=self._diameter_px,
        )
        columns = found.as_columns()
        return {name: columns[f"held_out_{name}"] for name in SCORES}

    def _folder(self, point: Point) -> Path:
        return self._out / POINTS / point.name

    def _plan(self) -> dict[str, Any]:
        """Give the settings that all points of a curve have in common."""
        return {
            "diameter_px": round(self._diameter_px, 4),
            "score_precision": SCORE_PRECISION,
            "crop_px": self._training.crop_px,
            "recipe": asdict(self._training.recipe),
            "seed": self._training.seed,
            "disjoint": self._training.disjoint,
        }

    def _fingerprint(self, point: Point) -> str:
        """Give the same text for the same result.

        The first model is not trained; its point still has the plan and the images, since every
        call asks for it: so points of different plans never come together in one folder.
        """
        content = {
            **self._plan(),
            "cellseg_engine": __version__,
            "start": self._base.sha256,
            "point": asdict(point),
            "training": [identify(image) for image in self._images.training],
            "test": [identify(image) for image in self._images.test],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check(options: CurveOptions) -> TrainingOptions:
    """Check what was asked for, and give the options of all trainings."""
    if not options.sizes or min(options.sizes) < 1:
        raise SettingsError("sizes must be numbers of objects, at least 1.")
    if not options.subsets or min(options.subsets) < 1:
        raise SettingsError("subsets are counted from 1.")
    if not options.starts or set(options.starts) - {"pretrained", "scratch"}:
        raise SettingsError(
            f"starts = {', '.join(options.starts)!r} is not allowed: they are pretrained, scratch "
            "or both."
        )
    if options.steps < 1:
        raise SettingsError("steps must be at least 1.")
    if not 0 <= options.diameter_px < math.inf:
        raise SettingsError(
            f"diameter_px = {options.diameter_px:g} is not allowed: it is a number of pixels, or 0 "
            "for the mean of the images to train on."
        )
    if options.training.weights:
        raise SettingsError("Subsets are drawn from all images alike: leave the weights out.")
    recipe = options.training.recipe
    steps = max(n for n in range(1, _STEPS_PER_EPOCH + 1) if options.steps % n == 0)
    recipe = replace(
        recipe, epochs=options.steps // steps, images_per_epoch=steps * recipe.batch_size
    )
    training = replace(options.training, recipe=recipe, held_out_share=0.0, size_model=False)
    check_options(training)
    return training


def _find_base(training: TrainingOptions) -> WeightsFile:
    base = find_start(training)
    if base is None:
        raise SettingsError(
            "A learning curve compares networks that go on from a model with networks from random "
            "weights; scratch is no model.",
            hint="Give a model with --start-from.",
        )
    return base


def _check_sizes(options: CurveOptions, images: CurveImages) -> None:
    """Refuse sizes that cannot be drawn, before the first network is trained."""
    there = sum(image.n_objects for image in images.training)
    if max(options.sizes) > there:
        raise TrainingDataError(
            f"A subset of {max(options.sizes)} objects was asked for; the "
            f"{len(images.training)} images have {there}.",
            hint=f"Annotate more, or give --sizes up to {there}.",
        )
