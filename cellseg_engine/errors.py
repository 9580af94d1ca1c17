"""Every error that the engine raises for a reason the user can act on.

Each class is also the builtin that people already catch (``ValueError``,
``LookupError``, ``OSError`` ...). The message is one sentence that says what was
given, what is allowed and, in ``hint``, what to do.
"""

from __future__ import annotations

from typing import ClassVar


class CellSegError(Exception):
    """Base of all errors of the engine.

    Parameters
    ----------
    message
        What was given and what is allowed, one sentence.
    hint
        What to do about it, one sentence or empty.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class SettingsError(CellSegError, ValueError):
    """A setting is unknown, out of range or contradicts another one."""

    code = "settings"


class ImageError(CellSegError, ValueError):
    """The pixels cannot be segmented: empty, not finite, not numbers."""

    code = "image"


class AxesError(ImageError):
    """The axes are missing, ambiguous or do not fit the array."""

    code = "axes"


class ChannelError(ImageError, LookupError):
    """The chosen channel is not in the image, or a choice is needed."""

    code = "channel"


class ReadError(CellSegError, OSError):
    """A file is missing, unreadable, truncated or of an unknown kind."""

    code = "read"


class WriteError(CellSegError, OSError):
    """A result cannot be written: no space, no permission, or it would overwrite another one."""

    code = "write"


class ModelNotFoundError(CellSegError, LookupError):
    """No model of that name or file."""

    code = "model-not-found"


class WeightsError(CellSegError, ValueError):
    """A weights file is damaged, of another architecture or unsafe to read."""

    code = "weights"


class DeviceError(CellSegError, RuntimeError):
    """The device or precision asked for is not there."""

    code = "device"


class MissingDependencyError(CellSegError, ImportError):
    """An optional package is needed; the hint is the exact install line."""

    code = "missing-dependency"


class MemoryNeededError(CellSegError, MemoryError):
    """The work cannot fit into the memory."""

    code = "memory"


class MetricError(CellSegError, ValueError):
    """Two label images cannot be compared."""

    code = "metric"


class CancelledError(CellSegError):
    """The caller asked to stop; nothing of the current image was kept."""

    code = "cancelled"
