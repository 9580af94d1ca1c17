"""tools/bootstrap.py: what it decides and what it says, without making environments."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "tools/bootstrap.py"
READY = {"version": [3, 12, 1], "pip": True, "torch": True, "missing": []}


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load the script for a project of its own, without an environment."""
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    root = tmp_path / "a project"
    (root / "cellseg_engine").mkdir(parents=True)
    for name in ("pyproject.toml", "cellseg_engine/_version.py"):
        shutil.copy(ROOT / name, root / name)
    monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(module, "VENV", root / ".venv")
    monkeypatch.setattr(module, "LOCK", root / ".venv.lock")
    monkeypatch.delenv("CELLSEG_PIP_ARGS", raising=False)
    return module


@pytest.fixture
def installs(bootstrap: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[set[str], list[str]]]:
    """Record installations (extras, pip arguments) into an environment that works."""
    calls: list[tuple[set[str], list[str]]] = []
    bootstrap.VENV.mkdir()
    monkeypatch.setattr(bootstrap, "probe", lambda extras: dict(READY))
    monkeypatch.setattr(
        bootstrap, "install", lambda extras, pip_args, state: calls.append((extras, pip_args))
    )
    return calls


def problem(bootstrap: Any, call: Any) -> str:
    with pytest.raises(bootstrap.ProblemError) as caught:
        call()
    return str(caught.value)


