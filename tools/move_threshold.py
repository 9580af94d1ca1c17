"""Let a probability of a shipped model count as 0.5: python tools/move_threshold.py NAME 0.35.

At which probability objects come out best is chosen on held-out training images, and need not be
0.5 (docs/decisions/0049). The summand of the network's last layer is changed, so that every host,
runtime and export has it with the weights; the other bytes stay as they are. To be run once, after
``ship_model.py``; the record of the model says so, and a second time is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.special import logit

from cellseg_engine.io.staging import staged
from cellseg_engine.nets.card import METADATA_KEY, file_sha256
from cellseg_engine.zoo import styles

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tools.catalogue import name_in_catalogue, read_catalogue
from tools.ship_model import NEXT, ProblemError, find_shipped

LAST_SUMMAND = "output.2.bias"
PROBABILITY = 2
"""Place of the logit among the outputs of the network."""
KEY = "counts_as_half"
"""Of the moved probability, in the record of the model."""


def main() -> int:
    """Move the threshold of one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("probability", type=float, help="that becomes 0.5")
    given = parser.parse_args()
    try:
        path = move(given.model, given.probability)
    except ProblemError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"{path} {file_sha256(path)}\n{NEXT}")
    return 0


def move(name: str, probability: float) -> Path:
    """Change weights, card and record, then the entry in models.toml; give the path of the weights.

    Raises
    ------
    ProblemError
        No such model or probability, or it was moved before.
    """
    if not 0 < probability < 1:
        raise ProblemError(f"The probability is {probability:g}; give one between 0 and 1.")
    path, record_path = find_shipped(name)
    record = json.loads(record_path.read_text(encoding="utf-8"))
    if KEY in record:
        raise ProblemError(
            f"The threshold of {name} was moved before, from {record[KEY]:g}; ship it again first."
        )
    with safe_open(path, framework="numpy") as file:
        card = json.loads(file.metadata()[METADATA_KEY])
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    summands = arrays[LAST_SUMMAND].copy()
    summands[PROBABILITY] -= np.float32(logit(probability))
    card["origin"] = (
        f"{card['origin'].removesuffix('.')}; what it gave {probability:g} counts as 0.5."
    )
    record |= {KEY: probability, "card": record["card"] | {"origin": card["origin"]}}
    with staged(path.parent) as place, staged(record_path.parent) as beside:
        new = place.path(path.name)
        metadata = {METADATA_KEY: json.dumps(card, sort_keys=True)}
        save_file(arrays | {LAST_SUMMAND: summands}, new, metadata=metadata)
        new.chmod(0o644)
        sha256 = file_sha256(new)
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        beside.path(record_path.name).write_text(text, encoding="utf-8")
    entry = {key: value for key, value in read_catalogue()[name].items() if key != "bf16_agreement"}
    name_in_catalogue(name, entry | {"sha256": [sha256]})
    note_in_index(name, sha256)
    return path


def note_in_index(name: str, sha256: str) -> None:
    """Give the index of styles the hash of its network; styles are made before the last layer."""
    index = styles.read_index(styles.INDEX_FILE)
    if index.network == name:
        with staged(styles.INDEX_FILE.parent) as place:
            new = place.path(styles.INDEX_FILE.name)
            styles.write_index(new, replace(index, weights_sha256=(sha256,)))
            new.chmod(0o644)


if __name__ == "__main__":
    sys.exit(main())
