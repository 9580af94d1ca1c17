"""The optional package that draws: curves, and pictures with captions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg_engine.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_class(what: str = "Curves are drawn") -> type[Figure]:
    """Give matplotlib's ``Figure``.

    Parameters
    ----------
    what
        Beginning of the sentence of the error.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} by matplotlib, which is not installed.",
            hint='pip install "cellseg-engine[train]"',
        ) from error
    return Figure
