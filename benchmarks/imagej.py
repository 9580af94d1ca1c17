"""Images between ImageJ and NumPy: our conversions beside those of JPype alone, in turns.

    python benchmarks/imagej.py IMAGEJ [--size 2048] [--rounds 9]

IMAGEJ is an ij.jar or the folder of an ImageJ. JPype alone is the obvious way: slices of its
arrays. The bounds are those of 2048 x 2048 pixels; the exit code is 1 when one fails.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _report import Bound, Section

import cellseg_imagej
from cellseg_imagej.java import java_class

SIZE = 2048
LIMITS_MS = {"ImagePlus to array": 10.0, "array to ImagePlus": 30.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("imagej")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    cellseg_imagej.start_imagej(given.imagej)
    shape = (given.size, given.size)
    array = np.random.default_rng(0).integers(0, 1 << 16, shape, np.uint16)
    image = cellseg_imagej.to_imageplus(array, "YX")
    pairs: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
        (
            "ImagePlus to array",
            lambda: cellseg_imagej.to_array(image).array,
            lambda: from_imagej_alone(image, shape),
        ),
        (
            "array to ImagePlus",
            lambda: cellseg_imagej.to_imageplus(array, "YX"),
            lambda: to_imagej_alone(array),
        ),
    ]
    section = Section(
        title=f"{given.size} x {given.size} uint16, milliseconds",
        text=f"Medians of {given.rounds} rounds.",
        columns=("way", "ours", "fastest", "JPype alone", "fastest", "JPype alone / ours"),
    )
    for name, ours, alone in pairs:
        mine, theirs = in_turns(ours, alone, given.rounds)
        median, other = statistics.median(mine), statistics.median(theirs)
        times = (round(time_ms, 2) for time_ms in (median, min(mine), other, min(theirs)))
        section.rows.append((name, *times, round(other / median, 2)))
        if given.size == SIZE:
            section.bounds.append(Bound(f"{name}, ms", median, "<=", LIMITS_MS[name]))
    print(section.to_text())
    return 0 if all(bound.holds for bound in section.bounds) else 1


def from_imagej_alone(image: Any, shape: tuple[int, int]) -> np.ndarray:
    return np.array(image.getProcessor().getPixels()[:]).view(np.uint16).reshape(shape)


def to_imagej_alone(array: np.ndarray) -> Any:
    import jpype

    pixels = jpype.JArray(jpype.JShort)(array.size)
    pixels[:] = array.reshape(-1).view(np.int16)
    processor = java_class("ij.process.ShortProcessor")(*array.shape[::-1], pixels, None)
    return java_class("ij.ImagePlus")("alone", processor)


def in_turns(
    first: Callable[[], Any], second: Callable[[], Any], rounds: int
) -> tuple[list[float], list[float]]:
    taken: tuple[list[float], list[float]] = ([], [])
    for step in range(rounds + 2):
        for work, times in zip((first, second), taken, strict=True):
            start = time.perf_counter()
            work()
            if step > 1:  # the first two warm up
                times.append(1000 * (time.perf_counter() - start))
    return taken


if __name__ == "__main__":
    sys.exit(main())
