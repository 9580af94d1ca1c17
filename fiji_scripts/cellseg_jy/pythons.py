"""Finds what can make the engine's environment: a new enough Python, or uv."""

from __future__ import unicode_literals

from java.io import File
from java.lang import System

from cellseg_jy.problems import Problem
from cellseg_jy.processes import is_program, run_quietly

OLDEST = (3, 11)
_NAMES = ("python3.13", "python3.12", "python3.11", "python3.14", "python3", "python")
# Programs started from a desktop often see a short PATH; these places are asked as well.
_PLACES_LINUX = ("~/.local/bin", "~/.pyenv/shims", "~/miniforge3/bin", "~/miniconda3/bin")
_PLACES_MAC = (
    "/opt/homebrew/bin",
    "/usr/local/bin",
    "/Library/Frameworks/Python.framework/Versions/Current/bin",
    "~/.local/bin",
    "~/miniforge3/bin",
    "~/miniconda3/bin",
)
_PLACES_WINDOWS = (
    "~/AppData/Local/Programs/Python/Python313",
    "~/AppData/Local/Programs/Python/Python312",
    "~/AppData/Local/Programs/Python/Python311",
    "~/.local/bin",
    "~/miniforge3",
    "~/miniconda3",
)
_UV_PYTHON = ">=3.11,<3.14"
_PROBE = "import sys, venv, ensurepip; print('%d %d' % sys.version_info[:2])"


class PythonMaker(object):
    """Makes environments with a Python's own venv."""

    def __init__(self, path, version):
        self._path = path
        self._version = version

    def describe(self):
        """Say what it is."""
        return "Python {}.{} ({})".format(self._version[0], self._version[1], self._path)

    def make(self, folder):
        """Give the command that makes an environment in a folder."""
        return [self._path, "-m", "venv", folder]

    def install(self, python, requirement, options):
        """Give the command that installs into the environment."""
        return [python, "-m", "pip", "install"] + list(options) + [requirement]


class UvMaker(object):
    """Makes environments with uv, which gets a Python where there is none."""

    def __init__(self, path):
        self._path = path

    def describe(self):
        """Say what it is."""
        return "uv ({})".format(self._path)

    def make(self, folder):
        """Give the command that makes an environment in a folder."""
        return [self._path, "venv", "--allow-existing", "--seed", "--python", _UV_PYTHON, folder]

    def install(self, python, requirement, _options):
        """Give the command that installs into the environment."""
        return [self._path, "pip", "install", "--no-progress", "--python", python, requirement]


def find_maker(given):
    """Give what can make an environment.

    Parameters
    ----------
    given
        Path of a Python (or uv) to use; empty looks for one.

    Raises
    ------
    Problem
        There is none; says what to install.
    """
    if given:
        maker = UvMaker(given) if File(given).getName().startswith("uv") else _try_python(given)
        if maker is None or not is_program(given):
            raise Problem(
                "{} is no Python {}.{} or newer with venv and pip.".format(given, *OLDEST),
                "Choose another one, or leave the field empty to look for one.",
            )
        return maker
    for path in _programs(_NAMES):
        maker = _try_python(path)
        if maker is not None:
            return maker
    for path in _programs(("uv",)):
        return UvMaker(path)
    raise Problem(
        "This computer has no Python {}.{} or newer, and no uv.".format(*OLDEST),
        "Install Python from python.org (on Debian and Ubuntu: apt install python3-venv), then run "
        "Install Engine again.",
        "no-python",
    )


def _try_python(path):
    """Give a maker, None if the Python does not run, is too old, or has no venv."""
    try:
        code, lines = run_quietly([path, "-I", "-c", _PROBE])
    except Problem:
        return None
    words = lines[-1].split() if code == 0 and lines else []
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return None
    version = (int(words[0]), int(words[1]))
    return PythonMaker(path, version) if version >= OLDEST else None


def _programs(names):
    """Give the paths of programs that are there, those that come first in PATH first."""
    system = System.getProperty("os.name").lower()
    is_windows = system.startswith("windows")
    more = _PLACES_WINDOWS if is_windows else _PLACES_LINUX
    if system.startswith("mac"):
        more = _PLACES_MAC
    home = System.getProperty("user.home")
    folders = (System.getenv("PATH") or "").split(File.pathSeparator)
    folders += [place.replace("~", home, 1) for place in more]
    ending = ".exe" if is_windows else ""
    paths = [
        File(folder, name + ending).getPath() for name in names for folder in folders if folder
    ]
    return [path for path in paths if is_program(path)]
