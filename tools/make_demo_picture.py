"""Put the overlays of `cellseg demo` side by side, as the README shows them.

python tools/make_demo_picture.py demo_output docs/images/demo.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import imagecodecs
import numpy as np
from skimage.transform import resize

HEIGHT_PX = 360


def main(folder: Path, target: Path) -> None:
    pictures = []
    for path in sorted(folder.glob("*_overlay.png")):
        picture = imagecodecs.imread(path)
        width = round(picture.shape[1] * HEIGHT_PX / picture.shape[0])
        shape = (HEIGHT_PX, width)
        scaled = resize(picture, shape, order=1, anti_aliasing=True)  # type: ignore[no-untyped-call]
        pictures.append((scaled * 255).round().astype(np.uint8))
    target.parent.mkdir(parents=True, exist_ok=True)
    imagecodecs.imwrite(target, np.concatenate(pictures, axis=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
