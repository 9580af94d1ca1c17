"""From the paths a user gives to a list of jobs whose outputs never overwrite one another."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from cellseg_engine.errors import CellSegError, ReadError
from cellseg_engine.io.folders import walk_files
from cellseg_engine.io.images import IMAGE_SUFFIXES, image_stem
from cellseg_engine.io.plates import PlateImage, group_plate, parse_pattern
from cellseg_engine.io.tiff import begins_in

OUTPUT_ENDINGS = {
    "labels": "_labels.tif",
    "rois": "_rois.zip",
    "overlay": "_overlay.png",
    "table": "_objects.csv",
    "tracks": "_tracks.csv",
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


def make_plan(paths: Sequence[str], out: Path | None = None, pattern: str = "") -> Plan:
    """Find the images and name their outputs.

    Parameters
    ----------
    paths
        Files, folders (searched with their sub-folders) and globs of both. A link counts as
        the file that it is called, not as its target.
    out
        Output folder, if there is one; results inside it are never taken for inputs.
    pattern
        File-name pattern of a plate, for example ``"{well}_{site}_{channel}"``, or empty.

    Raises
    ------
    ReadError
        A path is missing or cannot be, there is no image in what was given, or the results of
        two images would get the same names.
    SettingsError
        The pattern is not understood.
    """
    found, remarks = _find(paths, out)
    plan = _plan_plate(found, pattern) if pattern else _plan_images(found)
    return replace(plan, warnings=(*plan.warnings, *remarks))


def _plan_images(found: Sequence[_Found]) -> Plan:
    kept, warnings = _without_parts(found)
    names = _distinct_names(kept, _stem_and_ending)
    jobs = (Job(name, (item.path,)) for name, item in zip(names, kept, strict=True))
    return Plan(tuple(jobs), warnings)


def _without_parts(found: Sequence[_Found]) -> tuple[Sequence[_Found], tuple[str, ...]]:
    """Leave out files with parts of an image that begins in another one: all are read with it."""
    there = {_identity(item.path) for item in found}
    parts: dict[Path, Path] = {}
    for item in found:
        is_ome_tiff = image_stem(item.path) != item.path.stem
        first = begins_in(item.path) if is_ome_tiff else item.path
        if first != item.path and _identity(first) in there:
            parts[item.path] = first
    if not parts:
        return found, ()
    part, first = next(iter(parts.items()))
    warning = (
        f"Files that hold parts of images which begin in others are read with those: {len(parts)}, "
        f"for example {part.name} with {first.name}."
    )
    return [item for item in found if item.path not in parts], (warning,)


def _plan_plate(found: Sequence[_Found], pattern: str) -> Plan:
    parsed = parse_pattern(pattern)
    roots = {item.path: item.root for item in found}
    images, unmatched = group_plate(roots, parsed, allow_none=True, keep_faulty=True)
    if not images:
        raise ReadError(
            f"No file name fits the pattern {pattern}; the first is {found[0].path.name}.",
            hint="Each {field} stands for a part of the name, for example {well}_{site}_{channel}.",
        )
    firsts = [_Found(image.paths[0], roots[image.paths[0]]) for image in images]
    stems = {image.paths[0]: (image.name, "") for image in images}
    names = _distinct_names(firsts, stems.__getitem__)
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


def _find(paths: Sequence[str], out: Path | None) -> tuple[list[_Found], list[str]]:
    """Give the image files, each once, in the order of the arguments, and remarks on others."""
    seen: dict[Path, _Found] = {}
    remarks: dict[str, None] = {}
    out = out.resolve() if out else None
    for given in paths:
        try:
            found = _find_one(given, out)
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, CellSegError):
                raise
            reason = getattr(error, "strerror", None) or str(error)
            raise ReadError(f"{_shown(given)!r} is no usable path: {reason}.") from error
        for item in found:
            if not _is_text(item.path):
                remarks[f"{_shown(item.path)} is left out: its name is not valid UTF-8."] = None
            elif _is_output(item.path):
                remarks[f"{item.path} is left out: it is a result of an earlier run."] = None
            else:
                seen.setdefault(_identity(item.path), item)
    if not seen:
        raise ReadError(f"There is no image to segment: {next(iter(remarks))}")
    if not any(_has_ending(item.path) for item in seen.values()):
        first = next(iter(seen.values())).path
        raise ReadError(f"There is no image to segment: {first} is none.", hint=_SUFFIX_HINT)
    return list(seen.values()), list(remarks)


def _find_one(given: str, out: Path | None) -> list[_Found]:
    if not given:
        raise ReadError("An empty PATH was given; a file, a folder or a pattern is allowed.")
    path = Path(given).expanduser()
    os.fspath(path).encode()
    if path.is_dir():
        found = _search_folder(path, out)
        if not found:
            raise ReadError(f"There is no image in the folder {given}.", hint=_SUFFIX_HINT)
        return found
    if _exists(path):
        return [_Found(path, path.parent)]
    if glob.has_magic(given):
        found = []
        start = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        is_inside = out is not None and start.resolve().is_relative_to(out)
        for match in map(Path, sorted(glob.glob(str(path), recursive=True))):
            is_result = out and (match.resolve() == out or _place(match).is_relative_to(out))
            if is_result and not is_inside:
                continue
            if match.is_dir():
                found += _search_folder(match, out)
            elif _is_input(match):
                found.append(_Found(match, match.parent))
        if found:
            return found
        raise ReadError(f"No image fits {given}.", hint=_SUFFIX_HINT)
    raise ReadError(f"There is no file or folder {given}.")


def _exists(path: Path) -> bool:
    """Say whether a path exists; one that cannot be (too long) is an OSError."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _search_folder(folder: Path, out: Path | None) -> list[_Found]:
    return [
        _Found(path, folder)
        for path in walk_files(folder, skip=out, hint=_UNREADABLE_HINT)
        if _is_input(path)
    ]


