"""The peer, cellpose 3.1.1.3, in an environment of its own.

Arrays go to and come from `peer_cellpose3.py` as .npz files in a temporary folder. Results are
kept in ``benchmarks/.cache`` by the hash of everything they depend on.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "peer_cellpose3.py"
VENV = HERE / ".peer-venv"
CACHE = HERE / ".cache"
REQUIREMENT = "cellpose==3.1.1.3"
PYTHON_VARIABLE = "CELLSEG_PEER_PYTHON"
PACKAGES = ("cellpose", "torch", "numpy", "opencv-python-headless")

Arrays = dict[str, np.ndarray]


class Peer:
    """Runs tasks of `peer_cellpose3.py`.

    Parameters
    ----------
    python
        Interpreter with cellpose 3.1.1.3; found or made by `find_peer_python`.
    threads
        Threads of torch and numba.
    use_cache
        Whether results of earlier runs may be used.
    """

    def __init__(self, python: Path, threads: int, use_cache: bool = True) -> None:
        self._python = python
        self._use_cache = use_cache
        self._environment = clean_environment(threads)
        self.versions = self._read_versions()

    def run(self, task: str, arrays: Arrays, **options: Any) -> Arrays:
        """Give the arrays of a task.

        Parameters
        ----------
        task
            A name of ``TASKS`` in `peer_cellpose3.py`.
        arrays
            Its input.
        options
            Anything JSON can say; a path given as ``weights`` counts by its content.

        Raises
        ------
        RuntimeError
            The task failed; with the end of what it wrote.
        """
        cached = CACHE / f"{task}-{self._key(task, arrays, options)[:20]}.npz"
        if self._use_cache and cached.is_file():
            return _read(cached)
        with tempfile.TemporaryDirectory(prefix="cellseg-peer-") as folder:
            source, target = Path(folder, "input.npz"), Path(folder, "output.npz")
            np.savez(source, options=np.array(json.dumps(options)), **arrays)
            environment = self._environment | {"CELLPOSE_LOCAL_MODELS_PATH": folder}
            command = [str(self._python), str(SCRIPT), task, str(source), str(target)]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"The peer's task {task} failed:\n{done.stderr[-3000:]}")
            results = _read(target)
        CACHE.mkdir(exist_ok=True)
        partial = cached.with_suffix(".partial.npz")
        np.savez_compressed(partial, **results)
        partial.replace(cached)
        return results

    def _key(self, task: str, arrays: Arrays, options: dict[str, Any]) -> str:
        plain = {name: value for name, value in options.items() if name != "weights"}
        digest = hashlib.sha256(json.dumps([task, plain, self.versions], sort_keys=True).encode())
        digest.update(SCRIPT.read_bytes())
        weights = options.get("weights")
        for path in (weights, f"{weights}_size.npy") if weights else ():
            digest.update(Path(path).read_bytes() if Path(path).is_file() else b"none")
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def _read_versions(self) -> dict[str, str]:
        program = (
            "import importlib.metadata as m, json, platform; print(json.dumps("
            "{'python': platform.python_version()} | "
            f"{{name: m.version(name) for name in {PACKAGES!r}}}))"
        )
        command = [str(self._python), "-c", program]
        answer = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=True
        )
        versions: dict[str, str] = json.loads(answer.stdout)
        wanted = REQUIREMENT.partition("==")[2]
        if versions["cellpose"] != wanted:
            raise RuntimeError(f"{self._python} has cellpose {versions['cellpose']}, not {wanted}.")
        return versions


def find_peer_python(given: str = "") -> Path:
    """Give the peer's interpreter: as given, from the environment, or of a venv made now."""
    chosen = given or os.environ.get(PYTHON_VARIABLE, "")
    if chosen:
        return Path(chosen)
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not has_pip(python):  # also after a run that was stopped while it was made
        print(f"Making the peer's environment in {VENV.name} ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", REQUIREMENT]
    subprocess.run(install, check=True)
    return python


def has_pip(python: Path) -> bool:
    """Say whether an interpreter is there and has pip."""
    command = [str(python), "-m", "pip", "--version"]
    return python.is_file() and not subprocess.run(command, capture_output=True).returncode


def number(name: str, arrays: list[np.ndarray]) -> Arrays:
    """Name arrays NAME_0, NAME_1, ... for a task."""
    return {f"{name}_{index}": array for index, array in enumerate(arrays)}


def clean_environment(threads: int) -> dict[str, str]:
    """Give the environment of the peer's processes."""
    dropped = ("PYTHONPATH", "PYTHONHOME")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        environment[name] = str(threads)
    return environment


def _read(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
