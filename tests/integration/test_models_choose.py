"""Which model to try: suggested from files, compared on an image, chosen in a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from cellseg_engine.batch import advice, auto, compare
from cellseg_engine.cli import models_choose
from cellseg_engine.errors import ReadError, SettingsError, WeightsError
from cellseg_engine.io.images import read_image
from cellseg_engine.nets.card import file_sha256
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.pipeline.style import image_style
from cellseg_engine.settings import make_settings
from cellseg_engine.zoo import store, styles
from tests.integration.cli import Cli, disks, draw, listing, official

NETWORK = "nuclei-provisional"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLSEG_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def stripes(path: Path) -> Path:
    """Write an image that looks like no disks."""
    y, _ = np.mgrid[:96, :120]
    tifffile.imwrite(path, (1000 * (y // 3 % 2) + 100).astype(np.uint16))
    return path


@pytest.fixture(scope="module")
def index_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an index of six images of disks, for which the network itself is the model."""
    segmenter = Segmenter(make_settings({"model": NETWORK, "diameter_px": 24, "device": "cpu"}))
    seen = [image_style(segmenter, disks(seed=seed)).style for seed in range(6)]
    names = tuple(f"disks {seed}" for seed in range(6))
    (path,) = store.find_model(NETWORK).files
    index = styles.StyleIndex(
        np.array(seen),
        names,
        ("disks",) * 6,
        names,
        {"disks": NETWORK},
        NETWORK,
        (file_sha256(path),),
    )
    path = tmp_path_factory.mktemp("index") / "styles.npz"
    styles.write_index(path, index)
    return path


def test_an_index_comes_back_as_it_was_written(index_file: Path, tmp_path: Path) -> None:
    index = styles.read_index(index_file)
    styles.write_index(tmp_path / "again.npz", index)
    again = styles.read_index(tmp_path / "again.npz")
    np.testing.assert_allclose(again.styles, index.styles, atol=1e-3)
    assert (again.names, again.kinds, again.groups) == (index.names, index.kinds, index.groups)
    assert (again.network, again.models) == (NETWORK, {"disks": NETWORK})
    np.testing.assert_allclose(np.linalg.norm(again.styles, axis=1), 1, atol=1e-6)


