"""The status page in a real browser, in front of a status made up for it."""

from __future__ import annotations

import re
from http.client import HTTPConnection

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from cellseg_service.page import build_page
from tests.integration import page_host
from tests.integration.browser import (
    HOSTILE,
    TOKEN,
    PretendEngine,
    complaints,
    text_of,
    wait_for,
)
from tests.integration.page_host import (
    emulate,
    let_go_of_the_mouse,
    open_without_token,
    run,
    texts,
)

browser, engine, page = page_host.browser, page_host.engine, page_host.page


# --- what it shows -----------------------------------------------------------------------------


def test_everything_in_the_status_is_shown(page: Chrome) -> None:
    assert text_of(page, "#version") == "version 0.1.0"
    assert text_of(page, "#state") == "working"
    facts = dict(zip(texts(page, "#facts dt"), texts(page, "#facts dd"), strict=True))
    assert facts == {
        "Device": "cpu (8 threads)",
        "Memory": "1.4 of 16.6 GB",
        "Up for": "1 h 23 min",
        "Models loaded": "1",
        "Images done": "231",
        "Refused": "2",
        "Failed": "1",
        "Cancelled": "4",
    }
    assert texts(page, "#running .title") == ["plate 12, well B07, site 3"]
    assert texts(page, "#running .detail") == ["network · 62 % · 4.2 s · CellProfiler on lab-3"]
    assert run(page, "return document.querySelector('progress').position") == pytest.approx(0.62)
    assert texts(page, "#queued .detail")[0] == "place 1 in the queue · Fiji on lab-1"
    assert texts(page, "#recent .status") == [
        "done: 187 objects",
        "done: 1 object",
        "done: 0 objects",
        "refused",
        "cancelled",
    ]
    assert texts(page, "#recent .warning") == ["No objects were found: the result is empty."]
    (error,) = texts(page, "#recent .error")
    assert error.startswith("This image needs about 41 GB and the device has 8 GB. Cut it into")
    assert page.title == "(3) CellSeg engine"


def test_it_follows_the_engine_without_a_reload(page: Chrome, engine: PretendEngine) -> None:
    run(page, "window.same = document.querySelector('#running li')")
    run(page, "document.querySelector('#running button').focus()")
    engine.status["running"][0].update(fraction=0.9, stage="labels", plane=2, planes=10)
    wait_for(
        lambda: "plane 3 of 10 · labels · 90 %" in text_of(page, "#running .detail"),
        "the new stage",
    )
    assert run(page, "return window.same === document.querySelector('#running li')")
    assert run(page, "return document.activeElement.textContent") == "Cancel"
    engine.status.update(running=[], queued=[], recent=[])
    wait_for(lambda: "Nothing is running." in text_of(page, "#running-empty"), "an idle engine")
    assert text_of(page, "#queued-empty") == "Nobody is waiting."
    assert text_of(page, "#recent-empty") == "No results since the engine started."
    assert (text_of(page, "#state"), page.title) == ("ready", "CellSeg engine")


def test_a_status_with_nothing_in_it_is_shown_too(page: Chrome, engine: PretendEngine) -> None:
    engine.status = {"running": [{"id": "x", "title": 5, "fraction": None}], "recent": [{}]}
    wait_for(lambda: texts(page, "#running .title") == ["untitled image"], "the bare status")
    assert run(page, "return document.querySelector('progress').position") == -1
    assert texts(page, "#facts dd") == ["not chosen yet"]
    assert complaints(page) == []


