"""What the tests of the Fiji commands share: small real images, what the engine makes of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.io.images import read_image
from tests.conftest import ROOT
from tests.integration.fiji_host import ImageJ, lay_out, mini_fiji
from tests.integration.service import Place, place

DEMO = ROOT / "cellseg_engine/demo"
DENSE = DEMO / "dense_nuclei_4d2cff9a0c8d.tif"
DIAMETER_PX = 30
"""Given, so that an image costs little; it is near what the crops show."""
SETTINGS = f"diameter_px={DIAMETER_PX}"


def crop(top: int, left: int, height: int, width: int, source: Path = DENSE) -> np.ndarray:
    """Give a part of a real image of nuclei, uint8."""
    pixels: np.ndarray = tifffile.imread(source)[top : top + height, left : left + width]
    return np.ascontiguousarray(pixels)


def ten_crops(folder: Path) -> list[Path]:
    """Write ten parts of real images, each of another size; names have spaces and letters."""
    folder.mkdir(parents=True)
    paths = []
    for number, source in enumerate(sorted(DEMO.glob("*.tif")) * 3):
        if number < 10:
            path = folder / f"zellen µ {number}.tif"
            tifffile.imwrite(
                path, crop(8 * number, 5 * number, 70 + 9 * number, 150 - 7 * number, source)
            )
            paths.append(path)
    return paths


@functools.cache
def segmenter() -> Segmenter:
    """Give the engine in this process."""
    return Segmenter(make_settings(diameter_px=DIAMETER_PX))


def engine_labels(path: Path, **settings: Any) -> np.ndarray:
    """Give what the engine makes of a file, as ``cellseg segment`` would write it."""
    image = read_image(path)
    chosen = make_settings({"diameter_px": DIAMETER_PX, **settings})
    result = segmenter().segment(
        image.pixels,
        image.axes,
        settings=chosen,
        channel_names=image.channel_names,
        pixel_size_um=image.pixel_size_um,
    )
    return result.labels


def saved_labels(fiji: ImageJ, title: str, folder: Path) -> np.ndarray:
    """Give the pixels of an open image, through a file that ImageJ writes."""
    path = folder / "saved.tif"
    path.unlink(missing_ok=True)
    fiji.macro(f'selectImage("{title}"); saveAs("Tiff", "{path}"); rename("{title}");')
    pixels: np.ndarray = tifffile.imread(path)
    return pixels


@contextmanager
def fiji_with_engine(folder: Path, *, fake: bool = False) -> Iterator[tuple[ImageJ, Place]]:
    """Give a headless Fiji, and the place of the engine that it starts or, if fake, finds."""
    with place(folder / "engine") as there:
        if fake:
            there.start(fake=True)
        environment = there.environment()
        environment.pop("CELLSEG_ENGINE_PYTHON")  # engine.json beside the scripts says it
        application = lay_out(folder / "Fiji é.app")
        with mini_fiji(application, environment) as fiji:
            yield fiji, there


def titles(fiji: ImageJ) -> list[str]:
    """Give the titles of all open images."""
    found: list[str] = fiji.python(
        "from ij import WindowManager\n"
        "from ij.macro import Interpreter\n"
        "ids = list(WindowManager.getIDList() or []) + list(Interpreter.getBatchModeImageIDs())\n"
        "result = sorted(set(WindowManager.getImage(n).getTitle() for n in ids))"
    )
    return found


def close_all(fiji: ImageJ) -> None:
    """Close all images."""
    fiji.macro("while (nImages > 0) { selectImage(nImages); close(); }")
