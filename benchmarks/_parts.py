"""Parts of a long benchmark, each kept as JSON, so that one can be measured anew by itself."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _report import Bound, Section, describe_machine, own_versions

FOLDER = Path(__file__).resolve().parent / "results"


def keep(name: str, section: Section, figures: dict[str, Any], peer: dict[str, str]) -> None:
    """Write a part with when, where and with what it was measured."""
    FOLDER.mkdir(exist_ok=True)
    content = {
        "section": asdict(section),
        "figures": figures,
        "machine": describe_machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": own_versions(),
        "peer_versions": peer,
    }
    text = json.dumps(content, indent=1) + "\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


def find(name: str) -> dict[str, Any] | None:
    """Give a part as it was written; None if it was never measured."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def as_section(content: dict[str, Any]) -> Section:
    """Give the section of a part, with where and when it was measured."""
    section = dict(content["section"])
    section["bounds"] = [Bound(**bound) for bound in section["bounds"]]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    peer = content["peer_versions"].items()
    place = f"{content['machine']}, {content['date']}; {versions}"
    if peer:
        place += "; the peer: " + ", ".join(f"{name} {version}" for name, version in peer)
    section["text"] = f"{section['text']} Measured on {place}."
    return Section(**section)
