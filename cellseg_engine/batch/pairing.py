"""Find which predicted label image on disk belongs to which true one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cellseg_engine.errors import MetricError, ReadError
from cellseg_engine.io.endings import IMAGE_ENDING, LABEL_ENDINGS, without_ending
from cellseg_engine.io.folders import walk_files
from cellseg_engine.io.images import TIFF_SUFFIXES, image_stem

OVERLAY_ENDING = "_overlay"
FILE_SUFFIXES = TIFF_SUFFIXES | {".png"}

_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class Pair:
    """One predicted label image and its truth.

    Attributes
    ----------
    name
        What both are called: path below the folders, without the endings, for example ``b/x``.
    prediction, truth
        The files.
    """

    name: str
    prediction: Path
    truth: Path


@dataclass(frozen=True)
class Pairing:
    """The pairs of two folders and what is left over.

    Attributes
    ----------
    pairs
        Ascending by name.
    predictions_without_truth, truths_without_prediction
        Label images without a partner; they are not scored.
    left_out
        Files that do not end like label images in a folder where others do (the images
        themselves, as a rule); they are not scored.
    """

    pairs: tuple[Pair, ...]
    predictions_without_truth: tuple[Path, ...] = ()
    truths_without_prediction: tuple[Path, ...] = ()
    left_out: tuple[Path, ...] = ()


def pair_files(prediction: Path, truth: Path, *, allow_missing: bool = False) -> Pairing:
    """Find which predicted label image belongs to which true one.

    Two files are one pair. In two folders (searched with their sub-folders) files belong together
    that have the same path below the folder and the same stem, once endings like ``_labels``,
    ``_cp_masks``, ``_masks``, ``_gt`` and ``_img`` are taken off: ``out/b/x_img_labels.tif`` and
    ``truth/b/x_masks.png``. Where some files of a folder end like label images, the others are
    taken for images and left out; overlays always are.

    Parameters
    ----------
    prediction, truth
        Two files or two folders.
    allow_missing
        Leave out true label images that have no prediction instead of refusing.

    Raises
    ------
    ReadError
        A path is missing or a folder has no label image.
    MetricError
        One file and one folder; the same one twice; two files of a folder have the same name
        once the endings are taken off; all files of a folder of truths are called images; a true
        label image has no prediction (unless allowed); no pair at all.
    """
    for path in (prediction, truth):
        try:
            path.stat()
        except (OSError, ValueError) as error:
            raise ReadError(f"There is no file or folder {path}.") from error
    if prediction.samefile(truth):
        raise MetricError(
            f"The prediction and the truth are both {truth}.",
            hint="Give the label images to score and, apart from them, the true ones.",
        )
    if prediction.is_dir() != truth.is_dir():
        raise MetricError(
            f"One of {prediction} and {truth} is a file and the other one a folder.",
            hint="Give two label images or two folders of label images.",
        )
    if not truth.is_dir():
        name = _without_endings(truth)[0]
        return Pairing((Pair(name, prediction=prediction, truth=truth),))
    predictions, unused_predictions = _find_labels(prediction, skip=truth)
    truths, unused_truths = _find_labels(truth, skip=prediction)
    if all(image_stem(path).casefold().endswith(IMAGE_ENDING) for path in truths.values()):
        raise MetricError(
            f"All files in {truth} are called {IMAGE_ENDING}, as images are and label images are "
            f"not, for example {next(iter(truths.values())).name}.",
            hint="Give the folder of the true label images (NAME_masks.tif, NAME_labels.tif).",
        )
    pairing = Pairing(
        pairs=tuple(
            Pair(name, prediction=predictions[name], truth=truths[name])
            for name in sorted(predictions.keys() & truths.keys())
        ),
        predictions_without_truth=_others(predictions, truths),
        truths_without_prediction=_others(truths, predictions),
        left_out=unused_predictions + unused_truths,
    )
    _check_pairing(pairing, prediction, truth, allow_missing)
    return pairing


def _find_labels(folder: Path, skip: Path) -> tuple[dict[str, Path], tuple[Path, ...]]:
    """Give the label images below a folder by name, and the files taken for something else."""
    files = list(_find_images(folder, skip.resolve()))
    stems = {path: _without_endings(path) for path in files}
    labelled = [path for path in files if stems[path][1]]
    chosen = labelled or files
    found: dict[str, Path] = {}
    for path in chosen:
        name = str(PurePosixPath(*path.relative_to(folder).parent.parts, stems[path][0]))
        if name in found:
            raise MetricError(
                f"Two files in {folder} could be the labels of {name}: {found[name].name} and "
                f"{path.name}.",
                hint="Keep one of them there, or move the label images to a folder of their own.",
            )
        found[name] = path
    if not found:
        raise ReadError(
            f"There is no label image in the folder {folder}.",
            hint=f"Label images are files ending in {', '.join(sorted(FILE_SUFFIXES))}.",
        )
    return found, tuple(sorted(set(files) - set(chosen)))


def _find_images(folder: Path, skip: Path) -> Iterator[Path]:
    """Give the image files below a folder, but nothing hidden, no overlay and not ``skip``."""
    for path in walk_files(folder, skip):
        is_overlay = path.stem.casefold().endswith(OVERLAY_ENDING)
        if path.suffix.lower() in FILE_SUFFIXES and not is_overlay:
            yield path


def _without_endings(path: Path) -> tuple[str, bool]:
    """Give the stem without the known endings and whether it ended like a label image."""
    stem = image_stem(path)
    is_labels = stem.casefold().endswith(LABEL_ENDINGS)
    while (shorter := without_ending(stem, (*LABEL_ENDINGS, IMAGE_ENDING))) != stem:
        stem = shorter
    return stem, is_labels


def _others(these: dict[str, Path], those: dict[str, Path]) -> tuple[Path, ...]:
    return tuple(these[name] for name in sorted(these.keys() - those.keys()))


def _check_pairing(pairing: Pairing, prediction: Path, truth: Path, allow_missing: bool) -> None:
    missing = pairing.truths_without_prediction
    if not pairing.pairs:
        raise MetricError(
            f"No label image in {prediction} has the name of one in {truth}: "
            f"{_name_some(pairing.predictions_without_truth)}; {_name_some(missing)}.",
            hint="Names must agree once endings like _labels, _masks and _img are taken off.",
        )
    if missing and not allow_missing:
        n_truths = len(pairing.pairs) + len(missing)
        raise MetricError(
            f"{len(missing)} of {n_truths} true label images have no prediction in {prediction}: "
            f"{_name_some(missing)}.",
            hint="Segment those as well, or allow missing predictions to leave them out.",
        )


def _name_some(paths: Sequence[Path]) -> str:
    names = [path.name for path in paths[:_NAMED_AT_MOST]]
    more = len(paths) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
