"""Where models are: shipped ones, separate ones, imported ones, and files given by path."""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from cellseg_engine.errors import ModelNotFoundError, SettingsError, WeightsError, WriteError
from cellseg_engine.nets.card import ModelCard, check_ensemble, file_sha256, is_file, read_card
from cellseg_engine.zoo.names import check_usable
from cellseg_engine.zoo.paths import expand_path, weights_files, weights_in
from cellseg_engine.zoo.unknown import hint_for

if TYPE_CHECKING:
    from cellseg_engine.backends.flow_unet import FlowUNet
    from cellseg_engine.nets.card import WeightsFile

SHIPPED_FOLDER = Path(__file__).with_name("weights")
CHECKOUT_FOLDER = Path(__file__).parents[2] / "models"
"""Separate models in a source tree; an installed package has no such folder."""
CATALOGUE = Path(__file__).with_name("models.toml")
MODELS_VARIABLE = "CELLSEG_MODELS"
AUTO = "auto"
"""Stands for the model that is suggested for each image; no model may be called so."""
ENOUGH_AGREEMENT = 0.99
"""From this `ModelEntry.bf16_agreement` on, bf16 may be chosen by itself where it is fast."""


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be used by name.

    Attributes
    ----------
    name
        As given to the ``model`` setting.
    files
        Its weights, one file per network of an ensemble.
    sha256
        Expected hash of each file; empty for imported models.
    source
        ``shipped`` (inside the package), ``separate`` (files beside it, which are fetched once)
        or ``imported``.
    description
        For separate models, whose card may not be there to read.
    bf16_agreement
        AP@0.9 of the objects found in bf16 against those in fp32, on validation images
        (docs/performance.md); 0 where it was not measured.
    """

    name: str
    files: tuple[Path, ...]
    sha256: tuple[str, ...]
    source: str
    description: str = ""
    bf16_agreement: float = 0.0

    @property
    def is_here(self) -> bool:
        """Say whether its files are on this computer."""
        return all(path.is_file() for path in self.files)

    @property
    def remedy(self) -> str:
        """Say what to do when its files are damaged."""
        if self.source == "separate":
            return f"Get it again: {get_command(self.name)}"
        if self.source == "imported":
            return f"Remove it (`cellseg models remove {self.name}`) and import it again."
        return "Install cellseg-engine again."

    def card(self) -> ModelCard:
        """Read the card of its first network."""
        return read_card(self.files[0])


def get_command(name: str) -> str:
    """Give the command that gets a separate model."""
    return f"cellseg models get {name} --from FOLDER_OR_ADDRESS"


def models_folder() -> Path:
    """Give the folder of imported models: ``CELLSEG_MODELS``, or the user's data folder."""
    given = os.environ.get(MODELS_VARIABLE)
    if given:
        return expand_path(given).absolute()
    return platformdirs.user_data_path("cellseg", False) / "models"


def list_models() -> list[ModelEntry]:
    """Give all models that can be used by name, shipped ones first."""
    catalogue = _catalogue()
    known = {entry.name for entry in catalogue}
    usable = [entry for entry in catalogue if entry.source == "shipped" or entry.is_here]
    return usable + [entry for entry in _imported() if entry.name not in known]


def absent_models() -> list[ModelEntry]:
    """Give the separate models whose files are not on this computer; `fetch` gets them."""
    return [entry for entry in _catalogue() if entry.source == "separate" and not entry.is_here]


def separate_folder() -> Path:
    """Give the folder of fetched files of separate models."""
    return models_folder() / ".separate"


def _catalogue() -> list[ModelEntry]:
    content = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))
    return [
        ModelEntry(
            name,
            tuple(_find_file(file, entry["source"]) for file in entry["files"]),
            tuple(entry["sha256"]),
            entry["source"],
            entry.get("description", ""),
            entry.get("bf16_agreement", 0.0),
        )
        for name, entry in content.items()
    ]


def _find_file(name: str, source: str) -> Path:
    if source == "shipped":
        return SHIPPED_FOLDER / name
    in_checkout = CHECKOUT_FOLDER / name
    return in_checkout if in_checkout.is_file() else separate_folder() / name


