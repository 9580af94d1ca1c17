"""The status page in front of the real engine: what it shows is what the engine does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from cellseg_client import Engine, EngineError, SegmentationCancelledError, connect
from cellseg_client.start import find_engine
from tests.integration.browser import chromium, complaints, text_of, wait_for
from tests.integration.cli import disks
from tests.integration.page_host import let_go_of_the_mouse


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    with subprocess.Popen(
        [sys.executable, "-m", "cellseg_service", "--background"],
        env={**os.environ, "CELLSEG_RUNTIME": str(folder)},
    ) as process:
        found = wait_for(lambda: find_engine(folder), "the engine")
        assert found is not None
        yield connect(found.record["url"], found.record["token"])
        process.terminate()


@pytest.fixture(scope="module")
def page(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    profile: Path = tmp_path_factory.mktemp("profile")
    with chromium(profile) as browser:
        browser.get(f"{engine.url}/#token={engine.token}")
        wait_for(lambda: text_of(browser, "#version").startswith("version "), "the status")
        yield browser


def test_a_result_is_shown_with_its_outlines(engine: Engine, page: Chrome) -> None:
    result = engine.segment(disks(), "YX", {"diameter_px": 24}, title="four disks.tif")
    status = "done: 1 object" if result.n_objects == 1 else f"done: {result.n_objects} objects"
    wait_for(lambda: text_of(page, "#recent .title") == "four disks.tif", "the result")
    assert text_of(page, "#recent .status") == status
    assert "diameter 24.0 px" in text_of(page, "#recent .detail")
    code = "return document.querySelector('#recent img')?.naturalWidth"
    assert wait_for(lambda: page.execute_script(code), "the outlines") == disks().shape[1]


def test_a_refused_image_is_shown_with_the_reason(engine: Engine, page: Chrome) -> None:
    with pytest.raises(EngineError) as caught:
        engine.segment(disks(), "YX", {"channel": "7"}, title="no such channel.tif")
    wait_for(lambda: text_of(page, "#recent .title") == "no such channel.tif", "the refusal")
    assert text_of(page, "#recent .status") == "refused"
    assert caught.value.message in text_of(page, "#recent .error")


def test_a_running_job_is_cancelled_by_its_button(engine: Engine, page: Chrome) -> None:
    ended: list[Any] = []

    def segment() -> None:
        try:
            ended.append(engine.segment(np.tile(disks(), (16, 16)), "YX", title="a large one.tif"))
        except SegmentationCancelledError as error:
            ended.append(error)

    thread = threading.Thread(target=segment, daemon=True)
    thread.start()
    wait_for(lambda: text_of(page, "#running .title") == "a large one.tif", "the running job")
    button = page.find_element(By.CSS_SELECTOR, "#running button")
    button.click()
    let_go_of_the_mouse(page)
    button.click()
    thread.join(60)
    assert [type(outcome) for outcome in ended] == [SegmentationCancelledError]
    wait_for(lambda: text_of(page, "#recent .title") == "a large one.tif", "its end")
    assert text_of(page, "#recent .status") == "cancelled"
    assert complaints(page) == []
