"""Parts of a long benchmark, each kept as JSON, so that one can be measured anew by itself.

What is kept are figures; what is said of them is derived from them each time.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _report import describe_commit, describe_machine, list_versions, own_versions

FOLDER = Path(__file__).resolve().parent / "results"


def keep(name: str, figures: dict[str, Any], peer: dict[str, str]) -> dict[str, Any]:
    """Write a part with when, where and with what it was measured; give it as `find` does."""
    FOLDER.mkdir(exist_ok=True)
    content = {
        "figures": figures,
        "machine": describe_machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": describe_commit(),
        "versions": own_versions(),
        "peer_versions": peer,
    }
    text = json.dumps(content, indent=1) + "\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    return dict(json.loads(text))


def find(name: str) -> dict[str, Any] | None:
    """Give a part as it was written; None if it was never measured."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def describe_origin(content: dict[str, Any]) -> str:
    """Give where, when, and of what state of the code a part was measured."""
    commit = content.get("commit") or "not recorded"
    place = f"{content['machine']}, {content['date']}, commit {commit}; "
    place += list_versions(content["versions"])
    peer = content["peer_versions"]
    return place + (f"; the peer: {list_versions(peer)}" if peer else "")
