"""What the status says when the GPU or a training does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from cellseg_service.jobs import Ended
from cellseg_service.status import describe_ended_training, describe_gpu
from cellseg_service.training import _read


def cuda(**more: Any) -> SimpleNamespace:
    """Give a torch whose GPU has 3 of 8 GB free."""
    known = {
        "is_initialized": lambda: True,
        "mem_get_info": lambda: (3, 8),
        "get_device_name": lambda: "A100",
    }
    return SimpleNamespace(cuda=SimpleNamespace(**{**known, **more}))


def test_the_memory_of_the_gpu() -> None:
    assert describe_gpu(cuda()) == {"name": "A100", "used_bytes": 5, "total_bytes": 8}
    assert describe_gpu(None) is None
    assert describe_gpu(cuda(is_initialized=lambda: False)) is None


def test_a_gpu_that_crashed_is_none() -> None:
    def fail() -> tuple[int, int]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    assert describe_gpu(cuda(mem_get_info=fail)) is None


def test_a_loss_that_is_no_number_is_told_as_none() -> None:
    assert _read(b'{"event": "progress", "loss": Infinity, "fraction": NaN}') == {
        "event": "progress",
        "loss": None,
        "fraction": None,
    }


def test_how_a_training_ended() -> None:
    result = {"status": "ok", "images": 3, "objects": 40, "epochs": 2, "seconds": {"total": 9.5}}
    about = describe_ended_training(Ended("id", "Fiji", "mine", result, ended_at=5.0))
    assert about == {
        "id": "id",
        "client": "Fiji",
        "model": "mine",
        "status": "ok",
        "images": 3,
        "objects": 40,
        "epochs": 2,
        "seconds": 9.5,
        "ended_at": 5.0,
        "warnings": [],
        "error": None,
    }
