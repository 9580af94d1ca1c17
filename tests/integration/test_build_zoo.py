"""A zoo from annotated images: clusters, models, index; it goes on where it was."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from cellseg_engine.nets import unet
from cellseg_engine.nets.card import file_sha256
from cellseg_engine.train import style_index
from cellseg_engine.zoo.store import import_model
from cellseg_engine.zoo.styles import read_index
from tests.integration.cli import Cli
from tests.integration.training import disks, small_network

QUICK = (
    "--recipe", "quick", "--precision", "fp32", "--epochs", 1, "--images-per-epoch", 2,
    "--batch-size", 2, "--crop-px", 32, "--diam-mean-px", 16, "--n-channels", 1,
    "--network", "looker", "--min-images", 3, "--device", "cpu",
)  # fmt: skip
N_IMAGES = 6


@pytest.fixture(autouse=True)
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with small_network(), pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("models")
        patch.setenv("CELLSEG_MODELS", str(folder / "models"))
        torch.manual_seed(0)
        torch.save(unet.ResidualUNet(1).state_dict(), folder / "looker.pth")
        import_model([folder / "looker.pth"], "looker")
        patch.setattr(style_index, "N_STRANGE", 8)
        yield


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two folders of images that look different: bright disks, and gratings with dim ones."""
    found = []
    for kind in ("disks", "gratings"):
        folder = tmp_path / kind
        folder.mkdir()
        for number in range(N_IMAGES):
            image, labels = disks(64, number)
            if kind == "gratings":
                image = image // 4 + (2000 * (np.mgrid[:64, :64][0] // 2 % 2)).astype(np.uint16)
            tifffile.imwrite(folder / f"{number}_img.tif", image)
            tifffile.imwrite(folder / f"{number}_masks.tif", labels)
        found.append(folder)
    return found


def test_a_zoo_of_two_kinds(cli: Cli, folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "zoo"
    given = ("models", "build-zoo", *folders, "--out", out, *QUICK)
    first = cli(*given, "--no-train")
    assert first.code == 0, first.err
    with (out / "clusters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["kind"], row["cluster"], row["model"]) for row in rows} == {
        ("disks", "disks", "zoo-disks"),
        ("gratings", "gratings", "zoo-gratings"),
    }
    assert len(rows) == 2 * N_IMAGES
    assert (out / "styles.png").read_bytes().startswith(b"\x89PNG")
    index = read_index(out / "styles.npz")
    assert index.models == {"disks": "zoo-disks", "gratings": "zoo-gratings"}
    assert index.network == "looker"
    assert "zoo-disks: 6 images, not trained" in first.out
    assert not (out / "models").exists()
    looked = cli(*given, "--no-train", "--json").events[:-1]
    total = 2 * N_IMAGES + style_index.N_STRANGE
    counts = [(event["done"], event["total"]) for event in looked if event["stage"] == "styles"]
    assert counts == [(number, total) for number in range(1, total + 1)]

    trained = cli(*given, "--install", "--licence", "CC0-1.0")
    assert trained.code == 0, trained.err
    assert "zoo-disks (1 of 2): 6 images" in trained.err
    for name in ("disks", "gratings"):
        record = json.loads((out / f"models/zoo-{name}/training.json").read_text())
        kinds = {image["kind"] for image in record["training"] + record["held_out"]}
        assert kinds == {name}
        info = json.loads(cli("models", "info", f"zoo-{name}", "--json").out)
        assert (info["licence"], info["size_model"]) == ("CC0-1.0", True)
    image = folders[1] / "0_img.tif"
    suggested = cli("models", "suggest", image, "--index", out / "styles.npz", "--device", "cpu")
    assert f"{image}: zoo-gratings" in suggested.out

    # Once more: styles are not looked at again, and models are left as they are.
    models = {path: file_sha256(path) for path in (out / "models").rglob("*.safetensors")}
    times = {path: path.stat().st_mtime_ns for path in [*models, *(out / "styles").iterdir()]}
    again = cli(*given, "--install", "--licence", "CC0-1.0", "--json")
    assert again.code == 0, again.err
    assert again.events[-1]["models"].keys() == {"zoo-disks", "zoo-gratings"}
    assert {path: path.stat().st_mtime_ns for path in times} == times
    stages = {event["stage"] for event in again.events if event["event"] == "progress"}
    assert stages == {"styles", "reading"}
    changed = cli(*given, "--install", "--licence", "CC0-1.0", "--overwrite")
    assert changed.code == 2
    assert "A model named zoo-disks is there already." in changed.err
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_names_are_checked_before_training(
    cli: Cli, folders: list[Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other") / "other.pth"
    torch.save(unet.ResidualUNet(1).state_dict(), other)
    taken = import_model([other], "zoo-gratings").files[0]
    before = file_sha256(taken)
    out = tmp_path / "zoo"
    outcome = cli("models", "build-zoo", *folders, "--out", out, *QUICK, "--install")
    assert outcome.code == 2
    assert "A model named zoo-gratings is there already." in outcome.err
    assert "cellseg models remove zoo-gratings" in outcome.err
    assert not (out / "models").exists()
    assert file_sha256(taken) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--min-images", 7), "12 annotated images are too few for clusters of 7 images and more"),
        (("--min-images", 6, "--resolution", 99), "The largest of 12 clusters has 1 images"),
        (("--install", "--no-train"), "--install takes trained models, so it does not go with"),
        (("--resolution", 0), "resolution must be a positive number"),
        (("--network", "phantom"), "There is no model 'phantom'"),
        (("--min-objects", 500), "The model zoo-disks cannot be trained. No image is left"),
    ],
)
def test_what_makes_no_zoo(
    cli: Cli, folders: list[Path], tmp_path: Path, arguments: tuple[object, ...], words: str
) -> None:
    outcome = cli("models", "build-zoo", *folders, "--out", tmp_path / "zoo", *QUICK, *arguments)
    assert outcome.code == 2
    assert words in outcome.err


def test_files_without_partner_are_told(cli: Cli, folders: list[Path], tmp_path: Path) -> None:
    lonely = folders[0] / "lonely_masks.tif"
    tifffile.imwrite(lonely, np.ones((64, 64), np.uint16))
    out = tmp_path / "zoo"
    outcome = cli("models", "build-zoo", *folders, "--out", out, *QUICK, "--no-train")
    assert outcome.code == 0, outcome.err
    assert f"Warning: 1 files are left out; {out / 'left_out.csv'} says why." in outcome.err
    with (out / "left_out.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row == {"image": str(lonely), "what": "annotation left out", "reason": "no image"}
