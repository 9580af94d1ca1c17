"""Set up what the tests of the Fiji scripts run in, and build the jar for plain ImageJ.

    python tools/fiji_host.py build    fetch ImageJ and Jython, compile, into .hosts/fiji
    python tools/fiji_host.py jar      write fiji_scripts/imagej/CellSeg_.jar anew from its sources

Needs Java (JDK 9 or newer) and Maven, which fetches what tests/hosts/fiji/pom.xml names from its
central repository. The second time, nothing is done unless something changed. Only the standard
library is used.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "tests" / "hosts" / "fiji"
POM = SOURCES / "pom.xml"
HOST = ROOT / ".hosts" / "fiji"
MARKER = "built.json"
ADAPTER_SOURCES = ROOT / "fiji_scripts" / "imagej"
ADAPTER_JAR = ADAPTER_SOURCES / "CellSeg_.jar"
ADAPTER_CONFIG = "plugins.config"
DIGEST_ENTRY = "META-INF/cellseg-sources.txt"

_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
_ANNOTATIONS = "org.scijava.annotations.AnnotationProcessor"
_EPOCH = (2000, 1, 1, 0, 0, 0)
_WAIT_S = 600
_LINES_SHOWN = 15


class ProblemError(Exception):
    """Something that the user can act on; one message without a traceback."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 done, 1 not, with a sentence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["build", "jar"])
    command = parser.parse_args(argv).command
    try:
        if command == "build":
            print(build())
        else:
            print(write_adapter_jar(find_or_build() / "jars", ADAPTER_JAR))
    except ProblemError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


# --- what tests ask for --------------------------------------------------------------------------


def find_host() -> Path | None:
    """Give the folder of the test host, or None if it is not built from the present sources."""
    try:
        marker = json.loads((HOST / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(marker, dict) and marker.get("fingerprint") == fingerprint()
    return HOST if same else None


def mini_fiji_classpath(host: Path) -> str:
    """Give the class path of the headless mini-Fiji and its server."""
    return os.pathsep.join([str(host / "jars" / "*"), str(host / "server"), str(host / "minifiji")])


def server_classes(host: Path) -> Path:
    """Give the folder of the server alone, for a real Fiji or a plain ImageJ."""
    return host / "server"


def imagej_jar(host: Path) -> Path:
    """Give the ij.jar of plain ImageJ."""
    (jar,) = (host / "jars").glob("ij-*.jar")
    return jar


def jython_jars(host: Path) -> list[Path]:
    """Give Jython and what it needs: all jars that are neither ImageJ nor SciJava."""
    others = ("ij-", "ij1-patcher", "scijava-common", "parsington", "javassist")
    return sorted(p for p in (host / "jars").glob("*.jar") if not p.name.startswith(others))


# --- building ------------------------------------------------------------------------------------


def find_or_build() -> Path:
    """Give the folder of the test host, built if needed."""
    return find_host() or build()


def build() -> Path:
    """Fetch and compile the test host; quick when there is nothing to do.

    Raises
    ------
    ProblemError
        Java or Maven is missing, or one of them fails.
    """
    found = find_host()
    if found:
        return found
    maven = find_program("mvn")
    compiler = find_program("javac")
    HOST.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOST.parent, prefix="fiji-") as folder:
        new = Path(folder) / "fiji"
        new.mkdir()
        _fetch(maven, new / "jars")
        _compile(compiler, SOURCES / "java" / "server", new / "server", new / "jars")
        _compile(
            compiler,
            SOURCES / "java" / "minifiji",
            new / "minifiji",
            new / "jars",
            "-processor",
            _ANNOTATIONS,
        )
        marker = json.dumps({"fingerprint": fingerprint()})
        (new / MARKER).write_text(marker, encoding="utf-8")
        if HOST.exists():
            shutil.rmtree(HOST)
        new.rename(HOST)
    return HOST


def fingerprint() -> str:
    """Hash what the host is made from."""
    files = [POM, Path(__file__).resolve(), *sorted((SOURCES / "java").rglob("*.java"))]
    return digest_files(files)


def digest_files(files: Sequence[Path]) -> str:
    """Hash names and contents, with the line ends of every system taken as one."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def find_program(name: str) -> str:
    """Give the path of ``mvn``, ``javac`` or ``java``.

    Raises
    ------
    ProblemError
        It is missing; says how to get it.
    """
    home = os.environ.get("JAVA_HOME")
    places = os.pathsep.join([*([str(Path(home) / "bin")] if home else []), os.environ["PATH"]])
    found = shutil.which(name, path=places)
    if found:
        return found
    what = "Maven (mvn)" if name == "mvn" else f"a Java development kit ({name})"
    raise ProblemError(
        f"The tests in a real ImageJ need {what}, which was not found. Debian, Ubuntu: apt-get "
        "install openjdk-17-jdk maven xvfb; Fedora: dnf install java-17-openjdk-devel "
        "maven xorg-x11-server-Xvfb; macOS: brew install openjdk@17 maven; Windows: winget "
        "install EclipseAdoptium.Temurin.17.JDK, and Maven from maven.apache.org."
    )


def _fetch(maven: str, jars: Path) -> None:
    options = ["-B", "-q", "-f", str(POM), "-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
    _run([maven, *options, _COPY], "Maven could not fetch ImageJ and Jython")


def _compile(compiler: str, sources: Path, classes: Path, jars: Path, *options: str) -> None:
    classes.mkdir()
    command = [compiler, "--release", "8", "-Xlint:-options", "-encoding", "UTF-8"]
    command += ["-g:none", "-cp", str(jars / "*"), "-d", str(classes)]
    command += options or ["-proc:none"]
    files = [str(path) for path in sorted(sources.rglob("*.java"))]
    _run([*command, *files], f"{sources.name} could not be compiled")


def _run(command: Sequence[str], problem: str) -> None:
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_WAIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProblemError(f"{problem}: {error}.") from error
    if ended.returncode != 0:
        lines = ended.stdout.decode(errors="replace").strip().splitlines()[-_LINES_SHOWN:]
        raise ProblemError(f"{problem}:\n" + "\n".join(lines))


# --- the jar for plain ImageJ --------------------------------------------------------------------


def adapter_digest() -> str:
    """Hash the sources of the jar for plain ImageJ."""
    sources = sorted((ADAPTER_SOURCES / "java").rglob("*.java"))
    return digest_files([ADAPTER_SOURCES / ADAPTER_CONFIG, *sources])


def shipped_digest(jar: Path) -> str:
    """Give the hash of the sources that a jar was built from."""
    with zipfile.ZipFile(jar) as archive:
        return archive.read(DIGEST_ENTRY).decode("ascii").strip()


def write_adapter_jar(jars: Path, target: Path) -> Path:
    """Compile the jar for plain ImageJ; the same sources give the same bytes."""
    compiler = find_program("javac")
    with tempfile.TemporaryDirectory() as folder:
        classes = Path(folder) / "classes"
        _compile(compiler, ADAPTER_SOURCES / "java", classes, jars)
        contents = {
            path.relative_to(classes).as_posix(): path.read_bytes()
            for path in sorted(classes.rglob("*.class"))
        }
    config = (ADAPTER_SOURCES / ADAPTER_CONFIG).read_bytes().replace(b"\r\n", b"\n")
    contents[ADAPTER_CONFIG] = config
    contents[DIGEST_ENTRY] = adapter_digest().encode("ascii")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(contents.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return target


if __name__ == "__main__":
    sys.exit(main())
