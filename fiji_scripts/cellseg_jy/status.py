"""Plugins > CellSeg > Engine Status."""

from __future__ import unicode_literals

from ij import IJ, Macro
from ij.gui import GenericDialog
from ij.plugin import BrowserLauncher
from java.awt import Font

from cellseg_jy import launch, processes
from cellseg_jy.parameters import Parameter, collect
from cellseg_jy.problems import Problem, has_display, tell

TITLE = "CellSeg Engine"
DECLARED = (Parameter("action", "choice", "show", ("show", "start", "stop")),)
_GIB = 1024.0**3


def command(given):
    """Show, start or end: by the macro's action, else in a dialog with buttons."""
    if Macro.getOptions() is None and has_display():
        _dialog()
        return
    action = collect(DECLARED, given)["action"]
    if action == "start":
        launch.ensure()
    elif action == "stop":
        _stop()
    for name, value in describe():
        tell("{:<10} {}".format(name, value))


def describe():
    """Give what is to be said about the engine, as pairs of texts; starts none."""
    python = launch.engine_python()
    running = processes.ask_client(python, "status")
    if "error" in running:
        raise Problem(running["error"].get("message", ""), running["error"].get("hint", ""))
    if not running.get("running"):
        return [("State", "not running; the next segmentation starts it"), ("Python", python)]
    where = [
        ("Address", running["url"]),
        ("Process", "{}".format(running["pid"])),
        ("Python", running.get("python", python)),
    ]
    try:
        return _work(launch.ensure()) + where
    except Problem as problem:  # it can still be ended
        return [("State", "running, but it does not say how it is"), ("", problem.message)] + where


def _work(connection):
    """Give what the engine says of itself, as pairs of texts."""
    status = connection.ask("GET", "/v1/status")
    models = connection.ask("GET", "/v1/models")
    memory = status["memory"]
    return [
        ("State", "{}, up for {}".format(status["state"], _duration(status["uptime_s"]))),
        ("Version", status["version"]),
        ("Device", status["device"] or "not known yet"),
        ("Models", ", ".join(model["name"] for model in models)),
        ("", "{} loaded".format(status["counters"]["models_loaded"])),
        ("Images", _images(status)),
        ("Training", _training(status.get("training"))),
        ("Memory", "{:.1f} GiB".format(memory["rss_bytes"] / _GIB)),
    ]


def _dialog():
    """Show the table with buttons, again after each, until it is closed."""
    while True:
        rows = describe()
        is_running = len(rows) > 2
        dialog = GenericDialog(TITLE)
        text = "\n".join("{:<10}{}".format(name, value) for name, value in rows)
        dialog.addMessage(text, Font(Font.MONOSPACED, Font.PLAIN, 13))
        dialog.setCancelLabel("Close")
        if is_running:
            dialog.enableYesNoCancel("Open status page", "End engine")
        else:
            dialog.setOKLabel("Start engine")
        dialog.showDialog()
        if dialog.wasCanceled():
            return
        if not is_running:
            launch.ensure()
        elif dialog.wasOKed():
            _open_page()
        else:
            _stop()


def _open_page():
    """Open the status page in the browser, which keeps what stands behind the # to itself."""
    connection = launch.ensure()
    BrowserLauncher.openURL("{}/#token={}".format(connection.url, connection.token))


def _stop():
    python = launch.engine_python()
    running = processes.ask_client(python, "status")
    if running.get("running"):
        processes.end_engine(python, running["pid"])
        IJ.showStatus("CellSeg: the engine has ended")


def _images(status):
    counters = status["counters"]
    parts = ["{} running".format(len(status["running"]))]
    parts.append("{} waiting".format(len(status["queued"])))
    ends = ("done", "failed", "refused", "cancelled")
    parts += ["{} {}".format(counters["jobs_" + end], end) for end in ends]
    return ", ".join(parts)


def _training(training):
    """Say which model is being trained, and how far it is."""
    if not training:
        return "none"
    if not training["epochs"]:
        return "{model}, preparing".format(**training)
    return "{model}, epoch {epoch} of {epochs}".format(**training)


def _duration(seconds):
    minutes = int(seconds) // 60
    if minutes < 1:
        return "{:.0f} s".format(seconds)
    if minutes < 60:
        return "{} min".format(minutes)
    return "{} h {} min".format(minutes // 60, minutes % 60)
