"""Annotations of the Cellpose interface: ``NAME_seg.npy``.

The format is a pickled dictionary, and a pickle can run programs when it is read. Here it is read
by an unpickler that admits NumPy arrays, numbers, texts and plain containers only
(`cellseg_engine.io.plain_pickle`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellseg_engine.errors import ReadError
from cellseg_engine.io.plain_pickle import NUMBERS, RefusedError, load_plain_npy

MAX_FILE_BYTES = 4 << 30
_TEXTS = "SU"


def read_seg_labels(path: Path) -> np.ndarray:
    """Read the masks of a ``_seg.npy`` file; nothing in it is executed.

    Returns
    -------
    Numbers of shape (Y, X), or (Z, Y, X) for stacks, as stored.

    Raises
    ------
    ReadError
        Damaged, without masks, or asking for anything but plain data.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ReadError(f"{path} is larger than {MAX_FILE_BYTES / 1e9:.0f} GB.")
        data = path.read_bytes()
    except OSError as error:
        if isinstance(error, ReadError):
            raise
        raise ReadError(f"The file {path} cannot be read: {error.strerror}.") from error
    try:
        content = load_plain_npy(data, NUMBERS + _TEXTS)
    except RefusedError as error:
        raise ReadError(
            f"{path} is refused: it asks for {error}, which an annotation does not need.",
            hint="Do not use this file: loading it could run a program hidden in it.",
        ) from None
    except Exception as error:  # unpickling damaged bytes can raise nearly anything
        raise ReadError(
            f"{path} is damaged or not a _seg.npy file of Cellpose.",
            hint="Save it again there, or export the masks as TIFF.",
        ) from error
    masks = content.get("masks") if isinstance(content, dict) else None
    if (
        not isinstance(masks, np.ndarray)
        or masks.dtype.kind not in "biuf"
        or masks.ndim not in (2, 3)
    ):
        raise ReadError(
            f"{path} holds no masks.", hint="Save it again in the Cellpose interface with masks."
        )
    return masks[0] if masks.ndim == 3 and len(masks) == 1 else masks
