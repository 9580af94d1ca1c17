"""The three flow targets of the Cellpose family.

They differ in the centre that the heat starts from, in the number of steps and in a logarithm;
a model is checked with the variant that it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FlowVariant = Literal["v3", "v2", "paper"]


@dataclass(frozen=True)
class FlowRecipe:
    """How the heat of one object is made and read.

    Attributes
    ----------
    centre_is_median
        The centre is the object's pixel nearest to the median of its pixels, else to the mean.
    logarithm
        The gradient is taken of log(1 + heat).
    extent_extra
        Steps are 2 * (box height + box width + this).
    epsilon
        Added to the length of the gradient before dividing by it.
    """

    centre_is_median: bool
    logarithm: bool
    extent_extra: int
    epsilon: float


VARIANTS: dict[str, FlowRecipe] = {
    # Cellpose >= 3: the box with a border of one pixel, no logarithm
    "v3": FlowRecipe(centre_is_median=False, logarithm=False, extent_extra=4, epsilon=1e-60),
    # Cellpose 0.6 to 2.3: twice the sum of the y and x ranges, with the logarithm
    "v2": FlowRecipe(centre_is_median=True, logarithm=True, extent_extra=-2, epsilon=1e-20),
    # Stringer et al. 2021: as v2 without the logarithm
    "paper": FlowRecipe(centre_is_median=True, logarithm=False, extent_extra=-2, epsilon=1e-20),
}
