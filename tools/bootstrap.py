"""Set up CellSeg Bridges and run it, from nothing but Python 3.11 or newer.

    python tools/bootstrap.py demo       segment the example images into demo_output
    python tools/bootstrap.py test       run all checks and tests
    python tools/bootstrap.py install    only set up the environment
    python tools/bootstrap.py lint       run the checks without the tests
    python tools/bootstrap.py bench      measure the speed beside cellpose; half an hour to two
    python tools/bootstrap.py clean      delete what builds, tests and the demo left behind

On Windows write "py" instead of "python". Everything is installed into the folder .venv beside
pyproject.toml, from the package index that pip is set to; nothing else on the computer changes.
Each command does the steps before it, and can be repeated. Only the standard library is used.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
SEARCH = ("python3.13", "python3.12", "python3.11", "python3.14", "python3", "python")


def python_version(path: str) -> "tuple[int, int]":
    """Give (major, minor) of a Python, (0, 0) when it does not run (a shim may be empty)."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        answer = subprocess.check_output([path, "-c", code], stderr=subprocess.DEVNULL, timeout=60)
        major, minor = answer.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0, 0


def find_newer_python() -> "str | None":
    """Give a Python on this computer that is new enough, or None."""
    paths = [path for path in map(shutil.which, SEARCH) if path]
    return next((path for path in paths if python_version(path) >= OLDEST), None)


def too_old() -> str:
    """Give the one sentence for a computer without a new enough Python."""
    return (
        "CellSeg Bridges needs Python {}.{} or newer; this is Python {}.{} and no newer one was "
        "found: install one, for example from python.org, and run the same command with it."
    ).format(*OLDEST, *sys.version_info[:2])


if sys.version_info < (3, 11):  # up to here every Python from 3.6 on can run this file
    if __name__ == "__main__":
        newer = find_newer_python()
        if newer:
            sys.exit(subprocess.call([newer, *sys.argv]))
    sys.exit(too_old())

import argparse
import contextlib
import hashlib
import json
import re
import shlex
import signal
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
LOCK = ROOT / ".venv.lock"
MARKER = "cellseg-installed.json"
BEGUN = "cellseg-begun"
"""In an environment that is being made, and in what an interruption left of one."""
LOG = "cellseg-install.log"
PIP_ARGS_VARIABLE = "CELLSEG_PIP_ARGS"
EXTRAS: dict[str, tuple[str, ...]] = {
    "bench": ("dev", "service"),
    "demo": ("openvino", "service"),
    "install": ("openvino", "service"),
    "lint": ("dev", "service"),
    "test": ("dev", "imagej", "service"),
}
TAKES_ARGUMENTS = ("bench", "demo", "test")
CHECKS = (
    ("ruff check", ("-m", "ruff", "check", ".")),
    ("ruff format", ("-m", "ruff", "format", "--check", ".")),
    ("mypy", ("-m", "mypy")),
    ("import-linter", ("-c", "from importlinter.cli import lint_imports_command as run; run()")),
)
LEFT_BEHIND = (
    ".hypothesis",
    ".import_linter_cache",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "build",
    "demo_output",
    "dist",
)
NOT_OURS = (
    "PIP_PREFIX",
    "PIP_TARGET",
    "PIP_USER",
    "PYTHONHOME",
    "PYTHONPATH",
    "__PYVENV_LAUNCHER__",
)
OF_A_PACKAGE = re.compile(
    rb"\A(#!.*/\.venv/bin/python[0-9.]*\n|#!/bin/sh\n'''exec' .*/\.venv/bin/python.*\n' '''\n)"
)
"""The first lines of a script that pip made: the Python that runs it, in one of two ways."""
PROBE_S = 120
# Run inside the environment: which Python it is, and which wanted packages it lacks.
PROBE = """
import importlib.metadata as metadata, json, re, sys
def present(name):
    try:
        return metadata.version(name) is not None
    except metadata.PackageNotFoundError:
        return False
wanted = []
if present("cellseg-engine"):
    for line in metadata.requires("cellseg-engine") or []:
        extra = re.search(r"extra == ['\\"]([^'\\"]+)", line)
        if extra is None or extra[1] in sys.argv[1:]:
            wanted.append(re.match(r"[A-Za-z0-9._-]+", line)[0])
else:
    wanted.append("cellseg-engine")
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "pip": present("pip"),
    "torch": present("torch"),
    "missing": sorted({name for name in wanted if not present(name)}),
}))
"""


