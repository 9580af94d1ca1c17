"""Help for tests that look at ImageJ's windows: find them, press keys, take pictures."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.integration.fiji_host import ImageJ
from tests.integration.service import wait_until

KEEP_VARIABLE = "CELLSEG_SCREENSHOTS"
"""A folder to keep the pictures in; those in docs/images were made so."""
MIN_COLOURS = 3
"""Of a painted window without its frame: a window manager may draw that later, or not at all."""

_WINDOWS = """
from java.awt import Window, Frame, Dialog
def title_of(window):
    return window.getTitle() if isinstance(window, (Frame, Dialog)) else ""
def shown():
    return [window for window in Window.getWindows() if window.isShowing()]
def find(title):
    found = [window for window in shown() if title_of(window) == title]
    return found[-1] if found else None
"""
_WALK = """
from java.awt import Button, Checkbox, Container, TextComponent
from ij.gui import MultiLineLabel
def parts(window):
    found = []
    for part in window.getComponents() if window else ():
        found.append(part)
        if isinstance(part, Container):
            found += parts(part)
    return found
"""
_PRESS = """
from java.awt import Robot
from java.awt.event import KeyEvent
robot = Robot()
robot.setAutoDelay(100)  # quicker ones get lost
robot.keyPress(getattr(KeyEvent, {key}))
robot.keyRelease(getattr(KeyEvent, {key}))
"""
_PICTURE = """
from java.awt import Rectangle, Robot, Toolkit
from javax.imageio import ImageIO
from java.io import File
robot = Robot()
robot.delay(500)  # a window manager moves windows when it likes
whole = Rectangle(Toolkit.getDefaultToolkit().getScreenSize())
area = Rectangle(-1, -1)
for window in shown():
    if not {titles} or title_of(window) in {titles}:
        area.add(window.getBounds())
if {size}:
    area.add(Rectangle(*{size}))
picture = robot.createScreenCapture(area.intersection(whole))
ImageIO.write(picture, "png", File({path}))
result = len(set(picture.getRGB(x, y) for x in range(0, picture.width, 3)
                 for y in range(0, picture.height, 3)))
"""


def window_titles(imagej: ImageJ) -> list[str]:
    """Give the titles of the windows that are shown."""
    titles: list[str] = imagej.python(_WINDOWS + "result = [title_of(w) for w in shown()]")
    return titles


def wait_for_window(imagej: ImageJ, title: str, seconds: float = 60) -> None:
    """Wait until a window with this title is shown."""
    deadline = time.monotonic() + seconds
    while title not in window_titles(imagej):
        if time.monotonic() > deadline:
            shown = {other: window_texts(imagej, other) for other in window_titles(imagej)}
            pytest.fail(f"no window called {title!r} within {seconds:g} s, but {shown}")
        time.sleep(0.05)


def window_texts(imagej: ImageJ, title: str) -> list[str]:
    """Give the texts of labels, fields and buttons of a window, in order."""
    texts: list[str] = imagej.python(
        _WINDOWS
        + _WALK
        + f"""
result = []
for part in parts(find({json.dumps(title)})):
    if isinstance(part, (Button, Checkbox)):
        result.append(part.getLabel().strip())
    elif hasattr(part, "getText"):
        result.append(part.getText() or "")
    elif isinstance(part, MultiLineLabel):
        lines = MultiLineLabel.getDeclaredField("lines")  # which it does not give away
        lines.setAccessible(True)
        result += list(lines.get(part))
"""
    )
    return texts


def window_size(imagej: ImageJ, title: str) -> tuple[int, int]:
    """Give width and height of a window, in px of the screen."""
    found = json.dumps(title)
    width, height = imagej.python(_WINDOWS + f"w = find({found})\nresult = [w.width, w.height]")
    return width, height


def hidden_parts(imagej: ImageJ, title: str) -> list[str]:
    """Give the parts of a window that are not inside it, and so cannot be seen."""
    hidden: list[str] = imagej.python(
        _WINDOWS
        + _WALK
        + f"""
window = find({json.dumps(title)})
edge = window.getLocationOnScreen().x + window.width
seen = lambda p: p.width > 0 and p.getLocationOnScreen().x + p.width <= edge
result = [str(part) for part in parts(window) if not seen(part)]
"""
    )
    return hidden


def recorded_calls(imagej: ImageJ) -> list[str]:
    """Give the texts of ImageJ's recorder; a call is written there a little after its script."""
    return [text for text in window_texts(imagej, "Recorder") if "run(" in text]


def click_button(imagej: ImageJ, title: str, label: str) -> None:
    """Click a button of a window, as its listeners are told of it."""
    clicked = imagej.python(
        _WINDOWS
        + _WALK
        + f"""
from java.awt import EventQueue
from java.awt.event import ActionEvent
from javax.swing import JButton
result = 0
for part in parts(find({json.dumps(title)})):
    if isinstance(part, JButton) and part.getText() == {json.dumps(label)}:
        EventQueue.invokeLater(part.doClick)
        result += 1
    elif isinstance(part, Button) and part.getLabel().strip() == {json.dumps(label)}:
        event = ActionEvent(part, ActionEvent.ACTION_PERFORMED, part.getActionCommand())
        EventQueue.invokeLater(lambda part=part, event=event: part.dispatchEvent(event))
        result += 1
"""
    )
    assert clicked == 1, f"{title} has {clicked} buttons {label}: {window_texts(imagej, title)}"


def set_field(imagej: ImageJ, title: str, number: int, text: str) -> None:
    """Put a text into the n-th text field of a window, from 0."""
    imagej.python(
        _WINDOWS
        + _WALK
        + f"""
fields = [p for p in parts(find({json.dumps(title)})) if isinstance(p, TextComponent)]
fields[{number}].setText({json.dumps(text)})
"""
    )


def tick(imagej: ImageJ, title: str, label: str) -> None:
    """Tick a box of a window."""
    ticked = imagej.python(
        _WINDOWS
        + _WALK
        + f"""
boxes = [p for p in parts(find({json.dumps(title)})) if isinstance(p, Checkbox)]
boxes = [box for box in boxes if box.getLabel().strip() == {json.dumps(label)}]
for box in boxes:
    box.setState(True)
result = len(boxes)
"""
    )
    assert ticked == 1, f"{title} has {ticked} boxes {label}: {window_texts(imagej, title)}"


def press(imagej: ImageJ, key: str) -> None:
    """Press a key, for example ``VK_ESCAPE``, wherever the focus is."""
    imagej.python(_PRESS.format(key=json.dumps(key)))


def take_picture(
    imagej: ImageJ,
    name: str,
    folder: Path,
    titles: tuple[str, ...] = (),
    size: tuple[int, int] | None = None,
) -> Path:
    """Take a picture of the windows with these titles (of all if none), once they are painted.

    Fails if they stay empty. Menus are no windows here: ``size`` takes that much of the screen's
    corner too.
    """
    kept = os.environ.get(KEEP_VARIABLE)
    path = (Path(kept) if kept else folder) / f"{name}.png"
    code = _PICTURE.format(titles=list(titles), size=size, path=json.dumps(str(path)))
    wait_until(lambda: imagej.python(_WINDOWS + code) >= MIN_COLOURS, f"a picture in {path}")
    return path
