"""``ENGINE_PYTHON -m cellseg_client ensure``: for hosts that are not written in Python."""

from __future__ import annotations

import argparse
import json
import sys
from typing import List, Optional

from cellseg_client.engine import START_TIMEOUT_S
from cellseg_client.errors import EngineError
from cellseg_client.start import find_engine, find_or_start

EXIT_FAILED = 1


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command: 0 done, 1 not, with one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="python -m cellseg_client", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("ensure", help="find or start the engine; its engine.json as JSON")
    start.add_argument("--engine-python", default=None, help="Python that has the engine")
    start.add_argument("--timeout", type=float, default=START_TIMEOUT_S, help="seconds")
    commands.add_parser("status", help="say whether an engine runs; as JSON, without its token")
    options = parser.parse_args(arguments)
    try:
        if options.command == "ensure":
            found = find_or_start(options.engine_python, options.timeout)
            print(json.dumps(found.record))
            return 0
        running = find_engine()
    except EngineError as error:
        print(
            json.dumps(
                {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
            )
        )
        print("Error: {}".format(error), file=sys.stderr)
        return EXIT_FAILED
    if running is None:
        print(json.dumps({"running": False}))
        return EXIT_FAILED
    public = {name: value for name, value in running.record.items() if name != "token"}
    print(json.dumps(dict(public, running=True)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
