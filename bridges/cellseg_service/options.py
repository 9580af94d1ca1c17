"""What the service is started with; standard library only, read before the lock is taken."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COMMAND = "cellseg serve"
"""What the command line puts in the place of the program's name."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MAX_GIGABYTES = 1e9
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - private folders are made in it


@dataclass(frozen=True)
class ServiceOptions:
    """How the service runs; `parse` explains each."""

    host: str = "127.0.0.1"
    port: int = 0
    idle_timeout_s: float = 3600.0
    allowed_hosts: tuple[str, ...] = ()
    token_file: Path | None = None
    upload_limit_bytes: int = 4 << 30
    queue_limit: int = 200
    keep_s: float = 600.0
    fast_folder: Path | None = None
    temporary_folder: Path | None = None
    background: bool = False

    @property
    def is_local(self) -> bool:
        """Say whether only this machine is served, without a proxy before it."""
        return self.host in LOOPBACK and not self.allowed_hosts


def make_parser() -> argparse.ArgumentParser:
    """Give what reads and explains the options."""
    default = ServiceOptions()
    parser = argparse.ArgumentParser(
        prog=COMMAND if sys.argv[0] == COMMAND else "python -m cellseg_service",
        description="Run the engine as a service for Fiji, CellProfiler and others: one for this "
        "user on this machine. Hosts start it by themselves; start it by hand to serve other "
        "machines.",
    )
    add = parser.add_argument
    add("--host", default=default.host, help="address to listen at (%(default)s: this machine)")
    add("--port", type=_port, default=0, help="port; 0, the default, takes a free one")
    add(
        "--idle-timeout",
        type=_seconds,
        default=default.idle_timeout_s,
        metavar="SECONDS",
        help="end after this long without a request; 0: never (%(default)g)",
    )
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME[:PORT]",
        help="other name under which it is called, for example of a TLS proxy; repeatable",
    )
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the secret, for one that stays the same; only you may read it",
    )
    add(
        "--upload-limit",
        type=_gigabytes,
        default=default.upload_limit_bytes / 1e9,
        metavar="GB",
        help="largest image from another machine (%(default).3g)",
    )
    add("--queue-limit", type=int, default=default.queue_limit, help="jobs that may wait")
    add(
        "--keep",
        type=_some_seconds,
        default=default.keep_s,
        metavar="SECONDS",
        help="how long results that nobody fetched are kept (%(default)g)",
    )
    add(
        "--fast-folder",
        type=Path,
        help="where arrays are exchanged if they are small enough (/dev/shm where there is one)",
    )
    add(
        "--temporary-folder",
        type=Path,
        help="where the others are exchanged (the system's temporary folder)",
    )
    add("--background", action="store_true", help=argparse.SUPPRESS)
    return parser


def parse(arguments: Sequence[str] | None = None) -> ServiceOptions:
    """Read the command line; wrong use ends the program with exit code 2."""
    given = make_parser().parse_args(arguments)
    return ServiceOptions(
        host=given.host,
        port=given.port,
        idle_timeout_s=given.idle_timeout,
        allowed_hosts=tuple(given.allow_host),
        token_file=given.token_file,
        upload_limit_bytes=int(given.upload_limit * 1e9),
        queue_limit=max(1, given.queue_limit),
        keep_s=given.keep,
        fast_folder=given.fast_folder or _shared_memory(),
        temporary_folder=given.temporary_folder,
        background=given.background,
    )


def _shared_memory() -> Path | None:
    return SHARED_MEMORY if sys.platform == "linux" and SHARED_MEMORY.is_dir() else None


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 65536:
        raise argparse.ArgumentTypeError(f"{port} is no port; use 0 to 65535")
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} are no seconds; use 0 or more")
    return seconds


def _some_seconds(text: str) -> float:
    """Give seconds, more than 0: results must live until they are read."""
    seconds = _seconds(text)
    if not seconds:
        raise argparse.ArgumentTypeError(
            "0 would remove results before they are read; use 1 or more"
        )
    return seconds


def _gigabytes(text: str) -> float:
    gigabytes = float(text)
    if not 0 < gigabytes < _MAX_GIGABYTES:
        raise argparse.ArgumentTypeError(f"{text} is no size in GB; use more than 0")
    return gigabytes
