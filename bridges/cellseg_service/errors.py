"""Reasons of the service for refusing a request; the engine's own are in its ``errors``."""

from __future__ import annotations

from cellseg_engine.errors import CellSegError


class RequestError(CellSegError, ValueError):
    """The request is not what the wire says."""

    code = "request"


class WireError(RequestError):
    """The two sides speak different versions."""

    code = "wire"


class FileNameError(RequestError):
    """A name is not one of a plain file inside the exchange folder."""

    code = "name"


class ArrayError(RequestError):
    """The file is no `.npy` of real numbers, or not complete."""

    code = "array"


class QueueFullError(CellSegError, RuntimeError):
    """Too many jobs wait."""

    code = "queue-full"


class ExchangeFullError(CellSegError, OSError):
    """No space in the exchange folders."""

    code = "exchange-full"


class ExchangeLostError(CellSegError, OSError):
    """An exchange folder was removed and cannot be made again."""

    code = "exchange-lost"


class TrainingBusyError(CellSegError, RuntimeError):
    """Another training runs."""

    code = "training-busy"


class StoppingError(CellSegError, RuntimeError):
    """The engine ends."""

    code = "stopping"
