"""Installs, updates and removes an engine for people without a terminal.

The engine's environment is built in a folder of its own beside its place, tried, and then put
there by renaming; what fails leaves everything as it was. Only folders that carry our mark are
ever replaced or deleted.
"""

from __future__ import unicode_literals

import json

from java.io import File, IOException
from java.lang import String, System
from java.nio.file import Files, StandardCopyOption

from cellseg_jy import launch, processes
from cellseg_jy.connection import Connection, NotRunning
from cellseg_jy.problems import Problem
from cellseg_jy.pythons import find_maker
from cellseg_jy.texts import to_text

PACKAGE = "cellseg-engine[service]"
"""What is installed from the package index, unless a wheel is given."""

MARK = "cellseg-engine-environment.json"
_NAME = "fiji-engine"
_CHECK = "import cellseg_client, cellseg_engine, cellseg_service; print(cellseg_engine.__version__)"
_RUNTIME_VARIABLE = "CELLSEG_RUNTIME"
_DISK = "Check that the disk is not full and that you may write there."
_SEE = "The whole output is in {}."
_PIP = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")


def data_folder():
    """Give the user's folder for the engine; it need not exist."""
    home = System.getProperty("user.home")
    system = System.getProperty("os.name").lower()
    if system.startswith("windows"):
        base = System.getenv("LOCALAPPDATA") or home + "/AppData/Local"
    elif system.startswith("mac"):
        base = home + "/Library/Application Support"
    else:
        base = System.getenv("XDG_DATA_HOME") or home + "/.local/share"
    return File(base, "cellseg-bridges")


def environment():
    """Give the folder of the engine's environment; it need not exist."""
    return File(data_folder(), _NAME)


def log_file():
    """Give the file with the whole output of the last installation."""
    return File(data_folder(), "fiji-install.log")


def installed_version():
    """Give the version of the engine that was installed here, None if there is none."""
    if not environment().isDirectory():
        return None
    mark = _read_json(File(environment(), MARK))
    return None if mark is None else mark.get("version", "unknown")


def install(package, given_python, watcher):
    """Install the engine, or replace the one that is there by a new one.

    Parameters
    ----------
    package
        Requirement for pip, or path of a wheel.
    given_python
        Python to use, empty to look for one.
    watcher
        Told of every step: ``say(text)``, ``output(line)``, ``is_cancelled()``.

    Returns
    -------
    str
        The version that is installed now.

    Raises
    ------
    Problem
        What failed and what to do; what was there before is untouched.
    """
    _check_config()
    final = environment()
    _check_mark(final)
    _check_idle()
    maker = find_maker(given_python)
    data_folder().mkdirs()
    new = File(data_folder(), _NAME + ".new")
    with processes.Log(log_file(), watcher) as log:
        try:
            _delete_ours(new)
            version = _build(maker, new, _requirement(package), log)
            _try(new, log)
            _end_engine()
            _swap(new, final, version)
        finally:
            _delete_ours(new)
    return version


def remove(watcher):
    """Remove the engine that was installed here, and nothing else.

    Returns
    -------
    list of str
        What was removed.

    Raises
    ------
    Problem
        There is none, or something could not be removed.
    """
    final = environment()
    config = launch.config_file()
    if not final.exists():
        raise Problem(
            "There is no engine that Install Engine made: nothing was removed.",
            "It would be in {}.".format(final),
        )
    _check_mark(final)
    _end_engine()
    watcher.say("Removing " + final.getPath())
    is_ours = _names_ours(_read_json(config))
    removed = [final.getPath()]
    _delete_tree(final)
    if is_ours:
        config.delete()
        removed.append(config.getPath())
    if log_file().delete():
        removed.append(log_file().getPath())
    data_folder().delete()  # only if nothing is left in it
    return removed


def python_of(folder):
    """Give the Python of an environment."""
    if System.getProperty("os.name").lower().startswith("windows"):
        return File(folder, "Scripts/python.exe")
    return File(folder, "bin/python")


# --- steps ------------------------------------------------------------------------------------


def _build(maker, new, requirement, log):
    """Make the environment and install the package; give its version."""
    python = python_of(new).getPath()
    log.say("Making an environment with {}".format(maker.describe()))
    if not new.mkdirs():
        raise Problem("The folder {} cannot be made.".format(new), _DISK)
    _write_json(File(new, MARK), {"version": ""})
    log.run(maker.make(new.getPath()), "The environment could not be made")
    log.say("Downloading and installing {}: this takes minutes".format(requirement))
    log.run(maker.install(python, requirement, _PIP), "The engine could not be installed")
    lines = log.run([python, "-I", "-c", _CHECK], "The installed engine does not start")
    version = lines[-1] if lines else "unknown"
    _write_json(File(new, MARK), {"version": version})
    return version


def _try(new, log):
    """Start the new engine once, apart from one that may run, and end it again."""
    log.say("Trying it")
    python = python_of(new).getPath()
    runtime = File(new, "trial")
    variables = ((_RUNTIME_VARIABLE, runtime.getPath()), (launch.PYTHON_VARIABLE, python))
    record = processes.ask_client(python, "ensure", variables)
    if "url" not in record:
        error = record.get("error") or {}
        raise Problem(
            "The new engine does not start: " + error.get("message", "it said nothing."),
            "Nothing was changed. " + _SEE.format(log_file()),
            "install",
        )
    processes.end_engine(python, record["pid"], variables)
    _delete(runtime)


