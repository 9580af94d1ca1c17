"""Take a finished training into the repository: python tools/ship_model.py FOLDER [--separate].

FOLDER is that of ``cellseg train``. The weights are stored in eight bits (docs/decisions/0033)
and named in models.toml; how they came about goes to models/NAME.json, with the curves beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

from cellseg_engine.nets.card import file_sha256, read_weights, write_weights
from cellseg_engine.zoo.store import CATALOGUE, CHECKOUT_FOLDER, SHIPPED_FOLDER

LOCAL = ("paths", "settings", "device", "platform", "fingerprint")
"""Parts of training.json about the computer it ran on."""
LISTS = ("training", "held_out")
"""Images, which the record lists outside the plan as well."""


def main() -> int:
    """Copy the weights and their record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("training", type=Path)
    parser.add_argument("--separate", action="store_true", help="beside the package, not in it")
    given = parser.parse_args()
    record = json.loads((given.training / "training.json").read_text(encoding="utf-8"))
    if not record["complete"]:
        sys.exit(f"The training in {given.training} is not finished.")
    name = record["card"]["name"]
    folder = CHECKOUT_FOLDER if given.separate else SHIPPED_FOLDER
    CHECKOUT_FOLDER.mkdir(exist_ok=True)
    weights = read_weights(given.training / record["model"])
    target = folder / f"{name}.safetensors"
    write_weights(target, weights.card, weights.arrays, weights.size_model, storage="int8")
    target.chmod(0o644)
    entry = {
        "source": "separate" if given.separate else "shipped",
        "files": [target.name],
        "sha256": [file_sha256(target)],
    }
    if given.separate:
        entry["description"] = weights.card.description
    name_in_catalogue(name, entry)
    kept = {key: value for key, value in record.items() if key not in LOCAL}
    kept["plan"] = {key: value for key, value in kept["plan"].items() if key not in LISTS}
    text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
    (CHECKOUT_FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    for suffix in ("csv", "png"):
        shutil.copy(
            given.training / f"curves.{suffix}", CHECKOUT_FOLDER / f"{name}-curves.{suffix}"
        )
    print(f"{target} {entry['sha256'][0]}")
    return 0


def name_in_catalogue(name: str, entry: dict[str, Any]) -> None:
    """Put a model into models.toml, in the place of one of its name."""
    text = CATALOGUE.read_text(encoding="utf-8")
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    models = tomllib.loads(text) | {name: entry}
    models = dict(sorted(models.items(), key=lambda item: item[1]["source"] != "shipped"))
    tables = [
        "\n".join([f"[{key}]", *(f"{field} = {json.dumps(value)}" for field, value in one.items())])
        for key, one in models.items()
    ]
    CATALOGUE.write_text("\n\n".join([head, *tables]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
