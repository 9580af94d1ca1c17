"""What can go wrong between a host and the engine, as a few classes with clear sentences."""

from __future__ import annotations


class EngineError(Exception):
    """Base of all errors of the client.

    Parameters
    ----------
    message
        What happened, one sentence.
    hint
        What to do about it, one sentence or empty.
    code
        A stable word for programs.
    """

    default_code = "engine"

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code

    def __str__(self) -> str:
        return "{} {}".format(self.message, self.hint).strip()


class EngineStartError(EngineError, RuntimeError):
    """The engine cannot be found or started."""

    default_code = "start"


class EngineLostError(EngineError, ConnectionError):
    """The engine ended, or the connection broke, before there was a result."""

    default_code = "lost"


class EngineTimeoutError(EngineError, TimeoutError):
    """A wait took longer than its limit."""

    default_code = "timeout"


class AccessError(EngineError, PermissionError):
    """The engine does not accept the token, or its proof is wrong."""

    default_code = "token"


class RefusedError(EngineError, ValueError):
    """The engine refused the request: an image or a setting that cannot be used."""

    default_code = "refused"


class FailedError(EngineError, RuntimeError):
    """The engine failed: a defect of ours."""

    default_code = "failed"


class SegmentationCancelledError(EngineError):
    """The caller, or somebody at the status page, asked to stop."""

    default_code = "cancelled"