def _is_input(path: Path) -> bool:
    return _is_image(path) and path.is_file() and not _is_output(path)


def _is_text(path: Path) -> bool:
    """Say whether a name can be written in UTF-8; Linux allows any bytes."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(path: Path | str) -> str:
    return os.fspath(path).encode(errors="backslashreplace").decode()


def _identity(path: Path) -> Path:
    """Give what is the same for all ways to write the path of a file."""
    return _place(path) / path.name


def _place(path: Path) -> Path:
    """Give the folder of a file, of a link its own, not its target's."""
    return path.parent.resolve()


_UNREADABLE_HINT = "Ask for the permission, or give the folders that can be read one by one."
_SUFFIX_HINT = f"Images are files ending in {', '.join(sorted(IMAGE_SUFFIXES))}."


def _is_image(path: Path) -> bool:
    return _has_ending(path) and not path.name.startswith(".")


def _has_ending(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _is_output(path: Path) -> bool:
    """Say whether a file is one that an earlier run wrote beside its run.json."""
    return any(
        path.name.endswith(ending)
        and path.with_name(path.name.removesuffix(ending) + OUTPUT_ENDINGS["run"]).exists()
        for ending in OUTPUT_ENDINGS.values()
    )


def _stem_and_ending(path: Path) -> tuple[str, str]:
    stem = image_stem(path)
    return stem, path.name[len(stem) :].replace(".", "_")


def _distinct_names(
    found: Sequence[_Found], stem_and_ending: Callable[[Path], tuple[str, str]]
) -> list[str]:
    """Name the outputs: as short as possible while no two are alike.

    Tried in turn for the names that collide: the path below the folder that was given; the path
    below what all inputs have in common; that with the file's ending as well; that with a part of
    a hash of the path, which does not depend on the other images.

    Raises
    ------
    ReadError
        Two are alike all the same.
    """

    def below(root: Path, folder: Path, name: str) -> str:
        return str(PurePosixPath(*folder.relative_to(root).parts, name))

    def stem(item: _Found) -> str:
        return stem_and_ending(item.path)[0]

    def with_ending(item: _Found) -> str:
        return "".join(stem_and_ending(item.path))

    def digest(item: _Found) -> str:
        return hashlib.sha256(os.fsencode(_identity(item.path))).hexdigest()[:12]

    common = Path(os.path.commonpath([_place(item.path) for item in found]))
    schemes: list[Callable[[_Found], str]] = [
        lambda item: below(item.root, item.path.parent, stem(item)),
        lambda item: below(common, _place(item.path), stem(item)),
        lambda item: below(common, _place(item.path), with_ending(item)),
        lambda item: below(common, _place(item.path), f"{with_ending(item)}_{digest(item)}"),
    ]
    names = [schemes[0](item) for item in found]
    for scheme in schemes[1:]:
        clashing = _repeated(names)
        names = [
            scheme(item) if name.casefold() in clashing else name
            for name, item in zip(names, found, strict=True)
        ]
    for name in _repeated(names):
        first, second, *_ = (
            item.path for other, item in zip(names, found, strict=True) if other.casefold() == name
        )
        raise ReadError(
            f"The results of {first} and {second} would both be called {name}.",
            hint="Rename one of the two images, or give each another --out.",
        )
    return names


def _repeated(names: Iterable[str]) -> set[str]:
    """Give names that occur twice, letter case aside (some file systems do not tell it)."""
    counts = Counter(name.casefold() for name in names)
    return {name for name, count in counts.items() if count > 1}
