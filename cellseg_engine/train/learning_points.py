"""The points of a learning curve, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Start = Literal["pretrained", "scratch"]


@dataclass(frozen=True)
class Point:
    """One network of the curve; without objects the first model itself."""

    start: Start
    n_objects: int
    subset: int

    @property
    def name(self) -> str:
        """Name its folder and file."""
        if self.n_objects == 0:
            return "base"
        return f"{self.start}-{self.n_objects}-{self.subset}"


@dataclass(frozen=True)
class CurveProgress:
    """How far a learning curve is.

    Attributes
    ----------
    what
        ``reading``, or the name of a point.
    number, n_points
        Which point, from 1; points that were there before are not counted.
    done, total
        Steps of all points, or images.
    """

    what: str
    number: int
    n_points: int
    done: int
    total: int


def list_points(
    starts: Sequence[Start], sizes: Sequence[int], subsets: Sequence[int]
) -> Iterator[Point]:
    """Give the points of a curve in their order, the first model first."""
    yield Point("pretrained", 0, 0)
    for start in starts:
        for size in sorted(set(sizes)):
            for subset in sorted(set(subsets)):
                yield Point(start, size, subset)


def tell_steps(
    report: Callable[[CurveProgress], None],
    point: Point,
    number: int,
    todo: Sequence[Point],
    steps: int,
) -> Callable[[int], None]:
    """Give what reports the steps of a point as steps of all."""
    before = sum(steps for one in todo[: number - 1] if one.n_objects)
    total = sum(steps for one in todo if one.n_objects)
    report(CurveProgress(point.name, number, len(todo), before, total))
    return lambda step: report(CurveProgress(point.name, number, len(todo), before + step, total))
