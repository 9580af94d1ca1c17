"""A worker without HTTP: memory of the GPU, memory of the computer, models kept."""

from __future__ import annotations

import asyncio
import errno
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cellseg_engine.settings import Settings, make_settings
from cellseg_service import memory, worker
from cellseg_service.exchange import Exchange
from cellseg_service.jobs import Event, Job, Mailbox
from cellseg_service.messages import SegmentRequest
from cellseg_service.worker import Worker
from tests.integration.cli import disks
from tests.integration.service_fake import FakeSegmenter


class SmallGpu(FakeSegmenter):
    """Runs out of memory with batches above ``fits``."""

    fits = 4
    batches: list[int]

    def segment(self, image: np.ndarray, axes: str | None = None, **options: Any) -> Any:
        batch = options["settings"].batch_size
        self.batches.append(batch)
        if batch > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().segment(image, axes, **options)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    exchange = Exchange(None, tmp_path)
    yield exchange
    exchange.close()


class Bench:
    """A worker, and what it loaded."""

    def __init__(self, exchange: Exchange, kind: type[FakeSegmenter]) -> None:
        self.exchange = exchange
        self.loaded: list[str] = []
        self.worker = Worker(
            "cpu", self._make, exchange, lambda path, _: {"path": str(path)}, lambda: None
        )
        self._kind = kind

    def _make(self, settings: Settings) -> FakeSegmenter:
        self.loaded.append(f"{settings.model} {settings.device}")
        return self._kind(settings)

    def run(self, outputs: Sequence[str] = ("labels",), **settings: Any) -> Event:
        path = self.exchange.save_array(disks())
        request = SegmentRequest.model_validate(
            {"wire": 1, "image": {"array": "a.npy"}, "outputs": outputs}
        )
        loop = asyncio.new_event_loop()
        try:
            job = Job(request, make_settings(settings), path, False, Mailbox(loop))
            return self.worker(job)
        finally:
            loop.close()


def test_the_batch_is_halved_once_with_a_warning(exchange: Exchange) -> None:
    SmallGpu.batches = []
    result = Bench(exchange, SmallGpu).run(batch_size=8)
    assert result["status"] == "ok"
    assert SmallGpu.batches == [8, 4]
    assert "too small for batches of 8 tiles, so 4 were used" in result["warnings"][0]


def test_a_gpu_that_is_too_small_for_half_too_refuses(exchange: Exchange) -> None:
    SmallGpu.batches = []
    result = Bench(exchange, SmallGpu).run(batch_size=32)
    assert SmallGpu.batches == [32, 16]
    assert result["status"] == "refused"
    assert result["error"]["code"] == "memory"
    assert (
        "even for batches of 16 tiles: CUDA out of memory. Tried to allocate 2.00 GiB"
        in (result["error"]["message"])
    )
    assert len(list(exchange.large.glob("*.npy"))) == 1  # the input, which the job removes


class Endless(FakeSegmenter):
    """Measures a diameter that is no number."""

    def segment(self, image: np.ndarray, axes: str | None = None, **options: Any) -> Any:
        return replace(super().segment(image, axes, **options), diameter_px=math.nan)


def test_a_result_that_json_cannot_say_is_a_failure_and_leaves_no_file(exchange: Exchange) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Bench(exchange, Endless).run()
    assert len(list(exchange.large.glob("*.npy"))) == 1  # the input, which the job removes


def test_two_models_are_kept(exchange: Exchange) -> None:
    bench = Bench(exchange, FakeSegmenter)
    for model in ("a", "b", "a", "b", "c", "a", "a"):
        assert bench.run(model=model)["status"] == "ok"
    assert bench.loaded == ["a cpu", "b cpu", "c cpu", "a cpu"]


def test_a_model_imported_anew_is_loaded_anew(exchange: Exchange, tmp_path: Path) -> None:
    bench = Bench(exchange, FakeSegmenter)
    weights = tmp_path / "net.safetensors"
    for content in (b"one", b"another"):
        weights.write_bytes(content)
        bench.run(model=str(weights))
        bench.run(model=str(weights))
    assert len(bench.loaded) == 2


def test_an_image_that_does_not_fit_is_refused_with_the_numbers(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 50_000)
    bench = Bench(exchange, FakeSegmenter)
    result = bench.run()
    assert result["status"] == "refused"
    assert "needs at least 0.77 MB and 0.05 MB are free" in result["error"]["message"]
    assert bench.loaded == []


def test_memory_that_runs_out_is_refused(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_arguments: Any, **_options: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(FakeSegmenter, "segment", run_out)
    result = Bench(exchange, FakeSegmenter).run()
    assert result["status"] == "refused"
    assert "The memory ran out while the image was segmented on cpu" in result["error"]["message"]


def test_a_table_that_does_not_fit_is_refused_and_leaves_no_file(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[Path] = []

    def begin(path: Path, *_arguments: object) -> None:
        paths.append(path)
        assert path.stat().st_mode & 0o077 == 0
        path.write_text("label", encoding="utf-8")
        raise OSError(errno.ENOSPC, "No space left on device")

    assert Bench(exchange, FakeSegmenter).run(["table"])["status"] == "ok"
    before = set(exchange.large.iterdir())
    monkeypatch.setattr(worker, "write_table", begin)
    result = Bench(exchange, FakeSegmenter).run(["table"])
    assert result["error"]["code"] == "exchange-full"
    assert {path.parent for path in paths} == {exchange.large}
    assert len(set(exchange.large.iterdir()) - before) == 1  # the input, which the job removes
