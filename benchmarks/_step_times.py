"""Times the steps of one program; used by `_kernels_worker.py` and `peer_kernels.py`.

The standard library and NumPy only, for the peer's environment. ``python WORKER.py INPUT.npz``
prints JSON.
"""

import json
import sys
import time

import numpy as np
from _peak import peak_bytes

NEEDED = ("dynamics, bilinear", "clustering")
"""Steps whose results others use: they run whatever was chosen."""


def run_steps(plane_steps, volume_steps, set_threads):
    """Print the seconds of each step of the input named on the command line, and the peak memory.

    The two functions give steps by their names, in an order; all run once on a corner first, so
    that nothing is compiled while the time is taken.
    """
    with np.load(sys.argv[1]) as file:
        arrays = {name: file[name] for name in file.files}
    only = json.loads(str(arrays.pop("only")))
    set_threads(int(arrays.pop("threads")))
    cases = [(plane_steps, [arrays["labels"], arrays["flows"], arrays["shifted"]])]
    if "volume_mask" in arrays:
        cases.append((volume_steps, [arrays["volume_mask"], arrays["volume_flows"]]))
    seconds = {}
    for make_steps, inputs in cases:
        small = [np.ascontiguousarray(array[..., :100, :100]) for array in inputs]
        for step in make_steps(*small).values():
            step()
        for name, step in make_steps(*inputs).items():
            start = time.perf_counter()
            if not only or name in only or name in NEEDED:
                step()
                seconds[name] = time.perf_counter() - start
    peak = peak_bytes()
    print(json.dumps({"seconds": seconds, "peak": peak}))
