"""What to do about a name that no model has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

_OFFICIAL = re.compile(
    r"(cyto|cyto2|cyto3|cpsam|cpx|cp|livecell|tissuenet|yeast_phc|yeast_bf|bact_phase|bact_fluor"
    r"|deepbacs|tn[1-3]|lc[1-4]|(cyto|nuclei)torch.*)(_cp3)?",
    re.IGNORECASE,
)
"""Names of the weights that Cellpose 1 to 4 fetches by itself."""


def hint_for(name: str, known: Collection[str]) -> str:
    """Give the sentences for a name: official weights must be imported, others may be misspelt."""
    if _OFFICIAL.fullmatch(name):
        return (
            "Official Cellpose weights are not shipped: `cellseg models import FILE` takes those "
            "that you have, of Cellpose 1 to 3."
        )
    near = difflib.get_close_matches(name, known, 1)
    guess = f"Did you mean {near[0]}? " if near else ""
    return f"{guess}A weights file can be given by its path."
