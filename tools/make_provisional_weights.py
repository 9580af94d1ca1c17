"""Make `nuclei-provisional` from its official-layout files, as shipped.

    python tools/make_provisional_weights.py WEIGHTS.pth SIZE.npy MANIFEST.csv

The weights were trained with cellpose 3.1.1.3 on the fluorescence training images of
BBBC038v1 (CC0). The script prints the entry for models.toml.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

from cellseg_engine.nets.card import file_sha256, write_weights
from cellseg_engine.nets.size_model import read_official_size_model
from cellseg_engine.nets.weights import load_weights
from cellseg_engine.zoo.store import CHECKOUT_FOLDER

NAME = "nuclei-provisional"


def main(weights_file: Path, size_file: Path, manifest: Path) -> None:
    with manifest.open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["role"] == "train" and r["kind"] == "fluo"]
    diameters = [float(row["median_diameter_px"]) for row in rows if int(row["objects"])]
    listing = "\n".join(sorted(row["path"] for row in rows)).encode()
    weights = load_weights(weights_file)
    card = weights.card.with_changes(
        name=NAME,
        description="Nuclei in fluorescence images. Provisional: trained for 65 CPU minutes, to be "
        "replaced by a fully trained model.",
        licence="CC0-1.0",
        origin="Trained with cellpose 3.1.1.3 (101 epochs of 240 crops, SGD 0.1, bf16 autocast); "
        f"official-layout file with SHA-256 {weights.sha256}.",
        training_data=f"{len(rows)} fluorescence training images of BBBC038v1 (CC0-1.0; Caicedo "
        "et al. 2019, Nat Methods 16:1247)",
        training_data_sha256=hashlib.sha256(listing).hexdigest(),
        diameter_range_px=(min(diameters), max(diameters)),
    )
    size_model = replace(read_official_size_model(size_file), range_px=card.diameter_range_px)
    target = CHECKOUT_FOLDER / f"{NAME}.safetensors"
    write_weights(target, card, weights.arrays, size_model, storage="float16")
    print(f'[{NAME}]\nfiles = ["{target.name}"]\nsha256 = ["{file_sha256(target)}"]')


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
