"""The engine of a benchmark: the one that was started, from beginning to end, or an error."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cellseg_client.start import find_engine

WAIT_S = 120


@contextmanager
def running_engine(
    command: Sequence[str], runtime: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """Run an engine that is found by the folder ``runtime``.

    Raises
    ------
    RuntimeError
        It ended before it was ready, or in the block: what was measured was another engine then,
        which a host started in its place. That one is ended, too.
    """
    service = subprocess.Popen(command, env=environment)
    try:
        end = time.monotonic() + WAIT_S
        while not (runtime / "engine.json").exists():
            if service.poll() is not None:
                raise RuntimeError(f"The engine ended at once, with status {service.returncode}.")
            if time.monotonic() > end:
                raise RuntimeError(f"The engine was not ready in {WAIT_S} s.")
            time.sleep(0.05)
        yield
        if service.poll() is not None:
            raise RuntimeError(
                f"The engine ended while it was measured, with status {service.returncode}."
            )
    finally:
        if service.poll() is None:
            service.terminate()
            service.wait(20)
        elif other := find_engine(runtime):
            os.kill(other.connection.pid, signal.SIGTERM)
