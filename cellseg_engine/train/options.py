"""What can be chosen for a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cellseg_engine.errors import SettingsError
from cellseg_engine.nets.card import ModelCard
from cellseg_engine.settings import DEFAULT_MODEL, Settings
from cellseg_engine.train.annotations import Disjoint
from cellseg_engine.train.dataset import Remark
from cellseg_engine.train.recipes import Recipe
from cellseg_engine.train.size_fit import SizeFit
from cellseg_engine.train.slices import Slices
from cellseg_engine.train.sources import Annotations
from cellseg_engine.train.state import Trained

SCRATCH = "scratch"
NO_LICENCE = "unknown"
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class TrainingOptions:
    """What to train on, from where, and how.

    Attributes
    ----------
    paths
        Folders of annotated images, or manifests; see `cellseg_engine.train.sources`.
    out
        Folder for the model and everything about it.
    recipe
        See `cellseg_engine.train.recipes.load_recipe`.
    name
        Of the model and its file; the name of ``out`` if empty.
    start_from
        A model, the path of a weights file, or ``scratch``; empty for what the recipe says.
    settings
        Of them the channels, percentiles, ``invert``, ``anisotropy`` and ``device`` count.
    annotations, image_suffix, mask_suffix, role, kinds
        See `cellseg_engine.train.sources.find_sources`.
    axes
        What the dimensions of all images are, or empty.
    slices
        Of stacks along Z: their ``planes``, or ``all`` slices in XY, XZ and YZ.
    weights
        See `cellseg_engine.train.sampling.parse_weights`.
    disjoint
        See `cellseg_engine.train.annotations.clean_labels`.
    allow_chain
        Start from a model that was itself fine-tuned.
    held_out_share
        Part of the images to choose the best weights by, in whole groups; None for 12 %, or
        nothing where there is one group only.
    validate_every
        Epochs between two scores of them; 0 for twenty scores over the training.
    diam_mean_px
        Diameter at which the network sees objects; 0 for the model's, or 30 from scratch.
    n_channels
        Channels of a network that starts from scratch.
    crop_px
        Side of what the network sees, a multiple of 8; less where all images are smaller, scaled.
    seed
        Of everything random.
    size_model
        Also fit a size model.
    licence, description
        For the model's card.
    flow_cache
        Folder for flow targets, to share between trainings; ``out/flows`` if None.
    overwrite
        Replace an earlier training in ``out``.
    checkpoint_every_s
        Seconds between two checkpoints; 0 writes one after every step.
    """

    paths: Sequence[Path]
    out: Path
    recipe: Recipe
    name: str = ""
    start_from: str = ""
    settings: Settings = field(default_factory=Settings)
    annotations: Annotations = "auto"
    image_suffix: str = ""
    mask_suffix: str = ""
    role: str = "train"
    kinds: Sequence[str] = ()
    axes: str = ""
    slices: Slices = "planes"
    weights: str = ""
    disjoint: Disjoint = "split"
    allow_chain: bool = False
    held_out_share: float | None = None
    validate_every: int = 0
    diam_mean_px: float = 0.0
    n_channels: int = 2
    crop_px: int = 224
    seed: int = 0
    size_model: bool = True
    licence: str = NO_LICENCE
    description: str = ""
    flow_cache: Path | None = None
    overwrite: bool = False
    checkpoint_every_s: float = 60.0


@dataclass(frozen=True)
class TrainingResult:
    """What came out.

    Attributes
    ----------
    model
        The weights file, ready for the ``model`` setting.
    card
        Its card.
    trained
        The chosen epoch, its scores and the curves.
    size
        The size model and how well it does, or None.
    n_images, n_objects
        How many it was trained on; planes and slices of stacks count as images.
    remarks
        What was left out or changed.
    warnings
        Sentences that the user should read.
    """

    model: Path
    card: ModelCard
    trained: Trained
    size: SizeFit | None
    n_images: int
    n_objects: int
    remarks: tuple[Remark, ...]
    warnings: tuple[str, ...]


def check_options(options: TrainingOptions) -> None:
    """Refuse what cannot be, before any image is read.

    Raises
    ------
    SettingsError
        One sentence says which option, what was given and what is allowed.
    """
    name = model_name(options)
    if Path(name).name != name or not name:
        raise SettingsError(
            f"{name!r} cannot name a model: it becomes the name of a file.",
            hint="Give another with --name.",
        )
    if options.crop_px < 16 or options.crop_px % 8:
        raise SettingsError(
            f"crop_px = {options.crop_px} is not allowed: it must be a multiple of 8, at least 16."
        )
    if options.held_out_share is not None and not 0 <= options.held_out_share <= 0.5:
        raise SettingsError(
            f"held_out_share = {options.held_out_share:g} is not allowed: it must be 0 to 0.5."
        )
    if not 0 <= options.diam_mean_px < math.inf:
        raise SettingsError(
            f"diam_mean_px = {options.diam_mean_px:g} is not allowed: it must be a positive "
            "number, or 0 for the model's."
        )
    if not 0 <= options.seed <= LARGEST_SEED:
        raise SettingsError(
            f"seed = {options.seed} is not allowed: it must be 0 to {LARGEST_SEED:,}."
        )
    if options.validate_every < 0:
        raise SettingsError(
            f"validate_every = {options.validate_every} is not allowed: it must not be negative."
        )
    is_scratch = start_name(options) == SCRATCH
    if options.recipe.epochs == 0 and (is_scratch or not options.size_model):
        raise SettingsError(
            "With 0 epochs nothing is trained.",
            hint="0 epochs are for fitting a size model to an existing model: give --start-from "
            "MODEL and --size-model.",
        )


def model_name(options: TrainingOptions) -> str:
    """Give the name of the model and its file."""
    return options.name or options.out.resolve().name


def start_name(options: TrainingOptions) -> str:
    """Give what the training starts from: a model, a path, or `SCRATCH`."""
    return options.start_from or (SCRATCH if options.recipe.start == SCRATCH else DEFAULT_MODEL)
