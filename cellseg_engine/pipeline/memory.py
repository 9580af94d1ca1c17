"""Memory: how much there is, and what a volume needs."""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from cellseg_engine.errors import MemoryNeededError

Shape3 = tuple[int, int, int]
DEFAULT_BLOCK_PX = 288
MAX_BLOCK_PX = 1000
"""The dynamics count voxels in 32 bits, and a block may grow to four times its size."""
FIELDS_BYTES = 16
"""Of a voxel at the network's scale: three components and a logit."""
_LABELS_BYTES = 16
"""Of a voxel: labels of the blocks, and copies while objects are dropped."""
_RESULT_BYTES = 4
"""Of a voxel of each time point: the labels of the result."""
_BLOCK_BYTES = 90
_BINS_BYTES = 8
"""Of a voxel that is as deep as wide: the histogram of path ends, and who owns its bins."""
_KEPT_BYTES = 16
"""Of a voxel of each time point: flows and logits of the result, where they are kept."""
_CGROUP = Path("/sys/fs/cgroup")


def total_bytes() -> int:
    """Give the memory that there is at all: of the machine, or our container's share."""
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, _limit_bytes())
    except (OSError, ValueError):
        return total


def available_bytes() -> int:
    """Give the memory that can still be used: of the machine, and of our container's share."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = _limit_bytes()
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        # Pages of files count as used, but are given back when needed.
        cached = sum(
            int(line.split()[1])
            for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
            if line.startswith(("inactive_file ", "active_file "))
        )
        return min(free, max(0, limit - used + cached))
    except (OSError, ValueError):
        return free


def _limit_bytes() -> int:
    """Give our container's share; an OSError or ValueError where there is none, or no limit."""
    return int((_CGROUP / "memory.max").read_text(encoding="ascii"))


def amount(size_bytes: int) -> str:
    """Give a size for people."""
    size_bytes = max(0, size_bytes)
    return f"{size_bytes / 1e9:,.2f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:,.2f} MB"


@dataclass(frozen=True)
class VolumePlan:
    """How a volume is worked on.

    Attributes
    ----------
    shape, scaled_shape
        (Z, Y, X) of the volume, and as the network sees it.
    n_channels
        Of the network.
    anisotropy
        Depth of a voxel over its width.
    block_voxels
        Of the blocks in which fields become labels, as set.
    window_voxels
        Of the largest block with its halo; more than ``block_voxels`` where objects are large.
    keeps_fields
        Whether the fields are part of the result.
    n_frames
        Time points whose results are still to be made; results of all of them stay in memory.
    copied_bytes
        Of the copy of the volume that its order of axes makes necessary.
    """

    shape: Shape3
    scaled_shape: Shape3
    n_channels: int
    anisotropy: float
    block_voxels: int
    window_voxels: int
    keeps_fields: bool
    n_frames: int
    copied_bytes: int

    @property
    def scaled_bytes(self) -> int:
        """What grows with the volume that the network sees: it and its fields."""
        return (4 * self.n_channels + FIELDS_BYTES) * math.prod(self.scaled_shape)

    @property
    def other_bytes(self) -> int:
        """All else: the results of all time points; of one a copy, labels and one block."""
        result = _RESULT_BYTES + (_KEPT_BYTES if self.keeps_fields else 0)
        whole = (_LABELS_BYTES + self.n_frames * result) * math.prod(self.shape)
        return whole + self.copied_bytes + block_bytes(self.window_voxels, self.anisotropy)

    def uses_a_file(self, available: int) -> bool:
        """Say whether what the network sees and says lies in a file; no result depends on it.

        Raises
        ------
        MemoryNeededError
            The rest does not fit either.
        """
        if self.scaled_bytes + self.other_bytes <= available:
            return False
        if self.other_bytes > available:
            raise self._refusal(available)
        return True

    def _refusal(self, available: int) -> MemoryNeededError:
        """Say what is needed and free, and what helps."""
        size = " x ".join(str(n) for n in self.shape)
        what, part = f"The volume of {size} voxels does", "a part of the volume"
        if self.n_frames > 1:
            what, part = f"{self.n_frames} volumes of {size} voxels do", "fewer time points"
        is_wide = self.window_voxels > self.block_voxels
        side = _side(max(self.window_voxels, self.block_voxels))
        return MemoryNeededError(
            f"{what} not fit into the memory: with blocks of {side} px about "
            f"{amount(self.other_bytes)} are needed, and {amount(available)} are free.",
            hint=f"{'Check diameter_px' if is_wide else 'Give a smaller volume_block_px'}, segment "
            f"{part} at a time, or end other programs.",
        )


def block_bytes(n_voxels: int, anisotropy: float) -> int:
    """Give what is needed while the fields of that many voxels become labels."""
    return int((_BLOCK_BYTES + _BINS_BYTES * max(1.0, anisotropy)) * n_voxels)


def check_block(n_voxels: int, anisotropy: float, available: int) -> None:
    """Make sure that a block that has to be larger than set fits.

    Raises
    ------
    MemoryNeededError
        It does not.
    """
    needed = block_bytes(n_voxels, anisotropy)
    if needed > available:
        raise MemoryNeededError(
            f"Objects are so large that a block of {_side(n_voxels)} px is needed to see them "
            f"whole, and it does not fit into the memory: about {amount(needed)} are needed, and "
            f"{amount(available)} are free.",
            hint="Give diameter_px if no object is that large, a smaller volume_block_px if "
            "larger objects may be cut, or end other programs.",
        )


def _side(n_voxels: int) -> int:
    return round(math.cbrt(n_voxels))


def block_voxels(volume_block_px: int) -> int:
    """Give the voxels of the largest block; see the setting."""
    return int(min(volume_block_px or DEFAULT_BLOCK_PX, MAX_BLOCK_PX) ** 3)


def zeros(shape: tuple[int, ...], *, in_file: bool) -> np.ndarray:
    """Give zeros of float32, in memory or in a file without a name that goes with the array.

    Raises
    ------
    MemoryNeededError
        The temporary folder has no space for it.
    """
    if not in_file:
        return np.zeros(shape, np.float32)
    size = 4 * math.prod(shape)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise MemoryNeededError(
            f"The fields of the volume fit neither into the memory nor into the temporary folder "
            f"{folder}: {amount(size)} are needed there and {amount(free)} are free.",
            hint="Set TMPDIR to a folder with more space, or segment a part of the volume at a "
            "time.",
        )
    with tempfile.TemporaryFile(prefix="cellseg-volume-") as file:
        return np.memmap(file, np.float32, "w+", shape=shape)