class ProblemError(Exception):
    """Something that the user can act on; shown as one message without a traceback."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    options, passed_on = parse(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that pip or pytest ends with it
    try:
        if options.command == "clean":
            return clean()
        try:
            set_up({*EXTRAS[options.command], *options.extras}, options.pip_args)
        except OSError as error:  # no permission, a full disk
            raise ProblemError(f"The environment in {VENV} cannot be set up: {error}.") from error
        if options.command in TAKES_ARGUMENTS:
            return {"bench": bench, "demo": demo, "test": test}[options.command](passed_on)
        return lint() if options.command == "lint" else report()
    except ProblemError as problem:
        print(f"\nerror: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Give the options, and the arguments after ``--``, which go to what is run."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    passed_on = list(arguments[cut + 1 :])
    parser = argparse.ArgumentParser(
        prog="bootstrap.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Arguments after -- go to pytest (test), to 'cellseg demo' (demo), or to "
        "benchmarks/performance.py (bench).",
    )
    parser.add_argument("command", choices=[*EXTRAS, "clean"])
    parser.add_argument(
        "--extras",
        default="",
        type=lambda text: [word.strip() for word in text.split(",") if word.strip()],
        metavar="A,B",
        help="install these extras too, for example openvino,service (named in pyproject.toml)",
    )
    parser.add_argument(
        "--pip-args",
        default=os.environ.get(PIP_ARGS_VARIABLE, ""),
        type=split_arguments,
        metavar='"ARGS"',
        help=(
            "more arguments for pip install; also read from the environment variable "
            f"{PIP_ARGS_VARIABLE}. "
            "On Linux PyTorch comes with CUDA libraries of several GB: for a CPU-only one give "
            '"--extra-index-url ADDRESS" with the address that the site of PyTorch names for CPU.'
        ),
    )
    options = parser.parse_args(arguments[:cut])
    if passed_on and options.command not in TAKES_ARGUMENTS:
        parser.error(f"only {', '.join(TAKES_ARGUMENTS)} take arguments after --")
    return options, passed_on


def split_arguments(text: str) -> list[str]:
    """Split a command line; on Windows a backslash is part of a path, not an escape."""
    if os.name == "nt":
        return [word.strip("\"'") for word in shlex.split(text, posix=False)]
    return shlex.split(text)


# --- the environment -----------------------------------------------------------------------------


def set_up(extras: set[str], pip_args: Sequence[str]) -> None:
    """Make, repair or complete the environment; quick when there is nothing to do."""
    known = known_extras()
    unknown = sorted(extras - known)
    if unknown:
        raise ProblemError(
            f"There is no extra {', '.join(unknown)}; the extras are {', '.join(sorted(known))}."
        )
    with only_one():
        complete(extras, known, pip_args)


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Keep a second process out that would set up the same environment."""
    with LOCK.open("a+b") as file:
        try:
            if sys.platform == "win32":
                import msvcrt

                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ProblemError(
                f"Another bootstrap.py is setting up {VENV} just now: wait until it has ended, and "
                "run the same command again."
            ) from error
        yield  # the system takes the lock away when the file is closed, also by a crash


def complete(extras: set[str], known: set[str], pip_args: Sequence[str]) -> None:
    """Do what `set_up` says, as the only process."""
    state = probe(extras)
    if state is None or tuple(state["version"][:2]) < OLDEST:
        make_venv()
        state = probe(extras)
        if state is None:
            raise ProblemError(f"A virtual environment was made in {VENV}, but it does not run.")
    if was_moved():
        renew_scripts()
    marker = read_marker()
    same = marker.get("fingerprint") == fingerprint(state["version"])
    installed = set(marker.get("extras", ())) & known
    if same and extras <= installed and not state["missing"]:
        return
    install(extras | installed, pip_args, state)
    after = probe(extras) or {"missing": ["a Python that runs"]}
    if after["missing"]:
        raise ProblemError(f"pip ended well, but still missing: {', '.join(after['missing'])}.")
    marker = {
        "fingerprint": fingerprint(state["version"]),
        "extras": sorted(extras | installed),
    }
    (VENV / MARKER).write_text(json.dumps(marker), encoding="utf-8")


