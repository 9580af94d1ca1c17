"""Write the list of models that can be used by name, models.toml, for the tools and benchmarks."""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cellseg_engine.zoo import store

AGREEMENT = "bf16_agreement"


def read_catalogue() -> dict[str, dict[str, Any]]:
    """Read the entries, by the names of the models."""
    return tomllib.loads(store.CATALOGUE.read_text(encoding="utf-8"))


def name_in_catalogue(name: str, entry: dict[str, Any]) -> None:
    """Put a model in, in the place of one of its name."""
    _write(read_catalogue() | {name: entry})


def note_agreement(measured: Iterable[Mapping[str, Any]]) -> None:
    """Note how well bf16 agrees with fp32; of several measurements the lowest counts.

    Each has ``agreement``, and ``weights``, the SHA-256 of the files it was measured on, by
    model. Those of other files than the present ones count for nothing.
    """
    models = read_catalogue()
    found: dict[str, list[float]] = {}
    for one in measured:
        for name, sha256 in one.get("weights", {}).items():
            if name in models and models[name]["sha256"] == sha256:
                found.setdefault(name, []).append(one["agreement"][name])
    for name, values in found.items():
        # Rounded down: no model gets over the threshold of the engine by rounding.
        models[name][AGREEMENT] = math.floor(round(min(values) * 1e4, 6)) / 1e4
    if models != read_catalogue():
        _write(models)


def _write(models: Mapping[str, dict[str, Any]]) -> None:
    """Write all entries, shipped ones first, under the comment that is there; whole or not."""
    catalogue: Path = store.CATALOGUE
    text = catalogue.read_text(encoding="utf-8")
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    ordered = sorted(models.items(), key=lambda item: item[1]["source"] != "shipped")
    tables = [
        "\n".join([f"[{key}]", *(f"{field} = {json.dumps(value)}" for field, value in one.items())])
        for key, one in ordered
    ]
    new = catalogue.with_suffix(".new")
    new.write_text("\n\n".join([head, *tables]) + "\n", encoding="utf-8")
    os.replace(new, catalogue)
