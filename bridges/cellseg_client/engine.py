"""The engine as a host sees it: images in, labels out."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    TypeVar,
)

from cellseg_client.connection import HEALTH_TIMEOUT_S, Connection, NotRunningError
from cellseg_client.errors import AccessError
from cellseg_client.job import Job, Progress
from cellseg_client.start import Found, find_or_start

if TYPE_CHECKING:
    import numpy as np

START_TIMEOUT_S = 180.0  # the first start after an installation compiles for a minute and more
SEGMENT_TIMEOUT_S = 24 * 3600.0

_WEIGHTS_SUFFIXES = (".safetensors", ".pth")
_MODEL_SETTINGS = ("model", "model_side_views")

_Answer = TypeVar("_Answer")

_PROCESS = uuid.uuid4().hex[:12]


class Result(NamedTuple):
    """What a segmentation gives back.

    Attributes
    ----------
    labels
        uint16 (int32 above 65,535 objects) of shape (Y, X), or (T, Z, Y, X) as the image had
        them; 0 is background. None if it was not asked for, as the others.
    axes
        Of the labels.
    n_objects, diameter_px
        Number of objects, and the diameter that the image was scaled by.
    table
        Columns of the object table.
    rois
        Bytes of an ImageJ ROI archive (.zip).
    probability
        float32 of the labels' shape.
    flows
        float32 of shape (2, *labels.shape), y and x.
    provenance, warnings, seconds
        What ran, sentences for the user, seconds of each part in the engine.
    tracks
        Columns of the table of tracks, where objects were followed and the table was asked for.
    """

    labels: Optional[np.ndarray]
    axes: str
    n_objects: int
    diameter_px: float
    table: Optional[Dict[str, np.ndarray]]
    rois: Optional[bytes]
    probability: Optional[np.ndarray]
    flows: Optional[np.ndarray]
    provenance: Dict[str, Any]
    warnings: List[str]
    seconds: Dict[str, float]
    tracks: Optional[Dict[str, np.ndarray]] = None


def ensure(
    engine_python: Optional[str] = None,
    timeout_s: float = START_TIMEOUT_S,
    arguments: Sequence[str] = (),
) -> Engine:
    """Give this user's engine on this machine, started if none runs.

    Parameters
    ----------
    engine_python
        Python that has the engine; if None, the variable ``CELLSEG_ENGINE_PYTHON`` says it, or
        this Python has it.
    timeout_s
        Longest wait for it.
    arguments
        More arguments of the service (see ``cellseg serve --help``), if it is started now.

    Raises
    ------
    EngineStartError
        It cannot be started.
    EngineTimeoutError
        It is not ready in time, or the one that runs hangs; the message names the process.
    """
    python = str(engine_python) if engine_python else None
    found = find_or_start(python, timeout_s, arguments)
    return Engine(found.connection, found, lambda: find_or_start(python, timeout_s, arguments))


def connect(url: str, token: str) -> Engine:
    """Give an engine on another machine (or any, by its address); arrays travel over the network.

    Raises
    ------
    AccessError
        What listens there does not know the token.
    EngineLostError, EngineTimeoutError
        Nothing answers.
    """
    return Engine(Connection(url, token).proven(HEALTH_TIMEOUT_S))


class Engine:
    """A running engine; made by `ensure` or `connect`. May be used by several threads."""

    def __init__(
        self,
        connection: Connection,
        found: Optional[Found] = None,
        restart: Optional[Callable[[], Found]] = None,
    ) -> None:
        self._connection = connection
        self._found = found
        self._restart = restart

    @property
    def url(self) -> str:
        """Its address."""
        return self._connection.url

    @property
    def token(self) -> str:
        """Its secret."""
        return self._connection.token

    @property
    def pid(self) -> int:
        """Its process, 0 for one on another machine."""
        return self._connection.pid

    @property
    def exchange_folders(self) -> List[Path]:
        """Its exchange folders, the fast one first; none for one on another machine."""
        if self._found is None:
            return []
        record = self._found.record
        return list(dict.fromkeys(Path(record[n]) for n in ("exchange", "exchange_large")))

    def health(self) -> Dict[str, Any]:
        """Ask how it is; this starts no other one."""
        return self._connection.proven().ask("GET", "/v1/health")

    def models(self) -> List[Dict[str, Any]]:
        """Ask for the models it has."""
        models: List[Dict[str, Any]] = self._renewing(
            lambda: self._connection.proven().ask("GET", "/v1/models")["items"]
        )
        return models

    def schema(self) -> Dict[str, Any]:
        """Ask for the settings it knows, as JSON Schema."""
        return self._renewing(lambda: self._connection.proven().ask("GET", "/v1/schema"))

    def status(self) -> Dict[str, Any]:
        """Ask what it does; this starts no other one."""
        return self._connection.proven().ask("GET", "/v1/status")

    def cancel(self, job: str) -> None:
        """Stop a job, also one of another thread; it ends between two tiles."""
        self._connection.proven().ask("DELETE", "/v1/jobs/" + job)

    def segment(  # noqa: PLR0913 - the names of the wire
        self,
        array: Any,
        axes: Optional[str] = None,
        settings: Optional[Mapping[str, Any]] = None,
        outputs: Sequence[str] = ("labels",),
        progress: Optional[Callable[[Progress], None]] = None,
        is_cancelled: Optional[Callable[[], bool]] = None,
        timeout_s: float = SEGMENT_TIMEOUT_S,
        *,
        channel_names: Sequence[str] = (),
        pixel_size_um: Optional[Mapping[str, float]] = None,
        title: str = "",
        client: str = "",
    ) -> Result:
        """Find the objects of an image.

        Parameters
        ----------
        array
            Real numbers, any dtype up to 64 bits.
        axes
            What the dimensions are, for example ``"CYX"``; may be left out for 2-D images.
        settings
            Names and values, see `schema`; defaults for those left out. A path of a model may
            begin at the working folder of this program, if the engine is on this machine.
        outputs
            Of ``labels``, ``rois``, ``table``, ``probability``, ``flows``.
        progress
            Called at each news, in this thread.
        is_cancelled
            Asked twice a second; when it says True the job is stopped.
        timeout_s
            Longest wait for the result, also in the queue; then the job is stopped.
        channel_names, pixel_size_um
            Names that settings may use; size of a pixel along Y and X for columns in µm.
        title, client
            For people at the status page; who asks (the queue is fair between clients).

        Raises
        ------
        RefusedError
            The image or a setting cannot be used; the sentence is the engine's.
        FailedError
            A defect of the engine.
        EngineLostError
            It ended in the middle; the next call starts a new one.
        EngineTimeoutError
            It hangs, or ``timeout_s`` is over.
        SegmentationCancelledError
            It was stopped.
        """
        from cellseg_client.exchange import check_array

        request = {
            "settings": self._with_whole_paths(settings or {}),
            "axes": axes,
            "outputs": list(outputs),
            "channel_names": list(channel_names),
            "pixel_size_um": dict(pixel_size_um or {}),
            "title": title,
            "client": client or "process {} ({})".format(os.getpid(), _PROCESS),
        }
        job = Job(request, check_array(array), progress, is_cancelled, timeout_s)
        return self._renewing(lambda: self._run(job))

    def _run(self, job: Job) -> Result:
        connection = self._connection.proven()
        exchange = self._make_exchange()
        image, leftovers = exchange.send(job.array)
        try:
            answer = job.run(connection, image)
        finally:
            for path in leftovers:
                try:
                    path.unlink()
                except OSError:
                    pass  # the engine has removed it, which is the rule
        return _make_result(answer, exchange)

    def _renewing(self, use: Callable[[], _Answer]) -> _Answer:
        """Give what a use gives; if nothing was asked yet, since the engine has ended, once more.

        It ends for example after an idle hour, and its port may then be another program's.
        """
        try:
            return use()
        except (NotRunningError, AccessError, FileNotFoundError):
            if self._restart is None:
                raise
            self._found = self._restart()
            self._connection = self._found.connection
            return use()

    def _with_whole_paths(self, settings: Mapping[str, Any]) -> Dict[str, Any]:
        """Give settings in which a model is a name, or a path that the engine understands, too."""
        whole = dict(settings)
        for name in _MODEL_SETTINGS:
            model = whole.get(name)
            if self._found is not None and isinstance(model, str) and _is_path(model):
                whole[name] = os.path.abspath(model)
        return whole

    def _make_exchange(self) -> Any:
        from cellseg_client.exchange import LocalExchange, RemoteExchange

        if self._found is None:
            return RemoteExchange(self._connection)
        return LocalExchange(self.exchange_folders)


def _is_path(model: str) -> bool:
    """Say whether a model is given by a path that is one for this program; names stay names."""
    looks_so = "/" in model or "\\" in model or model.endswith(_WEIGHTS_SUFFIXES)
    return looks_so and os.path.exists(model)


def _make_result(answer: Dict[str, Any], exchange: Any) -> Result:
    from cellseg_client.exchange import read_table

    def array(name: str) -> Optional[np.ndarray]:
        return exchange.array(answer[name]) if answer.get(name) else None

    def table(name: str) -> Optional[Dict[str, np.ndarray]]:
        if not answer.get(name):
            return None
        return read_table(exchange.data(answer[name]["csv"]).decode("utf-8"))

    return Result(
        labels=array("labels"),
        axes=str(answer.get("axes", "YX")),
        n_objects=int(answer["objects"]),
        diameter_px=float(answer["diameter_px"]),
        table=table("table"),
        rois=exchange.data(answer["rois"]) if answer.get("rois") else None,
        probability=array("probability"),
        flows=array("flows"),
        provenance=dict(answer.get("provenance") or {}),
        warnings=[str(text) for text in answer.get("warnings") or []],
        seconds=dict(answer.get("seconds") or {}),
        tracks=table("tracks"),
    )