def test_thumbnails_are_loaded_once_and_given_back(page: Chrome, engine: PretendEngine) -> None:
    def loaded() -> list[str]:
        code = (
            "return [...document.querySelectorAll('#recent img')]"
            ".filter(i => i.naturalWidth === 192).map(i => i.src)"
        )
        found: list[str] = run(page, code)
        return found

    wait_for(lambda: len(loaded()) == 2, "both thumbnails")
    assert all(address.startswith("blob:") for address in loaded())
    before = len(engine.asked)
    wait_for(lambda: len(engine.asked) > before + 2, "more rounds")
    asked = [url for _, url, _ in engine.asked if "thumbnails" in url]
    assert len(asked) == len(set(asked)) == 2
    address = loaded()[0]
    engine.status["recent"] = engine.status["recent"][1:]
    wait_for(lambda: len(loaded()) == 1, "one thumbnail less")
    gone = "return fetch(arguments[0]).then(() => false, () => true)"
    assert run(page, gone, address)


# --- what it does ------------------------------------------------------------------------------


def test_cancel_asks_twice_and_then_cancels(page: Chrome, engine: PretendEngine) -> None:
    button = page.find_element(By.CSS_SELECTOR, "#queued li:nth-child(2) button")
    button.click()
    assert button.text == "Really cancel?"
    let_go_of_the_mouse(page)
    assert not [method for method, _, _ in engine.asked if method == "DELETE"]
    button.click()
    wait_for(lambda: len(texts(page, "#queued li")) == 1, "a shorter queue")
    deleted = [(url, token) for method, url, token in engine.asked if method == "DELETE"]
    assert deleted == [(f"{engine.url}v1/jobs/job-9", TOKEN)]


def test_a_cancel_that_was_not_meant_is_forgotten(page: Chrome) -> None:
    button = page.find_element(By.CSS_SELECTOR, "#running button")
    button.click()
    assert button.text == "Really cancel?"
    wait_for(lambda: button.text == "Cancel", "the button as it was")


# --- who may see it ----------------------------------------------------------------------------


def test_the_token_is_sent_in_a_header_only(page: Chrome, engine: PretendEngine) -> None:
    assert page.current_url == engine.url
    wait_for(lambda: any("thumbnails" in url for _, url, _ in engine.asked), "a thumbnail")
    assert {token for _, _, token in engine.asked} == {TOKEN}
    assert not [url for _, url, _ in engine.asked if TOKEN in url]
    assert run(page, "return document.cookie + JSON.stringify({...localStorage})") == "{}"
    page.refresh()
    wait_for(lambda: text_of(page, "#recent .title"), "the status after a reload")


def test_without_a_token_it_asks_for_it(browser: Chrome, engine: PretendEngine) -> None:
    open_without_token(browser, engine)
    assert engine.asked == []
    assert text_of(browser, "#board") == ""
    field = browser.find_element(By.ID, "token")
    field.send_keys(" " + TOKEN + "\n")
    wait_for(lambda: text_of(browser, "#recent .title"), "the status")
    assert text_of(browser, "#message") == text_of(browser, "#login") == ""


def test_a_wrong_token_is_said_and_nothing_is_shown(page: Chrome, engine: PretendEngine) -> None:
    engine.token = "of the next engine"
    wait_for(lambda: "not the engine's" in text_of(page, "#message"), "the message")
    assert "It changes each time the engine starts." in text_of(page, "#message")
    assert text_of(page, "#state") == "wrong token"
    assert text_of(page, "#board") == ""
    assert run(page, "return sessionStorage.length") == 0
    before = len(engine.asked)
    run(page, "return new Promise(done => setTimeout(done, 1500))")
    assert len(engine.asked) == before  # no guessing once a second


def test_an_engine_that_has_gone_is_said_and_found_again(
    page: Chrome, engine: PretendEngine
) -> None:
    engine.stop()
    wait_for(lambda: "does not answer" in text_of(page, "#message"), "the message")
    assert "It was last seen at" in text_of(page, "#message")
    assert run(page, "return document.getElementById('board').inert")
    engine.start()
    wait_for(lambda: text_of(page, "#message") == "", "the engine again")
    assert not run(page, "return document.getElementById('board').inert")


