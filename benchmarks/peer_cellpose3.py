"""Runs inside the peer's own environment: cellpose 3.1.1.3 on the arrays of an .npz file.

``python peer_cellpose3.py TASK INPUT.npz OUTPUT.npz``; numpy and cellpose only. The input's
``options`` is JSON; images come as ``image_0``, ``image_1``, ...
"""

import importlib.metadata
import json
import platform
import sys

import cv2
import fastremap
import numpy as np
import torch
from cellpose import core, dynamics, models, transforms, utils

CPU = torch.device("cpu")


def numbered(arrays, name):
    """Give the arrays NAME_0, NAME_1, ... in order."""
    found = []
    while f"{name}_{len(found)}" in arrays:
        found.append(arrays[f"{name}_{len(found)}"])
    return found


def load(options):
    """Load the official weights file of the options."""
    return models.CellposeModel(
        gpu=False,
        pretrained_model=options["weights"],
        mkldnn=options.get("mkldnn", True),
        nchan=2,
    )


def run_fields(arrays, options):
    """``run_net`` on images (C, Y, X) that are normalised already; fields (3, Y, X)."""
    net = load(options).net
    results = {}
    for index, image in enumerate(numbered(arrays, "image")):
        for augment in (False, True):
            fields, style = core.run_net(
                net, image.transpose(1, 2, 0)[np.newaxis], batch_size=8, augment=augment
            )
            name = f"{index}_{'flips' if augment else 'none'}"
            results[f"fields_{name}"] = fields[0].transpose(2, 0, 1)
            results[f"style_{name}"] = style[0]
    return results


def run_targets(arrays, _options):
    """Flow targets of a label image, by the CPU path."""
    return {"flows": dynamics.masks_to_flows(arrays["labels"].astype(int), device=CPU)}


def run_masks(arrays, options):
    """Masks and end points from fields."""
    flows, logit = arrays["flows"], arrays["logit"]
    inside = np.nonzero(logit > 0)
    ends = dynamics.follow_flows(
        flows * (logit > 0) / 5.0, inside, niter=options["iterations"], interp=True, device=CPU
    )
    masks = dynamics.compute_masks(
        flows,
        logit,
        niter=options["iterations"],
        interp=True,
        flow_threshold=0.4,
        min_size=15,
        device=CPU,
    )
    return {"ends": ends, "masks": masks.astype(np.int32)}


def run_volume_masks(arrays, options):
    """Masks from the fused fields of a volume, flows (3, Z, Y, X) and logits (Z, Y, X)."""
    masks = dynamics.compute_masks(
        arrays["flows"],
        arrays["logit"],
        niter=options["iterations"],
        interp=True,
        do_3D=True,
        min_size=15,
        device=CPU,
    )
    return {"masks": masks.astype(np.int32)}


def run_volume(arrays, options):
    """``eval(do_3D=True)`` on a volume (Z, Y, X) of cubes at a given diameter."""
    masks, *_ = load(options).eval(
        arrays["image"], channels=[0, 0], z_axis=0, do_3D=True, diameter=options["diameter"]
    )
    return {"masks": masks.astype(np.int32)}


def run_segment(arrays, options):
    """``eval`` on raw images, at given diameters or (``size_model``) at estimated ones."""
    model = load(options)
    size = None
    if options.get("size_model"):
        path = models.size_model_path(options["weights"])
        size = models.SizeModel(cp_model=model, pretrained_size=path)
    diameters = arrays.get("diameters")
    results = {}
    for index, image in enumerate(numbered(arrays, "image")):
        if size is not None:
            diameter, style_diameter = size.eval(image, channels=[0, 0])
            results[f"style_diameter_{index}"] = style_diameter
        else:
            diameter = float(diameters[index])
        masks, flows, _ = model.eval(image, channels=[0, 0], diameter=diameter)
        results[f"diameter_{index}"] = diameter
        results[f"masks_{index}"] = masks.astype(np.int32)
        if options.get("diagnose"):
            results[f"fields_{index}"] = np.concatenate((flows[1], flows[2][np.newaxis]))
            results[f"renumbered_{index}"] = renumbered_masks(model, flows, diameter)
    return results


def renumbered_masks(model, flows, diameter):
    """What ``eval`` would give if ids were renumbered between flow check and size filter."""
    iterations = 1 / (model.diam_mean / diameter) * 200
    masks = dynamics.compute_masks(
        flows[1], flows[2], niter=iterations, flow_threshold=0.4, min_size=-1, device=CPU
    )
    fastremap.renumber(masks, in_place=True)
    return utils.fill_holes_and_remove_small_masks(masks, min_size=15).astype(np.int32)


def run_resize(arrays, options):
    """cv2's bilinear and nearest resizing of planes to the shapes of the options."""
    results = {}
    for index, shape in enumerate(options["shapes"]):
        height, width = shape
        results[f"linear_{index}"] = transforms.resize_image(
            arrays[f"image_{index}"], Ly=height, Lx=width
        )
        results[f"nearest_{index}"] = transforms.resize_image(
            arrays[f"labels_{index}"],
            Ly=height,
            Lx=width,
            no_channels=True,
            interpolation=cv2.INTER_NEAREST,
        )
    return results


TASKS = {
    "fields": run_fields,
    "targets": run_targets,
    "masks": run_masks,
    "volume_masks": run_volume_masks,
    "volume": run_volume,
    "segment": run_segment,
    "resize": run_resize,
}


def main():
    task, source, target = sys.argv[1:]
    with np.load(source) as file:
        arrays = {name: file[name] for name in file.files}
    options = json.loads(str(arrays.pop("options")))
    results = TASKS[task](arrays, options)
    versions = {"python": platform.python_version()}
    for name in ("cellpose", "torch", "numpy", "opencv-python-headless"):
        versions[name] = importlib.metadata.version(name)
    np.savez(target, versions=json.dumps(versions), **results)


if __name__ == "__main__":
    main()
