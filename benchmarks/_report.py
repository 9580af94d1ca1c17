"""Bounds, tables and the page in docs/ that a benchmark writes."""

from __future__ import annotations

import importlib.metadata
import json
import math
import operator
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
PACKAGES = ("cellseg-engine", "torch", "numpy", "numba", "scipy", "scikit-image")

_SENSES = {"<": operator.lt, "<=": operator.le, "=": operator.eq, ">=": operator.ge}


@dataclass(frozen=True)
class Bound:
    """A figure and what it must keep to."""

    name: str
    value: float
    sense: str
    limit: float

    @property
    def holds(self) -> bool:
        return math.isfinite(self.value) and bool(_SENSES[self.sense](self.value, self.limit))

    def __str__(self) -> str:
        word = "holds" if self.holds else "FAILS"
        return f"{word}: {self.name} = {show(self.value)} ({self.sense} {show(self.limit)})"


@dataclass
class Section:
    """One part of a report: what was done, its figures, its bounds, what was found."""

    title: str
    text: str
    columns: Sequence[str] = ()
    rows: list[Sequence[Any]] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_text(self) -> str:
        """Give it as plain text for a terminal."""
        table = [[show(cell) for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(len(row[k]) for row in table) for k in range(len(self.columns))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in table]
        return "\n".join([self.title, *lines, *self.notes, *map(str, self.bounds), ""])

    def to_markdown(self) -> str:
        """Give it for the docs."""
        lines = [f"## {self.title}", "", self.text, ""]
        if self.rows:
            lines += [_markdown_row(self.columns), _markdown_row(["---"] * len(self.columns))]
            lines += [_markdown_row(row) for row in self.rows] + [""]
        if self.bounds:
            lines += [f"* {bound}" for bound in self.bounds] + [""]
        lines += [line for note in self.notes for line in (note, "")]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        bounds = [asdict(bound) | {"holds": bound.holds} for bound in self.bounds]
        return {"title": self.title, "rows": rows, "bounds": bounds, "notes": self.notes}


def show(value: Any) -> str:
    """Give a table cell: numbers with the digits that matter."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e6):
        return str(int(value))
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"


def describe_machine() -> str:
    """Give processor, cores and system of this computer."""
    name = platform.processor()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name or platform.machine()}, {os.cpu_count()} cores, {platform.system()}"


def own_versions() -> dict[str, str]:
    """Give the versions of what computes here."""
    from cellseg_engine import __version__

    versions = {"python": platform.python_version(), "cellseg-engine": __version__}
    return versions | {name: importlib.metadata.version(name) for name in PACKAGES[1:]}


def describe_commit() -> str:
    """Give the commit of this checkout, and whether the code differs from it; empty without git."""
    code = ("*.py", "*.toml", "*.safetensors")
    try:
        commit, changes = (
            subprocess.run(
                ["git", *words], cwd=DOCS.parent, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (
                ("rev-parse", "--short=12", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no", "--", *code),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + (" with changes" if changes else "")


def list_versions(versions: dict[str, str]) -> str:
    """Give versions in one line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def finish(
    sections: Iterable[Section],
    *,
    page: str,
    title: str,
    introduction: str,
    command: str,
    peer_versions: dict[str, str],
    json_path: Path | None,
    write_docs: bool,
) -> int:
    """Print the report, write what was asked for; 1 when a bound fails, else 0."""
    sections = list(sections)
    bounds = [bound for section in sections for bound in section.bounds]
    failed = [bound for bound in bounds if not bound.holds]
    facts = {
        "machine": describe_machine(),
        "commit": describe_commit(),
        "versions": own_versions(),
        "peer_versions": peer_versions,
        "sections": [section.to_json() for section in sections],
        "holds": not failed,
    }
    text = json.dumps(facts, indent=1)
    if json_path is not None:
        json_path.write_text(text + "\n", encoding="utf-8")
    for section in sections:
        print(section.to_text(), file=sys.stderr)
    print(text)
    if write_docs:
        verdict = f"All {len(bounds)} bounds hold." if not failed else "; ".join(map(str, failed))
        lines = [
            f"# {title}",
            "",
            introduction,
            "",
            f"Written by `{command}`. {verdict}",
            "",
            f"* Machine: {facts['machine']}; commit {facts['commit'] or 'unknown'}.",
            f"* Here: {list_versions(own_versions())}.",
            *([f"* Peer: {list_versions(peer_versions)}."] if peer_versions else []),
            "",
            *(section.to_markdown() for section in sections),
        ]
        (DOCS / page).write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return 1 if failed else 0


def _markdown_row(cells: Iterable[Any]) -> str:
    return "| " + " | ".join(show(cell) for cell in cells) + " |"