def known_extras() -> set[str]:
    """Read the names of the extras from pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return set(tomllib.load(file)["project"]["optional-dependencies"])


def venv_program(name: str) -> Path:
    """Give the path of a program of the environment, in the layout of this system."""
    return VENV / "Scripts" / f"{name}.exe" if os.name == "nt" else VENV / "bin" / name


def probe(extras: Iterable[str]) -> dict[str, Any] | None:
    """Ask the environment what it is; None when there is none, or a broken one.

    Raises
    ------
    ProblemError
        It does not answer: that may be the computer, so nothing is thrown away.
    """
    python = venv_program("python")
    if not python.exists() or not (VENV / "pyvenv.cfg").is_file() or (VENV / BEGUN).is_file():
        return None
    try:
        answer = subprocess.run(
            [str(python), "-I", "-c", PROBE, *sorted(extras)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_S,
            check=True,
        )
        state: dict[str, Any] = json.loads(answer.stdout)
    except subprocess.TimeoutExpired as error:
        raise ProblemError(
            f"The Python in {VENV} gave no answer in {PROBE_S} s: run the same command again when "
            "the computer is less busy, or delete that folder."
        ) from error
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return state


def fingerprint(version: Sequence[int]) -> str:
    """Hash what an installation depends on: the project's files, its place, the Python."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "cellseg_engine/_version.py"):
        digest.update((ROOT / name).read_bytes())
    digest.update(json.dumps([str(ROOT), list(version)]).encode())
    return digest.hexdigest()


def read_marker() -> dict[str, Any]:
    """Read what was installed last; empty when that is unknown."""
    try:
        marker = json.loads((VENV / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def make_venv() -> None:
    """Make the environment, in place of a broken one."""
    check_venv_module()
    if VENV.is_symlink() or VENV.is_file():
        raise ProblemError(f"{VENV} is not a folder; move it away.")
    if VENV.is_dir() and any(VENV.iterdir()):
        if not any((VENV / name).is_file() for name in ("pyvenv.cfg", MARKER, BEGUN)):
            raise ProblemError(f"{VENV} is not a virtual environment of Python; move it away.")
        say("The environment in .venv does not work any more; making it anew.")
    say("Making a virtual environment in .venv")
    VENV.mkdir(exist_ok=True)
    (VENV / BEGUN).touch()  # from here on until it is made, an interruption leaves this behind
    for path in VENV.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != BEGUN:
            path.unlink()
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environment(),
        check=False,
    )
    if made.returncode != 0:
        output = made.stdout.decode(errors="replace").strip()
        raise ProblemError(f"Python could not make a virtual environment in {VENV}:\n{output}")
    (VENV / BEGUN).unlink()


def was_moved() -> bool:
    """Say whether the environment was made in another place than where it is now."""
    activate = venv_program("python").with_name("activate")
    return activate.is_file() and str(VENV) not in activate.read_text("utf-8", "replace")


def renew_scripts() -> None:
    """Let the scripts of an environment that was moved find it where it is now."""
    say("The environment in .venv was moved; renewing its scripts")
    make = [sys.executable, "-m", "venv", "--without-pip", str(VENV)]
    python = venv_program("python")
    if subprocess.call(make, env=clean_environment()) != 0:
        raise ProblemError(f"The scripts in {python.parent} could not be renewed: delete {VENV}.")
    begin = b"#!/bin/sh\n'''exec' \"" + os.fsencode(python) + b'" "$0" "$@"\n\' \'\'\'\n'
    for path in python.parent.iterdir():  # those of packages; for Windows pip makes programs
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            renewed = OF_A_PACKAGE.sub(lambda _: begin, content, count=1)
            if renewed != content:
                path.write_bytes(renewed)


def check_venv_module() -> None:
    """Some Linux systems keep parts of Python in packages of their own; name the one to get."""
    if find_spec("venv") and find_spec("ensurepip"):
        return
    major, minor = sys.version_info[:2]
    raise ProblemError(
        f"This Python ({sys.executable}) cannot make virtual environments. On Debian and Ubuntu "
        f"install what it lacks with:\n    sudo apt install python{major}.{minor}-venv\n"
        "and run the same command again."
    )


def install(extras: set[str], pip_args: Sequence[str], state: dict[str, Any]) -> None:
    """Install the project and what it needs into the environment, with a sign of life."""
    (VENV / MARKER).unlink(missing_ok=True)
    python = str(venv_program("python"))
    if not state["pip"]:
        run_logged([python, "-m", "ensurepip", "--upgrade"], "Getting pip")
    if sys.platform == "linux" and not pip_args and not state["torch"]:
        say("PyTorch for Linux brings CUDA libraries of several GB (--help says how to avoid that)")
    target = f"{ROOT}[{','.join(sorted(extras))}]" if extras else str(ROOT)
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    run_logged(
        [python, "-m", "pip", "install", *options, *pip_args, "--editable", target],
        "Installing into .venv",
    )


def run_logged(command: Sequence[str], what: str) -> None:
    """Run a program with its output in a log; show that it lives, and the end when it fails."""
    start = time.monotonic()
    live = sys.stdout.isatty()
    log = VENV / LOG
    say(what)
    shown = 0.0
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=clean_environment(),
        )
        try:
            while process.poll() is None:
                elapsed = time.monotonic() - start
                if elapsed - shown >= (1 if live else 20):
                    shown = elapsed
                    show_progress(elapsed, last_step(log), live)
                time.sleep(0.1)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if live and shown:
        print("\r" + " " * 79 + "\r", end="")
    if process.returncode != 0:
        raise ProblemError(
            f"{what} failed:\n\n{tail(log)}\n\nThe whole output is in {log}. If the network "
            "failed, run the same command again: what is there stays."
        )
    say(f"{what}: done in {time.monotonic() - start:.0f} s")


