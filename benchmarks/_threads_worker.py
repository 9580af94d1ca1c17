"""Runs the engine in a process of its own, so that its number of threads can be set.

``python _threads_worker.py INPUT.npz OUTPUT.npz``: labels from the fields of the input, and
labels and fields of its images. Threads come from ``OMP_NUM_THREADS`` and ``NUMBA_NUM_THREADS``.
"""

from __future__ import annotations

import sys

import numpy as np

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.pipeline.masks import fields_to_labels


def main() -> None:
    source, target = sys.argv[1:]
    with np.load(source) as file:
        arrays = {name: file[name] for name in file.files}
    settings = make_settings(device="cpu", precision="fp32")
    fields = Fields(arrays["flows"], arrays["logit"], np.zeros(256, np.float32))
    results = {"labels": fields_to_labels(fields, settings, 200, "v3").labels}
    segmenter = Segmenter(settings)
    for index in range(sum(name.startswith("image_") for name in arrays)):
        found = segmenter.segment(arrays[f"image_{index}"], "YX")
        results[f"labels_{index}"] = found.labels
        results[f"flows_{index}"] = found.flows
        results[f"diameter_{index}"] = np.array(found.diameter_px)
    np.savez(target, **results)


if __name__ == "__main__":
    main()
