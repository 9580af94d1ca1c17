"""Run as a program by `check`: segment one image with an installed client, as a host would.

    ENGINE_PYTHON -I call_client.py ENGINE_JSON IMAGE [FOLDER_OF_THE_CLIENT]

Prints one JSON object. The client is imported by name only, because it is a copy that lies in
the host, or belongs to another Python than the one that started the check.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

START_TIMEOUT_S = 240.0
"""Patient: the first start of a fresh installation reads several GB from the disk."""


def main(configuration: str, image: str, client_folder: str = "") -> int:
    """Give the exit status: 0 if the image was segmented."""
    if client_folder:
        sys.path.insert(0, client_folder)
    client = importlib.import_module("cellseg_client")
    tifffile = importlib.import_module("tifffile")
    engine_python = json.loads(Path(configuration).read_text(encoding="utf-8"))["engine_python"]
    started = time.perf_counter()
    try:
        engine = client.ensure(engine_python, START_TIMEOUT_S)
        version = engine.health()["version"]
        result = engine.segment(tifffile.imread(image), "YX", client="cellseg install")
    except client.EngineError as error:
        say({"error": error.message, "hint": error.hint})
        return 1
    about = {
        "n_objects": result.n_objects,
        "seconds": time.perf_counter() - started,
        "client": client.__file__,
        "engine_version": version,
        "engine_pid": engine.pid,
    }
    say(about)
    return 0


def say(answer: dict[str, object]) -> None:
    """Write the answer as a line of JSON."""
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
