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
    """Give the plane of one choice: a name of the file first, then a number, then a colour."""
    named = _by_name(planes, names, choice)
    if named is not None:
        return named
    word = choice.lower()
    if word.isdecimal():
        number = 0 if _are_numbers(names) else int(word)
        if not 1 <= number <= len(planes):
            raise _not_there(planes, names, choice)
        return np.asarray(planes[number - 1])
    if word in ("auto", "gray"):
        return _gray(planes, is_rgb, names, word)
    if word in COLOURS and (is_rgb or len(planes) == len(COLOURS)):
        return np.asarray(planes[COLOURS.index(word)])
    if word == "hematoxylin" and is_rgb:
        return _hematoxylin(planes)
    if word in (*COLOURS, "hematoxylin"):
        raise _needs_rgb(planes, names, choice)
    raise _not_there(planes, names, choice)


def _by_name(planes: np.ndarray, names: Sequence[str], choice: str) -> np.ndarray | None:
    """Give the channel of that name, letter case aside; None if there is none."""
    for found in (
        [index for index, name in enumerate(names) if name == choice],
        [index for index, name in enumerate(names) if name.lower() == choice.lower()],
    ):
        if len(found) > 1:
            raise ChannelError(
                f"{len(found)} channels are called {choice!r}.",
                hint="Choose by number, counted from 1.",
            )
        if found:
            return np.asarray(planes[found[0]])
    return None


def _gray(planes: np.ndarray, is_rgb: bool, names: Sequence[str], word: str) -> np.ndarray:
    if len(planes) == 1:
        return np.asarray(planes[0])
    if is_rgb:
        return np.asarray(planes.mean(axis=0, dtype=np.float32))
    if word == "gray":
        raise _needs_rgb(planes, names, word)
    raise ChannelError(
        f"The image has {len(planes)} channels and none is chosen.", hint=_choices(planes, names)
    )


def _hematoxylin(planes: np.ndarray) -> np.ndarray:
    """Separate the stain by colour deconvolution (Ruifrok & Johnston 2001).

    Raises
    ------
    ChannelError
        The values are neither unsigned integers nor floats between 0 and 1, so it is not known
        which value is white.
    """
    from skimage.color import rgb2hed

    if planes.dtype.kind == "u":
        rgb = planes / np.float32(np.iinfo(planes.dtype).max)
    else:
        rgb = planes.astype(np.float32)
        low, high = float(rgb.min()), float(rgb.max())
        if planes.dtype.kind != "f" or low < 0 or high > 1:
            raise ChannelError(
                f"Channel 'hematoxylin' needs unsigned integers or floats from 0 to 1; this image "
                f"is {planes.dtype} from {low:g} to {high:g}.",
                hint="Save it as 8-bit red, green and blue.",
            )
    stain: np.ndarray = rgb2hed(rgb, channel_axis=0)[0]
    return stain.astype(np.float32)


def _needs_rgb(planes: np.ndarray, names: Sequence[str], choice: str) -> ChannelError:
    return ChannelError(
        f"Channel {choice!r} needs a red-green-blue image; this one has {len(planes)} "
        f"channel{'s' * (len(planes) != 1)}.",
        hint=_choices(planes, names),
    )


def _choices(planes: np.ndarray, names: Sequence[str]) -> str:
    if _are_numbers(names):
        choices = list(names)
    else:
        choices = [f"{n + 1} ({name})" for n, name in enumerate(names)] or [
            str(n + 1) for n in range(len(planes))
        ]
    return f"Set channel to {'one of ' * (len(choices) > 1)}{', '.join(choices)}."


def _are_numbers(names: Sequence[str]) -> bool:
    """Say whether a number is a name: of channels called 2 and 3, 1 is not there."""
    return any(name.isdecimal() for name in names)


def _not_there(planes: np.ndarray, names: Sequence[str], choice: str) -> ChannelError:
    return ChannelError(
        f"There is no channel {choice!r} in an image with {len(planes)} "
        f"channel{'s' * (len(planes) != 1)}.",
        hint=_choices(planes, names),
    )
