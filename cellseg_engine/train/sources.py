"""Find which annotation on disk belongs to which image."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from cellseg_engine.errors import ReadError, SettingsError
from cellseg_engine.io.endings import IMAGE_ENDING, without_ending
from cellseg_engine.io.folders import visible_names, walk_files
from cellseg_engine.io.images import IMAGE_SUFFIXES, TIFF_SUFFIXES, image_stem
from cellseg_engine.train.endings import Kind, classify, without_image_ending
from cellseg_engine.train.faults import TrainingDataError

Annotations = Literal["auto", "labels", "seg", "rois"]

MANIFEST = "manifest.csv"
_KIND_NAMES: dict[Kind, str] = {"labels": "label image", "seg": "_seg.npy", "rois": "ROI archive"}


@dataclass(frozen=True)
class Source:
    """One image and its annotation.

    Attributes
    ----------
    name
        Path below the given folder without endings, for people and reports.
    image, annotation
        The files.
    annotation_kind
        ``labels`` (TIFF or PNG), ``seg`` (Cellpose) or ``rois`` (ImageJ).
    kind
        What images are weighted by: the manifest's column ``kind``, or the name of the folder,
        with its parents' where several are named alike.
    group
        Images of one group are never split between training and held-out images.
    axes
        What the manifest says about the dimensions of the image, or empty.
    channel
        What the manifest says about the channel that shows the objects, or empty.
    """

    name: str
    image: Path
    annotation: Path
    annotation_kind: Kind
    kind: str
    group: str
    axes: str = ""
    channel: str = ""


@dataclass(frozen=True)
class Found:
    """The pairs, and what has no partner."""

    sources: tuple[Source, ...]
    images_without_annotation: tuple[Path, ...] = ()
    annotations_without_image: tuple[Path, ...] = ()


@dataclass
class _Candidates:
    """Files whose names are the same but for their endings."""

    images: list[Path] = field(default_factory=list)
    annotations: dict[Kind, list[tuple[str, Path]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Each with its name before the ending that makes it an annotation."""


def find_sources(
    paths: Sequence[Path],
    *,
    annotations: Annotations = "auto",
    image_suffix: str = "",
    mask_suffix: str = "",
    role: str = "train",
    kinds: Sequence[str] = (),
) -> Found:
    """Find the annotated images of folders and manifests.

    A folder with a ``manifest.csv`` is read by it: columns ``path`` (for ``PATH_img.*`` and
    ``PATH_masks.*``, relative to the manifest) or ``image`` and ``labels``, and where there are,
    ``role``, ``kind``, ``group``, ``axes`` and ``channel``. Another folder is searched with its
    sub-folders: ``NAME.tif`` or ``NAME_img.tif`` belongs to ``NAME_masks.tif``, ``NAME_seg.npy`` or
    ``NAME_rois.zip`` of the same folder, and ``NAME_img.tif`` to ``NAME_img_rois.zip``, too.

    Parameters
    ----------
    paths
        Folders, or manifests themselves.
    annotations
        Which of several annotations of an image counts; ``auto`` takes the only one.
    image_suffix, mask_suffix
        Endings of the names of images and label images, instead of the usual ones.
    role
        Rows of a manifest with another ``role`` are not looked at.
    kinds
        Only these kinds; all if empty.

    Raises
    ------
    ReadError
        A folder or manifest cannot be read.
    TrainingDataError
        No pair, more than one candidate for an image, or no image of one of the kinds.
    SettingsError
        Endings, or annotations other than label images, are asked for where a manifest names files.
    """
    found: list[Found] = []
    kind_of = _name_folders([path if path.is_dir() else path.parent for path in paths])
    for path in paths:
        manifest = _manifest_of(path)
        if manifest is not None:
            _refuse_with_manifest(manifest, annotations, image_suffix, mask_suffix)
            found.append(_from_manifest(manifest, role, kind_of[manifest.parent]))
        elif path.is_dir():
            found.append(_from_folder(path, kind_of[path], annotations, image_suffix, mask_suffix))
        else:
            raise ReadError(
                f"There is no folder {path}.", hint="Give a folder of annotated images."
            )
    there = {source.kind for part in found for source in part.sources}
    if not there or not there.issuperset(kinds):
        raise _no_pairs(paths, found, [kind for kind in kinds if kind not in there], role)
    return Found(
        tuple(
            source for part in found for source in part.sources if not kinds or source.kind in kinds
        ),
        tuple(path for part in found for path in part.images_without_annotation),
        tuple(path for part in found for path in part.annotations_without_image),
    )


