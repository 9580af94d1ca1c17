"""What a host runs to have images segmented by the engine; standard library and NumPy only.

>>> import cellseg_client
>>> engine = cellseg_client.ensure()                            # doctest: +SKIP
>>> result = engine.segment(image, "YX", {"diameter_px": 30})   # doctest: +SKIP
>>> result.labels                                               # doctest: +SKIP

Works with Python 3.8 and newer, and never imports the engine.
"""

from __future__ import annotations

from cellseg_client.engine import Engine, Result, connect, ensure
from cellseg_client.errors import (
    AccessError,
    EngineError,
    EngineLostError,
    EngineStartError,
    EngineTimeoutError,
    FailedError,
    RefusedError,
    SegmentationCancelledError,
)
from cellseg_client.job import Progress

WIRE = 1
"""The protocol that this client speaks; an engine of another one says which side to update."""

__all__ = [
    "WIRE",
    "AccessError",
    "Engine",
    "EngineError",
    "EngineLostError",
    "EngineStartError",
    "EngineTimeoutError",
    "FailedError",
    "Progress",
    "RefusedError",
    "Result",
    "SegmentationCancelledError",
    "connect",
    "ensure",
]
