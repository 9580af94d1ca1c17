"""``cellseg doctor``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import click

from cellseg_engine._version import __version__
from cellseg_engine.cli.options import GivenPath
from cellseg_engine.errors import CellSegError
from cellseg_engine.hosts.examine import NOTE, OK, PROBLEM, Finding, examine_hosts

SERVICE_TIMEOUT_S = 20.0

REQUIRED = (
    "numpy",
    "scipy",
    "numba",
    "torch",
    "scikit-image",
    "tifffile",
    "imagecodecs",
    "roifile",
    "safetensors",
    "pydantic",
)
OPTIONAL = {
    "openvino": ("bf16 on CPUs with units for it", "pip install 'cellseg-engine[openvino]'"),
    "starlette": ("the engine as a service", "pip install 'cellseg-engine[service]'"),
    "imagej": ("ImageJ from Python", "pip install 'cellseg-engine[imagej]'"),
    "graspologic_native": ("a zoo of your own models", "pip install 'cellseg-engine[zoo]'"),
    "onnx": ("models for other programs", "pip install 'cellseg-engine[export]'"),
    "bioio": (".nd2, .czi and .lif files", "pip install bioio bioio-nd2 bioio-czi bioio-lif"),
}


@click.command(name="doctor", context_settings={"max_content_width": 100})
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option(
    "--plugins-directory",
    type=GivenPath(file_okay=False),
    metavar="DIR",
    help="CellProfiler's plugins directory; by default the one that its preferences name.",
)
@click.option(
    "--fiji",
    type=GivenPath(file_okay=False),
    metavar="DIR",
    help="Folder of a Fiji; by default the one that FIJI_HOME names.",
)
def command(as_json: bool, plugins_directory: Path | None, fiji: Path | None) -> int:
    """Say what is installed, what is missing and how to get it.

    Exit code 1 if something that segmentation or an installed host needs does not work.
    """
    findings = [*examine(), *examine_hosts(plugins_directory, fiji)]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        marks = {OK: "ok     ", NOTE: "note   ", PROBLEM: "PROBLEM"}
        for finding in findings:
            click.echo(f"{marks[finding.state]}  {finding.what}: {finding.detail}")
            if finding.remedy:
                click.echo(f"           -> {finding.remedy}")
    return 1 if any(finding.state == PROBLEM for finding in findings) else 0


def examine() -> Iterator[Finding]:
    """Yield all findings."""
    yield Finding(
        "cellseg-engine", OK, f"{__version__}, Python {platform.python_version()} at {sys.prefix}"
    )
    yield Finding("computer", OK, f"{platform.platform()}, {_describe_cpu()}")
    yield from map(_check_required, REQUIRED)
    for check in (_check_device, _check_models, _check_models_folder, _check_cache, _check_run):
        yield _guarded(check)
    yield from (_check_optional(name, *about) for name, about in OPTIONAL.items())
    if importlib.util.find_spec("cellseg_client") is not None:
        yield _guarded(_check_service)


def _guarded(check: Callable[[], Finding]) -> Finding:
    name = check.__name__.removeprefix("_check_").replace("_", " ")
    try:
        return check()
    except CellSegError as error:
        return Finding(name, PROBLEM, error.message, error.hint)
    except Exception as error:  # noqa: BLE001 (a broken installation can fail in any way)
        return Finding(
            name, PROBLEM, f"{type(error).__name__}: {error}", "Install cellseg-engine again."
        )


def _check_required(name: str) -> Finding:
    try:
        return Finding(name, OK, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, PROBLEM, "missing", "Install cellseg-engine again.")


def _check_optional(module: str, purpose: str, install: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        line = f"{sys.executable} -m {install}"
        return Finding(module, NOTE, f"not installed; only for {purpose}", line)
    return Finding(module, OK, f"installed, for {purpose}")


def _check_device() -> Finding:
    import torch

    from cellseg_engine.nets.choose_runtime import runtime_name
    from cellseg_engine.nets.runtimes import choose_device, describe_device

    device = choose_device()
    asked = runtime_name()
    if device.type == "cpu":
        runs = {"torch": "PyTorch", "openvino": "OpenVINO"}.get(asked, "the engine's own kernels")
        return Finding(
            "device",
            OK,
            f"the CPU, {torch.get_num_threads()} threads (no GPU that PyTorch {torch.__version__} "
            f"can use); in fp32 networks run in {runs}",
        )
    return Finding("device", OK, describe_device(device))


def _check_models() -> Finding:
    from cellseg_engine.zoo import store

    entries = store.list_models()
    broken = [entry for entry in entries if not store.verify(entry)]
    if broken:
        verb = "is" if len(broken) == 1 else "are"
        return Finding(
            "models",
            PROBLEM,
            f"{', '.join(entry.name for entry in broken)} {verb} missing or damaged",
            " ".join(dict.fromkeys(entry.remedy for entry in broken)),
        )
    return Finding("models", OK, ", ".join(entry.name for entry in entries))


def _check_models_folder() -> Finding:
    from cellseg_engine.zoo.store import MODELS_VARIABLE, models_folder

    folder = models_folder()
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(nearest, os.W_OK):
        return Finding(
            "models folder",
            NOTE,
            f"{folder} cannot be written, so models cannot be imported",
            f"Set {MODELS_VARIABLE} to a folder of yours.",
        )
    free = shutil.disk_usage(nearest).free / 1e9
    return Finding("models folder", OK, f"{folder} ({free:.0f} GB free)")


def _check_cache() -> Finding:
    from cellseg_engine.kernel_cache import VARIABLE, can_write, is_temporary, kernel_folder

    folder = kernel_folder()
    remedy = f"Set {VARIABLE} to a folder of yours that can be written to."
    if folder is None or not can_write(folder):
        which = "no folder for compiled kernels can" if folder is None else f"{folder} cannot"
        return Finding("kernel cache", PROBLEM, f"{which} be written to", remedy)
    if is_temporary(folder):
        detail = "compiled kernels are not kept, so every run begins slowly"
        return Finding("kernel cache", NOTE, detail, remedy)
    return Finding("kernel cache", OK, f"compiled kernels are kept in {folder}")


def _check_run() -> Finding:
    """Segment a drawn disk, to see that everything works together."""
    import numpy as np

    from cellseg_engine.pipeline.segmenter import Segmenter
    from cellseg_engine.settings import make_settings

    y, x = np.mgrid[:96, :96]
    disk = 1000.0 * np.exp(-((((y - 48) ** 2 + (x - 48) ** 2) / 12**2) ** 4))
    result = Segmenter(make_settings(diameter_px=24)).segment(disk)
    if result.n_objects != 1:
        return Finding(
            "test segmentation",
            PROBLEM,
            f"found {result.n_objects} objects in a drawing of one",
            "Install cellseg-engine again.",
        )
    return Finding(
        "test segmentation",
        OK,
        f"works, on {result.provenance['device']} in {result.provenance['precision']}, by "
        f"{result.provenance['runtime']['name']}",
    )


def _check_service() -> Finding:
    """Ask the client, as any host does, whether an engine runs; none is started."""
    answer = subprocess.run(
        [sys.executable, "-m", "cellseg_client", "status"],
        capture_output=True,
        text=True,
        timeout=SERVICE_TIMEOUT_S,
        check=False,
    )
    about = json.loads(answer.stdout)
    if about.get("running"):
        return Finding(
            "service",
            OK,
            f"an engine runs at {about['url']} (process {about['pid']}, version "
            f"{about['version']})",
        )
    if "error" in about:
        return Finding("service", PROBLEM, about["error"]["message"], about["error"]["hint"])
    return Finding("service", OK, "no engine runs as a service; hosts start one when needed")


def _describe_cpu() -> str:
    name = platform.processor() or platform.machine()
    flags: set[str] = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        values = {key.strip(): value.strip() for key, value in fields.items()}
        name = values.get("model name", name)
        flags = set(values.get("flags", "").split())
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if unit in flags]
    return f"{name}, {os.cpu_count()} cores" + (f", {' '.join(units)}" if units else "")
