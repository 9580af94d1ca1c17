"""Plugins > CellSeg > About CellSeg."""

from __future__ import unicode_literals

import json

from ij import IJ
from ij.text import TextWindow
from java.io import IOException
from java.lang import System
from java.nio.file import Files

from cellseg_jy import WIRE, launch, processes
from cellseg_jy.problems import Problem, has_display
from cellseg_jy.texts import to_text

_VERSION = "import importlib.metadata as m; print(m.version('cellseg-engine'))"
TEXT = """CellSeg Bridges
Finds cells and nuclei in microscopy images: one engine for Python, Fiji and CellProfiler.

Scripts         {scripts}
Engine          {engine}
Protocol        {wire}
{host}
Java            {java} ({system})

Please cite
Stringer C, Wang T, Michaelos M, Pachitariu M (2021) Cellpose: a generalist algorithm for
cellular segmentation. Nature Methods 18:100-106. doi:10.1038/s41592-020-01018-x
Schindelin J et al. (2012) Fiji: an open-source platform for biological-image analysis.
Nature Methods 9:676-682. doi:10.1038/nmeth.2019
"cellseg about" in a terminal gives a methods paragraph; every result names its model and settings.

Licence         BSD-3-Clause. Models and example images have their own: NOTICE.md.
Documentation   docs/fiji.md and docs/settings.md of CellSeg Bridges. Help in the dialogs
                explains every setting; Engine Status opens the engine's page.
"""


def command(_given):
    """Show the text; headless it is printed."""
    text = TEXT.format(
        scripts=_scripts_version(),
        engine=_engine_version(),
        wire=WIRE,
        host=IJ.getInstance().getInfo()
        if IJ.getInstance()
        else "ImageJ          " + IJ.getVersion(),
        java=System.getProperty("java.version"),
        system=System.getProperty("os.name"),
    )
    if has_display():
        TextWindow("About CellSeg", text, 760, 460)
    else:
        IJ.log(text)


def _scripts_version():
    """Give the version that installed the scripts."""
    try:
        content = Files.readAllBytes(launch.config_file().toPath())
        return json.loads(to_text(content)).get("version", "unknown")
    except (IOException, ValueError, AttributeError):
        return "unknown (not installed by an engine yet)"


def _engine_version():
    try:
        python = launch.engine_python()
        _code, lines = processes.run_quietly([python, "-I", "-c", _VERSION])
    except Problem as problem:
        return problem.message
    return "{} ({})".format(lines[-1] if lines else "unknown", python)
