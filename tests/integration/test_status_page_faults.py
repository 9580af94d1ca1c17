"""The status page when something is wrong or odd, and what it shows of trainings and long lists."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.integration import page_host
from tests.integration.browser import (
    TOKEN,
    PretendEngine,
    example_training,
    recent,
    text_of,
    wait_for,
)
from tests.integration.page_host import let_go_of_the_mouse, open_without_token, run, texts

browser, engine, page = page_host.browser, page_host.engine, page_host.page

NO_STORAGE = """
Object.defineProperty(window, "sessionStorage", {get() { throw new Error("blocked"); }});
"""
WATCH_FOCUS = "window.lost = 0; addEventListener('blur', () => window.lost++, true);"
FOCUSED = "return document.activeElement.getAttribute('aria-label')"


def deleted(engine: PretendEngine) -> list[str]:
    return [url for method, url, _ in engine.asked if method == "DELETE"]


def waiting(number: int) -> dict[str, Any]:
    return {"id": f"w{number}", "title": f"image {number}", "client": "x", "position": number}


# --- an answer that does not come, or is none ----------------------------------------------------


def test_half_an_answer_is_no_answer_and_the_page_goes_on(
    page: Chrome, engine: PretendEngine
) -> None:
    engine.is_stuck = True
    wait_for(lambda: "does not answer" in text_of(page, "#message"), "the message")
    assert text_of(page, "#state") == "no answer"
    engine.is_stuck = False
    wait_for(lambda: text_of(page, "#message") == "", "the status again")
    assert text_of(page, "#state") == "working"


def test_a_status_that_cannot_be_shown_is_said_and_the_page_goes_on(
    page: Chrome, engine: PretendEngine
) -> None:
    there, engine.status["recent"] = engine.status["recent"], [None]
    wait_for(lambda: "does not understand" in text_of(page, "#message"), "the message")
    assert page.title == "trouble - CellSeg engine"
    engine.status["recent"] = there
    wait_for(lambda: text_of(page, "#message") == "", "the status again")


def test_an_engine_that_cannot_segment_says_so(page: Chrome, engine: PretendEngine) -> None:
    engine.status.update(state="failed", running=[])
    wait_for(lambda: text_of(page, "#state") == "cannot segment", "the state")


# --- the token -----------------------------------------------------------------------------------


@pytest.fixture
def blocked(browser: Chrome) -> Iterator[None]:
    """Let the browser keep no data of sites."""
    command = "Page.addScriptToEvaluateOnNewDocument"
    script = browser.execute_cdp_cmd(command, {"source": NO_STORAGE})
    yield
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_browser_that_keeps_nothing_shows_the_status_too(
    browser: Chrome, engine: PretendEngine, blocked: None
) -> None:
    browser.get(f"{engine.url}#token={TOKEN}")
    wait_for(lambda: text_of(browser, "#recent .title"), "the status")
    browser.get("about:blank")
    browser.get(engine.url)
    wait_for(lambda: "Which token" in text_of(browser, "#message"), "the question")
    browser.find_element(By.ID, "token").send_keys(TOKEN + "\n")
    wait_for(lambda: text_of(browser, "#recent .title"), "the status")


def test_what_is_pasted_as_a_token(browser: Chrome, engine: PretendEngine) -> None:
    open_without_token(browser, engine)
    for typographic in ("right\u2013token", "\u201c" + TOKEN, TOKEN.replace("-", " ")):
        browser.find_element(By.ID, "token").send_keys(typographic + "\n")
        wait_for(lambda: "No token has the character" in text_of(browser, "#message"), "the reason")
        assert text_of(browser, "#state") == "wrong token"
    assert engine.asked == []
    browser.find_element(By.ID, "token").send_keys(f" {engine.url}#token={TOKEN} \n")
    wait_for(lambda: text_of(browser, "#recent .title"), "the status")
    assert {token for _, _, token in engine.asked} == {TOKEN}


# --- the focus and the buttons -------------------------------------------------------------------


def test_the_focus_stays_at_a_job_that_moves_up_and_begins(
    page: Chrome, engine: PretendEngine
) -> None:
    engine.status["queued"] = [waiting(number) for number in range(4)]
    wait_for(lambda: len(texts(page, "#queued li")) == 4, "the queue")
    run(page, "document.querySelector('#queued li:nth-child(3) button').focus();" + WATCH_FOCUS)
    engine.status["queued"] = [waiting(number) for number in (1, 2, 3)]
    wait_for(lambda: len(texts(page, "#queued li")) == 3, "one less")
    assert run(page, FOCUSED) == "Cancel: image 2"
    assert run(page, "return window.lost") == 0
    engine.status["queued"] = [waiting(3)]
    engine.status["running"] = [{"id": "w2", "title": "image 2", "fraction": 0.1}]
    wait_for(lambda: texts(page, "#running .title") == ["image 2"], "its start")
    assert run(page, FOCUSED) == "Cancel: image 2"
    assert run(page, "return !!document.activeElement.closest('#running')")


def test_a_double_click_cancels_nothing(page: Chrome, engine: PretendEngine) -> None:
    run(page, "const b = document.querySelector('#running button'); b.click(); b.click();")
    button = page.find_element(By.CSS_SELECTOR, "#running button")
    assert button.text == "Really cancel?"
    label = button.get_attribute("aria-label")
    assert label == "Really cancel?: plate 12, well B07, site 3"
    let_go_of_the_mouse(page)
    assert deleted(engine) == []


# --- trainings, long lists and long titles -------------------------------------------------------


def test_a_training_is_shown_as_work_and_cancelled_at_the_page(
    page: Chrome, engine: PretendEngine
) -> None:
    engine.status.update(running=[], queued=[], training=example_training())
    wait_for(lambda: texts(page, "#running .title") == ["Training of mine"], "the training")
    assert text_of(page, "#running .detail") == "epoch 25 of 100 · 25 % · 2 min 5 s · Fiji on lab-1"
    assert run(page, "return document.querySelector('#running progress').value") == 0.25
    assert text_of(page, "#state") == "working"
    assert page.title == "(1) CellSeg engine"
    engine.status["training"].update(stage="", epoch=0, epochs=0, fraction=None)
    wait_for(lambda: text_of(page, "#running .detail").startswith("preparing · "), "the stage")
    button = page.find_element(By.CSS_SELECTOR, "#running button")
    button.click()
    let_go_of_the_mouse(page)
    button.click()
    wait_for(lambda: deleted(engine), "the request")
    assert deleted(engine) == [f"{engine.url}v1/jobs/training-1"]


def test_how_a_training_ended_stands_among_the_last_results(
    page: Chrome, engine: PretendEngine
) -> None:
    now = time.time()
    ended = {"id": "training-1", "model": "mine", "status": "ok", "images": 12, "objects": 1}
    engine.status["recent_trainings"] = [{**ended, "ended_at": now - 60, "seconds": 600}]
    engine.status["recent"] = [
        recent("job-9", "after.tif", objects=2, ended_at=now),
        recent("job-8", "before.tif", objects=2, ended_at=now - 120),
    ]
    titles = ["after.tif", "Training of mine", "before.tif"]
    wait_for(lambda: texts(page, "#recent .title") == titles, "the order of time")
    assert texts(page, "#recent .status")[1] == "done: 12 images, 1 object"
    clock = "return new Date(arguments[0] * 1000).toLocaleTimeString([], arguments[1])"
    time_of_day = run(page, clock, now, {"hour": "2-digit", "minute": "2-digit"})
    assert texts(page, "#recent .detail")[0].startswith(f"{time_of_day} · 3.1 s · ")


def test_of_a_long_queue_the_first_twenty_are_shown(page: Chrome, engine: PretendEngine) -> None:
    engine.status["queued"] = [waiting(number) for number in range(30)]
    wait_for(lambda: text_of(page, "#queued-more") == "and 10 more", "the rest")
    assert len(texts(page, "#queued li")) == 20
    assert text_of(page, "#queued-count") == "30"
    engine.status["queued"] = [waiting(0)]
    wait_for(lambda: len(texts(page, "#queued li")) == 1, "a short queue")
    assert text_of(page, "#queued-more") == ""


def test_a_long_title_takes_three_lines(page: Chrome, engine: PretendEngine) -> None:
    title = "a very long name of a folder " * 15
    engine.status["recent"] = [recent("job-9", title, objects=2)]
    wait_for(lambda: len(texts(page, "#recent li")) == 1, "the result")
    shown = page.find_element(By.CSS_SELECTOR, "#recent .title")
    lines = (
        "const e = arguments[0]; return e.offsetHeight / parseFloat(getComputedStyle(e).lineHeight)"
    )
    assert run(page, lines, shown) == pytest.approx(3, abs=0.1)
    assert shown.get_attribute("title") == title
