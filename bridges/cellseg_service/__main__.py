"""Run the service: take the lock, and only then import what is heavy."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cellseg_client.errors import EngineStartError
from cellseg_client.places import LOCK_NAME, RECORD_NAME, make_private_folder, runtime_folder
from cellseg_client.start import EXIT_RUNNING, read_record
from cellseg_engine.io.process_lock import ProcessLock
from cellseg_service.options import ServiceOptions, parse

if TYPE_CHECKING:
    from cellseg_service.worker import MakeSegmenter

EXIT_USE = 2
_LOSER_WAITS_S = 60.0
_POLL_S = 0.05


def main(
    arguments: Sequence[str] | None = None, make_segmenter: MakeSegmenter | None = None
) -> int:
    """Run until told to stop.

    Parameters
    ----------
    arguments
        Of the command line.
    make_segmenter
        Loads a model; None for the engine's own.

    Returns
    -------
    Exit code: 0, 2 wrong use, 10 another one runs.
    """
    options = parse(arguments)
    try:
        folder = make_private_folder(runtime_folder())
        lock = ProcessLock(folder / LOCK_NAME)
        if not _take(lock, folder, options):
            return EXIT_RUNNING
    except (EngineStartError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return EXIT_USE
    # Before uvicorn's own handler, which restores this one and raises the signal again.
    signal.signal(signal.SIGTERM, _stop)
    try:
        with contextlib.suppress(FileNotFoundError):
            (folder / RECORD_NAME).unlink()
        return _run(options, folder, make_segmenter)
    finally:
        lock.release()


def _run(options: ServiceOptions, folder: Path, make_segmenter: MakeSegmenter | None) -> int:
    try:
        from cellseg_service.server import load_segmenter, run
    except ImportError as error:
        print(
            f"Error: the service needs a package that is not there: {error}. Install it with "
            f"{sys.executable} -m pip install 'cellseg-engine[service]'.",
            file=sys.stderr,
        )
        return EXIT_USE
    return run(options, folder, make_segmenter or load_segmenter)


def _take(lock: ProcessLock, folder: Path, options: ServiceOptions) -> bool:
    """Take the lock, or wait until the one who has it can be found; say whether we have it."""
    deadline = time.monotonic() + _LOSER_WAITS_S
    while not lock.acquire():
        record = read_record(folder)
        if record is not None or time.monotonic() > deadline:
            if not options.background:
                _say_running(record)
            return False
        time.sleep(_POLL_S)
    return True


def _say_running(record: dict[str, object] | None) -> None:
    where = f"at {record['url']} (process {record['pid']})" if record else "but does not answer"
    print(f"Another engine of yours runs {where}; end it first.", file=sys.stderr)


def _stop(_number: int, _frame: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
