"""Runs inside the peer's own environment: times of whole images in cellpose 3.1.1.3.

``python peer_whole.py TASK.json``; JSON on standard output, as `_whole_worker.py` gives it. The
task's ``mkldnn`` is cellpose's own choice of how a CPU calculates, true by default.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from _peak import peak_bytes


def main():
    """Segment the images of the task, each after a small one to warm up."""
    task = json.loads(Path(sys.argv[1]).read_text())
    from cellpose import models

    network_seconds = []
    run_net = models.run_net

    def timed(*arguments, **options):
        begin = time.perf_counter()
        result = run_net(*arguments, **options)
        network_seconds.append(time.perf_counter() - begin)
        return result

    models.run_net = timed
    model = models.CellposeModel(
        gpu=False, pretrained_model=task["weights"], mkldnn=task["mkldnn"], nchan=2
    )

    def segment(image):
        return model.eval(image, channels=[0, 0], diameter=task["diameter_px"])[0]

    segment(np.load(task["warm_up"]))
    runs = []
    for path in task["images"]:
        image = np.load(path)
        network_seconds.clear()
        start = time.perf_counter()
        masks = segment(image)
        whole = time.perf_counter() - start
        network = sum(network_seconds)
        runs.append(
            {
                "side": image.shape[0],
                "whole": whole,
                "network": network,
                "objects": int(masks.max()),
            }
        )
    print(json.dumps({"runs": runs, "peak": peak_bytes(), "runtime": {}}))


if __name__ == "__main__":
    main()
