"""Plugins > CellSeg > Install Engine: asks what to do, and shows how far it is."""

from __future__ import unicode_literals

import time

from ij import IJ, Macro
from ij.gui import GenericDialog
from java.awt import BorderLayout, Dimension
from java.lang import Runnable
from javax.swing import (
    BorderFactory,
    JButton,
    JFrame,
    JLabel,
    JPanel,
    JProgressBar,
    JScrollPane,
    JTextArea,
    SwingUtilities,
)

from cellseg_jy import installing, launch
from cellseg_jy.parameters import Parameter, collect
from cellseg_jy.problems import Cancelled, has_display, tell

TITLE = "Install CellSeg Engine"
ACTIONS = ("install", "update", "remove")
DECLARED = (
    Parameter("action", "choice", "install", ACTIONS),
    Parameter("package", "text", "", ()),
    Parameter("python", "text", "", ()),
)
_ABOUT = (
    "The engine is a Python program of its own. It is put into a folder of yours,\n"
    "{folder}\n"
    "and nothing else on this computer changes. Some GB are downloaded\n"
    "(about 3 on Linux, less elsewhere), which takes minutes.\n \n"
    "Now: {state}"
)


def command(given):
    """Install, update or remove: by a dialog, or by the macro's action, package and python."""
    is_dialog = Macro.getOptions() is None and has_display()
    values = _ask() if is_dialog else collect(DECLARED, given)
    watcher = _Window() if has_display() else _Lines()
    try:
        text = _do(values, watcher)
    finally:
        watcher.close()
    if is_dialog:
        IJ.showMessage(TITLE, text)
    else:
        tell(text.replace("\n", " "))


def _do(values, watcher):
    if values["action"] == "remove":
        return "Removed:\n" + "\n".join(installing.remove(watcher))
    start = time.time()
    version = installing.install(values["package"], values["python"], watcher)
    return (
        "The engine {} is installed and runs ({:.0f} s).\nOpen an image, then "
        "Plugins > CellSeg > Segment Cells.".format(version, time.time() - start)
    )


def _ask():
    """Show the dialog; give the chosen values."""
    version = installing.installed_version()
    state = "version {} is installed there.".format(version) if version else _other_engine()
    dialog = GenericDialog(TITLE)
    dialog.addMessage(_ABOUT.format(folder=installing.environment(), state=state))
    actions = ACTIONS[1:] if version else ACTIONS[:1]
    dialog.addChoice("Action", actions, actions[0])
    dialog.addMessage("Normally left empty:")
    dialog.addFileField("Package (a wheel)", "", 30)
    dialog.addFileField("Python (or uv)", "", 30)
    dialog.showDialog()
    if dialog.wasCanceled():
        raise Cancelled("Nothing was changed.")
    return {
        "action": dialog.getNextChoice(),
        "package": dialog.getNextString().strip(),
        "python": dialog.getNextString().strip(),
    }


def _other_engine():
    if launch.config_file().isFile():
        return "another engine is used, which stays where it is."
    return "no engine is installed."


class _Lines(object):
    """Without a display: one line a step."""

    def say(self, text):
        tell(text)

    def output(self, line):
        pass

    def is_cancelled(self):
        return IJ.escapePressed()

    def close(self):
        pass


class _Window(object):
    """A window with the step, the last lines of output, and a button that stops."""

    def __init__(self):
        self._is_cancelled = False
        self._start = time.time()
        self._on_screen(self._make)

    def say(self, text):
        """Show a step."""
        IJ.showStatus("CellSeg: " + text)
        self._on_screen(lambda: self._step.setText(text))

    def output(self, line):
        """Show a line of a program."""
        seconds = int(time.time() - self._start)

        def show():
            self._text.append(line + "\n")
            self._text.setCaretPosition(self._text.getDocument().getLength())
            self._bar.setString("{} min {:02d} s".format(seconds // 60, seconds % 60))

        self._on_screen(show)

    def is_cancelled(self):
        """Say whether the button, or Escape, was pressed."""
        return self._is_cancelled or IJ.escapePressed()

    def close(self):
        """Take it away."""
        self._on_screen(self._frame.dispose)

    def _make(self):
        self._frame = JFrame(TITLE)
        self._frame.setDefaultCloseOperation(JFrame.DO_NOTHING_ON_CLOSE)
        self._step = JLabel("Starting")
        self._text = JTextArea(editable=False)
        self._bar = JProgressBar(indeterminate=True, stringPainted=True, string="")
        cancel = JButton("Cancel", actionPerformed=self._cancel)
        below = JPanel(BorderLayout(8, 8))
        below.add(self._bar, BorderLayout.CENTER)
        below.add(cancel, BorderLayout.EAST)
        panel = JPanel(BorderLayout(8, 8))
        panel.setBorder(BorderFactory.createEmptyBorder(12, 12, 12, 12))
        panel.add(self._step, BorderLayout.NORTH)
        panel.add(JScrollPane(self._text), BorderLayout.CENTER)
        panel.add(below, BorderLayout.SOUTH)
        self._frame.setContentPane(panel)
        self._frame.setSize(Dimension(640, 320))
        self._frame.setLocationRelativeTo(None)
        self._frame.setVisible(True)

    def _cancel(self, _event):
        self._is_cancelled = True
        self._step.setText("Stopping")

    def _on_screen(self, work):
        """Do it in Swing's thread, in order, and wait for it."""

        class Work(Runnable):
            def run(self):
                work()

        SwingUtilities.invokeAndWait(Work())