def test_an_engine_in_trouble_speaks_for_itself(page: Chrome, engine: PretendEngine) -> None:
    engine.trouble = 503
    wait_for(lambda: "The queue is full." in text_of(page, "#message"), "the engine's message")
    assert "Wait a little." in text_of(page, "#message")
    engine.trouble = 0
    wait_for(lambda: text_of(page, "#message") == "", "the status again")


# --- what cannot happen ------------------------------------------------------------------------


def test_texts_of_users_are_shown_as_they_are(page: Chrome, engine: PretendEngine) -> None:
    for part in ("running", "queued", "recent"):
        engine.status[part] = [
            {
                "id": HOSTILE,
                "title": HOSTILE,
                "client": HOSTILE,
                "stage": HOSTILE,
                "status": HOSTILE,
                "warnings": [HOSTILE],
                "error": {"message": HOSTILE, "hint": HOSTILE},
                "thumbnail": "//example.org/v1/thumbnails/" + HOSTILE,
            }
        ]
    engine.status["device"] = engine.status["version"] = HOSTILE
    wait_for(lambda: texts(page, "#running .title") == [HOSTILE], "the title")
    assert run(page, "return window.pwned") is None
    assert run(page, "return document.querySelectorAll('img').length") == 0
    assert not [url for _, url, _ in engine.asked if "thumbnails/<" in url]


def test_injected_html_would_not_run(page: Chrome) -> None:
    run(page, "document.body.insertAdjacentHTML('beforeend', arguments[0])", HOSTILE)
    run(
        page,
        "const s = document.createElement('script'); s.textContent = 'window.pwned = 2';"
        "document.body.append(s)",
    )
    refused = wait_for(lambda: complaints(page), "the browser's complaint")
    assert "Content Security Policy" in refused[0]["message"]
    assert run(page, "return window.pwned") is None


def test_nothing_is_asked_of_anybody_else(page: Chrome, engine: PretendEngine) -> None:
    code = "return performance.getEntriesByType('resource').map(e => e.name)"
    addresses = run(page, code)
    assert addresses
    assert all(re.sub(r"^blob:", "", address).startswith(engine.url) for address in addresses)
    assert complaints(page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_on_a_phone(page: Chrome, theme: str) -> None:
    emulate(page, 360, 740, theme)
    wide = (
        "return [...document.querySelectorAll('body *')].filter("
        "e => e.getBoundingClientRect().right > 360).length"
    )
    assert run(page, "return document.documentElement.scrollWidth") == 360
    assert run(page, wide) == 0
    height = run(page, "return document.querySelector('#queued button').offsetHeight")
    assert height >= 40  # a thumb hits it


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_its_texts_are_easy_to_read(page: Chrome, theme: str) -> None:
    emulate(page, theme=theme)
    code = """
      const light = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
          .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ground = (e) => {
        const color = getComputedStyle(e).backgroundColor;
        return color !== 'rgba(0, 0, 0, 0)' ? color : ground(e.parentElement);
      };
      return [...document.querySelectorAll('h1, h2, p, dt, dd, button')]
        .filter((e) => e.offsetHeight && e.textContent).map((e) => {
          const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
          return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent];
        });
    """
    contrasts = run(page, code)
    assert len(contrasts) > 20
    assert [text for contrast, text in contrasts if contrast < 4.5] == []


def test_the_answer_is_one_page_with_strict_headers(engine: PretendEngine) -> None:
    connection = HTTPConnection("127.0.0.1", engine.port, timeout=10)
    connection.request("GET", "/")
    answer = connection.getresponse()
    body, headers = build_page()
    assert answer.read() == body
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert {name: answer.headers[name] for name in headers} == headers
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    text = body.decode()
    assert "@style@" not in text
    assert "@script@" not in text
    assert not re.findall(r"https?://|innerHTML|localStorage", text)
    connection.request("POST", "/")
    assert connection.getresponse().status == 405
    connection.close()