def find_model(name: str) -> ModelEntry:
    """Give the model of that name.

    Raises
    ------
    ModelNotFoundError
        With the names there are, the nearest one first.
    """
    entries = {entry.name: entry for entry in list_models()}
    absent = [entry for entry in absent_models() if entry.name == name]
    if absent:
        raise ModelNotFoundError(
            f"The model {name} is not on this computer: {absent[0].files[0].name} comes beside the "
            "program.",
            hint=f"Get it once: {get_command(name)}",
        )
    if name == AUTO:
        raise ModelNotFoundError(
            "The model auto is chosen by `cellseg segment` only.",
            hint="`cellseg models suggest` says which model to try for an image.",
        )
    if name not in entries:
        raise ModelNotFoundError(
            f"There is no model {name!r}; the models are {', '.join(entries)}.",
            hint=hint_for(name, entries),
        )
    return entries[name]


def read_model(name: str) -> list[WeightsFile]:
    """Read all weights of a model, by name or by the path of a weights file or a folder of them.

    Raises
    ------
    ModelNotFoundError
        No such name or file.
    WeightsError
        Damaged, changed since it was shipped, or of another architecture.
    """
    from cellseg_engine.nets.weights import load_weights

    if looks_like_path(name):
        files = [load_weights(path) for path in weights_files(expand_path(name))]
        check_ensemble(name, files)
        return files
    entry = find_model(name)
    weights = [load_weights(path) for path in entry.files]
    check_ensemble(name, weights)
    for path, expected, found in zip(entry.files, entry.sha256, weights, strict=False):
        if found.sha256 != expected:
            raise WeightsError(
                f"{path} is not the file that belongs to {name} (its SHA-256 differs).",
                hint=entry.remedy,
            )
    return weights


def load_model(
    name: str, device: str = "auto", precision: str = "auto", runtime: str = ""
) -> FlowUNet:
    """Load a model on a device.

    Parameters
    ----------
    name
        A name of `list_models`, or the path of a weights file or of a folder of them.
    device, precision
        As in the settings.
    runtime
        What executes it, see `cellseg_engine.nets.choose_runtime.make_runtime`.

    Raises
    ------
    ModelNotFoundError, WeightsError, DeviceError, SettingsError, MissingDependencyError
        One sentence says why.
    """
    from cellseg_engine.backends.flow_unet import FlowUNet
    from cellseg_engine.nets.choose_runtime import make_runtime
    from cellseg_engine.nets.weights import build_network

    files = read_model(name)
    agreement = 0.0 if looks_like_path(name) else find_model(name).bf16_agreement
    runtimes = [
        make_runtime(
            build_network(file),
            weights_sha256=file.sha256,
            device=device,
            precision=precision,
            runtime=runtime,
            allow_bf16=agreement >= ENOUGH_AGREEMENT,
        )
        for file in files
    ]
    return FlowUNet(runtimes, files[0].card, files[0].size_model, [file.sha256 for file in files])


def import_model(
    paths: Sequence[Path],
    name: str = "",
    *,
    licence: str = "",
    origin: str = "",
    flow_variant: str = "",
    size_file: Path | None = None,
    diam_mean_px: float = 0.0,
) -> ModelEntry:
    """Copy weights into the models folder, so that they can be used by name.

    Parameters
    ----------
    paths
        One weights file, or several of one ensemble, or a folder of them.
    name
        Its new name; the file's own if empty.
    licence, origin, flow_variant
        Written into the card where given.
    size_file
        Official size model, if it does not lie beside the weights.
    diam_mean_px
        Diameter at which the networks see objects, where the files do not say it.

    Raises
    ------
    SettingsError
        The name is taken or not usable as a file name.
    ModelNotFoundError, WeightsError, WriteError
        One sentence says why; the models folder is unchanged.
    """
    from cellseg_engine.nets.card import write_weights
    from cellseg_engine.nets.weights import load_weights

    name = name or paths[0].resolve().name.removesuffix(".pth").removesuffix(".safetensors")
    check_new_name(name)
    files = [
        load_weights(file, size_file=None if number else size_file, diam_mean_px=diam_mean_px)
        for number, file in enumerate(file for path in paths for file in weights_files(path))
    ]
    check_ensemble(name, files)
    given = {"licence": licence, "origin": origin, "flow_variant": flow_variant}
    changes = {key: value for key, value in given.items() if value}
    folder = models_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".import-", dir=folder) as staging:
            target = Path(staging) / name
            target.mkdir()
            for number, file in enumerate(files):
                card = file.card.with_changes(name=name, **changes)
                size = None if number else file.size_model
                write_weights(target / f"{number}.safetensors", card, file.arrays, size)
            target.rename(folder / name)
    except OSError as error:
        raise WriteError(
            f"The model {name} cannot be stored in {folder}: {error.strerror or error}."
        ) from error
    return find_model(name)


