"""From the paths a user gives to a list of jobs whose outputs never overwrite one another."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cellseg_engine.errors import ReadError
from cellseg_engine.io.images import IMAGE_SUFFIXES, image_stem
from cellseg_engine.io.plates import PlateImage, group_plate, parse_pattern

OUTPUT_ENDINGS = {
    "labels": "_labels.tif",
    "rois": "_rois.zip",
    "overlay": "_overlay.png",
    "table": "_objects.csv",
    "geojson": "_objects.geojson",
    "run": "_run.json",
}
"""How the files of one image end; the part before is the job's name."""


@dataclass(frozen=True)
class Job:
    """One image to segment.

    Attributes
    ----------
    name
        Path of its outputs below the output folder, without ending, for example ``b/x``.
    files
        The image file, or one per channel of a plate image.
    plate
        The plate image, or None.
    """

    name: str
    files: tuple[Path, ...]
    plate: PlateImage | None = None

    @property
    def fields(self) -> dict[str, str]:
        """Fields of the pattern, for example well and site."""
        return dict(self.plate.fields) if self.plate else {}

    @property
    def title(self) -> str:
        """The image, for messages."""
        return str(self.files[0]) if len(self.files) == 1 else self.name


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes
    ----------
    jobs
        In natural order of the inputs.
    warnings
        Sentences about inputs that are left out.
    """

    jobs: tuple[Job, ...]
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class _Found:
    """An image file and the folder that the user pointed at."""

    path: Path
    root: Path


def make_plan(paths: Sequence[str], out: Path, pattern: str = "") -> Plan:
    """Find the images and name their outputs.

    Parameters
    ----------
    paths
        Files, folders (searched with their sub-folders) and globs.
    out
        Output folder; results inside it are never taken for inputs.
    pattern
        File-name pattern of a plate, for example ``"{well}_{site}_{channel}"``, or empty.

    Raises
    ------
    ReadError
        A path is missing, or there is no image in what was given.
    SettingsError
        The pattern is not understood.
    """
    found = _find(paths, out)
    if pattern:
        return _plan_plate(found, pattern)
    names = _distinct_names(found, image_stem)
    return Plan(tuple(Job(name, (item.path,)) for name, item in zip(names, found, strict=True)))


def _plan_plate(found: Sequence[_Found], pattern: str) -> Plan:
    parsed = parse_pattern(pattern)
    folders = {item.path: item for item in found}
    images: list[PlateImage] = []
    unmatched: list[Path] = []
    for folder in dict.fromkeys(item.path.parent for item in found):
        inside = [item.path for item in found if item.path.parent == folder]
        groups, others = group_plate(inside, parsed, allow_none=True)
        images += groups
        unmatched += others
    if not images:
        raise ReadError(
            f"No file name fits the pattern {pattern}; the first is {found[0].path.name}.",
            hint="Each {field} stands for a part of the name, for example {well}_{site}_{channel}.",
        )
    items = [
        _Found(image.paths[0].with_name(image.name), folders[image.paths[0]].root)
        for image in images
    ]
    names = _distinct_names(items, lambda path: path.name)
    warnings: tuple[str, ...] = ()
    if unmatched:
        warnings = (
            (
                f"{len(unmatched)} of {len(found)} files do not fit the pattern {pattern} and are "
                f"left out, for example {unmatched[0].name}."
            ),
        )
    jobs = (Job(name, tuple(image.paths), image) for name, image in zip(names, images, strict=True))
    return Plan(tuple(jobs), warnings)


def _find(paths: Sequence[str], out: Path) -> list[_Found]:
    """Give the image files, each once, in the order of the arguments."""
    seen: dict[Path, _Found] = {}
    out = out.resolve()
    for given in paths:
        for item in _find_one(given, out):
            seen.setdefault(item.path.resolve(), item)
    return list(seen.values())


def _find_one(given: str, out: Path) -> list[_Found]:
    path = Path(given).expanduser()
    if path.is_dir():
        return _search_folder(path, out)
    if path.exists():
        return [_Found(path, path.parent)]
    if glob.has_magic(given):
        names = sorted(glob.glob(str(path), recursive=True))
        matches = [Path(name) for name in names]
        found = [_Found(p, p.parent) for p in matches if p.is_file() and _is_image(p)]
        if found:
            return found
        raise ReadError(f"No image fits {given}.", hint=_SUFFIX_HINT)
    raise ReadError(f"There is no file or folder {given}.")


def _search_folder(folder: Path, out: Path) -> list[_Found]:
    found = []
    for parent, children, files in os.walk(folder):
        children[:] = sorted(
            child
            for child in children
            if not child.startswith(".") and (Path(parent) / child).resolve() != out
        )
        for name in sorted(files):
            path = Path(parent) / name
            if _is_image(path) and not _is_output(path):
                found.append(_Found(path, folder))
    if not found:
        raise ReadError(f"There is no image in the folder {folder}.", hint=_SUFFIX_HINT)
    return found


_SUFFIX_HINT = f"Images are files ending in {', '.join(sorted(IMAGE_SUFFIXES))}."


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _is_output(path: Path) -> bool:
    """Say whether a file is one that an earlier run wrote beside its run.json."""
    return any(
        path.name.endswith(ending)
        and path.with_name(path.name.removesuffix(ending) + OUTPUT_ENDINGS["run"]).exists()
        for ending in OUTPUT_ENDINGS.values()
    )


def _distinct_names(found: Sequence[_Found], stem: Callable[[Path], str]) -> list[str]:
    """Name the outputs: as short as possible while no two are alike.

    Tried in turn for the names that collide: the path below the folder that was given; the path
    below what all inputs have in common; that with the file's ending as well.
    """

    def below(root: Path, path: Path, name: str) -> str:
        return str(PurePosixPath(*path.resolve().parent.relative_to(root.resolve()).parts, name))

    def with_ending(item: _Found) -> str:
        ending = item.path.name[len(stem(item.path)) :].replace(".", "_")
        return stem(item.path) + ending

    common = Path(os.path.commonpath([item.path.resolve().parent for item in found]))
    schemes: list[Callable[[_Found], str]] = [
        lambda item: below(item.root, item.path, stem(item.path)),
        lambda item: below(common, item.path, stem(item.path)),
        lambda item: below(common, item.path, with_ending(item)),
    ]
    names = [schemes[0](item) for item in found]
    for scheme in schemes[1:]:
        clashing = _repeated(names)
        names = [
            scheme(item) if name.casefold() in clashing else name
            for name, item in zip(names, found, strict=True)
        ]
    if _repeated(names):
        names = [schemes[-1](item) + f"_{n + 1}" for n, item in enumerate(found)]
    return names


def _repeated(names: Iterable[str]) -> set[str]:
    """Give names that occur twice, letter case aside (some file systems do not tell it)."""
    counts = Counter(name.casefold() for name in names)
    return {name for name, count in counts.items() if count > 1}
