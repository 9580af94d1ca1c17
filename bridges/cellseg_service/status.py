"""What the status page is told of each job: what runs, what waits, how it ended; and of the GPU."""

from __future__ import annotations

import logging
import sys
from typing import Any

from cellseg_service.jobs import Ended, Job

log = logging.getLogger(__name__)


def describe_running(job: Job, now: float) -> dict[str, Any]:
    """Give a job that runs; ``now`` is monotonic, in seconds."""
    return {
        **_about(job),
        "stage": job.progress.get("stage", ""),
        "fraction": job.progress.get("fraction"),
        "plane": job.progress.get("plane", 0),
        "planes": job.progress.get("planes", 1),
        "seconds": round(now - job.started_at, 2),
    }


def describe_waiting(job: Job, position: int) -> dict[str, Any]:
    """Give a job that waits, and how many come first."""
    return {**_about(job), "position": position}


def describe_ended(ended: Ended) -> dict[str, Any]:
    """Give how an image ended; one that was refused on arrival took no seconds."""
    return {
        **_outcome(ended),
        "title": ended.title,
        "objects": ended.result.get("objects"),
        "diameter_px": ended.result.get("diameter_px"),
        "sequence": ended.sequence,
        "thumbnail": f"/v1/thumbnails/{ended.id}.png" if ended.preview else None,
    }


def describe_ended_training(ended: Ended) -> dict[str, Any]:
    """Give how a training ended."""
    numbers = {name: ended.result.get(name) for name in ("images", "objects", "epochs")}
    return {**_outcome(ended), "model": ended.title, **numbers}


def describe_gpu(torch: Any) -> dict[str, Any] | None:
    """Give the memory of the GPU in use; None without one, or if it does not say.

    Parameters
    ----------
    torch
        The module, or None before it is imported.
    """
    try:
        if torch is None or not torch.cuda.is_initialized():
            return None
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
    except RuntimeError as error:  # after a crash of a kernel every call fails
        log.debug("the GPU does not answer: %s", error)
        return None
    return {"name": name, "used_bytes": total - free, "total_bytes": total}


def loaded_torch() -> Any:
    """Give the module torch if something has imported it, else None."""
    return sys.modules.get("torch")


def _about(job: Job) -> dict[str, Any]:
    return {"id": job.id, "client": job.client, "title": job.request.title}


def _outcome(ended: Ended) -> dict[str, Any]:
    return {
        "id": ended.id,
        "client": ended.client,
        "status": ended.result.get("status", ""),
        "seconds": ended.result.get("seconds", {}).get("total"),
        "ended_at": round(ended.ended_at, 3),
        "warnings": ended.result.get("warnings", []),
        "error": ended.result.get("error"),
    }
