"""How pipelines that were saved by older revisions are read.

A pipeline keeps the module's own settings, then the engine's. Both lists only grow, so a revision
is described by how many of each it had.
"""

from __future__ import annotations

from typing import List, NamedTuple, Tuple


class Revision(NamedTuple):
    """How many settings a revision had of its own, and of the engine's."""

    own: int
    engine: int


REVISIONS = {
    1: Revision(own=13, engine=15),
    2: Revision(own=19, engine=17),
    3: Revision(own=19, engine=23),
    4: Revision(own=19, engine=24),
}


def upgrade(values: List[str], revision: int) -> Tuple[List[str], int]:
    """Give the values in the present order, with defaults for settings that are new.

    Raises
    ------
    ValueError
        The pipeline is of a newer revision, or holds another number of settings than it should.
    """
    present = max(REVISIONS)
    if revision not in REVISIONS:
        raise ValueError(
            "This pipeline was saved by revision {} of IdentifyCells; the one installed here knows "
            "revisions 1 to {}. Install a newer one: cellseg install cellprofiler".format(
                revision, present
            )
        )
    had = REVISIONS[revision]
    if len(values) != had.own + had.engine:
        raise ValueError(
            "This pipeline holds {} settings of IdentifyCells where revision {} has {}: it is "
            "damaged. Add the module anew.".format(len(values), revision, had.own + had.engine)
        )
    own, engine = values[: had.own], values[had.own :]
    if revision == present:
        return values, present
    default_own, default_engine = _defaults()
    return own + default_own[had.own :] + engine + default_engine[had.engine :], present


def _defaults() -> Tuple[List[str], List[str]]:
    from _cellseg.module import IdentifyCellsModule

    texts = [setting.get_value_text() for setting in IdentifyCellsModule().settings()]
    own = REVISIONS[max(REVISIONS)].own
    return texts[:own], texts[own:]