def show_progress(elapsed: float, step: str, live: bool) -> None:
    """Show one line, over the last one on a terminal."""
    line = f"  {elapsed:4.0f} s  {step}"[:79]
    print("\r" + line.ljust(79) if live else line, end="" if live else "\n")
    sys.stdout.flush()


def last_step(log: Path) -> str:
    """Give the last line of pip's output, without details."""
    lines = [line for line in tail(log, 40).splitlines() if line and not line.startswith(" ")]
    return re.split(r": | from | \(", lines[-1])[0] if lines else ""


def tail(log: Path, lines: int = 25) -> str:
    """Give the last lines of a log."""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 20_000))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def clean_environment() -> dict[str, str]:
    """Give the environment variables without those that lead Python to other packages."""
    environment = {name: text for name, text in os.environ.items() if name not in NOT_OURS}
    environment["PYTHONNOUSERSITE"] = "1"
    environment["PIP_USER"] = "0"  # whatever pip's configuration says
    environment["VIRTUAL_ENV"] = str(VENV)
    places = [str(venv_program("python").parent), environment.get("PATH", "")]
    environment["PATH"] = os.pathsep.join(places)
    return environment


# --- what is run in it ---------------------------------------------------------------------------


def demo(passed_on: Sequence[str]) -> int:
    """Segment the example images."""
    out = [] if any(word.startswith("--out") for word in passed_on) else ["--out", "demo_output"]
    status = run_inside(["-m", "cellseg_engine", "demo", *out, *passed_on])
    if status == 0:
        python = Path(venv_program("python")).relative_to(ROOT)
        say("\nThe same in ImageJ, as the command Plugins > CellSeg > Segment Cells:")
        say(f"  {python} tools/open_imagej.py    (fetches an ImageJ; needs a JDK and Maven)")
        say(f"  {python.with_name('cellseg')} install fiji /path/to/Fiji.app    (your own Fiji)")
    return status


def report() -> int:
    """Say how the engine is started."""
    say(f'Ready. Start the engine with: "{venv_program("cellseg")}"')
    return 0


def lint() -> int:
    """Run the checks; all of them, also when one fails."""
    failed = run_checks()
    say("Failed: " + ", ".join(failed) if failed else "All checks passed")
    return 1 if failed else 0


def test(passed_on: Sequence[str]) -> int:
    """Run the checks, make the hosts, run the tests, whose closing line is the last one."""
    failed = run_checks()
    # tests/conftest.py repeats the names above pytest's closing line.
    variables = {"CELLSEG_FAILED_CHECKS": ", ".join(failed)}
    if os.environ.get("CI", "").lower() in ("1", "true"):
        variables["CELLSEG_REQUIRE_HOSTS"] = os.environ.get("CELLSEG_REQUIRE_HOSTS", "1")
    say("hosts for the tests")
    run_inside(["tools/hosts.py"])
    say("pytest")
    status = run_inside(["-m", "pytest", "-q", *passed_on], variables)
    return status or (1 if failed else 0)


def bench(passed_on: Sequence[str]) -> int:
    """Measure the speed beside the peer, and write the pages about it."""
    say("single kernels")
    status = run_inside(["benchmarks/kernels.py", "--write-docs"]) if not passed_on else 0
    say("whole images")
    more = passed_on or ["--write-docs"]
    return run_inside(["benchmarks/performance.py", *more]) or status


def run_checks() -> list[str]:
    """Run each check and give the names of those that failed."""
    failed = []
    for name, arguments in CHECKS:
        say(name)
        if run_inside(arguments) != 0:
            failed.append(name)
    return failed


def run_inside(arguments: Sequence[str], variables: dict[str, str] | None = None) -> int:
    """Run the environment's Python in the project's folder; give its exit status."""
    environment = {**clean_environment(), **(variables or {})}
    return subprocess.call([str(venv_program("python")), *arguments], cwd=ROOT, env=environment)


def clean() -> int:
    """Delete what builds, tests and the demo left behind; the environment stays."""
    for name in LEFT_BEHIND:
        if (ROOT / name).exists():
            say("Deleting " + name)
            shutil.rmtree(ROOT / name)
    return 0


def say(text: str) -> None:
    """Print one line now, in order with the output of other programs."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
