"""Which channels of an image the network sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellseg_engine.errors import ChannelError

COLOURS = ("red", "green", "blue")
WORDS = ("auto", "gray", "hematoxylin", *COLOURS)


def select_channels(
    planes: np.ndarray,
    *,
    is_rgb: bool,
    names: Sequence[str],
    channel: str,
    nuclear_channel: str,
    n_channels: int,
) -> np.ndarray:
    """Give what the network sees of one plane.

    Parameters
    ----------
    planes
        ndarray of shape (C, Y, X).
    is_rgb
        The channels are red, green and blue samples.
    names
        Names of the channels, may be empty.
    channel, nuclear_channel
        As in the settings. A model of more than two channels takes a comma-separated list of
        as many in ``channel``.
    n_channels
        Channels the model expects.

    Returns
    -------
    ndarray of shape (n_channels, Y, X); the nuclear channel is zero where there is none.

    Raises
    ------
    ChannelError
        The channel is not in the image, a choice is needed, or the model takes another number.
    """
    if n_channels > 2:
        choices = [part.strip() for part in channel.split(",")]
        if len(choices) != n_channels:
            raise ChannelError(
                f"The model takes {n_channels} channels and channel = {channel!r} names "
                f"{len(choices)}.",
                hint=f"Give {n_channels}, separated by commas, for example "
                f"{','.join(str(n + 1) for n in range(n_channels))}.",
            )
        chosen = [_one_channel(planes, is_rgb, names, choice) for choice in choices]
    else:
        chosen = [_one_channel(planes, is_rgb, names, channel)]
        if nuclear_channel != "none":
            if n_channels < 2:
                raise ChannelError(
                    "The model takes one channel, so a nuclear channel cannot be used.",
                    hint="Set nuclear_channel to none.",
                )
            chosen.append(_one_channel(planes, is_rgb, names, nuclear_channel))
    blank = np.zeros_like(chosen[0])
    return np.stack(chosen + [blank] * (n_channels - len(chosen)))


def _one_channel(planes: np.ndarray, is_rgb: bool, names: Sequence[str], choice: str) -> np.ndarray:
    if choice in names:
        return np.asarray(planes[list(names).index(choice)])
    word = choice.lower()
    if word.isdecimal():
        number = int(word)
        if not 1 <= number <= len(planes):
            raise _not_there(planes, names, choice)
        return np.asarray(planes[number - 1])
    if word in ("auto", "gray"):
        return _gray(planes, is_rgb, names, word)
    if word in COLOURS and (is_rgb or len(planes) == 3):
        return np.asarray(planes[COLOURS.index(word)])
    if word == "hematoxylin" and is_rgb:
        return _hematoxylin(planes)
    lower = [name.lower() for name in names]
    if lower.count(word) == 1:
        return np.asarray(planes[lower.index(word)])
    if word in (*COLOURS, "hematoxylin"):
        raise ChannelError(
            f"Channel {choice!r} needs a red-green-blue image; this one has {len(planes)} "
            f"channel{'s' * (len(planes) != 1)}.",
            hint=_choices(planes, names),
        )
    raise _not_there(planes, names, choice)


def _gray(planes: np.ndarray, is_rgb: bool, names: Sequence[str], word: str) -> np.ndarray:
    if len(planes) == 1:
        return np.asarray(planes[0])
    if word == "auto" and not is_rgb:
        raise ChannelError(
            f"The image has {len(planes)} channels and none is chosen.",
            hint=_choices(planes, names),
        )
    return np.asarray(planes.mean(axis=0, dtype=np.float32))


def _hematoxylin(planes: np.ndarray) -> np.ndarray:
    """Separate the stain by colour deconvolution (Ruifrok & Johnston 2001)."""
    from skimage.color import rgb2hed

    if planes.dtype.kind in "ui":
        rgb = planes / np.float32(np.iinfo(planes.dtype).max)
    else:
        rgb = planes.astype(np.float32)
    stain: np.ndarray = rgb2hed(np.clip(rgb, 0, 1), channel_axis=0)[0]
    return stain.astype(np.float32)


def _choices(planes: np.ndarray, names: Sequence[str]) -> str:
    numbered = [f"{n + 1} ({name})" for n, name in enumerate(names)] or [
        str(n + 1) for n in range(len(planes))
    ]
    return f"Set channel to {'one of ' * (len(numbered) > 1)}{', '.join(numbered)}."


def _not_there(planes: np.ndarray, names: Sequence[str], choice: str) -> ChannelError:
    return ChannelError(
        f"There is no channel {choice!r} in an image with {len(planes)} "
        f"channel{'s' * (len(planes) != 1)}.",
        hint=_choices(planes, names),
    )