def _swap(new, final, version):
    """Put the new environment into its place and name it in engine.json; go back if that fails."""
    old = File(data_folder(), _NAME + ".old")
    config = launch.config_file()
    _delete_ours(old)
    if final.exists():
        _rename(final, old)
    is_done = False
    try:
        _rename(new, final)
        _write_json(config, {"engine_python": python_of(final).getPath(), "version": version})
        is_done = True
    finally:  # also after a Java exception, which no except of Python names
        if not is_done:
            _go_back(final, old)
    _delete_ours(old)


def _go_back(final, old):
    _delete_ours(final)
    if old.exists():
        _rename(old, final)


def _end_engine():
    """End an engine that runs in our environment; see `_check_idle`."""
    _check_idle()
    running = _find_ours()
    if running:
        processes.end_engine(python_of(environment()).getPath(), running["pid"])


def _check_idle():
    """Refuse to go on while the engine of our environment works, also for another program.

    Raises
    ------
    Problem
        It does.
    """
    if not _find_ours():
        return
    record = processes.ask_client(python_of(environment()).getPath(), "ensure")
    try:
        status = Connection.of(record).ask("GET", "/v1/status")
    except (KeyError, NotRunning):
        return  # it ended meanwhile
    jobs = status["running"] + status["queued"]
    work = ["segments for " + (job["client"] or "another program") for job in jobs[:1]]
    if status.get("training"):
        work.append("trains a model")
    if work:
        raise Problem(
            "The engine (process {}) {}: nothing was changed.".format(
                record["pid"], " and ".join(work)
            ),
            "Try again when it is done. Engine Status shows what it does, and can end it.",
            "busy",
        )


def _find_ours():
    """Give what the client says of an engine that runs in our environment, or None."""
    python = python_of(environment())
    if not python.isFile():
        return None
    running = processes.ask_client(python.getPath(), "status")
    is_ours = running.get("running") and _is_inside(running.get("python"), environment())
    return running if is_ours else None


def _is_inside(path, folder):
    return path is not None and File(path).toPath().startsWith(folder.toPath())


def _requirement(package):
    """Give what pip is told: a wheel gets the extra that brings the service."""
    package = package.strip() or PACKAGE
    if not package.endswith(".whl"):
        return package
    if not File(package).isFile():
        raise Problem("There is no file {}.".format(package), "Choose the wheel again.")
    return package + "[service]"


# --- files ------------------------------------------------------------------------------------


def _check_config():
    config = launch.config_file()
    folder = config.getParentFile()
    if not Files.isWritable((config if config.exists() else folder).toPath()):
        raise Problem(
            "{} cannot be written, so this ImageJ could not be told of the engine.".format(config),
            "Ask whoever looks after this ImageJ, or use one in a folder of your own.",
        )


def _check_mark(folder):
    if folder.exists() and not File(folder, MARK).isFile():
        raise Problem(
            "The folder {} was not made by Install Engine: it is left alone.".format(folder),
            "Move it away and try again.",
        )


def _names_ours(config):
    return config is not None and _is_inside(config.get("engine_python"), environment())


def _rename(source, target):
    try:
        Files.move(source.toPath(), target.toPath(), [StandardCopyOption.ATOMIC_MOVE])
    except IOException as error:
        raise Problem(
            "{} cannot be renamed to {}: {}.".format(source, target.getName(), error.getMessage()),
            "Close programs that use the engine, and try again.",
        )


def _delete_ours(folder):
    """Delete a folder that a former or this installation made; one without our mark stays."""
    if folder.exists():
        _check_mark(folder)
        _delete_tree(folder)


def _delete_tree(folder):
    """Delete a folder of ours; the mark goes last, so that what may be left is still ours."""
    mark = File(folder, MARK)
    for child in folder.listFiles():
        if child != mark:
            _delete(child)
    _delete(folder)


def _delete(top):
    """Delete a file or folder; links are not followed."""
    stream = Files.walk(top.toPath(), [])
    paths = list(stream.iterator())
    stream.close()
    try:
        for path in reversed(paths):  # what is in a folder comes after it
            Files.deleteIfExists(path)
    except IOException as error:
        raise Problem(
            "{} cannot be deleted.".format(error.getMessage()),
            "Close programs that use the engine, and try again.",
        )


def _read_json(file):
    try:
        return json.loads(to_text(Files.readAllBytes(file.toPath())))
    except (IOException, ValueError):
        return None


def _write_json(file, value):
    """Write at once or not at all."""
    part = File(file.getParentFile(), file.getName() + ".part")
    try:
        Files.write(part.toPath(), String(json.dumps(value, indent=2)).getBytes("UTF-8"), [])
        Files.move(part.toPath(), file.toPath(), [StandardCopyOption.REPLACE_EXISTING])
    except IOException as error:
        raise Problem("{} cannot be written: {}.".format(file, error.getMessage()), _DISK)
