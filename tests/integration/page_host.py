"""The status page in a browser, in front of a pretend engine: fixtures and what looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.integration.browser import (
    TOKEN,
    PretendEngine,
    chromium,
    complaints,
    text_of,
    wait_for,
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def engine(browser: Chrome) -> Iterator[PretendEngine]:
    engine = PretendEngine()
    engine.start()
    browser.get("about:blank")
    complaints(browser)  # forget what earlier tests left
    emulate(browser)
    yield engine
    browser.get("about:blank")
    engine.stop()


@pytest.fixture
def page(browser: Chrome, engine: PretendEngine) -> Chrome:
    """Open the page with the right token and wait for the first status."""
    browser.get(f"{engine.url}#token={TOKEN}")
    wait_for(lambda: text_of(browser, "#recent .title"), "the first status")
    return browser


def emulate(browser: Chrome, width: int = 1100, height: int = 1000, theme: str = "light") -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def texts(browser: Chrome, selector: str) -> list[str]:
    return [found.text for found in browser.find_elements(By.CSS_SELECTOR, selector)]


def run(browser: Chrome, code: str, *arguments: Any) -> Any:
    return browser.execute_script(code, *arguments)


def let_go_of_the_mouse(browser: Chrome) -> None:
    """Wait until a second click counts as one of its own."""
    run(browser, "return new Promise(done => setTimeout(done, 500))")


def open_without_token(browser: Chrome, engine: PretendEngine) -> None:
    """Open the page as who has no token: it asks for it."""
    browser.get(engine.url)
    run(browser, "sessionStorage.clear()")
    browser.refresh()
    wait_for(lambda: "Which token" in text_of(browser, "#message"), "the question")
