"""Make headless CellProfilers for the tests, from tests/hosts/cellprofiler.lock.

python tools/cellprofiler_host.py build [3.9 3.11]    make those that this computer has a Python for
python tools/cellprofiler_host.py list                say which there are, as "3.9 PATH" lines

They lie in .hosts/cellprofiler-3.9 and -3.11 beside pyproject.toml, and are made anew when the lock
changes. Needed: a JDK and a C compiler. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "tests/hosts/cellprofiler.lock"
HOSTS = ROOT / ".hosts"
VERSIONS = ("3.9", "3.11")
MARKER = "cellseg-host.sha256"
NOT_OURS = ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV")
NEEDS = (
    "A headless CellProfiler needs a JDK and a C compiler. On Debian and Ubuntu:\n"
    "    sudo apt install openjdk-17-jdk-headless build-essential\n"
    "on a Mac:\n    xcode-select --install; brew install openjdk@17\n"
    "or set JAVA_HOME to a JDK."
)


class HostError(Exception):
    """Something that the user can act on."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0: at least one CellProfiler is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["build", "list"])
    parser.add_argument("versions", nargs="*", default=list(VERSIONS), metavar="VERSION")
    options = parser.parse_args(argv)
    try:
        if options.command == "build":
            build_all(options.versions)
    except HostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = {version: find(version) for version in options.versions}
    for version, python in found.items():
        if python:
            print(version, python)
    return 0 if any(found.values()) else 1


def find(version: str) -> Path | None:
    """Give the Python of a CellProfiler that is complete and up to date, or None."""
    folder = HOSTS / f"cellprofiler-{version}"
    try:
        is_good = (folder / MARKER).read_text() == fingerprint()
    except OSError:
        return None
    return program(folder, "python") if is_good else None


def build_all(versions: list[str]) -> None:
    """Make what is missing.

    Raises
    ------
    HostError
        There is no JDK, no Python of any of the versions, or an installation failed.
    """
    missing = [version for version in versions if find(version) is None]
    if not missing:
        return
    java_home = find_jdk()
    if java_home is None:
        raise HostError(NEEDS)
    for version in missing:
        python = find_python(version)
        if python is None:
            print(f"CellProfiler on Python {version}: this computer has no Python {version}")
        else:
            build(version, python, java_home)
    if not any(find(version) for version in versions):
        raise HostError(f"CellProfiler needs Python {' or '.join(versions)}; install one of them.")


def build(version: str, python: str, java_home: Path) -> None:
    """Make one, about a minute; the whole folder or nothing that would be taken for it."""
    folder = HOSTS / f"cellprofiler-{version}"
    print(f"CellProfiler on Python {version}: installing (a minute, 0.9 GB)", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    environment = {name: text for name, text in os.environ.items() if name not in NOT_OURS}
    environment["JAVA_HOME"] = str(java_home)
    run([python, "-m", "venv", str(folder)], environment)
    pip = [str(program(folder, "python")), "-m", "pip", "install", "--quiet", "--no-input"]
    pip += ["--disable-pip-version-check", "--no-deps"]
    for part in ("build", "host"):
        requirements = folder / f"{part}.txt"
        requirements.write_text(read_lock()[part])
        more = [] if part == "build" else ["--no-build-isolation"]
        run([*pip, *more, "-r", str(requirements)], environment)
    code = "import cellprofiler_core, cellprofiler, javabridge"
    run([str(program(folder, "python")), "-c", code], environment)
    (folder / MARKER).write_text(fingerprint())


def read_lock() -> dict[str, str]:
    """Give the parts of the lock by name."""
    parts: dict[str, str] = {}
    name = ""
    for line in LOCK.read_text().splitlines():
        if line.startswith("["):
            name = line.strip("[]")
        elif name:
            parts[name] = parts.get(name, "") + line + "\n"
    return parts


def fingerprint() -> str:
    """Hash what an installation is made from."""
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()


def program(folder: Path, name: str) -> Path:
    """Give the path of a program of an environment."""
    return folder / "Scripts" / f"{name}.exe" if os.name == "nt" else folder / "bin" / name


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a program; its output is shown when it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        check=False,
    )
    if done.returncode:
        end = done.stdout.decode(errors="replace").strip().splitlines()[-25:]
        raise HostError("CellProfiler could not be installed:\n" + "\n".join(end))


def find_jdk() -> Path | None:
    """Give the folder of a JDK (not only a Java that runs), or None."""
    given = os.environ.get("JAVA_HOME")
    javac = shutil.which("javac")
    places = [Path(given)] if given else []
    if javac:
        places.append(Path(javac).resolve().parents[1])
    mac = Path("/usr/libexec/java_home")
    if mac.exists():
        answer = subprocess.run([str(mac)], capture_output=True, text=True, check=False)
        places.append(Path(answer.stdout.strip() or "/none"))
    return next((place for place in places if (place / "include").is_dir()), None)


def find_python(version: str) -> str | None:
    """Give a Python of a version that can make environments, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    candidates = [sys.executable, shutil.which(f"python{version}")]
    candidates += [str(path) for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python"))]
    code = "import sys, venv, ensurepip; print('{}.{}'.format(*sys.version_info))"
    for candidate in candidates:
        if candidate is None:
            continue
        answer = subprocess.run(
            [candidate, "-c", code], capture_output=True, text=True, check=False
        )
        if answer.stdout.strip() == version:
            return candidate
    return None


if __name__ == "__main__":
    sys.exit(main())
