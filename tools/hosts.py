"""Make the real ImageJ and CellProfiler that the tests run, where this computer can.

python tools/hosts.py

Each host that cannot be made is named with what it lacks; its tests are then skipped with that
reason, or fail where CELLSEG_REQUIRE_HOSTS is 1, as in continuous integration. Quick when nothing
has changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import cellprofiler_host, fiji_host

HOSTS = {"CellProfiler": cellprofiler_host, "ImageJ": fiji_host}


def main() -> int:
    """Make each; 0 if all are there."""
    failed = [name for name, host in HOSTS.items() if host.main(["build"]) != 0]
    for name in failed:
        print(f"{name}: not there, see above; its tests are skipped", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