def remove_model(name: str) -> None:
    """Delete an imported model, or the fetched files of a separate one.

    Raises
    ------
    ModelNotFoundError
        No such model.
    SettingsError
        It is a shipped one.
    WriteError
        Its files cannot be removed; it stays whole.
    """
    entry = find_model(name)
    if entry.source == "separate" and entry.files[0].parent == separate_folder():
        for path in entry.files:
            path.unlink(missing_ok=True)
    elif entry.source != "imported":
        raise SettingsError(f"{name} is shipped with the engine and stays.")
    else:
        _remove_folder(entry.files[0].parent)


def _remove_folder(folder: Path) -> None:
    """Remove the folder of a model, which is none any more before its first file is gone."""
    try:
        with tempfile.TemporaryDirectory(
            prefix=".removed-", dir=folder.parent, ignore_cleanup_errors=True
        ) as away:
            folder.rename(Path(away) / folder.name)
    except OSError as error:
        raise WriteError(
            f"The model {folder.name} cannot be removed from {folder.parent}: "
            f"{error.strerror or error}.",
            hint="Close the programs that use it, and try again.",
        ) from error


def is_in_catalogue(sha256: str) -> bool:
    """Say whether a file of that hash is one of a model that comes with the program."""
    return any(sha256 in entry.sha256 for entry in _catalogue())


def _is_known(name: str) -> bool:
    """Say whether a model has this name, on this computer or not."""
    return any(entry.name == name for entry in [*_catalogue(), *_imported()])


def _imported() -> list[ModelEntry]:
    folder = models_folder()
    children = sorted(folder.iterdir()) if folder.is_dir() else ()
    found = {child: weights_in(child) for child in children if not child.name.startswith(".")}
    return [ModelEntry(child.name, tuple(at), (), "imported") for child, at in found.items() if at]


def check_new_name(name: str) -> None:
    """Refuse a name that no new model can have.

    Raises
    ------
    SettingsError
        It is taken, or not usable as the name of a folder everywhere.
    """
    check_usable(name)
    if name == AUTO:
        raise SettingsError(
            f"No model may be called {AUTO}, which stands for the one that is suggested.",
            hint="Give another name (on the command line: --name).",
        )
    if _is_known(name):
        is_ours = any(entry.name == name for entry in _catalogue())
        or_remove = "" if is_ours else f", or first `cellseg models remove {name}`"
        raise SettingsError(
            f"A model named {name} is there already.",
            hint=f"Give another name (on the command line: --name{or_remove}).",
        )


def looks_like_path(name: str) -> bool:
    """Say whether a model is given by the path of a file or folder, and not by name."""
    if name == AUTO or _is_known(name):
        return False
    return (
        "/" in name
        or "\\" in name
        or name.endswith((".pth", ".safetensors"))
        or is_file(Path(name))
    )


def verify(entry: ModelEntry) -> bool:
    """Say whether the files of a model are there and whole.

    Those that come with the program are known by their hashes; imported ones must have a card.
    """
    if not entry.is_here:
        return False
    if entry.source == "imported":
        try:
            for path in entry.files:
                read_card(path)
        except WeightsError:
            return False
    return all(
        file_sha256(path) == expected
        for path, expected in zip(entry.files, entry.sha256, strict=False)
    )
