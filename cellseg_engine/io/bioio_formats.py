"""Microscope makers' formats, through the user's own bioio."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from cellseg_engine.errors import MissingDependencyError, ReadError
from cellseg_engine.io.raw import RawImage

BIOIO_READERS = {".czi": "bioio-czi", ".lif": "bioio-lif", ".nd2": "bioio-nd2"}
"""Ending and the bioio reader that it needs.

Some readers, or what they build on, are under the GPL, so none is a dependency of this package:
a user who wants one installs it.
"""


def read_bioio(path: Path) -> RawImage:
    """Read the first scene of a .nd2, .czi or .lif file.

    Raises
    ------
    MissingDependencyError
        bioio or its reader for the format is not installed; the hint is the install line.
    ReadError
        The reader cannot read the file.
    """
    suffix = path.suffix.lower()
    package = BIOIO_READERS[suffix]
    try:
        bioio = importlib.import_module("bioio")
        importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        raise MissingDependencyError(
            f"The file {path} cannot be read: {suffix} files need bioio and its reader.",
            hint=f"pip install bioio {package}",
        ) from error
    try:
        return _first_scene(bioio.BioImage(path), path)
    except Exception as error:  # third-party readers raise whatever their formats suggest
        raise ReadError(f"The file {path} cannot be read by {package}: {error}.") from error


def _first_scene(image: Any, path: Path) -> RawImage:
    scenes = len(image.scenes)
    sizes = {letter: getattr(image.physical_pixel_sizes, letter) for letter in "ZYX"}
    warnings = (
        (f"The file {path.name} holds {scenes} scenes; the first is read.",) if scenes > 1 else ()
    )
    return RawImage(
        pixels=image.data,
        axes=str(image.dims.order),
        channel_names=tuple(str(name) for name in image.channel_names or ()),
        pixel_size_um={letter: float(um) for letter, um in sizes.items() if um},
        warnings=warnings,
    )
