"""The client's side of service.py, for the Python 3.8 or 3.9 of a host.

Prints a JSON object per case: milliseconds of every call through the service beyond the
engine's own, and of the same arrays through a socket with pickle, the usual way between two
Pythons, measured in turn.
"""

import json
import os
import subprocess
import sys
import time
from multiprocessing.connection import Client, Listener

import numpy as np

import cellseg_client

CASES = (
    ("nothing (64 x 64 uint16)", (64, 64), "uint16", "YX"),
    ("2048 x 2048 uint16", (2048, 2048), "uint16", "YX"),
    ("2048 x 2048 float32", (2048, 2048), "float32", "YX"),
    ("64 x 1024 x 1024 uint16", (64, 1024, 1024), "uint16", "ZYX"),
)


def serve_peer(address):
    """Answer arrays with uint16 labels of their shape; None ends it."""
    kept = {}
    with Listener(address, "AF_UNIX") as listener:
        print("ready", flush=True)
        with listener.accept() as connection:
            while True:
                image = connection.recv()
                if image is None:
                    return
                if image.shape not in kept:
                    kept[image.shape] = np.zeros(image.shape, np.uint16)
                connection.send(kept[image.shape])


def measure(engine, connection, shape, dtype, axes, repeats):
    image = (np.arange(np.prod(shape)) % 5000).astype(dtype).reshape(shape)
    ours, peers = [], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        result = engine.segment(image, axes)
        wall = time.perf_counter() - start
        assert result.labels.shape == shape
        assert result.labels.dtype == np.uint16
        ours.append(1000 * (wall - result.seconds["segment"]))
        start = time.perf_counter()
        connection.send(image)
        labels = connection.recv()
        peers.append(1000 * (time.perf_counter() - start))
        assert labels.shape == shape
        del result, labels
    return {"first": ours[0], "ours": ours[1:], "peer": peers[1:]}


def main():
    if sys.argv[1] == "peer":
        serve_peer(sys.argv[2])
        return
    repeats, address = int(sys.argv[1]), sys.argv[2]
    engine = cellseg_client.ensure(timeout_s=30)
    peer = subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "peer", address], stdout=subprocess.PIPE
    )
    peer.stdout.readline()
    finds = []
    for _ in range(repeats):
        start = time.perf_counter()
        cellseg_client.ensure(timeout_s=30)
        finds.append(1000 * (time.perf_counter() - start))
    version = "{}.{}.{}".format(*sys.version_info[:3])
    print(json.dumps({"python": version, "numpy": np.__version__, "ensure": finds}), flush=True)
    with Client(address, "AF_UNIX") as connection:
        for name, shape, dtype, axes in CASES:
            measured = measure(engine, connection, shape, dtype, axes, repeats)
            print(json.dumps(dict(measured, name=name)), flush=True)
        connection.send(None)
    peer.wait(10)


if __name__ == "__main__":
    main()