def _manifest_of(path: Path) -> Path | None:
    """Give the manifest of a folder, or the one that the path is; None if there is none."""
    if path.is_dir():
        names = [name for name in visible_names(path) if name.lower() == MANIFEST]
        manifests = [path / name for name in names if (path / name).is_file()]
        return manifests[-1] if manifests else None  # that in small letters, if there are several
    return path if path.is_file() and path.suffix.lower() == ".csv" else None


def _refuse_with_manifest(
    manifest: Path, annotations: Annotations, image_suffix: str, mask_suffix: str
) -> None:
    """Refuse to look for files by their names where a table names them."""
    if annotations in ("seg", "rois"):
        raise SettingsError(
            f"--annotations {annotations} does not go with {manifest}, which names label images.",
            hint="Leave it out, or take the table away to have the folder searched.",
        )
    if image_suffix or mask_suffix:
        raise SettingsError(
            f"--image-suffix and --mask-suffix do not go with {manifest}, which names the files.",
            hint="Leave them out, and name the files in the table's columns image and labels.",
        )


def _name_folders(folders: Sequence[Path]) -> dict[Path, str]:
    """Give each folder's name, with its parents' as far as they tell it from the others."""
    paths = {folder: folder.resolve() for folder in folders}
    names = {}
    for folder, path in paths.items():
        others = [other.parts for other in paths.values() if other != path]
        n = 1
        while n < len(path.parts) and any(other[-n:] == path.parts[-n:] for other in others):
            n += 1
        names[folder] = Path(*path.parts[-n:]).as_posix()
    return names


def _from_manifest(manifest: Path, role: str, default_kind: str) -> Found:
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReadError(f"The table {manifest} cannot be read: {error}.") from error
    columns = set(rows[0]) - {None} if rows else set()
    if rows and "path" not in columns and not {"image", "labels"} <= columns:
        raise TrainingDataError(
            f"The table {manifest} has the columns {', '.join(sorted(columns))}; it needs path, or "
            "image and labels.",
            hint="docs/training.md shows an example.",
        )
    sources = []
    for number, row in enumerate(rows, start=1):
        if row.get("role") and row["role"].strip().casefold() != role.strip().casefold():
            continue
        image, labels = _manifest_files(manifest, number, row)
        sources.append(
            Source(
                name=row.get("path") or row["image"],
                image=image,
                annotation=labels,
                annotation_kind="labels",
                kind=row.get("kind") or default_kind,
                group=row.get("group") or str(image),
                axes=row.get("axes") or "",
                channel=row.get("channel") or "",
            )
        )
    return Found(tuple(sources))


def _manifest_files(manifest: Path, number: int, row: dict[str, str]) -> tuple[Path, Path]:
    folder = manifest.parent
    if row.get("image") and row.get("labels"):
        return folder / row["image"], folder / row["labels"]
    if not row.get("path"):
        wanted = "path" if "path" in row else "image or labels"
        raise TrainingDataError(
            f"Row {number} of {manifest} says nothing in the column {wanted}.",
            hint="Complete the row or take it out.",
        )
    stem = folder / row["path"]
    files = []
    for ending, suffixes in ((IMAGE_ENDING, IMAGE_SUFFIXES), ("_masks", TIFF_SUFFIXES | {".png"})):
        there = _with_suffix(stem.with_name(stem.name + ending), suffixes)
        if not there:
            raise TrainingDataError(
                f"{manifest} names {row['path']}, but there is no {stem.name}{ending}.tif.",
                hint="Correct the table or put the file there.",
            )
        if len(there) > 1:
            raise TrainingDataError(
                f"{manifest} names {row['path']}, which could be {there[0].name} or "
                f"{there[1].name}.",
                hint="Keep one of them there, or name the files in columns image and labels.",
            )
        files.append(there[0])
    return files[0], files[1]


def _with_suffix(start: Path, suffixes: Iterable[str]) -> list[Path]:
    """Give the files whose names go on with a suffix, in small or capital letters, each once."""
    found: dict[tuple[int, int], Path] = {}
    for suffix in sorted(suffixes):
        for form in (suffix, suffix.upper(), suffix.title()):
            path = start.with_name(start.name + form)
            if path.is_file():
                place = path.stat()
                found.setdefault((place.st_dev, place.st_ino), path)
    return list(found.values())


