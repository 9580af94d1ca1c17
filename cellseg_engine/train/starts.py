"""What a training may start from, as far as files say it: no torch here.

See docs/decisions/0025-a-training-starts-from-a-base.md.
"""

from __future__ import annotations

from cellseg_engine.errors import SettingsError
from cellseg_engine.nets.card import ModelCard, file_sha256, is_file, read_card
from cellseg_engine.zoo.files import find_files
from cellseg_engine.zoo.store import is_in_catalogue


def check_start(name: str) -> None:
    """Refuse a model as a start before its weights are read.

    Damaged and missing files are found when they are read.

    Raises
    ------
    SettingsError
        It is an ensemble, or itself fine-tuned.
    ModelNotFoundError, WeightsError
        There is none, or its card is damaged.
    """
    files = find_files(name)
    check_single(name, len(files))
    file = files[0]
    if file.suffix == ".safetensors" and is_file(file):
        card = read_card(file)
        if card.start_name:  # else the hash, which takes longer, is not needed
            check_no_chain(name, card, file_sha256(file))


def check_single(name: str, n_networks: int) -> None:
    """Refuse an ensemble.

    Raises
    ------
    SettingsError
        It is one.
    """
    if n_networks > 1:
        raise SettingsError(
            f"{name} is an ensemble of {n_networks} networks; a training starts from one.",
            hint="Start from the weights file of one of them.",
        )


def check_no_chain(name: str, card: ModelCard, sha256: str) -> None:
    """Refuse a fine-tune; the words are for the command line and for Fiji.

    Raises
    ------
    SettingsError
        It is one.
    """
    if is_fine_tune(card, sha256):
        base = card.start_name
        raise SettingsError(
            f"{name} was itself fine-tuned, from {base} (SHA-256 {card.start_sha256[:12]}...); "
            "a chain of fine-tunes forgets what the first ones learnt.",
            hint=f"Start from {base} again, with all images annotated so far (on the command "
            f"line: --start-from {base}, or --allow-chain if the chain is meant).",
        )


def is_fine_tune(card: ModelCard, sha256: str) -> bool:
    """Say whether weights are a fine-tune; models that come with the program are bases."""
    return bool(card.start_name) and not is_in_catalogue(sha256)
