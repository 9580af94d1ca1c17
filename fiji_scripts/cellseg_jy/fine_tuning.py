"""Fine Tune Model: the engine trains on the training set; Escape stops it and nothing is kept."""

from __future__ import unicode_literals

import json

from ij import IJ

from cellseg_jy import WIRE, training_set
from cellseg_jy.connection import NotRunning, make_problem
from cellseg_jy.engine import CLIENT
from cellseg_jy.launch import ensure
from cellseg_jy.parameters import Parameter, collect
from cellseg_jy.problems import Problem, tell

OWN = (
    Parameter("training_folder", "text", "", ()),
    Parameter("name", "text", "", ()),
    Parameter("start_from", "text", "nuclei", ()),
    Parameter("epochs", "integer", 100, ()),
    Parameter("channel", "text", "auto", ()),
    Parameter("nuclear_channel", "text", "none", ()),
    Parameter("invert", "choice", "auto", ("auto", "yes", "no")),
)
MODEL_RESULT = "cellseg_trained_model"
"""Property of ImageJ for macros: the name of the model that was trained last."""
_TITLE = "CellSeg training: "


def command(given):
    """Run the menu command."""
    values = collect(OWN, given)
    folder = training_set.find_folder(values, "training_folder", "training folder")
    if values["epochs"] < 1:
        raise Problem("epochs is {}; it must be 1 or more.".format(values["epochs"]), code="input")
    request = {
        "wire": WIRE,
        "folder": folder,
        "name": values["name"],
        "start_from": values["start_from"],
        "epochs": values["epochs"],
        "settings": training_set.chosen_channels(values),
        "client": CLIENT,
    }
    result = _train(json.dumps(request))
    for warning in result.get("warnings") or []:
        tell(warning)
    IJ.setProperty(MODEL_RESULT, result["model"])
    text = "The model {} was trained from {} on {} images with {} objects in {:.0f} s.".format(
        result["model"],
        result["start_from"],
        result["images"],
        result["objects"],
        result["seconds"]["total"],
    )
    tell(text)
    IJ.showStatus("CellSeg: " + text)


def _train(body):
    try:
        connection = ensure()
        answer = connection.open("POST", "/v1/train", body)
    except NotRunning:  # it ended since it was asked for: nothing was begun
        connection = ensure()
        answer = connection.open("POST", "/v1/train", body)
    try:
        return _follow(connection, answer)
    finally:
        answer.disconnect()


def _follow(connection, answer):
    """Show the progress until the result, and give it."""
    is_cancelled = False
    for event in connection.events(answer):
        if event.get("event") == "result":
            break
        if not is_cancelled:
            _show(event)
        if IJ.escapePressed() and not is_cancelled:
            is_cancelled = True
            IJ.showStatus(_TITLE + "cancelling")
            _cancel(connection, event.get("job", ""))
    if event.get("status") != "ok":
        raise make_problem(event.get("status"), event.get("error") or {})
    if is_cancelled:
        tell("The training was over before it could be cancelled.")
    return event


def _cancel(connection, job):
    try:
        connection.ask("DELETE", "/v1/jobs/" + job)
    except Problem:
        pass  # it was over already, which its result says


def _show(event):
    if event.get("event") != "progress":
        return
    stage, fraction = event.get("stage", ""), event.get("fraction", 0.0)
    text = "{} {:.0f} %".format(stage, 100 * fraction)
    if event.get("epochs"):
        text = "epoch {} of {}".format(event["epoch"], event["epochs"])
        if event.get("loss") is not None:
            text += ", loss {:.3f}".format(event["loss"])
        IJ.showProgress(min(0.99, fraction))
    IJ.showStatus(_TITLE + text)