def test_the_whole_program_is_the_standard_library() -> None:
    code = (
        f"import sys, runpy; runpy.run_path({str(SCRIPT)!r}); "
        "names = {name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names; "
        "print(sorted(name for name in names if not name.startswith('_')))"
    )
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_options(bootstrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options, passed_on = bootstrap.parse(
        ["test", "--extras", "openvino, service", "--pip-args", "-i 'x y'", "--", "-k", "a"]
    )
    assert (options.command, options.extras) == ("test", ["openvino", "service"])
    assert passed_on == ["-k", "a"]
    if sys.platform != "win32":
        assert options.pip_args == ["-i", "x y"]
    monkeypatch.setenv("CELLSEG_PIP_ARGS", "--pre -v")
    assert bootstrap.parse(["demo"])[0].pip_args == ["--pre", "-v"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: command"),
        (["frobnicate"], "invalid choice"),
        (["install", "--", "-x"], "only bench, demo, test take arguments"),
    ],
)
def test_wrong_use(
    bootstrap: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        bootstrap.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_an_unknown_extra_is_named(bootstrap: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(["install", "--extras", "gpu"]) == 1
    assert "There is no extra gpu; the extras are dev, export," in capsys.readouterr().err
    assert not bootstrap.VENV.exists()


def test_it_installs_only_when_something_changed(bootstrap: Any, installs: Any) -> None:
    bootstrap.set_up(set(), ["--pre"])
    bootstrap.set_up(set(), [])
    assert installs == [(set(), ["--pre"])]

    bootstrap.set_up({"dev", "service"}, [])
    bootstrap.set_up({"dev"}, [])
    bootstrap.set_up(set(), [])
    assert installs[1:] == [({"dev", "service"}, [])]

    with (bootstrap.ROOT / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    bootstrap.set_up(set(), [])
    assert installs[2:] == [({"dev", "service"}, [])]  # what was there stays


def test_a_moved_project_or_another_python_is_installed_again(
    bootstrap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bootstrap.fingerprint([3, 12, 1])
    assert before == bootstrap.fingerprint([3, 12, 1])
    assert before != bootstrap.fingerprint([3, 13, 0])
    moved = bootstrap.ROOT.rename(bootstrap.ROOT.with_name("moved"))
    monkeypatch.setattr(bootstrap, "ROOT", moved)
    assert before != bootstrap.fingerprint([3, 12, 1])


@pytest.mark.skipif(sys.platform == "win32", reason="has programs instead of scripts")
def test_a_moved_environment_finds_itself(bootstrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    venv = bootstrap.VENV
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    tools = {
        "short": f"#!{venv}/bin/python3\n",
        "long": f"#!/bin/sh\n'''exec' \"{venv}/bin/python\" \"$0\" \"$@\"\n' '''\n",
    }
    for name, first in tools.items():
        (venv / "bin" / name).write_text(f"{first}import sys\nprint(sys.prefix)\n")
        (venv / "bin" / name).chmod(0o755)
    assert not bootstrap.was_moved()
    for place in ("moved here", "and again"):
        venv = venv.parent.rename(venv.parent.with_name(place)) / ".venv"
        monkeypatch.setattr(bootstrap, "VENV", venv)
        assert bootstrap.was_moved()
        bootstrap.renew_scripts()
        assert not bootstrap.was_moved()
        for name in tools:
            assert subprocess.check_output([venv / "bin" / name], text=True) == f"{venv}\n"


def test_two_at_once(bootstrap: Any, installs: Any) -> None:
    with bootstrap.only_one():
        said = problem(bootstrap, lambda: bootstrap.set_up(set(), []))
    assert (said.startswith("Another bootstrap.py is setting up"), installs) == (True, [])
    bootstrap.set_up(set(), [])
    assert len(installs) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"extras": ["of an older version"]}'])
def test_a_damaged_marker_means_installing(bootstrap: Any, installs: Any, text: str) -> None:
    (bootstrap.VENV / bootstrap.MARKER).write_text(text)
    bootstrap.set_up(set(), [])
    assert installs == [(set(), [])]
    assert "fingerprint" in json.loads((bootstrap.VENV / bootstrap.MARKER).read_text())


def test_a_package_that_was_removed_is_installed_again(
    bootstrap: Any, installs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap.set_up(set(), [])
    states = iter([{**READY, "missing": ["click"]}, READY])
    monkeypatch.setattr(bootstrap, "probe", lambda extras: next(states))
    bootstrap.set_up(set(), [])
    assert len(installs) == 2

    monkeypatch.setattr(bootstrap, "probe", lambda extras: {**READY, "missing": ["click"]})
    assert problem(bootstrap, lambda: bootstrap.set_up(set(), [])) == (
        "pip ended well, but still missing: click."
    )


@pytest.mark.parametrize("state", [None, {**READY, "version": [3, 10, 4]}])
def test_a_broken_or_old_environment_is_made_anew(
    bootstrap: Any, installs: Any, monkeypatch: pytest.MonkeyPatch, state: Any
) -> None:
    states = iter([state, READY, READY])
    made = []
    monkeypatch.setattr(bootstrap, "probe", lambda extras: next(states))
    monkeypatch.setattr(bootstrap, "make_venv", lambda: made.append(True))
    bootstrap.set_up(set(), [])
    assert (len(made), len(installs)) == (1, 1)


def test_the_probe_tells_what_is_there(bootstrap: Any) -> None:
    """The question that is asked inside the environment, asked in the one of the tests."""
    answer = subprocess.run(
        [sys.executable, "-I", "-c", bootstrap.PROBE], capture_output=True, text=True, check=True
    )
    state = json.loads(answer.stdout)
    assert state["version"] == list(sys.version_info[:3])
    assert state["torch"] is True
    assert set(state["missing"]) <= {"cellseg-engine"}


def test_a_folder_that_is_no_environment_is_left_alone(bootstrap: Any) -> None:
    precious = bootstrap.VENV / "precious.txt"
    bootstrap.VENV.mkdir()
    precious.write_text("x")
    assert "is not a virtual environment of Python; move it away" in problem(
        bootstrap, bootstrap.make_venv
    )
    assert precious.exists()


@pytest.mark.parametrize("half", ["cellseg-begun", "pyvenv.cfg"])
def test_what_an_interruption_left_is_made_anew(
    bootstrap: Any, monkeypatch: pytest.MonkeyPatch, half: str
) -> None:
    """While it is deleted or made, the folder can be told from one that is somebody else's."""
    (bootstrap.VENV / "lib").mkdir(parents=True)
    (bootstrap.VENV / half).touch()
    left: list[set[str]] = []

    def make(*_: object, **__: object) -> Any:
        left.append({path.name for path in bootstrap.VENV.iterdir()})
        (bootstrap.VENV / "pyvenv.cfg").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(bootstrap.subprocess, "run", make)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                bootstrap.make_venv()
    assert left == [{"cellseg-begun"}, {"cellseg-begun"}]
    python = bootstrap.venv_program("python")
    python.parent.mkdir()
    python.touch()
    assert bootstrap.probe(set()) is None


def test_a_busy_computer_costs_no_environment(
    bootstrap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = bootstrap.venv_program("python")
    python.parent.mkdir(parents=True)
    for path in (python, bootstrap.VENV / "pyvenv.cfg"):
        path.touch()

    def wait(command: Any, timeout: float, **_: object) -> Any:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(bootstrap.subprocess, "run", wait)
    assert "gave no answer in 120 s" in problem(bootstrap, lambda: bootstrap.set_up(set(), []))
    assert python.exists()


def test_a_folder_without_permission_is_one_sentence(
    bootstrap: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(bootstrap.VENV))

    monkeypatch.setattr(bootstrap.Path, "mkdir", refuse)
    assert bootstrap.main(["install"]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith(
        f"error: The environment in {bootstrap.VENV} cannot be set up: [Errno 13]"
    )
    assert said.count("\n") == 0


def test_a_python_without_venv_names_the_package_to_install(
    bootstrap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "find_spec", lambda name: name != "ensurepip" or None)
    major, minor = sys.version_info[:2]
    message = problem(bootstrap, bootstrap.make_venv)
    assert f"sudo apt install python{major}.{minor}-venv\n" in message


def test_the_layout_of_windows(bootstrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.os, "name", "nt")
    assert bootstrap.venv_program("python") == bootstrap.VENV / "Scripts" / "python.exe"
    assert bootstrap.split_arguments(r'--cert "C:\my files\x.pem"') == [
        "--cert",
        r"C:\my files\x.pem",
    ]
    monkeypatch.setattr(bootstrap.os, "name", "posix")
    assert bootstrap.venv_program("python") == bootstrap.VENV / "bin" / "python"


def test_a_failed_installation_shows_its_end(
    bootstrap: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap.VENV.mkdir()
    code = "print('no space left'); raise SystemExit(1)"
    message = problem(
        bootstrap, lambda: bootstrap.run_logged([sys.executable, "-c", code], "Installing")
    )
    assert message.startswith("Installing failed:\n\nno space left\n")
    assert str(bootstrap.VENV / bootstrap.LOG) in message
    assert capsys.readouterr().out == "Installing\n"


def test_all_checks_run_and_pytest_is_last(
    bootstrap: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []

    def run_inside(arguments: Any, variables: Any = None) -> int:
        calls.append((list(arguments), variables or {}))
        return 1 if "mypy" in arguments else 0

    monkeypatch.setattr(bootstrap, "set_up", lambda extras, pip_args: None)
    monkeypatch.setattr(bootstrap, "run_inside", run_inside)
    monkeypatch.setenv("CI", "true")
    monkeypatch.delenv("CELLSEG_REQUIRE_HOSTS", raising=False)
    assert bootstrap.main(["test", "--", "-k", "tiling"]) == 1
    assert [name for name, _ in bootstrap.CHECKS] == [
        "ruff check",
        "ruff format",
        "mypy",
        "import-linter",
    ]
    assert len(calls) == 6
    assert calls[-2] == (["tools/hosts.py"], {})
    assert calls[-1] == (
        ["-m", "pytest", "-q", "-k", "tiling"],
        {"CELLSEG_FAILED_CHECKS": "mypy", "CELLSEG_REQUIRE_HOSTS": "1"},
    )
    assert capsys.readouterr().out.endswith("pytest\n")


def test_other_packages_of_the_user_stay_outside(
    bootstrap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("PYTHONHOME", "elsewhere")
    monkeypatch.setenv("PIP_TARGET", "elsewhere")
    monkeypatch.setenv("PIP_PREFIX", "elsewhere")
    monkeypatch.setenv("PIP_USER", "1")
    environment = bootstrap.clean_environment()
    assert "elsewhere" not in environment.values()
    assert environment["PYTHONNOUSERSITE"] == "1"
    assert environment["PIP_USER"] == "0"


def test_clean_keeps_the_environment(bootstrap: Any) -> None:
    for name in (".venv", "dist", "demo_output", "docs"):
        (bootstrap.ROOT / name).mkdir()
    assert bootstrap.main(["clean"]) == 0
    assert {path.name for path in bootstrap.ROOT.iterdir() if path.is_dir()} == {
        ".venv",
        "cellseg_engine",
        "docs",
    }


def run_as_python_38(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a Python that says it is 3.8, with no programs but those of a folder."""
    code = (
        "import os, runpy, shutil, subprocess, sys; sys.version_info = (3, 8, 18, 'final', 0); "
        f"sys.argv = {[str(SCRIPT), *arguments]!r}; "
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": str(folder)},
    )


def test_an_older_python_says_one_sentence(tmp_path: Path) -> None:
    answer = run_as_python_38(tmp_path, "demo")
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    assert "needs Python 3.11 or newer; this is Python 3.8 and no newer one" in answer.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="makes programs of two lines for a POSIX shell")
def test_an_older_python_looks_for_a_newer_one(tmp_path: Path) -> None:
    programs = {"python3.13": "exit 127", "python3.12": f'exec "{sys.executable}" "$@"'}
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    answer = run_as_python_38(tmp_path, "install", "--extras", "gpu")
    assert answer.stderr.strip().startswith("error: There is no extra gpu")
    assert answer.returncode == 1


def test_older_pythons_can_read_the_script() -> None:
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))