def _from_folder(
    folder: Path, default_kind: str, annotations: Annotations, image_suffix: str, mask_suffix: str
) -> Found:
    image_ending = image_suffix or IMAGE_ENDING
    groups: dict[tuple[Path, str], _Candidates] = defaultdict(_Candidates)
    for path in walk_files(folder):
        if path.name.lower() == MANIFEST:
            raise TrainingDataError(
                f"{path} is a table of images in a folder below {folder}; it is read only when "
                "its own folder is given.",
                hint=f"Give {path.parent} itself, or rename the table if it is about something "
                "else.",
            )
        what, base = classify(path, image_suffix, mask_suffix)
        group = groups[path.parent, without_image_ending(base, image_ending)]
        if what == "image":
            group.images.append(path)
        elif what != "other" and annotations in ("auto", what):
            group.annotations[what].append((base, path))
    sources: list[Source] = []
    lonely_images: list[Path] = []
    lonely_annotations: list[Path] = []
    for (parent, short), group in sorted(groups.items(), key=lambda item: item[0]):
        if not group.images:
            lonely_annotations += [path for _, path in chain(*group.annotations.values())]
            continue
        for image, found in _pair(group, image_ending):
            if not found:
                lonely_images.append(image)
                continue
            _check_unique(image, found)
            kind, files = next(iter(found.items()))
            base = image_stem(image) if len(group.images) > 1 else short
            name = (parent.relative_to(folder) / base).as_posix()
            sources.append(Source(name, image, files[0], kind, default_kind, str(image.resolve())))
    return Found(tuple(sources), tuple(lonely_images), tuple(lonely_annotations))


def _pair(group: _Candidates, image_ending: str) -> list[tuple[Path, dict[Kind, list[Path]]]]:
    """Give each image with its annotations: those with its exact name, else with a shorter one."""
    found: dict[Path, dict[Kind, list[Path]]] = {image: {} for image in group.images}
    rivals: list[list[Path]] = []
    for kind, files in group.annotations.items():
        for base, path in files:
            exact = [image for image in group.images if image_stem(image) == base]
            near = [
                image
                for image in group.images
                if image not in exact and without_ending(image_stem(image), (image_ending,)) == base
            ]
            could_be = exact + near or group.images
            found[could_be[0]].setdefault(kind, []).append(path)
            rivals.append(could_be)
    for first, *others in rivals:
        for other in others:
            if not found[other]:
                raise TrainingDataError(
                    f"{first.name} and {other.name} in {first.parent} could both be the image of "
                    "one annotation.",
                    hint="Keep one of them there, or say how image names end with --image-suffix.",
                )
    return list(found.items())


def _check_unique(image: Path, annotations: dict[Kind, list[Path]]) -> None:
    if len(annotations) > 1:
        kinds = " and ".join(f"a {_KIND_NAMES[kind]}" for kind in annotations)
        raise TrainingDataError(
            f"{image} has {kinds}; which one is right is not known.",
            hint=f"Choose with --annotations {' or --annotations '.join(annotations)}.",
        )
    files = next(iter(annotations.values()))
    if len(files) > 1:
        raise TrainingDataError(
            f"{files[0].name} and {files[1].name} in {files[0].parent} could both be the "
            f"annotation of {image.name}.",
            hint="Keep one of them there, or say how their names end with --mask-suffix.",
        )


def _no_pairs(
    paths: Sequence[Path], found: Sequence[Found], kinds: Sequence[str], role: str
) -> TrainingDataError:
    """Say what was not found: any pair, or one of the kinds that are not there."""
    where = ", ".join(map(str, paths))
    there = sorted({source.kind for part in found for source in part.sources})
    if there:
        return TrainingDataError(
            f"No image in {where} is of the kind {', '.join(kinds)}; there are {', '.join(there)}.",
            hint="Correct --kind.",
        )
    n_images = sum(len(part.images_without_annotation) for part in found)
    n_annotations = sum(len(part.annotations_without_image) for part in found)
    return TrainingDataError(
        f"No image with its annotation was found in {where} ({n_images} images without "
        f"annotation, {n_annotations} annotations without image, manifests: rows with role "
        f"{role}).",
        hint="An image NAME.tif belongs to NAME_masks.tif, NAME_seg.npy or NAME_rois.zip beside "
        "it; other names can be told with --image-suffix and --mask-suffix.",
    )
