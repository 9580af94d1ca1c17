"""Plates: one file per channel, joined by a pattern of their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellseg_engine.errors import ReadError, SettingsError
from cellseg_engine.io.images import IMAGE_SUFFIXES, ImageData, image_stem, read_image
from cellseg_engine.io.tables import SUMMARY_COLUMNS

CHANNEL = "channel"
_TABLE_COLUMNS = (
    *("label", "t", "z", "z_first", "z_last"),
    *("mean_probability", "flow_error", "touches_edge"),
)
RESERVED_FIELDS = frozenset((*_TABLE_COLUMNS, *SUMMARY_COLUMNS))
"""Columns of the result tables; so are names in `_RESERVED`."""
_RESERVED = re.compile(r".*_(px|um|um2|um3)|intensity_mean_.*")
_TOKEN = re.compile(r"\{([^{}]*)\}|(\*)|([^{}*]+)")
_SUFFIXES = tuple(sorted(IMAGE_SUFFIXES))


@dataclass(frozen=True)
class Pattern:
    """A parsed file-name pattern.

    Attributes
    ----------
    text
        As the user wrote it.
    fields
        Names of the fields in order.
    """

    text: str
    fields: tuple[str, ...]
    _expression: re.Pattern[str]
    _has_suffix: bool

    def match(self, name: str) -> dict[str, str] | None:
        """Give the value of each field, or None where a file name does not fit.

        Parameters
        ----------
        name
            File name with its ending, which the pattern may leave out.
        """
        found = self._expression.fullmatch(name if self._has_suffix else image_stem(Path(name)))
        return found.groupdict() if found else None


@dataclass(frozen=True)
class PlateImage:
    """The files of one site.

    Attributes
    ----------
    name
        Name for its outputs: the values of the fields but ``channel``, joined by underscores;
        without ``{channel}`` the file name without its ending.
    fields
        Value of each field but ``channel``, for example well and site.
    channel_names
        Names of the channels as in the file names, in natural order; empty without ``{channel}``.
    paths
        One file per channel, in that order.
    problem
        Why the files make no image, one sentence; empty if they do.
    """

    name: str
    fields: dict[str, str]
    channel_names: tuple[str, ...]
    paths: tuple[Path, ...]
    problem: str = ""


def parse_pattern(text: str) -> Pattern:
    """Parse a pattern such as ``"{well}_{site}_{channel}"``.

    A ``{field}`` stands for one or more characters, as few as fit; ``*`` for any number, as
    many as fit; the rest is literal. The pattern is about the file name without its ending, or
    with it where the pattern ends in one.

    Raises
    ------
    SettingsError
        No field, one named twice, like a column of the tables or not like a word, or a brace
        that is not closed.
    """
    parts: list[str] = []
    fields: list[str] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise _bad_pattern(text, f"the brace at position {position + 1} has no partner")
        field, star, literal = token.groups()
        if field is not None:
            if not field.isidentifier():
                raise _bad_pattern(text, f"{{{field}}} is no name of a field (letters, digits, _)")
            if field in fields:
                raise _bad_pattern(text, f"the field {{{field}}} occurs twice")
            if field.lower() in RESERVED_FIELDS or _RESERVED.fullmatch(field.lower()):
                raise _bad_pattern(text, f"{{{field}}} is a column of the tables; use another name")
            fields.append(field)
            parts.append(f"(?P<{field}>[^/\\\\]+?)")
        else:
            parts.append("[^/\\\\]*" if star else re.escape(literal))
        position = token.end()
    if not fields:
        raise _bad_pattern(text, "it has no {field}")
    has_suffix = text.lower().endswith(_SUFFIXES)
    return Pattern(text, tuple(fields), re.compile("".join(parts)), has_suffix)


def group_plate(
    paths: Iterable[Path],
    pattern: Pattern,
    *,
    allow_none: bool = False,
    keep_faulty: bool = False,
) -> tuple[list[PlateImage], list[Path]]:
    """Group files that differ only in their channel.

    Parameters
    ----------
    paths
        Files; only their names are compared with the pattern. Files of different folders are
        different sites, though all have the same channels.
    pattern
        From `parse_pattern`.
    allow_none
        No file that fits is not an error.
    keep_faulty
        Give a site that lacks a channel or has two files for one with its ``problem`` instead
        of raising.

    Returns
    -------
    groups
        One `PlateImage` per site, in natural order of the fields (``A2`` before ``A10``).
    unmatched
        Files that do not fit the pattern.

    Raises
    ------
    ReadError
        No file fits, a site lacks a channel that others have, or has two files for one.
    """
    sites, problems, unmatched = _collect_sites(paths, pattern)
    if not sites and not allow_none:
        example = f"; the first is {unmatched[0].name}" if unmatched else ""
        raise ReadError(
            f"No file name fits the pattern {pattern.text}{example}.",
            hint="Each {field} stands for a part of the name, as in {well}_{site}_{channel}.",
        )
    channels = sorted({channel for site in sites.values() for channel in site}, key=_natural)
    keys = [field for field in pattern.fields if field != CHANNEL]
    groups = [
        _plate_image(
            dict(zip(keys, site[1:], strict=True)), sites[site], channels, problems.get(site, "")
        )
        for site in sorted(sites, key=lambda site: [_natural(value) for value in site])
    ]
    faults = [group.problem for group in groups if group.problem]
    if faults and not keep_faulty:
        raise ReadError(faults[0])
    return groups, unmatched


_Sites = dict[tuple[str, ...], dict[str, list[Path]]]


def _collect_sites(
    paths: Iterable[Path], pattern: Pattern
) -> tuple[_Sites, dict[tuple[str, ...], str], list[Path]]:
    """Give the files of each channel by folder and fields, what is wrong, and what does not fit."""
    sites: _Sites = {}
    problems: dict[tuple[str, ...], str] = {}
    unmatched: list[Path] = []
    for path in paths:
        values = pattern.match(path.name)
        if values is None:
            unmatched.append(path)
            continue
        channel = values.pop(CHANNEL, "")
        key = (str(path.parent), *values.values())
        files = sites.setdefault(key, {}).setdefault(channel, [])
        files.append(path)
        if len(files) > 1:
            problems[key] = (
                f"Two files are the same image by the pattern {pattern.text}: {files[0]} and "
                f"{path}. Name with another field what tells them apart."
            )
    return sites, problems, unmatched


def read_plate_image(plate_image: PlateImage, axes: str | None = None) -> ImageData:
    """Read the files of one site as one image.

    Parameters
    ----------
    plate_image
        From `group_plate`.
    axes
        What the dimensions of each file are, for example ``"ZYX"``; goes before the files'.

    Returns
    -------
    ImageData with the axis ``C`` first and the channel names of the file names; a pattern
    without ``{channel}`` gives the file as it is.

    Raises
    ------
    ReadError
        As `read_image`; also where the image has a ``problem``, where a file has
        several channels or colours itself, or where files differ in shape, axes or dtype.
    AxesError
        As `read_image`.
    """
    if plate_image.problem:
        raise ReadError(plate_image.problem)
    images = [read_image(path, axes=axes) for path in plate_image.paths]
    first = images[0]
    if not plate_image.channel_names:
        return first
    for image in images:
        if set(image.axes) & {"C", "S"}:
            raise ReadError(
                f"The file {image.source} has several channels itself (axes {image.axes}), so it "
                "cannot be one channel of a plate."
            )
        _check_same(first, image)
    pixel_size_um, differ = _join_calibration(images)
    warnings = [text for image in images for text in image.warnings] + differ
    return ImageData(
        pixels=np.stack([image.pixels for image in images]),
        axes="C" + first.axes,
        channel_names=plate_image.channel_names,
        pixel_size_um=pixel_size_um,
        source=first.source,
        warnings=tuple(dict.fromkeys(warnings)),
        files=tuple(dict.fromkeys(path for image in images for path in image.files)),
    )


def _check_same(first: ImageData, image: ImageData) -> None:
    for what, one, other in (
        ("axes", first.axes, image.axes),
        ("shape", first.pixels.shape, image.pixels.shape),
        ("dtype", first.pixels.dtype, image.pixels.dtype),
    ):
        if one != other:
            raise ReadError(
                f"The channels {first.source} and {image.source} cannot be joined: their {what} "
                f"is {one} and {other}."
            )


def _join_calibration(images: Sequence[ImageData]) -> tuple[dict[str, float], list[str]]:
    """Give the first known pixel size along each axis, and a warning where channels differ."""
    joined: dict[str, float] = {}
    warnings = []
    for image in images:
        for letter, size in image.pixel_size_um.items():
            if not np.isclose(size, joined.setdefault(letter, size), rtol=1e-3):
                warnings.append(
                    f"The channels {images[0].source.name} and {image.source.name} differ in their "
                    f"pixel size along {letter}, {joined[letter]:g} and {size:g} µm; the first is "
                    "used."
                )
    return joined, warnings


def _plate_image(
    fields: dict[str, str], site: dict[str, list[Path]], channels: list[str], problem: str
) -> PlateImage:
    paths = tuple(path for channel in channels for path in site.get(channel, ()))
    missing = [channel for channel in channels if channel not in site]
    if missing and not problem:
        where = ", ".join(f"{field} {value}" for field, value in fields.items()) or "the image"
        problem = (
            f"There is no file for channel {', '.join(missing)} of {where}, though other images "
            f"have it (there is {paths[0]})."
        )
    names = tuple(channels) if channels != [""] else ()
    name = "_".join(fields.values()) if names and fields else image_stem(paths[0])
    return PlateImage(name, fields, names, paths, problem)


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Give a sort key that puts 2 before 10."""
    return [
        (0, int(part), part) if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]


def _bad_pattern(text: str, fact: str) -> SettingsError:
    return SettingsError(
        f"The pattern {text!r} is not understood: {fact}.",
        hint="A pattern looks like {well}_{site}_{channel}.",
    )
