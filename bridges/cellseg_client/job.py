"""One segmentation: what is asked, the news while it runs, and its result event."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, NamedTuple, Optional

from cellseg_client.connection import SILENCE_TIMEOUT_S, Connection, Exchange, capital, make_error
from cellseg_client.errors import EngineTimeoutError, SegmentationCancelledError

if TYPE_CHECKING:
    import numpy as np


class Progress(NamedTuple):
    """How far a segmentation is.

    Attributes
    ----------
    stage
        ``queued``, ``loading``, ``size``, ``network`` or ``labels``.
    fraction
        Of the stage, 0 to 1.
    plane, planes
        The plane at work, from 0, and how many there are.
    position
        In the queue, how many images come first.
    job
        For `Engine.cancel`.
    """

    stage: str
    fraction: float
    plane: int
    planes: int
    position: int
    job: str


class Job:
    """One request and the caller's wishes while it runs."""

    def __init__(
        self,
        request: Dict[str, Any],
        array: np.ndarray,
        progress: Optional[Callable[[Progress], None]],
        is_cancelled: Optional[Callable[[], bool]],
        timeout_s: float,
    ) -> None:
        from cellseg_client import WIRE

        self._request = dict(request, wire=WIRE)
        self.array = array
        self._progress = progress
        self._is_cancelled = is_cancelled
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._job = ""

    def run(self, connection: Connection, image: Dict[str, str]) -> Dict[str, Any]:
        """Give the result event; leaving early closes the connection, which stops the job."""
        body = json.dumps(dict(self._request, image=image)).encode("ascii")
        wait_s = max(0.1, min(SILENCE_TIMEOUT_S, self._deadline - time.monotonic()))
        with connection.open("POST", "/v1/segment", body=body, timeout_s=wait_s) as answer:
            while True:
                event = self._next(connection, answer)
                if event.get("event") == "result":
                    break
                self._tell(event)
                if self._is_cancelled is not None and self._is_cancelled():
                    raise SegmentationCancelledError("The segmentation was cancelled.")
                if time.monotonic() > self._deadline:
                    raise EngineTimeoutError(
                        "{} has no result after {:g} s; the job is stopped.".format(
                            capital(connection.name), self._timeout_s
                        ),
                        hint="Give it more time, or look at its status page.",
                    )
        if event.get("status") != "ok":
            raise make_error(str(event.get("status")), event.get("error") or {})
        return event

    def _next(self, connection: Connection, answer: Exchange) -> Dict[str, Any]:
        line = answer.readline()
        if not line.endswith(b"\n"):
            raise connection.lost()
        try:
            event = json.loads(line.decode("utf-8"))
        except ValueError as error:
            raise connection.lost() from error
        return event if isinstance(event, dict) else {}

    def _tell(self, event: Dict[str, Any]) -> None:
        self._job = str(event.get("job", self._job))
        kind = event.get("event")
        if self._progress is None or kind not in ("queued", "progress"):
            return
        self._progress(
            Progress(
                str(event.get("stage", kind)),
                float(event.get("fraction", 0.0)),
                int(event.get("plane", 0)),
                int(event.get("planes", 1)),
                int(event.get("position", 0)),
                self._job,
            )
        )
