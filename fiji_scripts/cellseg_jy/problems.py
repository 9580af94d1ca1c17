"""What goes wrong, and how the user hears of it: never silently, and the macro ends."""

from __future__ import unicode_literals

import traceback

from ij import IJ, Macro
from ij.macro import Interpreter
from java.awt import GraphicsEnvironment
from java.lang import OutOfMemoryError, RuntimeException, Throwable

from cellseg_jy.texts import as_text

TITLE = "CellSeg"


class Problem(Exception):
    """An error for the user: what happened, and what to do.

    Parameters
    ----------
    message, hint
        Sentences.
    code
        One word for programs.
    """

    def __init__(self, message, hint="", code="fiji"):
        Exception.__init__(self, message)
        self.message = message
        self.hint = hint
        self.code = code

    @property
    def text(self):
        """The whole text: message, then hint."""
        return (self.message + "\n" + self.hint).strip()


class Cancelled(Problem):
    """The user stopped it."""

    def __init__(self, message="The segmentation was cancelled."):
        Problem.__init__(self, message, code="cancelled")


def has_display():
    """Say whether there are windows."""
    return not GraphicsEnvironment.isHeadless()


def guarded(command, given):
    """Run a command of the menu; show what goes wrong and end the macro then.

    Parameters
    ----------
    command
        Function of one argument.
    given
        Names and values of the script, its ``globals()``.
    """
    IJ.resetEscape()
    try:
        command(given)
    except Cancelled as cancelled:
        IJ.showStatus(TITLE + ": " + cancelled.message)
        IJ.log(TITLE + ": " + cancelled.message)
        _end_macro()
    except Problem as problem:
        show(problem.text)
    except OutOfMemoryError:
        show(
            "ImageJ ran out of memory.\n"
            "Close images, or give it more under Edit > Options > Memory & Threads."
        )
    except (Exception, Throwable) as error:
        if ends_macro(error):
            raise
        IJ.log(as_text(traceback.format_exc()))
        show(
            "Internal error of CellSeg: {}\n"
            "Please report it with the text in the Log window.".format(describe_error(error))
        )
    finally:
        IJ.showProgress(1.0)


def show(text):
    """Show an error: a dialog, headless a line of output; the macro that runs ends."""
    IJ.showStatus(TITLE + ": " + text.split("\n")[0])
    if not has_display():
        text = TITLE + ": " + text.replace("\n", " ")
    try:
        IJ.error(TITLE, text)
    except RuntimeException as ended:
        if ended.getMessage() != Macro.MACRO_CANCELED:
            raise
    else:
        _end_macro()


def _end_macro():
    """End the macro that runs, without a message.

    Macro.abort() does not: ImageJ goes on with the next line after a cancelled command, which
    would then work on the wrong image.
    """
    macro = Interpreter.getInstance()
    if macro is not None:
        macro.setIgnoreErrors(True)
        macro.abort(Macro.MACRO_CANCELED)


def tell(text):
    """Write a line that the user should read into the Log window; headless it is printed."""
    IJ.log(TITLE + ": " + text)


def ends_macro(error):
    """Say whether an error is the one by which ImageJ ends a macro."""
    return isinstance(error, Throwable) and error.getMessage() == Macro.MACRO_CANCELED


def describe_error(error):
    """Give kind and text of any error."""
    if isinstance(error, Throwable):
        return as_text(error.toString())
    return as_text("{}: {}").format(type(error).__name__, as_text(error))