def test_no_index_and_damaged_ones_say_what_to_do(index_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"no index of training styles") as raised:
        styles.read_index(tmp_path / "none.npz")
    assert "tools/make_style_index.py" in raised.value.hint
    content = index_file.read_bytes()
    other = tmp_path / "other.npz"
    for damaged in (b"", b"text", content[: len(content) // 2]):
        other.write_bytes(damaged)
        with pytest.raises(ReadError, match="damaged or not an index"):
            styles.read_index(other)
    np.savez(other, facts=np.array('{"format": 99}'))
    with pytest.raises(ReadError, match="damaged or not an index"):
        styles.read_index(other)


def test_an_index_made_by_other_weights_is_refused(
    index_file: Path, models: Path, tmp_path: Path
) -> None:
    store.import_model([official(tmp_path / "one.pth")], "one")
    index = styles.read_index(index_file)
    renamed = styles.StyleIndex(
        index.styles, index.names, index.kinds, index.groups, index.models, "one", ("0" * 64,)
    )
    with pytest.raises(WeightsError, match=r"made by other weights of one \(000000000000\)"):
        styles.check_network(renamed)


def test_suggesting(cli: Cli, index_file: Path, tmp_path: Path) -> None:
    image, strange = draw(tmp_path / "in/a.tif", seed=0), stripes(tmp_path / "in/b.tif")
    given = ("--index", index_file, "--diameter-px", 24, "--device", "cpu")
    outcome = cli("models", "suggest", image, *given)
    assert outcome.code == 0, outcome.err
    assert f"{image}: {NETWORK}" in outcome.out
    assert "5 of the 5 training images that look most like it are of the kind disks" in outcome.out
    assert "disks 0 (disks, 0." in outcome.out
    assert "Diameter of the objects: 24.0 px (given)" in outcome.out
    assert "Warning" not in outcome.out

    events = cli("models", "suggest", strange.parent, *given, "--json").events
    assert [event["image"] for event in events] == [str(image), str(strange)]
    assert [event["is_familiar"] for event in events] == [True, False]
    assert "looks unlike" in events[1]["warnings"][0]
    assert len(events[0]["neighbours"]) == 5
    assert events[0]["is_here"] is True


def test_images_that_cannot_be_read_are_named(cli: Cli, index_file: Path, tmp_path: Path) -> None:
    image, broken = draw(tmp_path / "in/b.tif"), tmp_path / "in/a.tif"
    broken.write_text("no image")
    given = ("--index", index_file, "--diameter-px", 24, "--device", "cpu", "--json")
    outcome = cli("models", "suggest", image.parent, *given)
    assert outcome.code == 1
    assert "a.tif" in outcome.events[0]["error"]
    assert outcome.events[1]["model"] == NETWORK


def test_a_model_that_is_not_here_is_suggested_with_how_to_get_it(
    cli: Cli, index_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = styles.read_index(index_file)
    other = styles.StyleIndex(
        index.styles,
        index.names,
        index.kinds,
        index.groups,
        {"disks": "far"},
        NETWORK,
        index.weights_sha256,
    )
    styles.write_index(tmp_path / "far.npz", other)
    image = draw(tmp_path / "a.tif")
    given = ("--diameter-px", 24, "--device", "cpu")
    shown = cli("models", "suggest", image, "--index", tmp_path / "far.npz", *given).out
    file = tmp_path / "models" / "far" / "far.safetensors"
    assert 'import "FOLDER_OF_THE_ZOO' in shown and "models get" not in shown
    file.parent.mkdir(parents=True)
    file.touch()
    shown = cli("models", "suggest", image, "--index", tmp_path / "far.npz", *given).out
    assert f'cellseg models import "{file}" --name far' in shown
    # One that comes beside the program is got as ever.
    absent = store.ModelEntry("far", (tmp_path / "no",), ("",), "separate")
    monkeypatch.setattr(models_choose, "absent_models", lambda: [absent])
    shown = cli("models", "suggest", image, "--index", tmp_path / "far.npz", *given).out
    assert "cellseg models get far" in shown


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_comparing(cli: Cli, models: Path, tmp_path: Path) -> None:
    image = draw(tmp_path / "cells.tif")
    other = official(tmp_path / "random.pth")
    out = tmp_path / "out"
    given = ("models", "compare", image, "--out", out, "--diameter-px", 24, "--device", "cpu")
    outcome = cli(*given, "--models", f"{NETWORK},{other}")
    assert outcome.code == 0, outcome.err
    assert list(listing(out)) == ["cells_models.csv", "cells_models.png"]
    first, second = rows(out / "cells_models.csv")
    assert (first["model"], second["model"]) == (NETWORK, "random.pth")
    assert (first["objects"], first["diameter_px"]) == ("4", "24")
    assert first[f"agreement_{NETWORK}"] == second["agreement_random.pth"] == "1"
    assert first["agreement_random.pth"] == second[f"agreement_{NETWORK}"]
    picture = imagecodecs.png_decode((out / "cells_models.png").read_bytes())
    panel = (picture.shape[1] - 2 * 8) // 3
    assert panel >= 360
    # The outlines are in the panel of the model, and there is text below each.
    coloured = np.ptp(picture[:-64].astype(int), axis=2) > 50
    assert not coloured[:, :panel].any()
    assert coloured[:, panel + 8 : 2 * panel + 8].any()
    for place in range(3):
        assert picture[-64:, place * (panel + 8) :][:, :panel].max() > 200

    again = cli(*given, "--models", NETWORK)
    assert (again.code, "is there already" in again.err) == (2, True)


def test_large_images_are_shrunk_and_outlines_stay(tmp_path: Path) -> None:
    labels = np.zeros((2000, 1000), np.int32)
    labels[500:1500, 300:700] = 1
    drawn = compare._panel(np.zeros(labels.shape), labels, ["a $name$ with \\ and _"])
    assert drawn.shape == (666 + 64, 360, 3)
    assert (np.ptp(drawn[:666].astype(int), axis=2) > 50).any()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (f"{NETWORK},{NETWORK}", "Two of the models are called nuclei-provisional"),
        (f"{NETWORK},phantom", "There is no model 'phantom'"),
    ],
)
def test_models_that_cannot_be_compared(cli: Cli, tmp_path: Path, names: str, words: str) -> None:
    image = draw(tmp_path / "a.tif")
    outcome = cli("models", "compare", image, "--models", names, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert words in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_run_takes_the_suggested_model_and_says_why(
    cli: Cli, index_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto.ModelChooser.__init__, "__defaults__", (index_file,))
    image = draw(tmp_path / "in/a.tif", seed=3)
    given = (
        *("segment", image, "--out", tmp_path / "out", "--model", "auto", "--json"),
        *("--diameter-px", 24, "--device", "cpu", "--outputs", "labels"),
    )
    outcome = cli(*given)
    assert outcome.code == 0, outcome.err + outcome.out
    record = json.loads((tmp_path / "out/a_run.json").read_text())
    assert record["settings"]["model"] == record["model"]["name"] == NETWORK
    suggestion = record["model_suggestion"]
    assert suggestion["model"] == NETWORK
    assert suggestion["index_sha256"] == file_sha256(index_file)
    assert suggestion["neighbours"][0]["kind"] == "disks"

    # The second run keeps the results, without looking at the image for a suggestion again.
    monkeypatch.setattr(advice.Adviser, "advise", _never)
    assert cli(*given).images[0]["status"] == "skipped"


def _never(*_: Any) -> None:
    raise AssertionError("not needed")


def test_one_diameter_for_all_does_not_go_with_several_models(
    cli: Cli, index_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="another model for each image"):
        auto.ModelChooser(make_settings({"diameter_scope": "folder"}), index_file)


def test_auto_is_no_name_for_a_model(cli: Cli, models: Path, tmp_path: Path) -> None:
    outcome = cli("models", "import", official(tmp_path / "auto.pth"))
    assert (outcome.code, "No model may be called auto" in outcome.err) == (2, True)
    assert "chosen by `cellseg segment` only" in cli("models", "info", "auto").err


def test_styles_of_stacks_and_large_planes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cellseg_engine.pipeline import style

    segmenter = Segmenter(make_settings({"model": NETWORK, "diameter_px": 24, "device": "cpu"}))
    path = draw(tmp_path / "a.tif")
    image = read_image(path)
    alone = image_style(segmenter, image.pixels, "YX")
    stack = image_style(segmenter, np.stack([image.pixels] * 3), "ZYX")
    np.testing.assert_allclose(stack.style, alone.style, atol=1e-6)
    assert alone.has_contrast
    assert alone.diameter_source == "given"
    monkeypatch.setattr(style, "MAX_SIDE_PX", 32)
    part = style._middle(np.zeros((2, 90, 20)), 32)
    assert part.shape == (2, 32, 20)
    empty = image_style(segmenter, np.zeros((64, 64), np.uint8))
    assert not empty.has_contrast
    assert np.isfinite(empty.style).all()
