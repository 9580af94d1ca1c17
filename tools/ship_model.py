"""Take a finished training into the repository: python tools/ship_model.py FOLDER [--separate].

FOLDER is that of ``cellseg train``. The weights are stored in eight bits (docs/decisions/0033)
and named in models.toml; how they came about goes to models/NAME.json, with the curves beside it.
All is checked before anything is written, and models.toml comes last.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from cellseg_engine.errors import CellSegError
from cellseg_engine.io.staging import staged
from cellseg_engine.nets.card import WeightsFile, file_sha256, read_weights, write_weights
from cellseg_engine.train.record import read_record
from cellseg_engine.zoo import store

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tools.catalogue import name_in_catalogue

LOCAL = ("paths", "settings", "device", "platform", "fingerprint")
"""Parts of training.json about the computer it ran on."""
LISTS = ("training", "held_out")
"""Images, which the record lists outside the plan as well."""
CURVES = ("csv", "png")
NEXT = """\
To be run next, in this order, since all of it was about the weights before:
    python benchmarks/performance.py --part precision --write-docs   (notes bf16_agreement)
    python benchmarks/models.py --write-docs
    python tools/make_style_index.py"""


class ProblemError(Exception):
    """A training that cannot be shipped; shown as one message without a traceback."""


def main() -> int:
    """Copy the weights and their record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("training", type=Path)
    parser.add_argument("--separate", action="store_true", help="beside the package, not in it")
    given = parser.parse_args()
    try:
        record, weights = read_training(given.training)
        target = ship(given.training, record, weights, separate=given.separate)
    except (ProblemError, CellSegError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"{target} {file_sha256(target)}\n{NEXT}")
    return 0


def read_training(folder: Path) -> tuple[dict[str, Any], WeightsFile]:
    """Give the record of a finished training and the weights that it tells of.

    Raises
    ------
    ProblemError
        It is not finished, or its files do not belong together.
    """
    record = read_record(folder)
    if record is None:
        raise ProblemError(f"{folder} holds no training; give the --out of cellseg train.")
    if not record["complete"]:
        raise ProblemError(f"The training in {folder} is not finished; start it again to go on.")
    absent = [
        name
        for name in (record["model"], *(f"curves.{suffix}" for suffix in CURVES))
        if not (folder / name).is_file()
    ]
    if absent:
        raise ProblemError(
            f"{folder} lacks {', '.join(absent)}, which cellseg train writes (curves.png with "
            "matplotlib only); put it back, or train again with --overwrite."
        )
    path = folder / record["model"]
    weights = read_weights(path)
    if weights.sha256 != record["model_sha256"]:
        raise ProblemError(
            f"{path} is not the file that the training wrote (its SHA-256 differs from that in "
            "training.json); train again with --overwrite."
        )
    if weights.card.name != record["card"]["name"]:
        raise ProblemError(
            f"{path} calls itself {weights.card.name}, training.json calls it "
            f"{record['card']['name']}; train again with --overwrite."
        )
    return record, weights


def ship(folder: Path, record: dict[str, Any], weights: WeightsFile, *, separate: bool) -> Path:
    """Write weights, record and curves, then name the model; give the path of the weights."""
    name = weights.card.name
    places = [store.SHIPPED_FOLDER, store.CHECKOUT_FOLDER]
    here, elsewhere = reversed(places) if separate else places
    target = here / f"{name}.safetensors"
    kept = {key: value for key, value in record.items() if key not in LOCAL}
    kept["plan"] = {key: value for key, value in kept["plan"].items() if key not in LISTS}
    with staged(here) as place, staged(store.CHECKOUT_FOLDER) as beside:
        new = place.path(target.name)
        write_weights(new, weights.card, weights.arrays, weights.size_model, storage="int8")
        new.chmod(0o644)
        entry = {
            "source": "separate" if separate else "shipped",
            "files": [target.name],
            "sha256": [file_sha256(new)],
        }
        text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
        beside.path(f"{name}.json").write_text(text, encoding="utf-8")
        for suffix in CURVES:
            shutil.copyfile(folder / f"curves.{suffix}", beside.path(f"{name}-curves.{suffix}"))
    if separate:
        entry["description"] = weights.card.description
    name_in_catalogue(name, entry)
    (elsewhere / target.name).unlink(missing_ok=True)
    return target


if __name__ == "__main__":
    sys.exit(main())
