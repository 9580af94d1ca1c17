"""Times of whole images in this engine, in a process of its own.

``python _whole_worker.py TASK.json``; JSON on standard output. `peer_whole.py` does the same with
the peer. Threads come from ``OMP_NUM_THREADS`` and ``NUMBA_NUM_THREADS``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from _peak import peak_bytes

from cellseg_engine import Segmenter, make_settings


def main() -> None:
    """Segment the images of the task, each after a small one to warm up."""
    task = json.loads(Path(sys.argv[1]).read_text())
    settings = make_settings(
        model=task["model"],
        device="cpu",
        precision=task["precision"],
        diameter_px=task["diameter_px"],
    )
    segmenter = Segmenter(settings, runtime=task["runtime"])
    segmenter.segment(np.load(task["warm_up"]), "YX", keep_fields=False)
    runs = []
    for path in task["images"]:
        image = np.load(path)
        start = time.perf_counter()
        found = segmenter.segment(image, "YX", keep_fields=False)
        whole = time.perf_counter() - start
        runs.append(
            {
                "side": image.shape[0],
                "whole": whole,
                "network": found.provenance["seconds"]["network"],
                "objects": found.n_objects,
            }
        )
    answer = {
        "runs": runs,
        "peak": peak_bytes(),
        "runtime": {**segmenter.model.runtime, "precision": segmenter.model.precision},
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
